//! The mesh of the demo: gateway → a → b → c → d, with a canary instance of b and of d. Names and addresses, no action.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use mesh_core::names;

/// Namespace of the demo's services.
pub(crate) const NAMESPACE: &str = "demo";
/// Lane of the demo, in the group of the same name as the namespace.
pub(crate) const LANE: &str = "canary";
/// Port of every service and application.
pub(crate) const PORT: u16 = 8080;
/// Last byte of the controller's address.
const CONTROLLER: u8 = 100;
/// Last byte of the first service's address.
const SERVICES: u8 = 200;

/// One instance: an application with its sidecar; the gateway has no application.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    /// Name of the instance.
    pub(crate) name: &'static str,
    /// Service it belongs to; also its service account.
    pub(crate) service: &'static str,
    /// `baseline` or the lane.
    pub(crate) version: &'static str,
    /// Service that it calls.
    pub(crate) next: Option<&'static str>,
    /// Last byte of its address.
    number: u8,
}

const fn pod(
    number: u8,
    name: &'static str,
    service: &'static str,
    version: &'static str,
    next: Option<&'static str>,
) -> Pod {
    Pod { name, service, version, next, number }
}

/// Every instance, in the order of the path.
pub(crate) const PODS: &[Pod] = &[
    pod(1, "gateway", "gateway", "baseline", Some("a")),
    pod(2, "a", "a", "baseline", Some("b")),
    pod(3, "b", "b", "baseline", Some("c")),
    pod(4, "b-canary", "b", LANE, Some("c")),
    pod(5, "c", "c", "baseline", Some("d")),
    pod(6, "d", "d", "baseline", None),
    pod(7, "d-canary", "d", LANE, None),
];

/// Services behind the gateway, in the order of the path.
pub(crate) const CHAIN: [&str; 4] = ["a", "b", "c", "d"];

impl Pod {
    /// Whether an application runs beside the proxy.
    pub(crate) fn has_application(&self) -> bool {
        self.name != "gateway"
    }

    /// Name of its proxy among the demo's processes.
    pub(crate) fn proxy(&self) -> String {
        format!("proxy-{}", self.name)
    }

    /// Name of its application among the demo's processes.
    pub(crate) fn application(&self) -> String {
        format!("app-{}", self.name)
    }
}

/// Where pods live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// One loopback address per pod; applications name the outbound listener.
    Loopback,
    /// One network namespace per pod; applications are captured.
    Namespaces,
}

/// Addresses of one demo.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Topology {
    /// Where pods live.
    pub(crate) place: Place,
    /// Block of addresses, so that several demos can run at the same time.
    pub(crate) block: u8,
}

impl Topology {
    fn address_of(&self, number: u8) -> IpAddr {
        match self.place {
            Place::Loopback => Ipv4Addr::new(127, 1, self.block, number).into(),
            Place::Namespaces => Ipv4Addr::new(10, 77, self.block, number).into(),
        }
    }

    /// Address of a pod.
    pub(crate) fn address(&self, pod: &Pod) -> IpAddr {
        self.address_of(pod.number)
    }

    /// Address that means a service as a whole: where captured applications connect to. It is no interface's.
    pub(crate) fn service(&self, service: &str) -> SocketAddr {
        let position = CHAIN.iter().position(|known| *known == service).unwrap_or(CHAIN.len());
        // At most a handful of services.
        SocketAddr::new(self.address_of(SERVICES + position as u8), PORT)
    }

    /// Address of the host that controller and demo run on.
    pub(crate) fn host(&self) -> IpAddr {
        self.address_of(CONTROLLER)
    }

    /// Where requests from outside enter.
    pub(crate) fn entry(&self) -> SocketAddr {
        SocketAddr::new(self.address(&PODS[0]), PORT)
    }

    /// A pod's application.
    pub(crate) fn application(&self, pod: &Pod) -> SocketAddr {
        SocketAddr::new(self.address(pod), PORT)
    }

    /// A proxy's listener for calls from mesh peers.
    pub(crate) fn inbound(&self, pod: &Pod) -> SocketAddr {
        SocketAddr::new(self.address(pod), names::INBOUND_PORT)
    }

