//! The mesh of the demo: gateway → a → b → c → d, with a canary instance of b and of d. Names and addresses, no action.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use mesh_core::{model::lane::LaneName, names};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    /// Name of the instance.
    pub(crate) name: String,
    /// Service it belongs to; also its service account.
    pub(crate) service: &'static str,
    /// `baseline` or the lane.
    pub(crate) version: String,
    /// Service that it calls.
    pub(crate) next: Option<&'static str>,
    /// Last byte of its address.
    number: u8,
}

/// Services behind the gateway, in the order of the path.
pub(crate) const CHAIN: [&str; 4] = ["a", "b", "c", "d"];
/// Name of the service that requests from outside enter by, and of its one instance.
pub(crate) const GATEWAY: &str = "gateway";
/// Version of instances that are in no lane.
pub(crate) const BASELINE: &str = "baseline";
/// Most instances besides those of baseline: their addresses end below the controller's.
const INSTANCES_MAX: usize = 64;

/// An instance besides those of baseline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    /// Service, of [`CHAIN`].
    pub(crate) service: &'static str,
    /// Value of its label `lane`.
    pub(crate) lane: LaneName,
}

impl FromStr for Instance {
    type Err = String;

    fn from_str(text: &str) -> Result<Instance, String> {
        let expected = || format!("expected SERVICE=LANE with a service of {}", CHAIN.join(", "));
        let (service, lane) = text.split_once('=').ok_or_else(expected)?;
        let service = CHAIN.into_iter().find(|known| *known == service).ok_or_else(expected)?;
        if lane == BASELINE {
            return Err(format!("{service} has an instance of {BASELINE} anyway"));
        }
        Ok(Instance { service, lane: lane.parse().map_err(|error| format!("{error}"))? })
    }
}

/// A service of [`CHAIN`] by its name.
///
/// # Errors
/// When there is none.
pub(crate) fn of_chain(text: &str) -> Result<&'static str, String> {
    let found = CHAIN.into_iter().find(|known| *known == text);
    found.ok_or_else(|| format!("expected a service of {}", CHAIN.join(", ")))
}

/// Whether these instances can stand beside each other.
///
/// # Errors
/// When they are too many, or two are the same.
pub(crate) fn fit(instances: &[Instance]) -> anyhow::Result<()> {
    ensure!(instances.len() <= INSTANCES_MAX, "{} instances; at most {INSTANCES_MAX} are possible", instances.len());
    for (position, Instance { service, lane }) in instances.iter().enumerate() {
        let again = instances[..position].contains(&instances[position]);
        ensure!(!again, "--instance {service}={lane} is given twice");
    }
    Ok(())
}

