//! A mesh beside a registry: what its controller and its proxies know of the registry's services, and applications that
//! somebody else registers there.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use mesh_tests::{
    addresses::Block,
    mesh::Mesh,
    pod::PodSpec,
    process::Finished,
    registry::{Registry, open_api::Registration, sdk::Sdk},
    server::{self, Server as Application},
    wait::{PATIENCE, until},
};
use serde_json::Value;

/// A name that no other test on the same server uses.
pub(crate) fn own(name: &str) -> String {
    format!("{name}-{:08x}", rand::random::<u32>())
}

/// Settings of the controller for this registry, with `more` lines of its entry.
pub(crate) fn settings(registry: &Registry, more: &str) -> String {
    format!("servers:\n- name: main\n  addresses: [\"{}\"]\n{more}", registry.address())
}

/// Runs `mesh-ctl` with these arguments against the mesh's controller.
pub(crate) async fn ctl(mesh: &Mesh, arguments: &[&str]) -> Finished {
    let address = mesh.controller_admin().to_string();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let arguments = ["--controller", &address].into_iter().chain(arguments.iter().copied());
    mesh.ctl(arguments).run(folder.path(), PATIENCE).await
}

/// A mesh with callers of these names whose controller reads the registry.
pub(crate) async fn mesh(settings: &str, callers: &[&str]) -> Mesh {
    let builder = Mesh::builder().nacos(settings);
    callers.iter().fold(builder, |builder, name| builder.pod(PodSpec::new(name))).start().await
}

/// An application that answers with this text.
pub(crate) async fn application(address: SocketAddr, text: &str) -> Application {
    let text = text.to_owned();
    let answer = move |_| {
        let text = text.clone();
        async move { server::text(text) }
    };
    Application::start(address, answer).await
}

/// An application that answers with its name, registered by the official SDK.
pub(crate) struct Member {
    /// What is registered.
    pub(crate) instance: Registration,
    /// Who registered it.
    pub(crate) sdk: Sdk,
    /// The application.
    pub(crate) application: Option<Application>,
}

impl Member {
    /// Starts it at the address `last` of the block.
    pub(crate) async fn start(registry: &Registry, block: &Block, last: u8, service: &str) -> Member {
        let address: SocketAddr = (block.address(last), 8_080).into();
        let application = Some(application(address, &format!("{last}")).await);
        let instance = Registration::new(service, address);
        let mut sdk = Sdk::start(registry);
        sdk.register(&instance).await;
        Member { instance, sdk, application }
    }

    /// Registers it again as it is in `instance`.
    pub(crate) async fn register(&mut self) {
        self.sdk.register(&self.instance).await;
    }

    /// Deregisters it; the application goes on.
    pub(crate) async fn deregister(&mut self) {
        self.sdk.deregister(&self.instance).await;
    }
}

/// An instance as the proxy has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    /// Of callers' choices.
    pub(crate) weight: f64,
    /// Zone.
    pub(crate) zone: String,
}

/// Instances of a service as the proxy of `pod` has them.
pub(crate) async fn known(mesh: &Mesh, pod: &str, service: &str) -> BTreeMap<SocketAddr, Known> {
    let Ok((200, page)) = mesh.pod(pod).fetch("/endpoints").await else { return BTreeMap::new() };
    let page: Value = serde_json::from_str(&page).expect("the page is JSON");
    let items = page["items"].as_array().cloned().unwrap_or_default();
    let of_service =
        |item: &&Value| item["service"].as_str().is_some_and(|found| found.split(['.', ':']).next() == Some(service));
    let known = |item: &Value| {
        let address = item["address"].as_str().and_then(|text| text.parse().ok()).expect("an address");
        let zone = item["zone"].as_str().unwrap_or_default().to_owned();
        (address, Known { weight: item["weight"].as_f64().unwrap_or_default(), zone })
    };
    items.iter().filter(of_service).map(known).collect()
}

/// Rows of the console for a service.
pub(crate) async fn rows(mesh: &Mesh, service: &str) -> Vec<Value> {
    let Ok(page) = mesh.console("/api/v1/endpoints").await else { return Vec::new() };
    let items = page["items"].as_array().cloned().unwrap_or_default();
    items.into_iter().filter(|item| item["service"] == service).collect()
}

/// Asks for a service once, so that it is followed, and waits until it answers.
pub(crate) async fn answers(mesh: &Mesh, pod: &str, service: &str) {
    let host = format!("{service}.nacos");
    until(&format!("{host} answers {pod}"), PATIENCE, || async {
        let answer = mesh.get(pod, &host, "/", &[]).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
}

/// How long a proxy may take after the server has pushed a change.
pub(crate) const EFFECTIVE: Duration = Duration::from_secs(1);