    /// A proxy's listener for calls of its application, or at the gateway for calls from outside.
    pub(crate) fn outbound(&self, pod: &Pod) -> SocketAddr {
        match (pod.has_application(), self.place) {
            (false, _) => self.entry(),
            (true, Place::Loopback) => SocketAddr::new(self.address(pod), names::OUTBOUND_PORT),
            (true, Place::Namespaces) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), names::OUTBOUND_PORT),
        }
    }

    /// A proxy's admin port.
    pub(crate) fn admin(&self, pod: &Pod) -> SocketAddr {
        SocketAddr::new(self.address(pod), names::ADMIN_PORT)
    }

    /// The controller's port for proxies.
    pub(crate) fn controller(&self) -> SocketAddr {
        SocketAddr::new(self.host(), names::CONTROLLER_PORT)
    }

    /// The controller's console: on loopback in both places.
    pub(crate) fn console(&self) -> SocketAddr {
        let address = match self.place {
            Place::Loopback => self.host(),
            Place::Namespaces => Ipv4Addr::LOCALHOST.into(),
        };
        SocketAddr::new(address, names::CONTROLLER_ADMIN_PORT)
    }

    /// What the file source reads: services with their instances, the lane group and its lane.
    pub(crate) fn resources(&self) -> String {
        let mut text = format!("apiVersion: {}\nkind: Services\nservices:\n", names::API_VERSION);
        for service in ["gateway"].into_iter().chain(CHAIN) {
            text.push_str(&format!("- name: {service}\n  namespace: {NAMESPACE}\n"));
            if self.place == Place::Namespaces {
                text.push_str(&format!("  addresses: [{}]\n", self.service(service).ip()));
            }
            text.push_str(&format!("  ports:\n  - port: {PORT}\n  endpoints:\n"));
            for pod in PODS.iter().filter(|pod| pod.service == service) {
                let address = self.application(pod);
                write!(
                    text,
                    "  - address: {address}\n    pod: {}\n    identity: {{serviceAccount: {service}}}\n",
                    pod.name
                )
                .expect("a String takes any text");
                if pod.version == LANE {
                    text.push_str(&format!("    labels: {{lane: {LANE}}}\n"));
                }
            }
        }
        text.push_str(&lanes());
        text
    }
}

fn lanes() -> String {
    format!(
        "---\napiVersion: {0}\nkind: LaneGroup\nmetadata:\n  name: {NAMESPACE}\n  namespace: {NAMESPACE}\nspec:\n  \
         entries: [gateway]\n  services: [a, b, c, d]\n---\napiVersion: {0}\nkind: Lane\nmetadata:\n  name: {LANE}\n  \
         namespace: {NAMESPACE}\nspec:\n  group: {NAMESPACE}\n  selector:\n    labels: {{lane: {LANE}}}\n",
        names::API_VERSION
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use mesh_core::resources::{Domains, compile, parse};

    use super::*;

    #[test]
    fn resources_of_the_demo_put_the_canary_instances_and_no_other_into_the_lane() {
        let topology = Topology { place: Place::Namespaces, block: 0 };
        let resources = parse("mesh.yaml", &topology.resources()).unwrap();
        let world = compile(&resources, &Domains::default()).unwrap();
        for pod in PODS {
            let workload = &world.workloads[&format!("{NAMESPACE}/{}", pod.name)];
            let lanes: Vec<String> = workload.lanes.iter().map(ToString::to_string).collect();
            let expected: &[&str] = if pod.version == LANE { &["demo/canary"] } else { &[] };
            assert_eq!(lanes, expected, "{}", pod.name);
        }
        assert_eq!(world.services["b.demo"].addresses, [topology.service("b").ip()]);
    }

    #[test]
    fn listeners_of_a_demo_never_collide() {
        for place in [Place::Loopback, Place::Namespaces] {
            let topology = Topology { place, block: 3 };
            let mut seen = BTreeSet::new();
            for pod in PODS {
                let scope = if place == Place::Loopback { "" } else { pod.name };
                let application = pod.has_application().then(|| topology.application(pod));
                let listeners = [topology.inbound(pod), topology.outbound(pod), topology.admin(pod)];
                for address in listeners.into_iter().chain(application) {
                    assert!(seen.insert((scope, address)), "{place:?} {} {address}", pod.name);
                }
            }
        }
    }
}
