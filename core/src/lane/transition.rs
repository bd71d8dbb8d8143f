//! Changes of a lane's stage: what may follow what, and the history that a change leaves.
//!
//! draft → active → draining → closed or promoted. `rollback` goes back to the stage before, whichever that was, and is
//! itself undone by another `rollback`.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::{
    model::lane::LaneState,
    resources::lane::{HISTORY_MAX, Lane, Past},
};

/// What somebody wants of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Take it into use.
    Activate,
    /// Stain nothing more, honour labels until no request is older than the group allows.
    Drain,
    /// Ignore its label from now on.
    Close,
    /// Make its instances baseline.
    Promote,
    /// Undo the last change of stage.
    Rollback,
}

impl Verb {
    /// Every verb, in order of declaration.
    pub const ALL: [Verb; 5] = [Verb::Activate, Verb::Drain, Verb::Close, Verb::Promote, Verb::Rollback];

    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Verb::Activate => "activate",
            Verb::Drain => "drain",
            Verb::Close => "close",
            Verb::Promote => "promote",
            Verb::Rollback => "rollback",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A word that is no verb.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is nothing that can be done with a lane; there are activate, drain, close, promote, rollback")]
pub struct NoVerb(String);

impl FromStr for Verb {
    type Err = NoVerb;

    fn from_str(word: &str) -> Result<Self, NoVerb> {
        Verb::ALL.into_iter().find(|verb| verb.label() == word).ok_or_else(|| NoVerb(word.chars().take(40).collect()))
    }
}

/// What a change of stage makes of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The new stage.
    pub state: LaneState,
    /// Unix milliseconds at which it begins.
    pub since: u64,
    /// Stages before, oldest first, at most [`HISTORY_MAX`].
    pub history: Vec<Past>,
}

/// Why a lane stays as it is.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// It is where it is wanted.
    #[error("the lane is {} already", .0.label())]
    Already(LaneState),
    /// The stage does not lead there.
    #[error("a lane that is {} cannot be taken to {}: {advice}", from.label(), to.label())]
    NotFrom {
        /// Where it is.
        from: LaneState,
        /// Where it should go.
        to: LaneState,
        /// What to do instead.
        advice: &'static str,
    },
    /// There is nothing to undo.
    #[error("the lane has no earlier stage: there is nothing to undo")]
    NoHistory,
}

/// Carries out `verb` at `now` (Unix milliseconds) for the reason given, which the history keeps.
///
/// # Errors
/// When the lane's stage does not allow it.
pub fn transition(lane: &Lane, verb: Verb, reason: &str, now: u64) -> Result<Moved, Refused> {
    let to = target(lane, verb)?;
    Ok(moved(lane, to, reason, now))
}

/// Takes the lane to a stage that somebody wrote down, whatever it was in before. `None` = it is there already.
pub fn declared(lane: &Lane, to: LaneState, reason: &str, now: u64) -> Option<Moved> {
    (lane.state != to).then(|| moved(lane, to, reason, now))
}

fn target(lane: &Lane, verb: Verb) -> Result<LaneState, Refused> {
    use LaneState::{Active, Closed, Draft, Draining, Promoted};
    let from = lane.state;
    let (to, advice) = match (verb, from) {
        (Verb::Activate, Draft | Draining) => return Ok(Active),
        (Verb::Activate, Closed | Promoted) => (Active, "undo it with rollback"),
        (Verb::Drain, Draft | Active) => return Ok(Draining),
        (Verb::Drain, Closed | Promoted) => (Draining, "it stains nothing any more"),
        (Verb::Close, Draft | Draining) => return Ok(Closed),
        (Verb::Close, Active) => (Closed, "drain it first, or requests under way would change level between two hops"),
        (Verb::Close, Promoted) => (Closed, "its instances are baseline; undo it with rollback, then drain it"),
        (Verb::Promote, Active | Draining) => return Ok(Promoted),
        (Verb::Promote, Draft | Closed) => (Promoted, "activate it first"),
        (Verb::Rollback, Draft | Active | Draining | Closed | Promoted) => {
            return lane.history.last().map(|past| past.state).ok_or(Refused::NoHistory);
        }
        (Verb::Activate, Active) | (Verb::Drain, Draining) | (Verb::Close, Closed) | (Verb::Promote, Promoted) => {
            return Err(Refused::Already(from));
        }
    };
    Err(Refused::NotFrom { from, to, advice })
}

fn moved(lane: &Lane, state: LaneState, reason: &str, now: u64) -> Moved {
    let mut history = lane.history.clone();
    history.push(Past { state: lane.state, until: now, reason: reason.to_owned() });
    let surplus = history.len().saturating_sub(HISTORY_MAX);
    history.drain(..surplus);
    Moved { state, since: now, history }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::{Spec, parse};

    fn lane(state: &str) -> Lane {
        let text = format!(
            "apiVersion: lanemesh.io/v1alpha1\nkind: Lane\nmetadata: {{name: canary}}\nspec: {{group: shop, state: {state}}}\n"
        );
        match parse("lane.yaml", &text).unwrap().remove(0).spec {
            Spec::Lane(lane) => *lane,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_stage_leads_only_where_no_request_changes_level() {
        let cases = [
            ("draft", ["active", "draining", "closed", "-", "-"]),
            ("active", ["-", "draining", "-", "promoted", "-"]),
            ("draining", ["active", "-", "closed", "promoted", "-"]),
            ("closed", ["-", "-", "-", "-", "-"]),
            ("promoted", ["-", "-", "-", "-", "-"]),
        ];
        for (from, expected) in cases {
            let came = Verb::ALL.map(|verb| match transition(&lane(from), verb, "", 5) {
                Ok(moved) => moved.state.label(),
                Err(_) => "-",
            });
            assert_eq!(came, expected, "from {from}");
        }
    }

    #[test]
    fn rollback_undoes_the_last_change_and_keeps_the_history() {
        let mut lane = lane("active");
        let mut states = Vec::new();
        for (now, verb) in [(1, Verb::Drain), (2, Verb::Promote), (3, Verb::Rollback), (4, Verb::Rollback)] {
            let moved = transition(&lane, verb, verb.label(), now).unwrap();
            assert_eq!(moved.since, now);
            (lane.state, lane.history) = (moved.state, moved.history);
            states.push(lane.state.label());
        }
        assert_eq!(states, ["draining", "promoted", "draining", "promoted"]);
        let reasons: Vec<_> = lane.history.iter().map(|past| (past.until, past.reason.as_str())).collect();
        assert_eq!(reasons, [(1, "drain"), (2, "promote"), (3, "rollback"), (4, "rollback")]);
    }

    #[test]
    fn history_keeps_the_newest_stages() {
        let mut lane = lane("draft");
        for now in 0..100 {
            let verb = if lane.state == LaneState::Active { Verb::Drain } else { Verb::Activate };
            let moved = transition(&lane, verb, "", now).unwrap();
            (lane.state, lane.history) = (moved.state, moved.history);
        }
        assert_eq!(lane.history.len(), HISTORY_MAX);
        assert_eq!(lane.history.last().unwrap().until, 99);
    }

    #[test]
    fn refusal_says_what_to_do() {
        let said = |state, verb| transition(&lane(state), verb, "", 0).unwrap_err().to_string();
        assert!(said("active", Verb::Close).contains("drain it first"));
        assert!(said("active", Verb::Rollback).contains("nothing to undo"));
        assert!(said("active", Verb::Activate).contains("active already"));
        assert_eq!("explode".parse::<Verb>().unwrap_err(), NoVerb("explode".to_owned()));
    }
}
