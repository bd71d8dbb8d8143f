//! Bad files, resources and settings: the error names file, line, field and what is allowed, and a running mesh keeps its
//! last good state.

use std::{path::PathBuf, time::Duration};

use mesh_tests::{
    mesh::Mesh,
    pod::PodSpec,
    process::{Finished, Spec},
    programs,
    server::{self, Server},
    wait::{PATIENCE, stays_true, until},
};
use tempfile::TempDir;

/// A command that only says what is wrong.
const LIMIT: Duration = Duration::from_secs(20);

const GOOD: &str = "apiVersion: lanemesh.io/v1alpha1
kind: LaneGroup
metadata: {name: shop, namespace: demo}
spec:
  services: ['*']
";

/// Documents with something wrong, and what the error must name.
fn bad_documents() -> Vec<(&'static str, String, Vec<&'static str>)> {
    let document = |kind: &str, spec: &str| {
        format!(
            "apiVersion: lanemesh.io/v1alpha1\nkind: {kind}\nmetadata:\n  name: bad\n  namespace: demo\nspec:\n{spec}"
        )
    };
    vec![
        (
            "unknown field",
            document("LaneGroup", "  services: ['*']\n  sevrices: [a]\n"),
            vec![":8:", "spec.sevrices", "services"],
        ),
        ("missing field", document("LaneGroup", "  entries: [a]\n"), vec!["spec", "services"]),
        (
            "unknown word",
            document("LaneGroup", "  services: ['*']\n  baseline: sometimes\n"),
            vec![":8:", "spec.baseline", "untagged", "notInActiveLane"],
        ),
        (
            "number too large",
            document("TrafficPolicy", "  service: b\n  retries:\n    attempts: 99\n"),
            vec![":9:", "spec.retries.attempts", "10"],
        ),
        (
            "no duration",
            document("TrafficPolicy", "  service: b\n  timeouts:\n    connect: soon\n"),
            vec![":9:", "spec.timeouts.connect", "soon"],
        ),
        ("no name", document("Lane", "  group: 'a b'\n"), vec![":7:", "spec.group", "a b"]),
        ("unknown kind", document("LaneGrop", "  services: ['*']\n"), vec!["LaneGrop", "LaneGroup"]),
        ("unknown version", GOOD.replace("v1alpha1", "v9"), vec!["v9", "lanemesh.io/v1alpha1"]),
        ("no yaml", "apiVersion: [\nkind: Lane\n".to_owned(), vec!["bad.yaml"]),
        ("no mapping", "- 1\n- 2\n".to_owned(), vec!["bad.yaml"]),
    ]
}

async fn run(spec: Spec) -> Finished {
    let logs = TempDir::new().unwrap();
    spec.run(logs.path(), LIMIT).await
}

fn validate(file: &PathBuf) -> Spec {
    Spec::new("mesh-ctl", programs::ours("mesh-ctl")).arg("validate").arg(file)
}

#[tokio::test]
async fn validate_names_file_line_field_and_what_is_allowed() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("bad.yaml");
    for (name, text, named) in bad_documents() {
        std::fs::write(&file, &text).unwrap();
        let finished = run(validate(&file)).await;
        assert_eq!(finished.status.code(), Some(1), "{name}: {}", finished.output);
        for word in named.into_iter().chain(["bad.yaml"]) {
            assert!(finished.output.contains(word), "{name}: {word:?} is not in:\n{}", finished.output);
        }
    }
    std::fs::write(&file, GOOD).unwrap();
    let finished = run(validate(&file)).await;
    assert_eq!(finished.status.code(), Some(0), "{}", finished.output);
}

#[tokio::test]
async fn all_problems_of_a_file_are_reported_together() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("bad.yaml");
    let text = format!("{GOOD}  sevrices: [a]\n  baseline: sometimes\n  carrier: {{headr: x}}\n");
    std::fs::write(&file, text).unwrap();
    let finished = run(validate(&file)).await;
    assert_eq!(finished.status.code(), Some(1), "{}", finished.output);
    for word in ["sevrices", "baseline", "headr"] {
        assert!(finished.output.contains(word), "{word} is not in:\n{}", finished.output);
    }
}

async fn mesh() -> (Mesh, Server) {
    let mesh = Mesh::builder().pod(PodSpec::new("a")).pod(PodSpec::new("b").of("b")).start().await;
    let application = Server::start(mesh.application("b"), |_| async { server::text("served") }).await;
    mesh.reachable("a", "b").await;
    (mesh, application)
}

