//! Metadata of an instance: free text of a registrant, read by ordered lists of keys. A value that cannot be used is noted
//! and counts as not there; except a lane mark, which hides those of later keys even where it is no lane's name: the
//! instance was marked, and what it was not marked as must not be guessed.

use std::collections::BTreeMap;

use super::{super::Name, CLUSTER_LABEL, Note, zone_of_cluster};
use crate::{
    model::lane::LaneName,
    names::LANE_LABEL,
    resources::services::{Account, Protocol},
};

/// Keys of the lane mark, in order of preference.
pub(super) const LANE_KEYS: [&str; 6] = [LANE_LABEL, "lane", "version", "tag", "alicloud.service.tag", "dubbo.tag"];
/// Keys of the zone, before the cluster's name.
const ZONE_KEYS: [&str; 1] = ["zone"];
/// Keys of the moment since when the instance is ready: ours, Dubbo's, Spring's.
const READY_KEYS: [&str; 3] = ["ready_since", "timestamp", "startTime"];
/// Key of what is spoken.
const PROTOCOL: &str = "protocol";
/// Key of whether the application speaks TLS itself.
const SECURE: &str = "secure";
/// Key of a second port, on which gRPC is spoken.
const GRPC_PORT: &str = "gRPC_port";
/// Key of the identity of the instance's sidecar, `<service account>.<namespace>`.
const IDENTITY: &str = "lanemesh.io/identity";
/// Key of the name by which the instance's sidecar calls itself.
const POD: &str = "lanemesh.io/pod";
/// Key of the inbound port of the instance's sidecar.
const INBOUND_PORT: &str = "lanemesh.io/inbound-port";
/// Key that says which mesh registered the instance.
const MESH: &str = "mesh";
/// Our own name there.
const OUR_MESH: &str = "lanemesh";

/// Most metadata of one instance that is kept as labels, bytes of keys and values: every instance of every service that
/// somebody calls is held in memory.
const LABELS_MAX: usize = 8_192;
/// Longest zone or pod name, characters.
const NAME_MAX: usize = 253;
/// Moments before this one, Unix seconds, are no moments at which an instance came up: 2000-01-01.
const EARLIEST: u64 = 946_684_800;
/// How far a registrant's clock may be ahead, seconds.
const AHEAD_MAX: u64 = 300;

/// What words of other systems mean here. In lower case.
const PROTOCOLS: &[(&str, Protocol)] = &[
    ("detect", Protocol::Detect),
    ("http", Protocol::Detect),
    ("rest", Protocol::Detect),
    ("ws", Protocol::Http1),
    ("http1", Protocol::Http1),
    ("http/1.1", Protocol::Http1),
    ("http2", Protocol::Http2),
    ("h2", Protocol::Http2),
    ("h2c", Protocol::Http2),
    ("tri", Protocol::Http2),
    ("triple", Protocol::Http2),
    ("grpc", Protocol::Grpc),
    ("tcp", Protocol::Opaque),
    ("opaque", Protocol::Opaque),
    ("dubbo", Protocol::Opaque),
    ("thrift", Protocol::Opaque),
    ("https", Protocol::Tls),
    ("wss", Protocol::Tls),
    ("tls", Protocol::Tls),
    ("grpcs", Protocol::Tls),
];

/// The metadata of one instance, and what was wrong in it.
pub(super) struct Metadata<'h> {
    service: String,
    instance: String,
    texts: &'h BTreeMap<String, String>,
    notes: Vec<Note>,
}

impl<'h> Metadata<'h> {
    pub(super) fn new(service: &Name, instance: String, texts: &'h BTreeMap<String, String>) -> Self {
        Metadata { service: service.to_string(), instance, texts, notes: Vec::new() }
    }

    pub(super) fn note(&mut self, key: &str, problem: String) {
        let (service, instance) = (self.service.clone(), self.instance.clone());
        self.notes.push(Note { service, instance, key: key.to_owned(), problem });
    }

    pub(super) fn notes(self) -> Vec<Note> {
        self.notes
    }

