//! What a Nacos server says about one service, as it says it: only whether an address can be one is found out here, the
//! rest in `instance`. The names in JSON are the server's own.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use super::Name;

/// Weight of an instance that says nothing.
pub const DEFAULT_WEIGHT: f64 = 1.0;
/// Cluster of an instance that names none.
pub const DEFAULT_CLUSTER: &str = "DEFAULT";

/// A service and its instances, as a push or the answer to a query says.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// Which service.
    pub name: Name,
    /// Instances; a push holds those that are enabled, healthy or not.
    pub hosts: Vec<Host>,
    /// When the server made the list, milliseconds since 1970 by its clock; 0 = not said.
    pub last_ref_time: i64,
    /// So few instances were healthy that the server says `healthy` of all of them.
    pub reach_protection: bool,
}

impl Listing {
    /// Without instances of other clusters than these; unchanged where none are given. Servers are asked for all: one of
    /// them ignores what clusters it is asked for.
    #[must_use]
    pub fn of_clusters(mut self, clusters: &[String]) -> Listing {
        if !clusters.is_empty() {
            self.hosts.retain(|host| clusters.contains(&host.cluster));
        }
        self
    }
}

/// An instance as registered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Host {
    /// Should be an IP address; anything else may stand here.
    pub ip: String,
    /// Should be 1 to 65,535.
    pub port: i64,
    /// Should be 0 to 10,000; may be any number, or none (NaN).
    #[serde(deserialize_with = "number_or_none")]
    pub weight: f64,
    /// Whether the registry believes it healthy.
    pub healthy: bool,
    /// Whether it takes traffic.
    pub enabled: bool,
    /// Gone with its registrant's connection.
    pub ephemeral: bool,
    /// Cluster within the service.
    #[serde(rename = "clusterName", deserialize_with = "text_or_none")]
    pub cluster: String,
    /// What the registrant says about it.
    #[serde(deserialize_with = "texts_or_none")]
    pub metadata: BTreeMap<String, String>,
}

impl Default for Host {
    fn default() -> Self {
        Host {
            ip: String::new(),
            port: 0,
            weight: DEFAULT_WEIGHT,
            healthy: true,
            enabled: true,
            ephemeral: true,
            cluster: DEFAULT_CLUSTER.to_owned(),
            metadata: BTreeMap::new(),
        }
    }
}

/// Why nothing can be reached at an instance's address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadAddress {
    /// No text.
    #[error("ip is empty")]
    Empty,
    /// A host name, or anything else.
    #[error("ip {0:?} is no IP address; an instance must be registered by its address, not by a name")]
    NoAddress(String),
    /// The address of no host in particular.
    #[error("ip {0} is nobody's address")]
    Nobody(IpAddr),
    /// Out of range.
    #[error("port {0} is not 1 to 65535")]
    Port(i64),
}

impl Host {
    /// Address of the instance.
    ///
    /// # Errors
    /// Says why it cannot be one.
    pub fn address(&self) -> Result<SocketAddr, BadAddress> {
        let ip = self.ip.trim();
        if ip.is_empty() {
            return Err(BadAddress::Empty);
        }
        let ip: IpAddr = ip.parse().map_err(|_| BadAddress::NoAddress(ip.chars().take(80).collect()))?;
        let ip = ip.to_canonical();
        let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        if ip.is_unspecified() || ip.is_multicast() || is_broadcast {
            return Err(BadAddress::Nobody(ip));
        }
        let port = u16::try_from(self.port).ok().filter(|port| *port != 0).ok_or(BadAddress::Port(self.port))?;
        Ok(SocketAddr::new(ip, port))
    }

    /// Takes traffic as far as its registration says.
    pub fn takes_traffic(&self) -> bool {
        // A weight that is no number counts as none given.
        self.enabled && (self.weight > 0.0 || self.weight.is_nan())
    }
}

fn number_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

fn text_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_else(|| DEFAULT_CLUSTER.to_owned()))
}

