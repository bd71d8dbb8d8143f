//! How `mesh-ctl` ends: four exit codes, and failures that say what to do.

use std::{fmt, process::ExitCode};

use anyhow::Error;

/// What `--help` says about exit codes; `docs/reference/mesh-ctl.md` is made from it.
pub(crate) const CODES: &str = "\
Exit codes:
  0  done, and what was asked about is well
  1  what was asked about is not well: problems in a file, a check that failed, a proxy behind the current revision
  2  wrong usage of mesh-ctl
  3  the controller, a proxy or a file could not be reached";

/// Exit code of a command that did what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All well.
    Well,
    /// The thing asked about is not well; the command has said why.
    NotWell,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        match exit {
            Exit::Well => ExitCode::from(0),
            Exit::NotWell => ExitCode::from(1),
        }
    }
}

/// Kind of a failure; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    NotWell,
    Usage,
    Unreachable,
}

/// A command that could not do what it was told.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    what: String,
    cause: Option<Error>,
    advice: Option<String>,
}

impl Failure {
    /// Exit code 1: `what` failed because of `cause`.
    pub(crate) fn not_well(what: impl Into<String>, cause: impl Into<Error>) -> Self {
        Failure { kind: Kind::NotWell, what: what.into(), cause: Some(cause.into()), advice: None }
    }

    /// Exit code 1, where `what` says it all.
    pub(crate) fn plain(what: impl Into<String>) -> Self {
        Failure { kind: Kind::NotWell, what: what.into(), cause: None, advice: None }
    }

    /// Exit code 2: the command line asks for something that does not exist.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Failure { kind: Kind::Usage, what: what.into(), cause: None, advice: None }
    }

    /// Exit code 3: `what` could not be reached because of `cause`.
    pub(crate) fn unreachable(what: impl Into<String>, cause: impl Into<Error>) -> Self {
        Failure { kind: Kind::Unreachable, what: what.into(), cause: Some(cause.into()), advice: None }
    }

    /// Adds what the reader can do about it.
    pub(crate) fn advise(self, advice: impl Into<String>) -> Self {
        Failure { advice: Some(advice.into()), ..self }
    }

    /// As an error among others, for what wants the same of everything that may go wrong.
    pub(crate) fn into_error(self) -> Error {
        anyhow::anyhow!("{self}")
    }

    /// Writes the failure to standard error and gives its exit code.
    pub(crate) fn report(self) -> ExitCode {
        anstream::eprintln!("error: {self}");
        ExitCode::from(match self.kind {
            Kind::NotWell => 1,
            Kind::Usage => 2,
            Kind::Unreachable => 3,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(cause) = &self.cause {
            write!(f, ": {cause:#}")?;
        }
        match &self.advice {
            Some(advice) => write!(f, "\n  what to do: {advice}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_names_thing_cause_and_remedy() {
        let failure = Failure::unreachable("no controller at x", anyhow::anyhow!("refused")).advise("start it");
        assert_eq!(failure.to_string(), "no controller at x: refused\n  what to do: start it");
    }
}
