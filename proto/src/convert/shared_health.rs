//! Shared probing: `mesh.v1.CallerHealth` and `SharedHealth` ↔ [`Called`] and [`Shares`], by service.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use mesh_core::{
    health::{ProbeResult, Traffic},
    model::service::ServiceKey,
};

use super::Invalid;
use crate::mesh::v1 as wire;

/// Most services in one message.
pub const SERVICES_MAX: usize = 1_000;
/// Most instances in one report of a proxy.
pub const INSTANCES_MAX: usize = 4_000;
/// Longest path of a service, bytes.
const SERVICE_MAX: usize = 300;

/// A service that a proxy calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// Whether it is called now.
    pub traffic: Traffic,
    /// What the proxy's own probes show.
    pub seen: BTreeMap<SocketAddr, ProbeResult>,
}

/// What a proxy calls, by service.
pub type Calls = BTreeMap<ServiceKey, Called>;

/// Part of one proxy in the probing of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Instances that it is to probe.
    pub probe: BTreeSet<SocketAddr>,
    /// Instances that are unhealthy by the word of those who probe them.
    pub failing: BTreeSet<SocketAddr>,
    /// Those of which nobody who probes them knows anything yet.
    pub unknown: BTreeSet<SocketAddr>,
}

/// The report of a proxy; `caller` in the first one. What is beyond [`SERVICES_MAX`] and [`INSTANCES_MAX`] is left out.
pub fn calls_to_wire(calls: &Calls, caller: Option<wire::Caller>) -> wire::CallerHealth {
    let mut left = INSTANCES_MAX;
    let service = |(key, called): (&ServiceKey, &Called)| {
        let seen: Vec<_> = called.seen.iter().take(left).collect();
        left -= seen.len();
        let of = |result: ProbeResult| {
            seen.iter().filter(|(_, seen)| **seen == result).map(|(address, _)| address.to_string()).collect()
        };
        wire::CalledService {
            service: key.to_string(),
            idle: called.traffic == Traffic::None,
            passing: of(ProbeResult::Succeeded),
            failing: of(ProbeResult::Failed),
        }
    };
    wire::CallerHealth { caller, services: calls.iter().take(SERVICES_MAX).map(service).collect() }
}

/// Reads the report of a proxy.
///
/// # Errors
/// Names the field.
pub fn calls_from_wire(message: &wire::CallerHealth) -> Result<Calls, Invalid> {
    let mut left = INSTANCES_MAX;
    let mut calls = Calls::new();
    for service in message.services.iter().take(SERVICES_MAX) {
        let said = service.passing.len().saturating_add(service.failing.len());
        left = left
            .checked_sub(said)
            .ok_or_else(|| Invalid::value("called_service.passing", format!("more than {INSTANCES_MAX} instances")))?;
        let passing = service.passing.iter().map(|one| (one, ProbeResult::Succeeded));
        let failing = service.failing.iter().map(|one| (one, ProbeResult::Failed));
        let seen = passing.chain(failing).map(|(one, result)| Ok((address("called_service.passing", one)?, result)));
        let seen = seen.collect::<Result<_, Invalid>>()?;
        let traffic = if service.idle { Traffic::None } else { Traffic::Flowing };
        calls.insert(key("called_service.service", &service.service)?, Called { traffic, seen });
    }
    Ok(calls)
}

/// The answer to a proxy.
pub fn shares_to_wire(shares: &BTreeMap<ServiceKey, Shares>) -> wire::SharedHealth {
    let texts = |addresses: &BTreeSet<SocketAddr>| addresses.iter().map(ToString::to_string).collect();
    let service = |(key, shares): (&ServiceKey, &Shares)| wire::SharedService {
        service: key.to_string(),
        probe: texts(&shares.probe),
        failing: texts(&shares.failing),
        unknown: texts(&shares.unknown),
    };
    wire::SharedHealth { services: shares.iter().map(service).collect() }
}

/// Reads the answer to a proxy.
///
/// # Errors
/// Names the field.
pub fn shares_from_wire(message: &wire::SharedHealth) -> Result<BTreeMap<ServiceKey, Shares>, Invalid> {
    let read = |field, texts: &[String]| -> Result<BTreeSet<SocketAddr>, Invalid> {
        texts.iter().map(|text| address(field, text)).collect()
    };
    let service = |service: &wire::SharedService| {
        let shares = Shares {
            probe: read("shared_service.probe", &service.probe)?,
            failing: read("shared_service.failing", &service.failing)?,
            unknown: read("shared_service.unknown", &service.unknown)?,
        };
        Ok((key("shared_service.service", &service.service)?, shares))
    };
    message.services.iter().map(service).collect()
}

fn key(field: &'static str, path: &str) -> Result<ServiceKey, Invalid> {
    if path.len() > SERVICE_MAX {
        return Err(Invalid::value(field, "too long"));
    }
    Ok(ServiceKey(path.into()))
}

fn address(field: &'static str, text: &str) -> Result<SocketAddr, Invalid> {
    text.parse().map_err(|error| Invalid::value(field, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(number: usize) -> SocketAddr {
        ([10, 0, (number >> 8) as u8, number as u8], 80).into()
    }

    fn service(number: usize) -> ServiceKey {
        ServiceKey(format!("s{number}.demo.svc.cluster.local:80").into())
    }

    #[test]
    fn calls_and_shares_read_back_as_they_were() {
        let seen = BTreeMap::from([(instance(1), ProbeResult::Succeeded), (instance(2), ProbeResult::Failed)]);
        let calls = Calls::from([
            (service(1), Called { traffic: Traffic::Flowing, seen }),
            (service(2), Called { traffic: Traffic::None, seen: BTreeMap::new() }),
        ]);
        assert_eq!(calls_from_wire(&calls_to_wire(&calls, None)), Ok(calls));
        let shares = Shares {
            probe: [instance(1), instance(3)].into(),
            failing: [instance(2)].into(),
            unknown: [instance(4)].into(),
        };
        let shares = BTreeMap::from([(service(1), shares), (service(2), Shares::default())]);
        assert_eq!(shares_from_wire(&shares_to_wire(&shares)), Ok(shares));
    }

    #[test]
    fn report_is_bounded_and_one_beyond_the_bounds_is_refused() {
        let seen = (0..INSTANCES_MAX).map(|number| (instance(number), ProbeResult::Failed)).collect();
        let called = Called { traffic: Traffic::Flowing, seen };
        let calls: Calls = (0..2).map(|number| (service(number), called.clone())).collect();
        let mut message = calls_to_wire(&calls, None);
        assert_eq!(message.services.iter().map(|service| service.failing.len()).sum::<usize>(), INSTANCES_MAX);
        message.services[1].passing.push(instance(0).to_string());
        assert!(calls_from_wire(&message).is_err());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let report = |service: &str, passing: &str| wire::CallerHealth {
            caller: None,
            services: vec![wire::CalledService {
                service: service.to_owned(),
                passing: vec![passing.to_owned()],
                ..wire::CalledService::default()
            }],
        };
        for (message, field) in [
            (report("s1", "nowhere"), "called_service.passing"),
            (report(&"s".repeat(301), "10.0.0.1:80"), "called_service.service"),
        ] {
            assert!(calls_from_wire(&message).unwrap_err().to_string().contains(field), "{field}");
        }
        let shared = wire::SharedService { failing: vec!["10.0.0.1".to_owned()], ..wire::SharedService::default() };
        let error = shares_from_wire(&wire::SharedHealth { services: vec![shared] }).unwrap_err();
        assert!(error.to_string().contains("shared_service.failing"));
    }
}
