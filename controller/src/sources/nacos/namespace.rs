//! Whether the namespace that settings name is there. Nacos answers for one that it does not have with empty lists, as for
//! one without services, and takes registrations for it: nothing else would say that an id is misspelt.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::wire::{Cause, Error};

/// How often a namespace is asked for that is not known to be there.
const AGAIN: Duration = Duration::from_secs(10);

/// What is known of the namespace.
#[derive(Debug, Default)]
pub(super) struct Existence {
    known: Known,
    under_way: bool,
    /// It is not asked for again over this connection: it is there.
    settled: bool,
    next: Option<Instant>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Known {
    #[default]
    Unasked,
    Exists,
    /// The server has others; what it said.
    Unknown(String),
    /// The server does not say which it has, e.g. since the login may not know; what it said.
    Unsaid(String),
}

impl Existence {
    /// The connection is new: perhaps another server, and what was under way is lost.
    pub(super) fn again(&mut self) {
        *self = Existence { known: std::mem::take(&mut self.known), ..Existence::default() };
    }

    /// Whether it is to be asked for now; if so, it counts as asked.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        if self.under_way || self.settled || self.next.is_some_and(|next| next > now) {
            return false;
        }
        self.under_way = true;
        true
    }

    /// Takes an answer in; whether it says something else than before.
    pub(super) fn answered(&mut self, answer: Result<(), Error>, now: Instant) -> bool {
        self.under_way = false;
        let known = match answer {
            Ok(()) => Known::Exists,
            Err(error @ Error { cause: Cause::UnknownNamespace { .. }, .. }) => Known::Unknown(error.to_string()),
            Err(error) => Known::Unsaid(error.to_string()),
        };
        self.settled = known == Known::Exists;
        self.next = Some(now + AGAIN);
        let changed = known != self.known;
        self.known = known;
        changed
    }

    /// What is wrong, if it is known that something is.
    pub(super) fn wrong(&self) -> Option<&str> {
        match &self.known {
            Known::Unknown(said) => Some(said),
            Known::Unasked | Known::Exists | Known::Unsaid(_) => None,
        }
    }
}

impl fmt::Display for Existence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.known {
            Known::Unasked => f.write_str("not asked for yet"),
            Known::Exists => f.write_str("exists"),
            Known::Unknown(_) => f.write_str("unknown"),
            Known::Unsaid(said) => write!(f, "the server does not say whether it exists: {said}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(cause: Cause) -> Result<(), Error> {
        Err(Error { server: "main (n:8848)".into(), request: "namespace list", cause })
    }

    fn unknown() -> Result<(), Error> {
        let known = vec!["public".to_owned(), "prod".to_owned()];
        error(Cause::UnknownNamespace { namespace: "prdo".to_owned(), known })
    }

    #[test]
    fn an_unknown_namespace_is_said_with_those_that_exist_until_it_exists() {
        let (mut existence, now) = (Existence::default(), Instant::now());
        assert!(existence.is_due(now) && !existence.is_due(now), "asked once at a time");
        assert!(existence.answered(unknown(), now));
        let wrong = existence.wrong().unwrap();
        assert!(wrong.contains("unknown namespace \"prdo\"; it has public, prod"), "{wrong}");
        assert!(!existence.is_due(now + AGAIN - Duration::from_millis(1)));
        assert!(existence.is_due(now + AGAIN));
        assert!(!existence.answered(unknown(), now + AGAIN), "nothing new");
        assert!(existence.is_due(now + 2 * AGAIN));
        assert!(existence.answered(Ok(()), now + 2 * AGAIN));
        assert_eq!((existence.wrong(), existence.to_string().as_str()), (None, "exists"));
        assert!(!existence.is_due(now + 100 * AGAIN));
        existence.again();
        assert!(existence.is_due(now), "over a new connection");
    }

    #[test]
    fn a_server_that_does_not_say_its_namespaces_is_not_called_wrong() {
        let (mut existence, now) = (Existence::default(), Instant::now());
        existence.answered(error(Cause::Denied { said: "admins only".to_owned() }), now);
        assert_eq!(existence.wrong(), None);
        assert!(existence.to_string().contains("admins only"), "{existence}");
        assert!(existence.is_due(now + AGAIN));
    }
}
