//! Names of Nacos services, and what they are called in the mesh: a label `<name>.<mesh namespace>` like that of every
//! other service, and a host `<service>[.<group>[.<namespace>]].nacos`.
//!
//! A text that is a DNS label but for its case is its own label; any other gets dashes and a hash. Two names have one
//! label only if they differ in case alone, if a group of `public` is called like a namespace, or if hashes meet: `Book`
//! gives the second of them its [`Name::distinct_label`].

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::names;

/// Group of a service that names none.
pub const DEFAULT_GROUP: &str = "DEFAULT_GROUP";
/// Namespace of a service that names none.
pub const PUBLIC: &str = "public";
/// Domain of the names under which a sidecar knows services of Nacos.
pub const DOMAIN: &str = "nacos";
/// Longest label of a domain name, bytes (RFC 1035 2.3.4).
const LABEL_MAX: usize = 63;
/// Longest host that is read, bytes (RFC 1035 2.3.4).
const HOST_MAX: usize = 253;
/// Hex digits of a hash: 40 bits. Not 12, or every UUID would look as if it ended in a hash.
const HASH_DIGITS: usize = 10;
/// [`DEFAULT_GROUP`] as a part of a host: some clients refuse hosts with an underscore.
const DEFAULT_GROUP_LABEL: &str = "default-group";
/// What stands between group and namespace in a mesh namespace made of both.
const BETWEEN: &str = "--";
/// Texts that mean something as a group or namespace, so that no other may be called so in the mesh.
const RESERVED: [&str; 3] = [names::DEFAULT_NAMESPACE, DEFAULT_GROUP_LABEL, PUBLIC];

/// A service of Nacos. Case matters, as it does there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Parts", into = "Parts")]
pub struct Name {
    namespace: Box<str>,
    group: Box<str>,
    service: Box<str>,
}

/// A name in JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    namespace: String,
    group: String,
    service: String,
}

impl From<Parts> for Name {
    fn from(parts: Parts) -> Name {
        Name::new(&parts.namespace, &parts.group, &parts.service)
    }
}

impl From<Name> for Parts {
    fn from(name: Name) -> Parts {
        Parts { namespace: name.namespace.into(), group: name.group.into(), service: name.service.into() }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@@{}@{}", self.service, self.group, self.namespace)
    }
}

impl Name {
    /// A name; an empty namespace is [`PUBLIC`], an empty group [`DEFAULT_GROUP`].
    pub fn new(namespace: &str, group: &str, service: &str) -> Name {
        let or = |text: &str, default: &str| Box::from(if text.is_empty() { default } else { text });
        Name { namespace: or(namespace, PUBLIC), group: or(group, DEFAULT_GROUP), service: service.into() }
    }

    /// A name out of the form `<group>@@<service>`, in which servers write group and service together; without `@@` the
    /// text is the service's.
    pub fn of_grouped(namespace: &str, grouped: &str) -> Name {
        match grouped.split_once("@@") {
            Some((group, service)) => Name::new(namespace, group, service),
            None => Name::new(namespace, "", grouped),
        }
    }

    /// Namespace by its id, never empty.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Namespace as requests to a server name it: empty for [`PUBLIC`].
    pub fn tenant(&self) -> &str {
        if self.is_public() { "" } else { &self.namespace }
    }

    /// Group, never empty.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Name within group and namespace.
    pub fn service(&self) -> &str {
        &self.service
    }

    fn is_public(&self) -> bool {
        &*self.namespace == PUBLIC
    }

    fn is_of_default_group(&self) -> bool {
        &*self.group == DEFAULT_GROUP
    }

    /// `<name>.<mesh namespace>`, by which the mesh knows the service.
    pub fn label(&self) -> String {
        format!("{}.{}", self.mesh_name(), self.mesh_namespace())
    }

    /// A label for a service whose [`Name::label`] is another's already: the name with a hash of everything.
    pub fn distinct_label(&self) -> String {
        let digits = hash(&[&self.namespace, &self.group, &self.service]);
        format!("{}.{}", with_digits(&dashed(&self.service), &digits), self.mesh_namespace())
    }

    /// First half of the label: a DNS label.
    pub fn mesh_name(&self) -> String {
        part(&self.service, &[])
    }

    /// Second half of the label, a DNS label: `default` for the default group of `public`; else the namespace, the group,
    /// or `<group>--<namespace>` where neither is the default.
    pub fn mesh_namespace(&self) -> String {
        let namespace = (!self.is_public()).then(|| part(&self.namespace, &RESERVED));
        let group = (!self.is_of_default_group()).then(|| part(&self.group, &RESERVED));
        joined(group.as_deref(), namespace.as_deref())
    }

    /// Canonical host: `<service>[.<group>[.<namespace>]].nacos`, each part a DNS label, defaults left out from the right.
    pub fn host(&self) -> String {
        let service = self.mesh_name();
        let group = match self.is_of_default_group() {
            true => DEFAULT_GROUP_LABEL.to_owned(),
            false => part(&self.group, &RESERVED),
        };
        match (self.is_of_default_group(), self.is_public()) {
            (true, true) => format!("{service}.{DOMAIN}"),
            (false, true) => format!("{service}.{group}.{DOMAIN}"),
            (true | false, false) => format!("{service}.{group}.{}.{DOMAIN}", part(&self.namespace, &RESERVED)),
        }
    }
}

/// What a host of the domain `nacos` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// Label of the service that is meant.
    pub label: String,
    /// What to ask a registry for where no name is known that has the label: the parts as written. Case is often lost on
    /// the way of a host, so that it may not be the true name.
    pub literal: Name,
}

