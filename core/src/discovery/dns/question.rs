//! What to ask a name server for: a host, or an SRV name `_<service>._<protocol>.<domain>`, with the port that callers mean.

use std::{fmt, net::IpAddr, str::FromStr};

use thiserror::Error;

use crate::discovery::nacos::name::{dashed, hash, with_digits};

/// Longest name, bytes without the final dot (RFC 1035 2.3.4).
const NAME_MAX: usize = 253;
/// Longest part of a name, bytes.
const PART_MAX: usize = 63;

/// Namespace of services that are names in DNS.
pub const NAMESPACE: &str = "dns";

/// What kind of records a name has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A and AAAA.
    Host,
    /// SRV.
    Service,
}

/// A name to ask for, lower case and without final dot, with or without port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    name: Box<str>,
    port: Option<u16>,
}

/// Why a text is no name to ask for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoQuestion {
    /// Nothing to ask for.
    #[error("is empty")]
    Empty,
    /// An address needs no name server.
    #[error("{0} is an address, not a name; write it as an endpoint of the file source")]
    Address(IpAddr),
    /// What follows the colon.
    #[error("{0:?} is no port: 1 to 65535")]
    Port(String),
    /// Too long, or with an empty part.
    #[error("is no name: up to {NAME_MAX} characters, in parts of 1 to {PART_MAX} between dots")]
    Form,
    /// A character that no name holds.
    #[error("{0:?} cannot stand in a name: letters, digits, - and _ can")]
    Character(char),
}

impl Question {
    /// The name, e.g. `api.example` or `_http._tcp.api.example`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Port that callers mean; `None` = the usual ones.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Name and namespace of the service that it is in the mesh: the text as a DNS label with a hash, in [`NAMESPACE`].
    pub fn service(&self) -> (String, &'static str) {
        let text = self.to_string();
        (with_digits(&dashed(&text), &hash(&[&text])), NAMESPACE)
    }

    /// What kind of records are asked for.
    pub fn kind(&self) -> Kind {
        let mut parts = self.name.split('.');
        let is_marked = |part: Option<&str>| part.is_some_and(|part| part.starts_with('_'));
        if is_marked(parts.next()) && is_marked(parts.next()) { Kind::Service } else { Kind::Host }
    }
}

impl FromStr for Question {
    type Err = NoQuestion;

    fn from_str(text: &str) -> Result<Self, NoQuestion> {
        if let Ok(ip) = text.trim_matches(['[', ']']).parse() {
            return Err(NoQuestion::Address(ip));
        }
        let (name, port) = match text.split_once(':') {
            None => (text, None),
            Some((name, port)) => {
                let number = port.parse().ok().filter(|port| *port != 0);
                let number = number.ok_or_else(|| NoQuestion::Port(port.chars().take(20).collect()))?;
                (name, Some(number))
            }
        };
        if let Ok(ip) = name.parse() {
            return Err(NoQuestion::Address(ip));
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if name.is_empty() {
            return Err(NoQuestion::Empty);
        }
        if let Some(wrong) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.')) {
            return Err(NoQuestion::Character(wrong));
        }
        if name.len() > NAME_MAX || name.split('.').any(|part| !(1..=PART_MAX).contains(&part.len())) {
            return Err(NoQuestion::Form);
        }
        Ok(Question { name: name.into(), port })
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.name),
            None => f.write_str(&self.name),
        }
    }
}
