//! Instances that proxies do not use: `mesh.v1.UnusableInstance` ↔ [`UnusableInstance`].

use std::{net::SocketAddr, time::SystemTime};

use mesh_core::{health::Usability, lifecycle::Seen, model::service::ServiceKey};

use super::{Invalid, time, timestamp};
use crate::mesh::v1 as wire;

/// Most instances in one report.
pub const INSTANCES_MAX: usize = 1_000;
/// Longest path of a service, bytes.
const SERVICE_MAX: usize = 300;

/// An instance that a proxy does not use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusableInstance {
    /// Its service.
    pub service: ServiceKey,
    /// Its address.
    pub address: SocketAddr,
    /// What the proxy has against it; never a state in which it would pick it.
    pub usability: Usability,
    /// Since when; `None` = it does not say.
    pub since: Option<SystemTime>,
}

impl UnusableInstance {
    /// The message.
    pub fn to_wire(&self) -> wire::UnusableInstance {
        wire::UnusableInstance {
            service: self.service.to_string(),
            address: self.address.to_string(),
            reason: self.usability.label().to_owned(),
            since: self.since.map(timestamp),
        }
    }

    /// Reads the message.
    ///
    /// # Errors
    /// Names the field.
    pub fn from_wire(message: &wire::UnusableInstance) -> Result<Self, Invalid> {
        let (service, address, since) = whose(message)?;
        let is_it = |state: &Usability| !state.allows() && state.label() == message.reason;
        let usability = Usability::ALL.into_iter().find(is_it);
        let usability = usability.ok_or_else(|| Invalid::value("unusable_instance.reason", "not one that is known"))?;
        Ok(UnusableInstance { service, address, usability, since })
    }
}

/// An instance that a proxy uses, but not as any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedInstance {
    /// Its service.
    pub service: ServiceKey,
    /// Its address.
    pub address: SocketAddr,
    /// How it is used: [`Seen::Kept`], [`Seen::Trying`] or [`Seen::Warming`]; any other is told as on trial.
    pub seen: Seen,
    /// Since when; `None` = it does not say.
    pub since: Option<SystemTime>,
}

const KEPT: &str = "kept";
const HALF_OPEN: &str = "half_open";
const WARMING: &str = "warming";

impl WatchedInstance {
    /// The message.
    pub fn to_wire(&self) -> wire::UnusableInstance {
        let reason = match self.seen {
            Seen::Warming => WARMING,
            Seen::Kept => KEPT,
            Seen::Trying | Seen::Resting | Seen::Draining | Seen::Ejected | Seen::FailingHealth => HALF_OPEN,
        };
        wire::UnusableInstance {
            service: self.service.to_string(),
            address: self.address.to_string(),
            reason: reason.to_owned(),
            since: self.since.map(timestamp),
        }
    }

    /// Reads the message.
    ///
    /// # Errors
    /// Names the field.
    pub fn from_wire(message: &wire::UnusableInstance) -> Result<Self, Invalid> {
        let (service, address, since) = whose(message)?;
        let seen = match message.reason.as_str() {
            KEPT => Seen::Kept,
            HALF_OPEN => Seen::Trying,
            WARMING => Seen::Warming,
            _ => return Err(Invalid::value("unusable_instance.reason", "not one that is known")),
        };
        Ok(WatchedInstance { service, address, seen, since })
    }
}

/// Service, address, and since when.
fn whose(message: &wire::UnusableInstance) -> Result<(ServiceKey, SocketAddr, Option<SystemTime>), Invalid> {
    if message.service.len() > SERVICE_MAX {
        return Err(Invalid::value("unusable_instance.service", "too long"));
    }
    let address = message.address.parse();
    let address = address.map_err(|error| Invalid::value("unusable_instance.address", error))?;
    let since = message.since.map(|since| time("unusable_instance.since", since)).transpose()?;
    Ok((ServiceKey(message.service.as_str().into()), address, since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_reads_back_as_it_was_unless_it_would_be_picked() {
        for usability in Usability::ALL {
            let service = ServiceKey("b.demo.svc.cluster.local:8080".into());
            let since = Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000));
            let instance = UnusableInstance { service, address: ([10, 0, 0, 1], 80).into(), usability, since };
            let read = UnusableInstance::from_wire(&instance.to_wire());
            match usability.allows() {
                true => assert!(read.unwrap_err().to_string().contains("unusable_instance.reason")),
                false => assert_eq!(read, Ok(instance)),
            }
        }
    }

    #[test]
    fn watched_instance_reads_back_as_it_was() {
        for (seen, since) in [(Seen::Trying, None), (Seen::Kept, None), (Seen::Warming, Some(SystemTime::UNIX_EPOCH))] {
            let service = ServiceKey("b.demo.svc.cluster.local:8080".into());
            let watched = WatchedInstance { service, address: ([10, 0, 0, 1], 80).into(), seen, since };
            assert_eq!(WatchedInstance::from_wire(&watched.to_wire()), Ok(watched));
        }
        let unknown = wire::UnusableInstance { address: "10.0.0.1:80".to_owned(), ..Default::default() };
        let error = WatchedInstance::from_wire(&unknown).unwrap_err();
        assert!(error.to_string().contains("unusable_instance.reason"), "{error}");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let message = |service: &str, address: &str| wire::UnusableInstance {
            service: service.to_owned(),
            address: address.to_owned(),
            reason: "ejected".to_owned(),
            since: None,
        };
        for (message, field) in [
            (message("b.demo", "nowhere"), "unusable_instance.address"),
            (message(&"b".repeat(301), "10.0.0.1:80"), "unusable_instance.service"),
        ] {
            assert!(UnusableInstance::from_wire(&message).unwrap_err().to_string().contains(field), "{field}");
        }
    }
}