#[tokio::test]
async fn bad_file_in_the_folder_is_reported_and_the_mesh_keeps_its_last_good_state() {
    let (mesh, _application) = mesh().await;
    for (name, text, named) in bad_documents() {
        mesh.write_source("bad.yaml", &text);
        let problems = until(&format!("{name}: reported"), PATIENCE, || async {
            let source = mesh.console("/api/v1/source").await.ok()?.to_string();
            source.contains("bad.yaml").then_some(source)
        })
        .await;
        for word in named.into_iter().filter(|word| !word.starts_with(':')) {
            assert!(problems.contains(word), "{name}: {word:?} is not in:\n{problems}");
        }
        assert_eq!(mesh.get("a", "b", "/", &[]).await.unwrap().text(), "served", "{name}");
        std::fs::remove_file(mesh.source().join("bad.yaml")).unwrap();
        until(&format!("{name}: problem gone"), PATIENCE, || async {
            let source = mesh.console("/api/v1/source").await.ok()?.to_string();
            (!source.contains("bad.yaml")).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn service_list_that_cannot_be_read_takes_no_endpoint_away() {
    let (mut mesh, _application) = mesh().await;
    mesh.write_source("services.yaml", "apiVersion: lanemesh.io/v1alpha1\nkind: Services\nservices: [{name: b}]\n");
    until("reported", PATIENCE, || async {
        let source = mesh.console("/api/v1/source").await.ok()?.to_string();
        source.contains("services.yaml").then_some(())
    })
    .await;
    for _ in 0..20 {
        assert_eq!(mesh.get("a", "b", "/", &[]).await.unwrap().text(), "served");
    }
    // Neither does a sidecar that starts meanwhile notice.
    mesh.pod_mut("a").proxy().start_again();
    mesh.pod("a").ready().await;
    mesh.reachable("a", "b").await;
}

#[tokio::test]
async fn apply_refuses_what_is_wrong_and_writes_what_is_right() {
    let (mesh, _application) = mesh().await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("bad.yaml");
    let console = format!("http://{}", mesh.controller_admin());
    let apply = |file: &PathBuf| mesh.ctl(["--controller", &console, "apply", "--file"]).arg(file);
    for (name, text, named) in bad_documents() {
        std::fs::write(&file, &text).unwrap();
        let finished = run(apply(&file)).await;
        assert_eq!(finished.status.code(), Some(1), "{name}: {}", finished.output);
        for word in named.into_iter().filter(|word| !word.starts_with(':')) {
            assert!(finished.output.contains(word), "{name}: {word:?} is not in:\n{}", finished.output);
        }
    }
    let lane = "---\napiVersion: lanemesh.io/v1alpha1\nkind: Lane\nmetadata: {name: canary, namespace: demo}\nspec: {group: missing}\n";
    std::fs::write(&file, lane).unwrap();
    let finished = run(apply(&file)).await;
    assert_eq!(finished.status.code(), Some(1), "a lane of no group: {}", finished.output);
    assert!(finished.output.contains("missing"), "{}", finished.output);
    std::fs::write(&file, format!("{GOOD}{}", lane.replace("missing", "shop"))).unwrap();
    let finished = run(apply(&file)).await;
    assert_eq!(finished.status.code(), Some(0), "{}", finished.output);
    until("the lane is known", PATIENCE, || async {
        mesh.console("/api/v1/lanes").await.ok()?.to_string().contains("canary").then_some(())
    })
    .await;
}

#[tokio::test]
async fn bad_setting_of_the_proxy_is_named_with_what_is_allowed() {
    let cases = [
        ("LANEMESH_OUTBOUND_LISTEN", "nowhere", "address"),
        ("LANEMESH_WORKERS", "0", "64"),
        ("LANEMESH_HEADER_LIMIT", "lots", "1024"),
        ("LANEMESH_ACCESS_LOG", "some", "failures"),
        ("LANEMESH_TRACE_SHARE", "2", "1"),
        ("LANEMESH_TRUST_DOMAIN", "Not A Domain", "lower-case letters"),
        ("LANEMESH_OUTBUOND_LISTEN", "127.0.0.1:1", "LANEMESH_OUTBUOND_LISTEN"),
    ];
    for (name, value, allowed) in cases {
        let finished = run(Spec::new("mesh-proxy", programs::ours("mesh-proxy")).env(name, value)).await;
        assert!(!finished.status.success(), "{name}={value} was taken");
        for word in [name, allowed] {
            assert!(finished.output.contains(word), "{name}={value}: {word:?} is not in:\n{}", finished.output);
        }
    }
}

#[tokio::test]
async fn controller_that_starts_on_a_bad_folder_says_what_is_wrong() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("source")).unwrap();
    std::fs::write(folder.path().join("source/bad.yaml"), GOOD.replace("services", "sevrices")).unwrap();
    let address = mesh_tests::addresses::Block::reserve();
    let at = address.address(1);
    let mut controller = Spec::new("controller", programs::ours("mesh-controller"))
        .arg("--file")
        .arg(folder.path().join("source"))
        .arg("--state-directory")
        .arg(folder.path().join("state"))
        .args(["--listen".to_owned(), format!("{at}:8086"), "--admin".to_owned(), format!("{at}:8084")])
        .start(folder.path());
    until("the problem is named", PATIENCE, || {
        let log = controller.log();
        std::future::ready((log.contains("bad.yaml") && log.contains("sevrices")).then_some(()))
    })
    .await;
    // It may wait for a better file or end; it must not serve a state that it does not have.
    if controller.is_running() {
        let ready =
            mesh_tests::client::get((at, 8084).into(), mesh_tests::client::Version::Http1, "admin", "/ready", &[]);
        assert_ne!(ready.await.map_or(0, |answer| answer.status), 200, "ready without any good state");
    }
}

#[tokio::test]
async fn unreadable_settings_never_end_a_running_proxy() {
    let (mut mesh, _application) = mesh().await;
    std::fs::write(mesh.state().join("trust-bundle.pem.new"), "no certificate").unwrap();
    std::fs::write(mesh.sidecar_state("a").join("token"), "no token").unwrap();
    stays_true("the sidecar runs", Duration::from_secs(1), || mesh.pod_mut("a").proxy().is_running()).await;
    assert_eq!(mesh.get("a", "b", "/", &[]).await.unwrap().text(), "served");
}