/// Metadata with `null` for all or for a value, as registrants in other languages may write.
fn texts_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let read: Option<BTreeMap<String, Option<String>>> = Option::deserialize(from)?;
    Ok(read.unwrap_or_default().into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_read_from_the_servers_own_json() {
        let text = r#"{"instanceId":"10.0.0.1#80#DEFAULT#DEFAULT_GROUP@@a","ip":"10.0.0.1","port":80,"weight":0.5,
            "healthy":false,"enabled":true,"ephemeral":false,"clusterName":"hz","serviceName":"DEFAULT_GROUP@@a",
            "metadata":{"lane":"gray","empty":null},"instanceHeartBeatInterval":5000}"#;
        let host: Host = serde_json::from_str(text).unwrap();
        let metadata = [("lane", "gray"), ("empty", "")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let (ip, cluster) = ("10.0.0.1".to_owned(), "hz".to_owned());
        let expected =
            Host { ip, port: 80, weight: 0.5, healthy: false, ephemeral: false, cluster, metadata, ..Host::default() };
        assert_eq!(host, expected);
    }

    #[test]
    fn an_instance_that_says_nothing_has_the_registrys_defaults() {
        let nothing = r#"{"clusterName":null,"metadata":null}"#;
        assert_eq!(serde_json::from_str::<Host>(nothing).unwrap(), Host::default());
        assert!(serde_json::from_str::<Host>(r#"{"weight":null}"#).unwrap().weight.is_nan());
    }

    #[test]
    fn an_address_that_cannot_be_one_says_why() {
        let address = |ip: &str, port| Host { ip: ip.to_owned(), port, ..Host::default() }.address();
        for (ip, port, expected) in [
            ("10.0.0.1", 80, Ok("10.0.0.1:80")),
            (" 10.0.0.1", 80, Ok("10.0.0.1:80")),
            ("fd00::1", 80, Ok("[fd00::1]:80")),
            ("::ffff:10.0.0.1", 80, Ok("10.0.0.1:80")),
            ("", 80, Err(BadAddress::Empty)),
            ("order-1.example", 80, Err(BadAddress::NoAddress("order-1.example".to_owned()))),
            ("fe80::1%eth0", 80, Err(BadAddress::NoAddress("fe80::1%eth0".to_owned()))),
            ("0.0.0.0", 80, Err(BadAddress::Nobody("0.0.0.0".parse().unwrap()))),
            ("224.0.0.1", 80, Err(BadAddress::Nobody("224.0.0.1".parse().unwrap()))),
            ("10.0.0.1", 0, Err(BadAddress::Port(0))),
            ("10.0.0.1", 70_000, Err(BadAddress::Port(70_000))),
            ("10.0.0.1", -1, Err(BadAddress::Port(-1))),
        ] {
            assert_eq!(address(ip, port), expected.map(|text| text.parse().unwrap()), "{ip:?} {port}");
        }
    }

    #[test]
    fn a_weight_that_is_no_number_survives_being_written() {
        let host = Host { weight: f64::NAN, ..Host::default() };
        let back: Host = serde_json::from_str(&serde_json::to_string(&host).unwrap()).unwrap();
        assert!(back.weight.is_nan());
    }

    #[test]
    fn instances_of_other_clusters_than_those_wanted_are_left_out() {
        let host = |cluster: &str| Host { cluster: cluster.to_owned(), ..Host::default() };
        let listing = Listing {
            name: Name::new("", "", "s"),
            hosts: ["hz", "bj", "DEFAULT"].map(host).into(),
            last_ref_time: 1,
            reach_protection: false,
        };
        for (wanted, left) in [(&[][..], 3), (&["bj"][..], 1), (&["hz", "DEFAULT"][..], 2), (&["none"][..], 0)] {
            let wanted: Vec<String> = wanted.iter().map(|cluster| (*cluster).to_owned()).collect();
            assert_eq!(listing.clone().of_clusters(&wanted).hosts.len(), left, "{wanted:?}");
        }
    }
}
