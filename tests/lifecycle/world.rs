//! A caller and several instances of one service, each with application and sidecar, that can be stopped and started.

use std::{
    net::Ipv4Addr,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_tests::{
    client::{self, Version},
    mesh::{Builder, Mesh},
    netns::Inside,
    pod::PodSpec,
    server::{Seen, Server},
    wait::{PATIENCE, until, until_true},
};
use tokio::sync::oneshot;

use crate::{
    applications::{self, Pace},
    callers::{Callers, HOST, Kind},
};

/// Settings of instances: the way down of a shortened test.
pub(crate) const SHORT: &[(&str, &str)] = &[
    ("LANEMESH_TERMINATION_GRACE", "15s"),
    ("LANEMESH_DRAIN_FLOOR", "1s"),
    ("LANEMESH_DRAIN_WINDOW", "1s"),
    ("LANEMESH_STREAM_DEADLINE", "4s"),
];
/// The grace of [`SHORT`].
pub(crate) const GRACE: Duration = Duration::from_secs(15);

/// The mesh, and the applications of its instances.
pub(crate) struct World {
    pub(crate) mesh: Mesh,
    pub(crate) applications: Vec<Option<Application>>,
    /// How long they take for an answer.
    pub(crate) paces: Vec<Pace>,
}

/// A running application; ends when dropped.
pub(crate) enum Application {
    Here(Server),
    /// In the network namespace of its pod.
    Inside {
        _server: Inside,
        seen: Arc<Seen>,
    },
}

/// Name of the pod of an instance.
pub(crate) fn pod(instance: usize) -> String {
    format!("b{instance}")
}

impl World {
    /// A caller `a` and so many instances of `b`, whose sidecars have these settings besides [`SHORT`].
    pub(crate) async fn start(instances: usize, settings: &[(&str, &str)]) -> World {
        World::build(Mesh::builder(), instances, settings).await
    }

    /// As [`World::start`], each pod in a network namespace where its connections are captured.
    pub(crate) async fn start_captured(instances: usize, settings: &[(&str, &str)]) -> World {
        World::build(Mesh::builder().captured(), instances, settings).await
    }

    /// As [`World::start`], of a mesh that has something already.
    pub(crate) async fn build(builder: Builder, instances: usize, settings: &[(&str, &str)]) -> World {
        let with = |spec: PodSpec, settings: &[(&str, &str)]| {
            settings.iter().fold(spec, |spec, (name, value)| spec.setting(name, *value))
        };
        let mut builder = builder.pod(with(PodSpec::new("a"), SHORT));
        for instance in 0..instances {
            let spec = PodSpec::new(&pod(instance)).account("b").of(HOST);
            builder = builder.pod(with(with(spec, SHORT), settings));
        }
        let mesh = builder.start().await;
        let mut world = World { mesh, applications: Vec::new(), paces: Vec::new() };
        for instance in 0..instances {
            world.applications.push(None);
            world.paces.push(Pace::default());
            world.start_application(instance).await;
        }
        world.reachable().await;
        world
    }

    /// Waits until the service answers `a`: policy and instances are asked for on demand.
    async fn reachable(&self) {
        let pod = self.mesh.pod("a");
        let outbound = pod.outbound();
        until("the service answers", PATIENCE, || async {
            let ask = move || async move { client::get(outbound, Version::Http1, HOST, "/", &[]).await };
            within_pod(pod.namespace.as_deref(), ask).await.ok().filter(|answer| answer.status == 200)
        })
        .await;
    }

    async fn start_application(&mut self, instance: usize) {
        let pod = self.mesh.pod(&pod(instance));
        let address = pod.application();
        let pace = self.paces[instance].clone();
        self.applications[instance] = Some(match &pod.namespace {
            None => Application::Here(applications::start_paced(address, pace).await),
            Some(space) => {
                let (tell, told) = oneshot::channel();
                let server = Inside::run(space, move || async move {
                    let server = applications::start_paced(address, pace).await;
                    // Whoever asked waits for it.
                    drop(tell.send(Arc::clone(&server.seen)));
                    std::future::pending().await
                });
                Application::Inside { _server: server, seen: told.await.expect("the application starts") }
            }
        });
        until_true("the application listens", PATIENCE, || pod.listens(address.port())).await;
    }

    /// A POST to the admin port of a pod's sidecar, from inside the pod: status and text.
    pub(crate) async fn post(&self, pod: &str, path: &'static str) -> (u16, String) {
        let pod = self.mesh.pod(pod);
        let admin = pod.namespace.as_ref().map_or(pod.admin(), |_| (Ipv4Addr::LOCALHOST, 4191).into());
        let ask = move || async move { client::post(admin, &admin.to_string(), path, "").await };
        let answer = within_pod(pod.namespace.as_deref(), ask).await;
        let answer = answer.unwrap_or_else(|error| panic!("{path} of {}: {error:#}", pod.application()));
        (answer.status, answer.text())
    }

    /// `POST /drain` of an instance's sidecar, which answers when nothing comes in any more.
    pub(crate) async fn drain(&self, instance: usize) {
        assert_eq!(self.post(&pod(instance), "/drain").await, (200, "drained\n".to_owned()));
    }

    /// Stops an instance as Kubernetes does it: the hook before the end, the application, the sidecar.
    pub(crate) async fn stop(&mut self, instance: usize) {
        let began = Instant::now();
        self.drain(instance).await;
        self.stop_application(instance).await;
        self.end_sidecar(instance, began).await;
    }

    /// Stops the application of an instance; its port is free then.
    pub(crate) async fn stop_application(&mut self, instance: usize) {
        match self.applications[instance].take() {
            Some(Application::Here(server)) => server.stop().await,
            Some(Application::Inside { .. }) | None => {}
        }
    }

    /// SIGTERM to a sidecar, which must still run then and end with 0 within the grace that began then.
    pub(crate) async fn end_sidecar(&mut self, instance: usize, began: Instant) {
        let sidecar = self.mesh.pod_mut(&pod(instance)).proxy();
        assert!(!sidecar.has_ended(), "the sidecar of {} ended before its signal", pod(instance));
        sidecar.signal("TERM");
        let status = sidecar.ended(PATIENCE).await;
        assert!(status.success(), "the sidecar of {} ended with {status}", pod(instance));
        assert!(began.elapsed() < GRACE, "it took {:?}", began.elapsed());
    }

    /// Starts an instance again.
    pub(crate) async fn start_again(&mut self, instance: usize) {
        self.start_application(instance).await;
        self.mesh.pod_mut(&pod(instance)).proxy().start_again();
        self.mesh.pod(&pod(instance)).ready().await;
    }

    /// Callers of these kinds, after each of them has been answered once.
    pub(crate) async fn call(&self, kinds: &[Kind], each: usize, pause: Duration) -> Callers {
        let pod = self.mesh.pod("a");
        let callers = Callers::start(pod.namespace.as_deref(), pod.outbound(), kinds, each, pause);
        until("callers are answered", PATIENCE, || async {
            (callers.total() > 20 * each || callers.has_failed()).then_some(())
        })
        .await;
        callers
    }

    /// How often the sidecar of `a` heard in an answer that an instance drains.
    pub(crate) async fn markers_heard(&self) -> f64 {
        self.mesh.pod("a").metrics().await.sum("mesh_endpoint_drains_total", &[])
    }

    /// Requests that an instance's application has got.
    pub(crate) fn requests(&self, instance: usize) -> usize {
        match &self.applications[instance] {
            Some(Application::Here(server)) => server.seen.requests(),
            Some(Application::Inside { seen, .. }) => seen.requests(),
            None => 0,
        }
    }
}

/// Asks something in a network namespace where one is named.
pub(crate) async fn within_pod<T, F>(space: Option<&str>, ask: impl FnOnce() -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let Some(space) = space else { return ask().await };
    let (tell, told) = oneshot::channel();
    // Whoever asked may have given up.
    let _asking = Inside::run(space, move || async move { drop(tell.send(ask().await)) });
    told.await.expect("an answer, or why there is none")
}

/// Whether a process is there.
pub(crate) fn is_there(pid: u32) -> bool {
    Command::new("kill").args(["-0", &pid.to_string()]).status().is_ok_and(|status| status.success())
}