    /// A value, without space around it; an empty one counts as not there.
    fn get(&self, key: &str) -> Option<&'h str> {
        self.texts.get(key).map(|text| text.trim()).filter(|text| !text.is_empty())
    }

    /// The value of a key made into something, or a note of why it cannot be.
    fn read<T>(&mut self, key: &str, read: impl FnOnce(&'h str) -> Result<T, String>) -> Option<T> {
        match read(self.get(key)?) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.note(key, problem);
                None
            }
        }
    }

    /// Lane mark.
    pub(super) fn lane(&mut self) -> Option<String> {
        let read = |text: &str| text.parse().map(|name: LaneName| name.to_string()).map_err(|error| error.to_string());
        let key = LANE_KEYS.into_iter().find(|key| self.get(key).is_some())?;
        self.read(key, |text| read(text).map_err(|problem| format!("{problem}; the instance carries no lane mark")))
    }

    /// Failure domain.
    pub(super) fn zone(&mut self, cluster: &str) -> Option<String> {
        ZONE_KEYS
            .into_iter()
            .find_map(|key| self.read(key, |text| name(text).map_err(|problem| format!("{problem}; ignored"))))
            .or_else(|| zone_of_cluster(cluster).and_then(|cluster| name(cluster).ok()))
    }

    /// Unix seconds since when it is ready, of a moment in seconds or milliseconds.
    pub(super) fn ready_since(&mut self, now: u64) -> Option<u64> {
        let read = |text: &str| {
            let number: u64 = text.parse().map_err(|_| format!("{} is no Unix time; ignored", quoted(text)))?;
            // Seconds have ten digits until the year 2286.
            let seconds = if number < 100_000_000_000 { number } else { number / 1_000 };
            match seconds {
                EARLIEST.. if seconds <= now.saturating_add(AHEAD_MAX) => Ok(seconds),
                EARLIEST.. => Err(format!("{number} lies in the future; ignored")),
                _ => Err(format!("{number} lies before 2000; ignored")),
            }
        };
        READY_KEYS.into_iter().find_map(|key| self.read(key, read))
    }

    /// What is spoken at the registered port.
    pub(super) fn protocol(&mut self) -> Protocol {
        let secure = self.read(SECURE, |text| match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => Ok(true),
            "false" | "0" | "no" => Ok(false),
            _ => Err(format!("{} is neither true nor false; counts as false", quoted(text))),
        });
        let protocol = self.read(PROTOCOL, |text| {
            let known = PROTOCOLS.iter().find(|(word, _)| text.eq_ignore_ascii_case(word)).map(|(_, known)| *known);
            known.ok_or_else(|| format!("{} is no protocol that is known; found out from the bytes", quoted(text)))
        });
        if secure == Some(true) { Protocol::Tls } else { protocol.unwrap_or_default() }
    }

    /// Port on which gRPC is spoken beside the registered one.
    pub(super) fn grpc_port(&mut self) -> Option<u16> {
        self.read(GRPC_PORT, port)
    }

    /// Inbound port of its sidecar.
    pub(super) fn inbound_port(&mut self) -> Option<u16> {
        self.read(INBOUND_PORT, port)
    }

    /// Name by which its sidecar calls itself.
    pub(super) fn pod(&mut self) -> Option<String> {
        self.read(POD, |text| name(text).map_err(|problem| format!("{problem}; ignored")))
    }

    /// Account of its sidecar; none = it has none, and is called in the clear.
    pub(super) fn identity(&mut self) -> Option<Account> {
        let is_ours = self.get(MESH) == Some(OUR_MESH);
        if is_ours && self.get(IDENTITY).is_none() {
            self.note(IDENTITY, format!("missing although {MESH} is {OUR_MESH}; the instance is called without mTLS"));
        }
        self.read(IDENTITY, account)
    }

    /// What lane selectors look at: the metadata, the cluster, and under one key the lane mark.
    pub(super) fn labels(&mut self, cluster: &str, lane: Option<&str>) -> BTreeMap<String, String> {
        let size: usize = self.texts.iter().map(|(key, value)| key.len() + value.len()).sum();
        let mut labels = self.texts.clone();
        if size > LABELS_MAX {
            // Longest out first, so that what lanes are selected by, which is short, stays.
            let mut by_size: Vec<_> = self.texts.iter().map(|(key, value)| (key.len() + value.len(), key)).collect();
            by_size.sort();
            let mut left = LABELS_MAX;
            let fits = by_size.iter().take_while(|(size, _)| {
                let fits = *size <= left;
                left = left.saturating_sub(*size);
                fits
            });
            let kept: Vec<&String> = fits.map(|(_, key)| *key).collect();
            labels.retain(|key, _| kept.contains(&key));
            let dropped = self.texts.len() - labels.len();
            self.note(
                "metadata",
                format!("has {size} bytes, more than {LABELS_MAX}; the {dropped} longest entries are no labels"),
            );
        }
        if !cluster.is_empty() && cluster.len() <= NAME_MAX {
            labels.entry(CLUSTER_LABEL.to_owned()).or_insert_with(|| cluster.to_owned());
        }
        match lane {
            Some(lane) => labels.insert(LANE_LABEL.to_owned(), lane.to_owned()),
            None => labels.remove(LANE_LABEL),
        };
        labels
    }
}

fn port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| format!("{} is no port; ignored", quoted(text)))
}

/// A short text that can be shown.
fn name(text: &str) -> Result<String, String> {
    if text.chars().count() > NAME_MAX {
        return Err(format!("longer than {NAME_MAX} characters"));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{} holds control characters", quoted(text)));
    }
    Ok(text.to_owned())
}

fn account(text: &str) -> Result<Account, String> {
    let problem = || format!("{} is not <service account>.<namespace>; called without mTLS", quoted(text));
    let (service_account, namespace) = text.rsplit_once('.').ok_or_else(problem)?;
    // The trust domain does not matter to whether account and namespace can be one.
    let identity = crate::identity::Identity::new(crate::names::DEFAULT_TRUST_DOMAIN, namespace, service_account);
    identity.map_err(|error| format!("{error}; called without mTLS"))?;
    Ok(Account { namespace: namespace.to_owned(), service_account: service_account.to_owned() })
}

/// A text of somebody else as it may be shown: its beginning, escaped.
fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(40).collect();
    format!("{shown:?}{}", if shown.len() < text.len() { "…" } else { "" })
}
