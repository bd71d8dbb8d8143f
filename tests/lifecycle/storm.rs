//! Configuration storms: what changes ten thousand times a second breaks no session and fails no request, takes little
//! memory, and the last change is in force soon.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use mesh_core::model::{
    lane::{LaneRef, LaneState},
    route::{Backend, Distribution, OutboundPolicy, OutboundProtocol},
    service::ServiceKey,
};
use mesh_tests::{
    addresses::Block,
    control_plane::ControlPlane,
    length,
    mesh::Mesh,
    peer::Authority,
    pod::PodSpec,
    server::Server,
    wait::{PATIENCE, pace, until},
};
use serde_json::Value;

use crate::{
    applications,
    callers::{Callers, HOST, Kind},
    sessions::Sessions,
};

/// Services that the proxies know besides the one that is called.
const SERVICES: usize = 1_000;
/// Instances of each of them.
const INSTANCES: usize = 3;
/// Updates of instances in a second.
const RATE: usize = 10_000;
/// How often updates are sent: so many a second.
const TURNS: usize = 100;
/// Changes of weights, lanes and routes of the service that is called, in a whole storm of a minute.
const FLIPS: usize = 1_000;
/// WebSockets, and event streams.
pub(crate) const SESSIONS: usize = 200;
/// The lane of every second session.
pub(crate) const LANE: &str = "canary";
/// How soon the last change must be in force.
pub(crate) const IN_FORCE: Duration = Duration::from_secs(2);
/// Most memory that a storm may cost a process, KiB.
const MEMORY: u64 = 20 * 1_024;
/// What callers do besides.
pub(crate) const SHORT: &[Kind] = &[Kind::Http1Get, Kind::Http1Post, Kind::Http2, Kind::GrpcUnary];
/// Weight that every service ends with.
pub(crate) const LAST: u32 = 7_777;

/// A document of services.
pub(crate) fn document(services: &[String]) -> String {
    format!("apiVersion: lanemesh.io/v1alpha1\nkind: Services\nservices:\n{}", services.concat())
}

/// The service that is called: two instances at these addresses, the second in the lane, with these weights.
pub(crate) fn called(addresses: [SocketAddr; 2], weights: [f64; 2]) -> String {
    let mut yaml = format!("- name: {HOST}\n  namespace: demo\n  ports: [{{port: 80}}]\n  endpoints:\n");
    for (number, (address, weight)) in addresses.iter().zip(weights).enumerate() {
        let label = if number == 1 { format!(", labels: {{lane: {LANE}}}") } else { String::new() };
        let rest = format!("pod: {HOST}{number}, identity: {{serviceAccount: {HOST}}}, weight: {weight}{label}");
        let _ = writeln!(yaml, "  - {{address: '{address}', port: 80, {rest}}}");
    }
    yaml
}

/// All the other services.
pub(crate) fn others() -> String {
    let mut yaml = String::new();
    for number in 0..SERVICES {
        let _ = writeln!(yaml, "- name: s{number}\n  namespace: demo\n  ports: [{{port: 80}}]\n  endpoints:");
        for instance in 0..INSTANCES {
            let address = Ipv4Addr::new(10, 1 + instance as u8, (number / 250) as u8, (number % 250) as u8);
            let _ = writeln!(yaml, "  - {{address: '{address}:8080', port: 80, pod: s{number}-{instance}}}");
        }
    }
    yaml
}

/// The lane of the second instance in this stage.
pub(crate) fn lanes(state: &str) -> String {
    format!(
        "apiVersion: lanemesh.io/v1alpha1\nkind: LaneGroup\nmetadata: {{name: shop, namespace: demo}}\n\
         spec: {{services: ['*'], entries: [a]}}\n---\napiVersion: lanemesh.io/v1alpha1\nkind: Lane\n\
         metadata: {{name: {LANE}, namespace: demo}}\nspec: {{group: shop, state: {state}}}\n"
    )
}

/// As this policy, but to the first of these services that can be used: whoever asks follows them all.
fn to_first_of(services: impl IntoIterator<Item = ServiceKey>, mut policy: OutboundPolicy) -> OutboundPolicy {
    let backends = Distribution::FirstAvailable(services.into_iter().map(Backend::Service).collect());
    let OutboundProtocol::Detect { http1, http2, .. } = &mut policy.protocol else { panic!("{policy:?}") };
    for rule in http1.iter_mut().chain(http2).flat_map(|route| &mut route.rules) {
        rule.backends.clone_from(&backends);
    }
    policy
}

/// The lane of every second session.
fn lane() -> LaneRef {
    format!("shop/{LANE}").parse().expect("a lane")
}

