//! Believed lists, and policies in force, as text for the state directory: what a controller that starts while its
//! registry is away begins with.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Host, Name};

/// Version of the text. One of another version is not read: the registry will be asked anyway.
const VERSION: u32 = 1;
/// Longest text that is read, bytes: 100,000 instances with 600 bytes each.
pub const TEXT_MAX: usize = 64 << 20;

/// A service as it was believed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stored {
    /// Which service.
    pub name: Name,
    /// Label by which it was known: a service keeps it while it is known.
    pub label: String,
    /// Every registration.
    pub hosts: Vec<Host>,
}

/// A document of policies that was in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// Its id among the configurations.
    pub id: String,
    /// What it said.
    pub text: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Documents<D> {
    version: u32,
    documents: D,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File<S> {
    version: u32,
    services: S,
}

/// Looked at before anything else.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Why a text is not used.
#[derive(Debug, Error)]
pub enum Unreadable {
    /// Of another version of the controller.
    #[error("has version {0}; this controller writes {VERSION}")]
    Version(u32),
    /// Larger than anything that is written.
    #[error("has {0} bytes, more than {TEXT_MAX}")]
    TooLong(usize),
    /// Cut off, or written by something else.
    #[error("is not what was written")]
    Content(#[source] serde_json::Error),
}

/// The text of these services.
pub fn to_text<'s>(services: impl IntoIterator<Item = &'s Stored>) -> String {
    let file = File { version: VERSION, services: services.into_iter().collect::<Vec<_>>() };
    serde_json::to_string(&file).expect("lists are made of texts and numbers")
}

/// The services of a text.
///
/// # Errors
/// Says why nothing of it is used.
pub fn from_text(text: &str) -> Result<Vec<Stored>, Unreadable> {
    let file: File<Vec<Stored>> = read(text)?;
    Ok(file.services)
}

/// The text of these documents.
pub fn documents_to_text(documents: &[Document]) -> String {
    let file = Documents { version: VERSION, documents };
    serde_json::to_string(&file).expect("documents are made of texts")
}

/// The documents of a text.
///
/// # Errors
/// Says why nothing of it is used.
pub fn documents_from_text(text: &str) -> Result<Vec<Document>, Unreadable> {
    let file: Documents<Vec<Document>> = read(text)?;
    Ok(file.documents)
}

fn read<F: for<'t> Deserialize<'t>>(text: &str) -> Result<F, Unreadable> {
    if text.len() > TEXT_MAX {
        return Err(Unreadable::TooLong(text.len()));
    }
    let Versioned { version } = serde_json::from_str(text).map_err(Unreadable::Content)?;
    if version != VERSION {
        return Err(Unreadable::Version(version));
    }
    serde_json::from_str(text).map_err(Unreadable::Content)
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} instances", self.name, self.hosts.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored() -> impl Strategy<Value = Stored> {
        let host = (any::<(String, i64, String)>(), any::<(bool, bool, bool)>(), 0..10_000_000_u32, any::<String>());
        let host = host.prop_map(|((ip, port, cluster), (healthy, enabled, ephemeral), weight, value)| Host {
            ip,
            port,
            weight: f64::from(weight) / 1_000.0,
            healthy,
            enabled,
            ephemeral,
            cluster,
            metadata: [("zone".to_owned(), value)].into(),
        });
        (any::<(String, String, String, String)>(), prop::collection::vec(host, 0..4)).prop_map(
            |((namespace, group, service, label), hosts)| Stored {
                name: Name::new(&namespace, &group, &service),
                label,
                hosts,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(services in prop::collection::vec(stored(), 0..4)) {
            prop_assert_eq!(from_text(&to_text(&services)).unwrap(), services);
        }

        #[test]
        fn a_text_that_was_cut_off_or_changed_is_refused_or_read_whole(
            services in prop::collection::vec(stored(), 0..3), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let text = to_text(&services).into_bytes();
            let cut = String::from_utf8_lossy(&text[..at.index(text.len())]).into_owned();
            prop_assert!(from_text(&cut).is_err());
            let mut changed = text.clone();
            changed[at.index(text.len())] = byte;
            let _ = from_text(&String::from_utf8_lossy(&changed));
        }
    }

    #[test]
    fn another_version_is_refused_whatever_else_it_says() {
        let error = from_text(r#"{"version": 2, "lists": {}}"#).unwrap_err();
        assert_eq!(error.to_string(), "has version 2; this controller writes 1");
    }
}
