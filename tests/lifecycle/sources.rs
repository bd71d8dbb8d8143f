//! Storms of sources: files that are rewritten and instances of a registry that are changed without rest, at the real
//! controller, which knows a thousand services.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh_tests::{
    addresses::Block,
    length,
    mesh::Mesh,
    metrics::Metrics,
    pod::PodSpec,
    registry::{
        Registry, Server,
        open_api::{OpenApi, Registration},
    },
    wait::{PATIENCE, pace, until},
};

use crate::{
    applications,
    callers::{Callers, HOST},
    sessions::Sessions,
    storm::{IN_FORCE, LANE, LAST, Memory, SHORT, called, document, known, lanes, others, served_by_lane},
};

/// Between two rewrites of a file: far less than it takes to load one.
const REWRITE: Duration = Duration::from_millis(1);
/// Rewrites after which the lane changes its stage.
const STAGE: usize = 20;
/// WebSockets, and event streams.
const SESSIONS: usize = 50;
/// The service of the registry.
const REGISTERED: &str = "n";
/// Weights of the registry's instances go round so many.
const WEIGHTS: usize = 7;
/// Their last.
const LAST_REGISTERED: f64 = 42.0;

/// What never rests, and what it is for.
struct Storm<'m> {
    mesh: &'m Mesh,
    addresses: [SocketAddr; 2],
    registry: OpenApi,
    instances: Vec<Registration>,
    end: Instant,
}

impl Storm<'_> {
    fn write(&self, weights: [f64; 2], stage: &str) {
        self.mesh.write_source("resources.yaml", &lanes(stage));
        self.mesh.write_source("services.yaml", &document(&[called(self.addresses, weights)]));
    }

    async fn register(&self, weight: f64) {
        for instance in &self.instances {
            let registered = self.registry.register(&instance.clone().weight(weight)).await;
            registered.expect("the registry takes registrations");
        }
    }

    /// How often files were rewritten.
    async fn files(&self) -> usize {
        let (stages, mut count) = (["draining", "closed", "promoted", "active"], 0);
        while Instant::now() < self.end {
            let share = 0.1 + (count % 9) as f64 / 10.0;
            self.write([share, 1.0 - share], stages[count / STAGE % stages.len()]);
            count += 1;
            pace(REWRITE).await;
        }
        count
    }

    /// How often instances were changed.
    async fn registrations(&self) -> usize {
        let mut count = 0;
        while Instant::now() < self.end {
            self.register((2 + count % WEIGHTS) as f64).await;
            count += self.instances.len();
        }
        count
    }

    /// Calls the registry's service all the time.
    async fn calls(&self) -> usize {
        let mut count = 0;
        while Instant::now() < self.end {
            let answer = self.mesh.get("a", "n.nacos", "/who", &[]).await.expect("a whole answer");
            assert_eq!(answer.status, 200, "{}", answer.text());
            count += 1;
            pace(Duration::from_millis(20)).await;
        }
        count
    }

    async fn look(&self, memory: &mut Memory) {
        while Instant::now() < self.end {
            memory.look(self.mesh);
            pace(Duration::from_millis(500)).await;
        }
    }

    /// Says how everything ends, and how long it takes until it is in force.
    async fn last(&self) -> Duration {
        self.register(LAST_REGISTERED).await;
        self.write([f64::from(LAST) / 10_000.0; 2], "active");
        let said = Instant::now();
        until("the last state is known", PATIENCE, || async {
            let known = known(self.mesh).await;
            let is_last = |(service, weight): &(String, u64)| match service.as_str() {
                HOST => *weight == u64::from(LAST),
                REGISTERED => *weight == (LAST_REGISTERED * 10_000.0) as u64,
                _ => true,
            };
            (known.len() == 4 && known.iter().all(is_last)).then_some(())
        })
        .await;
        served_by_lane(self.mesh).await;
        said.elapsed()
    }
}

/// Worlds that the controller made, and seconds that it took.
async fn worlds(mesh: &Mesh) -> (f64, f64) {
    let (_, page) = mesh.controller_page("/metrics").await.expect("the controller answers");
    let metrics = Metrics::parse(&page);
    let sum = |name| metrics.sum(name, &[]);
    (sum("mesh_controller_worlds_total"), sum("mesh_controller_world_seconds_total"))
}

#[tokio::test]
async fn sources_that_never_rest_break_nothing_and_the_last_they_say_is_soon_in_force_full_length() {
    let seconds = length::of(6, 60);
    let (registry, block) = (Registry::start(Server::Rnacos).await, Block::reserve());
    let settings = format!("servers:\n- name: main\n  addresses: [\"{}\"]\n", registry.address());
    let of = |name: &str| PodSpec::new(name).account(HOST).of(HOST);
    let builder = Mesh::builder().nacos(&settings).resource(&lanes("active"));
    let mesh = builder.pod(PodSpec::new("a")).pod(of("b0")).pod(of("b1").label("lane", LANE)).start().await;
    mesh.write_source("others.yaml", &document(&[others()]));
    let addresses = ["b0", "b1"].map(|name| mesh.application(name));
    let registered = [1, 2].map(|last| SocketAddr::from((block.address(last), 8_080)));
    let mut applications = Vec::new();
    for address in addresses.into_iter().chain(registered) {
        applications.push(applications::start(address).await);
    }
    let instances = registered.map(|address| Registration::new(REGISTERED, address)).to_vec();
    let registry = registry.open_api().await;
    let end = Instant::now();
    let mut storm = Storm { mesh: &mesh, addresses, registry, instances, end };
    storm.register(2.0).await;
    mesh.reachable("a", HOST).await;
    mesh.reachable("a", "n.nacos").await;
    until("all services are known", PATIENCE, || async {
        let page = mesh.console("/api/v1/services").await.ok()?;
        (page["items"].as_array()?.len() > 1_000).then_some(())
    })
    .await;
    let outbound = mesh.pod("a").outbound();
    let sessions = Sessions::open(outbound, SESSIONS, LANE).await;
    let callers = Callers::start(None, outbound, SHORT, 1, Duration::from_millis(20));
    until("callers are answered", PATIENCE, || async { (callers.total() > 100).then_some(()) }).await;
    let mut memory = Memory::before(&mesh, &["controller", "a", "b0", "b1"]);
    let before = worlds(&mesh).await;
    storm.end = Instant::now() + Duration::from_secs(seconds);
    let (files, changes, calls, ()) =
        tokio::join!(storm.files(), storm.registrations(), storm.calls(), storm.look(&mut memory));
    let in_force = storm.last().await;
    memory.look(&mesh);
    let after = worlds(&mesh).await;
    let done = callers.end_without_failure("the storm").await;
    let (opened, heard) = sessions.end_unbroken().await;
    println!("{files} rewrites of files, {changes} changes at the registry, {calls} calls in {seconds} s");
    println!("{} worlds in {:.2} s; the last in force after {in_force:?}", after.0 - before.0, after.1 - before.1);
    println!("{done:?}; {opened} sessions were opened and heard {heard} messages");
    assert!(after.1 - before.1 <= seconds as f64 * 0.6, "worlds took {:.2} s", after.1 - before.1);
    assert!(in_force <= IN_FORCE, "{in_force:?}");
    memory.is_small();
}
