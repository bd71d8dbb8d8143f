//! Instances that proxies do not use: `mesh.v1.UnusableInstance` ↔ [`UnusableInstance`].

use std::net::SocketAddr;

use mesh_core::{health::Usability, model::service::ServiceKey};

use super::Invalid;
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
}

impl UnusableInstance {
    /// The message.
    pub fn to_wire(&self) -> wire::UnusableInstance {
        wire::UnusableInstance {
            service: self.service.to_string(),
            address: self.address.to_string(),
            reason: self.usability.label().to_owned(),
        }
    }

    /// Reads the message.
    ///
    /// # Errors
    /// Names the field.
    pub fn from_wire(message: &wire::UnusableInstance) -> Result<Self, Invalid> {
        if message.service.len() > SERVICE_MAX {
            return Err(Invalid::value("unusable_instance.service", "too long"));
        }
        let address = message.address.parse();
        let address = address.map_err(|error| Invalid::value("unusable_instance.address", error))?;
        let is_it = |state: &Usability| !state.allows() && state.label() == message.reason;
        let usability = Usability::ALL.into_iter().find(is_it);
        let usability = usability.ok_or_else(|| Invalid::value("unusable_instance.reason", "not one that is known"))?;
        Ok(UnusableInstance { service: ServiceKey(message.service.as_str().into()), address, usability })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_reads_back_as_it_was_unless_it_would_be_picked() {
        for usability in Usability::ALL {
            let service = ServiceKey("b.demo.svc.cluster.local:8080".into());
            let instance = UnusableInstance { service, address: ([10, 0, 0, 1], 80).into(), usability };
            let read = UnusableInstance::from_wire(&instance.to_wire());
            match usability.allows() {
                true => assert!(read.unwrap_err().to_string().contains("unusable_instance.reason")),
                false => assert_eq!(read, Ok(instance)),
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let message = |service: &str, address: &str| wire::UnusableInstance {
            service: service.to_owned(),
            address: address.to_owned(),
            reason: "ejected".to_owned(),
        };
        for (message, field) in [
            (message("b.demo", "nowhere"), "unusable_instance.address"),
            (message(&"b".repeat(301), "10.0.0.1:80"), "unusable_instance.service"),
        ] {
            assert!(UnusableInstance::from_wire(&message).unwrap_err().to_string().contains(field), "{field}");
        }
    }
}