/// Every instance, in the order of the path: the gateway, and of each service that of baseline and those in lanes.
fn pods(instances: &[Instance]) -> Arc<[Pod]> {
    let gateway = (GATEWAY, BASELINE, Some(CHAIN[0]));
    let of_service = |(position, service): (usize, &'static str)| {
        let lanes = instances.iter().filter(move |instance| instance.service == service);
        let versions = [BASELINE].into_iter().chain(lanes.map(|instance| instance.lane.as_str()));
        versions.map(move |version| (service, version, CHAIN.get(position + 1).copied()))
    };
    let all = [gateway].into_iter().chain(CHAIN.into_iter().enumerate().flat_map(of_service));
    let pod = |(number, (service, version, next)): (u8, (&'static str, &str, _))| {
        let name = if version == BASELINE { service.to_owned() } else { format!("{service}-{version}") };
        Pod { name, service, version: version.to_owned(), next, number }
    };
    (1..).zip(all).map(pod).collect()
}

impl Pod {
    /// Whether an application runs beside the proxy.
    pub(crate) fn has_application(&self) -> bool {
        self.service != GATEWAY
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

/// Instances and addresses of one demo.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    /// Every instance, in the order of the path; the gateway first.
    pub(crate) pods: Arc<[Pod]>,
    /// Where pods live.
    pub(crate) place: Place,
    /// Block of addresses, so that several demos can run at the same time.
    pub(crate) block: u8,
}

impl Topology {
    /// The demo's own: a lane that has instances of b and d.
    pub(crate) fn of_demo(place: Place, block: u8) -> Topology {
        let lane: LaneName = LANE.parse().expect("the demo's lane has a valid name");
        let instances = ["b", "d"].map(|service| Instance { service, lane: lane.clone() });
        Topology::with(&instances, place, block)
    }

    /// Baseline of every service, and these.
    pub(crate) fn with(instances: &[Instance], place: Place, block: u8) -> Topology {
        Topology { pods: pods(instances), place, block }
    }

    /// A pod by name.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn pod(&self, name: &str) -> anyhow::Result<&Pod> {
        self.pods.iter().find(|pod| pod.name == name).with_context(|| format!("the demo has no pod {name}"))
    }

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
        SocketAddr::new(self.address(&self.pods[0]), PORT)
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

    /// Services with their instances, as the file source reads them.
    pub(crate) fn services(&self) -> String {
        let mut text = format!("apiVersion: {}\nkind: Services\nservices:\n", names::API_VERSION);
        for service in [GATEWAY].into_iter().chain(CHAIN) {
            text.push_str(&format!("- name: {service}\n  namespace: {NAMESPACE}\n"));
            if self.place == Place::Namespaces {
                text.push_str(&format!("  addresses: [{}]\n", self.service(service).ip()));
            }
            text.push_str(&format!("  ports:\n  - port: {PORT}\n  endpoints:\n"));
            for pod in self.pods.iter().filter(|pod| pod.service == service) {
                let address = self.application(pod);
                write!(
                    text,
                    "  - address: {address}\n    pod: {}\n    identity: {{serviceAccount: {service}}}\n",
                    pod.name
                )
                .expect("a String takes any text");
                if pod.version != BASELINE {
                    text.push_str(&format!("    labels: {{lane: {}}}\n", pod.version));
                }
            }
        }
        text
    }
}

/// The demo's lane group and its lane.
pub(crate) fn lanes() -> String {
    format!(
        "apiVersion: {0}\nkind: LaneGroup\nmetadata:\n  name: {NAMESPACE}\n  namespace: {NAMESPACE}\nspec:\n  \
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
        let topology = Topology::of_demo(Place::Namespaces, 0);
        let resources = parse("mesh.yaml", &[topology.services(), lanes()].join("---\n")).unwrap();
        let world = compile(&resources, &Domains::default()).unwrap();
        for pod in topology.pods.iter() {
            let workload = &world.workloads[&format!("{NAMESPACE}/{}", pod.name)];
            let lanes: Vec<String> = workload.lanes.iter().map(ToString::to_string).collect();
            let expected: &[&str] = if pod.version == LANE { &["demo/canary"] } else { &[] };
            assert_eq!(lanes, expected, "{}", pod.name);
        }
        assert_eq!(world.services["b.demo"].addresses, [topology.service("b").ip()]);
    }

    #[test]
    fn instances_of_a_service_stand_behind_its_baseline_and_are_named_by_their_lane() {
        let instances: Vec<Instance> = ["d=dev", "b=dev.alice", "b=dev"].map(|text| text.parse().unwrap()).into();
        let topology = Topology::with(&instances, Place::Loopback, 0);
        let names: Vec<&str> = topology.pods.iter().map(|pod| pod.name.as_str()).collect();
        assert_eq!(names, ["gateway", "a", "b", "b-dev.alice", "b-dev", "c", "d", "d-dev"]);
        assert!(topology.services().contains("labels: {lane: dev.alice}"), "{}", topology.services());
        for refused in ["b", "e=dev", "b=", "b=x y", "b=baseline"] {
            assert!(refused.parse::<Instance>().is_err(), "{refused}");
        }
    }

    #[test]
    fn listeners_of_a_demo_never_collide() {
        for place in [Place::Loopback, Place::Namespaces] {
            let topology = Topology::of_demo(place, 3);
            let mut seen = BTreeSet::new();
            for pod in topology.pods.iter() {
                let scope = if place == Place::Loopback { "" } else { &pod.name };
                let application = pod.has_application().then(|| topology.application(pod));
                let listeners = [topology.inbound(pod), topology.outbound(pod), topology.admin(pod)];
                for address in listeners.into_iter().chain(application) {
                    assert!(seen.insert((scope, address)), "{place:?} {} {address}", pod.name);
                }
            }
        }
    }
}