/// Why a host means no service of Nacos.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotSpoken {
    /// Another domain.
    #[error("does not end in .{DOMAIN}")]
    OtherDomain,
    /// More than a host may have.
    #[error("is longer than {HOST_MAX} bytes")]
    TooLong,
    /// Two dots in a row, or nothing before the domain.
    #[error("has an empty part")]
    EmptyPart,
    /// Service, group and namespace are three.
    #[error("has more parts than <service>.<group>.<namespace>.{DOMAIN}")]
    TooManyParts,
    /// A character that no host holds.
    #[error("holds a character other than letters, digits, - _ and .")]
    Character,
}

impl Spoken {
    /// Reads a host without port, in whatever case, with or without a final dot.
    ///
    /// # Errors
    /// Says why it means no service of Nacos.
    pub fn parse(host: &str) -> Result<Spoken, NotSpoken> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let (rest, domain) = host.rsplit_once('.').ok_or(NotSpoken::OtherDomain)?;
        if !domain.eq_ignore_ascii_case(DOMAIN) {
            return Err(NotSpoken::OtherDomain);
        }
        if host.len() > HOST_MAX {
            return Err(NotSpoken::TooLong);
        }
        let mut parts = rest.split('.');
        let (service, group, namespace) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        if parts.next().is_some() {
            return Err(NotSpoken::TooManyParts);
        }
        if rest.split('.').any(str::is_empty) {
            return Err(NotSpoken::EmptyPart);
        }
        if !rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
            return Err(NotSpoken::Character);
        }
        let is_default =
            |group: &&str| group.eq_ignore_ascii_case(DEFAULT_GROUP) || group.eq_ignore_ascii_case(DEFAULT_GROUP_LABEL);
        let group = group.filter(|group| !is_default(group));
        let namespace = namespace.filter(|namespace| !namespace.eq_ignore_ascii_case(PUBLIC));
        let literal = Name::new(namespace.unwrap_or_default(), group.unwrap_or_default(), service);
        let (group, namespace) = (group.map(spoken_place), namespace.map(spoken_place));
        let label = format!("{}.{}", spoken(service, &[]), joined(group.as_deref(), namespace.as_deref()));
        Ok(Spoken { label, literal })
    }
}

fn spoken_place(text: &str) -> String {
    spoken(text, &RESERVED)
}

/// The label that a part of a host means: itself where it is one (also one with a hash), else what it becomes.
fn spoken(text: &str, reserved: &[&str]) -> String {
    let lower = text.to_ascii_lowercase();
    if is_dns_label(&lower) && !reserved.contains(&lower.as_str()) && !lower.contains(BETWEEN) {
        return lower;
    }
    part(text, reserved)
}

/// Mesh namespace out of the labels of group and namespace; absent = default.
fn joined(group: Option<&str>, namespace: Option<&str>) -> String {
    match (group, namespace) {
        (None, None) => names::DEFAULT_NAMESPACE.to_owned(),
        (Some(only), None) | (None, Some(only)) => only.to_owned(),
        (Some(group), Some(namespace)) => {
            let both = format!("{group}{BETWEEN}{namespace}");
            if both.len() <= LABEL_MAX { both } else { with_digits(&both, &hash(&[group, namespace])) }
        }
    }
}

/// A text as a DNS label: itself in lower case where that is one which no other text can become, else with dashes for
/// what a label cannot hold and a hash of the whole.
fn part(text: &str, reserved: &[&str]) -> String {
    let lower = text.to_ascii_lowercase();
    let is_plain = is_dns_label(&lower)
        && !lower.contains(BETWEEN)
        && !ends_in_hash(&lower)
        && !reserved.contains(&lower.as_str());
    if is_plain { lower } else { with_digits(&dashed(text), &hash(&[text])) }
}

/// Whether the text is 1 to 63 of a-z 0-9 and, inside, `-`.
fn is_dns_label(text: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=LABEL_MAX).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-') && !text.ends_with('-')
}

fn ends_in_hash(text: &str) -> bool {
    let is_hash = |last: &str| last.len() == HASH_DIGITS && last.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.rsplit_once('-').is_some_and(|(_, last)| is_hash(last))
}

/// Lower case, with one dash for every run of what a label cannot hold, none at the ends.
pub(in crate::discovery) fn dashed(text: &str) -> String {
    let mut label = String::with_capacity(LABEL_MAX);
    // Longer would be cut off anyway, and the text may be of any length.
    for character in text.chars().take(4 * LABEL_MAX) {
        match character.to_ascii_lowercase() {
            kept @ ('a'..='z' | '0'..='9') => label.push(kept),
            _ if label.is_empty() || label.ends_with('-') => {}
            _ => label.push('-'),
        }
    }
    label.truncate(label.trim_end_matches('-').len());
    label
}

/// A label that ends in the digits of a hash, cut to fit.
pub(in crate::discovery) fn with_digits(label: &str, digits: &str) -> String {
    let kept = &label[..label.len().min(LABEL_MAX - HASH_DIGITS - 1)];
    let kept = kept.trim_end_matches('-');
    // A label begins with a letter or digit even where nothing of the text could be kept.
    if kept.is_empty() { format!("x-{digits}") } else { format!("{kept}-{digits}") }
}

/// First digits of SHA-256 over the parts: stable between versions and replicas, and not to be met on purpose by somebody
/// who may register under a name of his choice.
pub(in crate::discovery) fn hash(parts: &[&str]) -> String {
    let mut state = Sha256::new();
    for part in parts {
        state.update((part.len() as u64).to_be_bytes());
        state.update(part.as_bytes());
    }
    let digest = state.finalize();
    digest[..HASH_DIGITS / 2].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
