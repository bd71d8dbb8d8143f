//! A chain of four services, a → b → c → d, where the lane `canary` has only instances of b and d.

use std::sync::{Arc, OnceLock};

use mesh_tests::{
    mesh::Mesh,
    pod::PodSpec,
    process::Process,
    server::Server,
    wait::{PATIENCE, until},
};
use tokio::net::TcpStream;

use crate::{
    link::{Behaviour, Choice, Forward, Idle, Link, Record, Timing, service_of},
    stacks::{Stack, word},
    words::{Protocol, call_once},
};

/// Pods of the chain.
pub(crate) const PODS: [&str; 6] = ["a", "b", "b-canary", "c", "d", "d-canary"];
/// What is answered where nothing is labelled.
pub(crate) const BASELINE: &str = "a[-] b[-] c[-] d[-]";
/// What is answered where every hop knows the lane.
pub(crate) const CANARY: &str = "a[canary] b-canary[canary] c[canary] d-canary[canary]";
/// Label of the client, as it sends it.
pub(crate) const LABEL: (&str, &str) = ("x-mesh-lane", "canary");

/// The chain: its mesh, and the applications started so far.
pub(crate) struct Chain {
    pub(crate) mesh: Mesh,
    pub(crate) record: Record,
    servers: Vec<Server>,
    processes: Vec<Process>,
}

/// The resources of the chain; `group` is what the group says besides, e.g. `propagation: {unanimity: true}`.
pub(crate) fn group(group: &str) -> String {
    let group = if group.is_empty() { String::new() } else { format!("  {group}\n") };
    format!(
        "apiVersion: lanemesh.io/v1alpha1\nkind: LaneGroup\nmetadata: {{name: shop, namespace: demo}}\nspec:\n  \
         services: [\"*\"]\n  entries: [a]\n{group}"
    )
}

/// A lane of the chain; `rest` is what it says besides, beginning with a comma.
pub(crate) fn lane(name: &str, rest: &str) -> String {
    format!(
        "apiVersion: lanemesh.io/v1alpha1\nkind: Lane\nmetadata: {{name: {name}, namespace: demo}}\nspec: {{group: shop{rest}}}\n"
    )
}

impl Chain {
    /// The mesh of the chain, its applications still to be started.
    pub(crate) async fn mesh(group_rest: &str) -> Chain {
        Chain::with_lanes(&PODS, group_rest, &[("canary", "")], &[]).await
    }

    /// As [`Chain::mesh`], with other pods; those of a lane are called `<service>-<lane>`. A lane is its
    /// name and what it says besides; the settings are those of every sidecar.
    pub(crate) async fn with_lanes(
        pods: &[&str],
        group_rest: &str,
        lanes: &[(&str, &str)],
        settings: &[(&str, &str)],
    ) -> Chain {
        let mut builder = Mesh::builder().pod(PodSpec::new("client")).resource(&group(group_rest));
        for pod in pods {
            let service = service_of(pod);
            let spec = PodSpec::new(pod).of(service).account(service);
            let spec = settings.iter().fold(spec, |spec, (name, value)| spec.setting(name, *value));
            builder = builder.pod(match pod.split_once('-') {
                Some((_, lane)) => spec.label("lane", lane),
                None => spec,
            });
        }
        for (name, rest) in lanes {
            builder = builder.resource(&lane(name, rest));
        }
        let mesh = builder.start().await;
        Chain { mesh, record: Record::default(), servers: Vec::new(), processes: Vec::new() }
    }

    /// The chain with applications that all forward the same and call before they answer.
    pub(crate) async fn of_links(group_rest: &str, forward: Forward) -> Chain {
        let mut chain = Chain::mesh(group_rest).await;
        chain.links(&PODS, Behaviour::Now, Arc::new(move |_| forward)).await;
        chain.ready().await;
        chain
    }

    /// The chain with one stack everywhere.
    pub(crate) async fn of_stack(group_rest: &str, stack: Stack, propagators: &str) -> Chain {
        let mut chain = Chain::mesh(group_rest).await;
        chain.stack(&PODS, stack, propagators, Behaviour::Now).await;
        chain.ready().await;
        chain
    }