/// Pods and their memory before the storm, and at most, KiB.
pub(crate) struct Memory(Vec<(&'static str, u64, u64)>);

impl Memory {
    pub(crate) fn before(mesh: &Mesh, pods: &[&'static str]) -> Memory {
        Memory(pods.iter().map(|pod| (*pod, resident(mesh, pod), 0)).collect())
    }

    pub(crate) fn look(&mut self, mesh: &Mesh) {
        for (pod, _, most) in &mut self.0 {
            *most = resident(mesh, pod).max(*most);
        }
    }

    pub(crate) fn is_small(&self) {
        for (pod, before, most) in &self.0 {
            let more = most.saturating_sub(*before);
            println!("memory of {pod}: {before} KiB before, {most} KiB at most, {more} KiB more");
            assert!(more <= MEMORY, "the storm cost {pod} {more} KiB");
        }
    }
}

/// Memory of a pod's sidecar, or of the controller, KiB.
fn resident(mesh: &Mesh, pod: &str) -> u64 {
    let process = if pod == "controller" { Some(&mesh.controller) } else { mesh.pod(pod).sidecar.as_ref() };
    process.map(|process| process.resident()).unwrap_or_default()
}

/// Instances as the sidecar of `a` has them: name of the service, and weight.
pub(crate) async fn known(mesh: &Mesh) -> Vec<(String, u64)> {
    let Ok((200, page)) = mesh.pod("a").fetch("/endpoints").await else { return Vec::new() };
    let page: Value = serde_json::from_str(&page).expect("the page is JSON");
    let row = |item: &Value| {
        let service = item["service"].as_str().unwrap_or_default();
        (ServiceKey(service.into()).name().to_owned(), item["weight"].as_u64().unwrap_or_default())
    };
    page["items"].as_array().into_iter().flatten().map(row).collect()
}

/// Waits until calls in the lane are answered by the second instance, and others by the first.
pub(crate) async fn served_by_lane(mesh: &Mesh) {
    let [first, second] = ["b0", "b1"].map(|name| mesh.application(name).to_string());
    until("calls go by the last state", PATIENCE, || async {
        for _ in 0..5 {
            let plain = mesh.get("a", HOST, "/who", &[]).await.ok()?;
            let in_lane = mesh.get("a", HOST, "/who", &[("x-mesh-lane", LANE)]).await.ok()?;
            if plain.text() != first || in_lane.text() != second {
                return None;
            }
        }
        Some(())
    })
    .await;
}

/// A mesh whose sidecars listen to a control plane of the test's own.
struct World {
    plane: ControlPlane,
    mesh: Mesh,
    applications: [Server; 2],
}

impl World {
    async fn start() -> World {
        let (authority, block) = (Authority::new("storm"), Block::reserve());
        let builder = Mesh::builder().authority(&authority);
        let plane = ControlPlane::start((block.address(1), 8_086).into(), authority);
        // Sidecars want to know their ports before anybody knows their addresses.
        let nowhere = |last| SocketAddr::from((block.address(last), 8_080));
        let say = |addresses| format!("{}---\n{}", document(&[called(addresses, [1.0; 2]), others()]), lanes("active"));
        plane.resources(&say([nowhere(2), nowhere(3)])).await;
        let at = format!("http://{}", plane.address);
        let pod = |spec: PodSpec| spec.setting("LANEMESH_CONTROLLER_ADDRESS", &at);
        let of = |name: &str| pod(PodSpec::new(name).account(HOST).of(HOST));
        let mesh = builder.hold(block).pod(pod(PodSpec::new("a"))).pod(of("b0")).pod(of("b1")).start().await;
        let addresses = ["b0", "b1"].map(|name| mesh.application(name));
        plane.resources(&say(addresses)).await;
        let applications = [applications::start(addresses[0]).await, applications::start(addresses[1]).await];
        let world = World { plane, mesh, applications };
        world.follow_everything().await;
        world
    }

    /// Has the sidecar of `a` follow every service, and waits until the instances of all have come.
    async fn follow_everything(&self) {
        let keys = (0..SERVICES).map(|number| self.plane.key(&format!("s{number}.demo")));
        let called = self.plane.key("b.demo");
        let policy = to_first_of(std::iter::once(called).chain(keys), self.plane.policy("b.demo"));
        self.plane.lead("everything", policy).await;
        self.mesh.reachable("a", "everything").await;
        self.mesh.reachable("a", HOST).await;
        let all = SERVICES * INSTANCES + 2;
        until("all instances are known", PATIENCE, || async { (known(&self.mesh).await.len() == all).then_some(()) })
            .await;
    }

    /// Changes something about the service that is called.
    async fn flip(&self, number: usize) {
        match number % 4 {
            0 => {
                let states = [LaneState::Draining, LaneState::Closed, LaneState::Promoted, LaneState::Active];
                let state = states[number / 4 % states.len()];
                self.plane.lanes(|groups| groups[0].lanes[0].state = state).await;
            }
            1 => {
                let at = number / 4 % 2;
                let weight = [1, 10_000, 5_000][number / 8 % 3];
                self.plane.instance("b.demo", at, |instance| instance.weight = weight).await;
            }
            2 if (number / 4).is_multiple_of(2) => self.second_in(&[]).await,
            2 => self.second_in(&[lane()]).await,
            _ => {
                let services = vec![self.plane.key("b.demo"); 1 + number / 4 % 3];
                self.plane.lead(HOST, to_first_of(services, self.plane.policy("b.demo"))).await;
            }
        }
    }

    /// Puts the second instance into these lanes alone.
    async fn second_in(&self, lanes: &[LaneRef]) {
        self.plane.instance("b.demo", 1, |instance| instance.lanes = lanes.to_vec()).await;
    }

    /// Updates of instances all the time, and flips among them. Returns how many updates were sent, and how long it took.
    async fn storm(&self, seconds: usize, memory: &mut Memory) -> (usize, Duration) {
        let (began, turns, mut sent) = (Instant::now(), seconds * TURNS, 0);
        let flips = FLIPS * seconds / 60;
        for turn in 0..turns {
            for _ in 0..RATE / TURNS {
                let (service, instance) = (sent % SERVICES, sent / SERVICES % INSTANCES);
                let weight = 1 + (sent % 9_999) as u32;
                self.plane.instance(&format!("s{service}.demo"), instance, |instance| instance.weight = weight).await;
                sent += 1;
            }
            for number in flips * turn / turns..flips * (turn + 1) / turns {
                self.flip(number).await;
            }
            if turn % TURNS == 0 {
                memory.look(&self.mesh);
            }
            let due = began + Duration::from_secs(1) * (turn as u32 + 1) / TURNS as u32;
            pace(due.saturating_duration_since(Instant::now())).await;
        }
        (sent, began.elapsed())
    }

    /// Says how everything ends, and how long it takes until it is in force.
    async fn end(&self) -> Duration {
        self.plane.instance("b.demo", 0, |instance| instance.weight = LAST).await;
        self.second_in(&[lane()]).await;
        let revision = self.plane.lanes(|groups| groups[0].lanes[0].state = LaneState::Active).await;
        for number in 0..SERVICES {
            for instance in 0..INSTANCES {
                self.plane.instance(&format!("s{number}.demo"), instance, |instance| instance.weight = LAST).await;
            }
        }
        let said = Instant::now();
        self.plane.acknowledged(self.applications.len() + 1, revision).await;
        until("the last state is known", PATIENCE, || async {
            let known = known(&self.mesh).await;
            let is_last = |(service, weight): &(String, u64)| service == HOST || *weight == u64::from(LAST);
            (known.len() == SERVICES * INSTANCES + 2 && known.iter().all(is_last)).then_some(())
        })
        .await;
        served_by_lane(&self.mesh).await;
        said.elapsed()
    }
}

#[tokio::test]
async fn ten_thousand_updates_a_second_break_nothing_and_the_last_is_soon_in_force_full_length() {
    let seconds = length::of(6, 60);
    let world = World::start().await;
    let outbound = world.mesh.pod("a").outbound();
    let sessions = Sessions::open(outbound, SESSIONS, LANE).await;
    let callers = Callers::start(None, outbound, SHORT, 2, Duration::from_millis(20));
    until("callers are answered", PATIENCE, || async { (callers.total() > 100).then_some(()) }).await;
    let mut memory = Memory::before(&world.mesh, &["a", "b0", "b1"]);
    let (sent, took) = world.storm(seconds, &mut memory).await;
    let in_force = world.end().await;
    memory.look(&world.mesh);
    let done = callers.end_without_failure("the storm").await;
    let (opened, heard) = sessions.end_unbroken().await;
    println!("{sent} updates in {took:?}, the last in force after {in_force:?}");
    println!("{done:?}; {opened} sessions were opened and heard {heard} messages");
    let snapshots = world.mesh.pod("a").metrics().await.sum("mesh_snapshots_total", &[]);
    println!("{snapshots} snapshots at a");
    assert_eq!(world.plane.refused(), Vec::<String>::new());
    assert!(in_force <= IN_FORCE, "{in_force:?}");
    assert!(took <= Duration::from_secs(seconds as u64) * 6 / 5, "{sent} updates took {took:?}");
    memory.is_small();
}
