//! Registration with Nacos on behalf of a pod: once its application is ready, before the pod says that it is; and gone
//! before anything else when it drains.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use mesh_tests::{
    mesh::Mesh,
    pod::PodSpec,
    registry::{Registry, Server},
    wait::{PATIENCE, until},
};
use tempfile::TempDir;

use crate::{applications, world::SHORT};

/// From the order to drain to the registry's list without the instance.
const AT_ONCE: Duration = Duration::from_secs(2);

struct Registered {
    mesh: Mesh,
    registry: &'static Registry,
    service: String,
    /// The application is ready while this file is there.
    sign: TempDir,
}

impl Registered {
    /// A pod `b` that is registered by a rule with `more`, and is ready.
    async fn start(service: &str, more: &str) -> Registered {
        let registry = Registry::shared(Server::Rnacos).await;
        let service = format!("{service}-{:08x}", rand::random::<u32>());
        let rule = format!("  register: [{{services: ['demo/{service}']{more}}}]\n");
        let settings = format!("servers:\n- name: main\n  addresses: [\"{}\"]\n{rule}", registry.address());
        let sign = tempfile::tempdir().expect("a temporary folder");
        raise(sign.path());
        let probe = format!("exec:/usr/bin/test -e {}", sign.path().join("ready").display());
        let spec = PodSpec::new("b").of(&service).setting("LANEMESH_APPLICATION_PROBE", probe);
        let spec = SHORT.iter().fold(spec, |spec, (name, value)| spec.setting(name, *value));
        let mesh = Mesh::builder().nacos(&settings).pod(spec).start().await;
        Registered { mesh, registry, service, sign }
    }

    async fn listed(&self) -> usize {
        self.registry.open_api().await.instances(&self.service).await.len()
    }

    async fn becomes(&self, count: usize) {
        let what = format!("{count} instances of {} in the registry", self.service);
        until(&what, PATIENCE, || async { (self.listed().await == count).then_some(()) }).await;
    }

    /// What the sidecar says that it waits for.
    async fn missing(&self) -> Vec<String> {
        let Ok((_, text)) = self.mesh.pod("b").fetch("/ready?verbose").await else { return vec!["it".to_owned()] };
        text.lines().filter_map(|line| line.strip_prefix("missing: ")).map(str::to_owned).collect()
    }

    /// Starts the sidecar anew, on an empty state, with an application that is not ready.
    async fn start_again_without_application(&mut self) {
        std::fs::remove_file(self.sign.path().join("ready")).expect("the sign is there");
        self.mesh.pod_mut("b").proxy().kill();
        let state = self.mesh.sidecar_state("b");
        std::fs::remove_file(state.join("snapshot.json")).ok();
        self.becomes(0).await;
        self.mesh.pod_mut("b").proxy().start_again();
    }
}

fn raise(folder: &Path) {
    std::fs::write(folder.join("ready"), "").expect("the temporary folder is writable");
}

#[tokio::test]
async fn pod_is_registered_once_its_application_is_ready_and_ready_once_it_is_registered() {
    let mut pod = Registered::start("after", "").await;
    // Whoever heard that it is ready finds it in the registry.
    assert_eq!(pod.listed().await, 1);
    pod.start_again_without_application().await;
    until("the sidecar waits for application and registration", PATIENCE, || async {
        (pod.missing().await == ["application", "registration"]).then_some(())
    })
    .await;
    until("the console says why it is not registered", PATIENCE, || async {
        let registrations = pod.mesh.console("/api/v1/registrations").await.ok()?;
        let verdict = registrations["items"][0]["verdict"].as_str()?;
        verdict.contains("its application, is not ready").then_some(())
    })
    .await;
    assert_eq!(pod.listed().await, 0);
    raise(pod.sign.path());
    pod.mesh.pod("b").ready().await;
    assert_eq!(pod.listed().await, 1);
}

#[tokio::test]
async fn pod_is_registered_so_long_after_it_is_ready_as_its_rule_says() {
    let mut pod = Registered::start("delay", ", delay: 3s").await;
    assert_eq!(pod.listed().await, 1);
    pod.start_again_without_application().await;
    raise(pod.sign.path());
    until("the sidecar waits for the registration alone", PATIENCE, || async {
        (pod.missing().await == ["registration"]).then_some(())
    })
    .await;
    let ready = Instant::now();
    assert_eq!(pod.listed().await, 0);
    pod.mesh.pod("b").ready().await;
    println!("registered {:?} after everything else was ready", ready.elapsed());
    assert!(ready.elapsed() > Duration::from_secs(1), "{:?}", ready.elapsed());
    assert_eq!(pod.listed().await, 1);
}

#[tokio::test]
async fn registration_is_taken_back_while_the_sidecar_still_serves() {
    let mut pod = Registered::start("back", "").await;
    let _application = applications::start(pod.mesh.application("b")).await;
    until("it is registered with the moment at which it was ready", PATIENCE, || async {
        let registrations = pod.mesh.console("/api/v1/registrations").await.ok()?;
        registrations["items"][0]["metadata"]["ready_since"].is_string().then_some(())
    })
    .await;
    let ordered = Instant::now();
    pod.mesh.pod_mut("b").proxy().signal("TERM");
    pod.becomes(0).await;
    println!("out of the registry {:?} after the order", ordered.elapsed());
    assert!(ordered.elapsed() < AT_ONCE, "{:?}", ordered.elapsed());
    assert!(!pod.mesh.pod_mut("b").proxy().has_ended(), "it ended before its registration");
    let status = pod.mesh.pod_mut("b").proxy().ended(PATIENCE).await;
    assert!(status.success(), "{status}");
}