    /// Starts links in these pods.
    pub(crate) async fn links(&mut self, pods: &[&str], behaviour: Behaviour, forward: Choice) {
        self.timed_links(pods, Arc::new(move |_| behaviour), forward).await;
    }

    /// As [`Chain::links`], where it depends on the request when the next link is called.
    pub(crate) async fn timed_links(&mut self, pods: &[&str], timing: Timing, forward: Choice) {
        for pod in pods {
            let link = Arc::new(Link {
                name: (*pod).to_owned(),
                outbound: self.mesh.pod(pod).outbound(),
                next: next_of(pod).map(str::to_owned),
                timing: Arc::clone(&timing),
                forward: Arc::clone(&forward),
                record: self.record.clone(),
                idle: Idle::default(),
                worker: OnceLock::new(),
            });
            let handler = move |request| Arc::clone(&link).answer(request);
            self.servers.push(Server::start(self.mesh.application(pod), handler).await);
        }
    }

    /// Starts the program of a stack as the application of these pods, and waits until it listens.
    pub(crate) async fn stack(&mut self, pods: &[&str], stack: Stack, propagators: &str, behaviour: Behaviour) {
        let link = |pod: &&str| {
            let next = next_of(pod).unwrap_or("-");
            let (application, outbound) = (self.mesh.application(pod), self.mesh.pod(pod).outbound());
            format!("{application},{pod},{outbound},{next},{}", word(behaviour))
        };
        let program = stack.program(propagators).args(pods.iter().map(link));
        let process = program.start(&self.mesh.logs());
        for pod in pods {
            let address = self.mesh.application(pod);
            until(&format!("{stack:?} listens as {pod}"), PATIENCE, || async {
                assert!(!process.has_ended(), "{stack:?} ended: {}", process.log());
                TcpStream::connect(address).await.ok()
            })
            .await;
        }
        self.processes.push(process);
    }

    /// Waits until the client reaches the first link and the label is known.
    pub(crate) async fn ready(&self) {
        self.mesh.reachable("client", "a").await;
    }

    /// As [`Chain::ready`], in another protocol than HTTP/1.1.
    pub(crate) async fn ready_over(&self, protocol: Protocol, path: &str) {
        let to = self.mesh.pod("client").outbound();
        until("a answers the client", PATIENCE, || async { call_once(protocol, to, "a", path, &[]).await.ok() }).await;
    }

    /// Waits until no sidecar has a request under way: only then is everything counted whose answer was seen.
    pub(crate) async fn settled(&self, pods: &[&str]) {
        until("no request is under way", PATIENCE, || async {
            let mut under_way = 0.0;
            for pod in pods.iter().chain(&["client"]) {
                under_way += self.mesh.pod(pod).metrics().await.sum("mesh_requests_in_flight", &[]);
            }
            (under_way == 0.0).then_some(())
        })
        .await;
    }

    /// A call of the client's on a connection of its own.
    pub(crate) async fn call(&self, protocol: Protocol, path: &str, headers: &[(&str, &str)]) -> String {
        let to = self.mesh.pod("client").outbound();
        let answer = call_once(protocol, to, "a", path, headers).await;
        answer.unwrap_or_else(|error| panic!("{protocol:?} {path}: {error:#}")).replace("shop/canary", "canary")
    }

    /// A GET of the client's over HTTP/1.1.
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> String {
        self.call(Protocol::Http1, path, headers).await
    }

    /// Requests that the sidecars of these pods counted by where the label was found.
    pub(crate) async fn sources(&self, pods: &[&str], source: &str) -> f64 {
        let mut sum = 0.0;
        for pod in pods {
            sum += self.mesh.pod(pod).metrics().await.sum("mesh_lane_source_total", &[("source", source)]);
        }
        sum
    }
}

/// The service that a pod calls.
fn next_of(pod: &str) -> Option<&'static str> {
    match service_of(pod) {
        "a" => Some("b"),
        "b" => Some("c"),
        "c" => Some("d"),
        "d" => None,
        other => panic!("{other} is no service of the chain"),
    }
}
