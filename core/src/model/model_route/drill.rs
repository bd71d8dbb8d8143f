//! Who may force failures of targets for drills: nobody unless the route says so.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::identity::Identity;

/// Who may force failures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// Callers; empty = nobody.
    pub allow: Vec<Driller>,
}

/// A caller, or several, by identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Driller {
    /// This one.
    Identity(Identity),
    /// This service account, in any trust domain that the mesh trusts.
    Account {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Every account of this namespace.
    Namespace(String),
}

/// A text that names no caller.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("names no caller: expected <namespace>/<service account>, <namespace>/*, or an identity (spiffe://…)")]
pub struct NotADriller;

impl Drill {
    /// Whether a caller may force failures.
    pub fn allows(&self, caller: &Identity) -> bool {
        self.allow.iter().any(|driller| match driller {
            Driller::Identity(identity) => identity == caller,
            Driller::Account { namespace, name } => caller.namespace() == namespace && caller.service_account() == name,
            Driller::Namespace(namespace) => caller.namespace() == namespace,
        })
    }
}

impl FromStr for Driller {
    type Err = NotADriller;

    fn from_str(text: &str) -> Result<Self, NotADriller> {
        if let Ok(identity) = text.parse() {
            return Ok(Driller::Identity(identity));
        }
        let (namespace, name) = text.split_once('/').ok_or(NotADriller)?;
        let account = if name == "*" { "any" } else { name };
        Identity::new("any", namespace, account).map_err(|_| NotADriller)?;
        let namespace = namespace.to_owned();
        Ok(if name == "*" {
            Driller::Namespace(namespace)
        } else {
            Driller::Account { namespace, name: name.to_owned() }
        })
    }
}

/// As it is written.
impl fmt::Display for Driller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Driller::Identity(identity) => identity.fmt(f),
            Driller::Account { namespace, name } => write!(f, "{namespace}/{name}"),
            Driller::Namespace(namespace) => write!(f, "{namespace}/*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_named_by_identity_account_or_namespace() {
        let tester: Identity = "spiffe://cluster.local/ns/shop/sa/tester".parse().unwrap();
        let other: Identity = "spiffe://cluster.local/ns/shop/sa/other".parse().unwrap();
        let cases = [
            ("spiffe://cluster.local/ns/shop/sa/tester", true, false),
            ("spiffe://elsewhere/ns/shop/sa/tester", false, false),
            ("shop/tester", true, false),
            ("shop/*", true, true),
            ("ai/*", false, false),
            ("ai/tester", false, false),
        ];
        for (text, tester_may, other_may) in cases {
            let driller: Driller = text.parse().unwrap();
            assert_eq!(driller.to_string(), text);
            let drill = Drill { allow: vec![driller] };
            assert_eq!((drill.allows(&tester), drill.allows(&other)), (tester_may, other_may), "{text}");
        }
        for text in ["", "tester", "Shop/tester", "*/tester", "shop/", "shop/a/b", "*"] {
            assert_eq!(text.parse::<Driller>(), Err(NotADriller), "{text}");
        }
        assert!(!Drill::default().allows(&tester));
    }
}
