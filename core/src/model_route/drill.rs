//! Failures that a caller forces for drills, by the field [`names::MODEL_FAULT_HEADER`] of its request: `<reason>` for the
//! target that is asked first, `<reason>@<target>`, or `<reason>@*` for each; several with commas between them.
//!
//! A target whose failure is forced is not asked, and what is known of it does not change.

#[cfg(test)]
mod tests;

use thiserror::Error;

use super::failure::{sentence, usual_status, without_answer};
use crate::{
    fields::Fields,
    identity::Identity,
    model::model_route::{Dialect, Drill, Failure, ModelTarget, Reason, VirtualModel, Word},
    names,
};

/// Failures that one request may force: as many as attempts.
const FAULTS_MAX: usize = 10;

/// Failures that a request forces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    reason: Reason,
    at: At,
}

/// Whose failure is forced.
#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    First,
    Target(String),
    Every,
}

/// Which attempt of an exchange it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The first.
    First,
    /// A later one.
    Later,
}

/// Why no failure is forced; the caller is told.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotForced {
    /// The caller may not.
    #[error("{0} may not force failures here (spec.drill.allow of the model route)")]
    Denied(Identity),
    /// Nobody knows who the caller is.
    #[error("failures may be forced by permitted identities only, and this workload has none yet")]
    Nobody,
    /// The field holds no text.
    #[error("{} holds no text", names::MODEL_FAULT_HEADER)]
    NoText,
    /// There is no such reason.
    #[error("{0:?} is no reason of a failure; there are: {reasons}", reasons = reasons())]
    Reason(String),
    /// The model has no such target.
    #[error("{target:?} is no target of this model; it has: {known}")]
    Target {
        /// What was written.
        target: String,
        /// Those that there are.
        known: String,
    },
    /// The same target twice.
    #[error("two failures are forced of the same target")]
    Twice,
    /// Too many.
    #[error("more than {FAULTS_MAX} failures are forced")]
    TooMany,
}

fn reasons() -> String {
    Reason::ALL.map(Reason::as_str).join(", ")
}

impl NotForced {
    /// As the caller is told.
    pub fn failure(&self) -> Failure {
        let (status, code) = match self {
            NotForced::Denied(_) | NotForced::Nobody => (403, "drill_not_allowed"),
            NotForced::NoText
            | NotForced::Reason(_)
            | NotForced::Target { .. }
            | NotForced::Twice
            | NotForced::TooMany => (400, "drill_not_understood"),
        };
        Failure { status, message: self.to_string(), code: Some(code.to_owned()), ..without_answer(Reason::BadRequest) }
    }
}

impl Faults {
    /// What a request forces; nothing where it has no such field.
    ///
    /// # Errors
    /// Where the caller may not force anything, or what it writes means nothing.
    pub fn read(
        fields: &dyn Fields,
        drill: &Drill,
        model: &VirtualModel,
        caller: Option<&Identity>,
    ) -> Result<Faults, NotForced> {
        let mut lines: Vec<Vec<u8>> = Vec::new();
        fields.each(names::MODEL_FAULT_HEADER, &mut |line| lines.push(line.to_vec()));
        if lines.is_empty() {
            return Ok(Faults::default());
        }
        // Who may not learns nothing of the targets either.
        let caller = caller.ok_or(NotForced::Nobody)?;
        if !drill.allows(caller) {
            return Err(NotForced::Denied(caller.clone()));
        }
        let text = String::from_utf8(lines.join(&b',')).map_err(|_| NotForced::NoText)?;
        let mut faults = Faults::default();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let fault = fault(entry, model)?;
            if faults.0.iter().any(|known| known.at == fault.at) {
                return Err(NotForced::Twice);
            }
            faults.0.push(fault);
            if faults.0.len() > FAULTS_MAX {
                return Err(NotForced::TooMany);
            }
        }
        Ok(faults)
    }

    /// Why an attempt at a target fails, if that is forced: what is said of the target itself comes first.
    pub fn strikes(&self, target: &ModelTarget, turn: Turn) -> Option<Reason> {
        let reason_at = |is: &dyn Fn(&At) -> bool| self.0.iter().find(|fault| is(&fault.at)).map(|fault| fault.reason);
        let named = reason_at(&|at| matches!(at, At::Target(name) if *name == target.name));
        let first = || match turn {
            Turn::First => reason_at(&|at| *at == At::First),
            Turn::Later => None,
        };
        named.or_else(first).or_else(|| reason_at(&|at| *at == At::Every))
    }
}

fn fault(entry: &str, model: &VirtualModel) -> Result<Fault, NotForced> {
    let (reason, at) = match entry.split_once('@') {
        None => (entry, At::First),
        Some((reason, "*")) => (reason, At::Every),
        Some((reason, target)) => (reason, At::Target(target.to_owned())),
    };
    let reason = Reason::of_word(reason).ok_or_else(|| NotForced::Reason(shortened(reason)))?;
    if let At::Target(target) = &at
        && !model.targets.iter().any(|known| known.name == *target)
    {
        let known: Vec<&str> = model.targets.iter().map(|target| target.name.as_str()).collect();
        return Err(NotForced::Target { target: shortened(target), known: known.join(", ") });
    }
    Ok(Fault { reason, at })
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// A failure that is forced, as a target of this dialect would have told it.
pub fn forced(dialect: Dialect, reason: Reason) -> Failure {
    let plain = without_answer(reason);
    Failure {
        status: usual_status(dialect, reason).unwrap_or(plain.status),
        message: format!("{} (forced by {})", sentence(reason), names::MODEL_FAULT_HEADER),
        ..plain
    }
}
