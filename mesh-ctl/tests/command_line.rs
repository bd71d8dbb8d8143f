//! `mesh-ctl` as its users run it: exit codes, and what stands on standard output and standard error.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    process::{Command, Output, Stdio},
};

use self::broken::{BROKEN, MODELS};

#[path = "../../core/tests/models/broken.rs"]
mod broken;

fn mesh_ctl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mesh-ctl")).args(arguments).env_clear().output().expect("the program is built")
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("no signal"), text(&output.stdout), text(&output.stderr))
}

#[test]
fn problems_of_a_file_are_listed_with_place_and_exit_code_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mesh.yaml");
    fs::write(
        &file,
        "apiVersion: lanemesh.io/v1alpha1\nkind: Lane\nmetadata:\n  name: canary\nspec:\n  grup: demo\n  state: gone\n",
    )
    .unwrap();
    let name = file.to_str().unwrap();
    let (code, out, _) = said(&mesh_ctl(&["validate", name]));
    assert_eq!(code, 1, "{out}");
    for line in ["mesh.yaml:6: ", "mesh.yaml:7: ", "spec.grup: unknown field", "did you mean \"group\"", "spec.state"] {
        assert!(out.contains(line), "{line} is not in\n{out}");
    }
    let (code, out, _) = said(&mesh_ctl(&["validate", name, "-o", "json"]));
    let whole: serde_json::Value = serde_json::from_str(&out).unwrap();
    let lines: Vec<_> =
        whole["problems"].as_array().unwrap().iter().filter_map(|problem| problem["line"].as_u64()).collect();
    assert_eq!(code, 1);
    assert!(lines.contains(&6) && lines.contains(&7), "{out}");
}

#[test]
fn folder_of_good_files_is_well() {
    let folder = tempfile::tempdir().unwrap();
    let services = "apiVersion: lanemesh.io/v1alpha1\nkind: Services\nservices:\n- name: b\n  ports: [{port: 80}]\n";
    let group = "apiVersion: lanemesh.io/v1alpha1\nkind: LaneGroup\nmetadata: {name: demo}\nspec: {services: [b]}\n";
    fs::write(folder.path().join("services.yaml"), services).unwrap();
    fs::write(folder.path().join("group.yaml"), group).unwrap();
    let (code, out, _) = said(&mesh_ctl(&["validate", folder.path().to_str().unwrap()]));
    assert_eq!((code, out.as_str()), (0, "2 resources in 2 files: no problem\n"));
}

#[test]
fn what_cannot_be_reached_is_exit_code_three_with_advice() {
    for arguments in [
        &["--controller", "127.0.0.1:1", "get", "services"][..],
        &["--controller", "127.0.0.1:1", "proxy", "status"][..],
        &["--controller", "127.0.0.1:1", "check"][..],
        &["--controller", "127.0.0.1:1", "lane", "explain", "GET", "http://a.demo/"][..],
        &["--controller", "127.0.0.1:1", "lane", "list"][..],
        &["--controller", "127.0.0.1:1", "lane", "drain", "shop/canary"][..],
        &["--controller", "127.0.0.1:1", "lane", "watch"][..],
        &["proxy", "dump", "127.0.0.1:1"][..],
        &["--controller", "127.0.0.1:1", "model", "list"][..],
        &["--controller", "127.0.0.1:1", "model", "explain", "chat"][..],
        &["--controller", "127.0.0.1:1", "model", "usage"][..],
        &["--controller", "127.0.0.1:1", "model", "try", "chat"][..],
        &["model", "list", "--admin", "127.0.0.1:1"][..],
        &["model", "explain", "chat", "--admin", "127.0.0.1:1"][..],
        &["model", "try", "chat", "--host", "models.internal", "--proxy", "127.0.0.1:1"][..],
        &["validate", "/nonexistent.yaml"][..],
        &["--controller", "127.0.0.1:1", "apply", "-f", "/nonexistent.yaml"][..],
    ] {
        let (code, out, error) = said(&mesh_ctl(arguments));
        assert_eq!((code, out.as_str()), (3, ""), "{arguments:?}: {error}");
        assert!(error.starts_with("error: ") && error.contains("what to do: "), "{arguments:?}: {error}");
    }
}

#[test]
fn wrong_usage_is_exit_code_two() {
    for arguments in
        [&["get"][..], &["get", "nonsense"][..], &["frobnicate"][..], &["lane", "drain", "canary"][..], &[][..]]
    {
        assert_eq!(said(&mesh_ctl(arguments)).0, 2, "{arguments:?}");
    }
}

#[test]
fn token_without_key_says_which_file_is_missing() {
    let (code, out, error) =
        said(&mesh_ctl(&["token", "create", "-s", "b", "--state-directory", "/nonexistent", "--ttl", "1h"]));
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(error.contains("/nonexistent/token.key") && error.contains("--state-directory"), "{error}");
}

#[test]
fn help_names_the_exit_codes_and_version_needs_no_controller() {
    let (code, out, _) = said(&mesh_ctl(&["--help"]));
    assert!(code == 0 && out.contains("Exit codes:") && out.contains("could not be reached"), "{out}");
    let (code, out, _) = said(&mesh_ctl(&["version", "--client", "-o", "json"]));
    assert!(code == 0 && out.contains("\"client\""), "{out}");
}

#[test]
fn guard_started_by_hand_ends_with_a_failure() {
    assert_eq!(said(&mesh_ctl(&["demo-guard"])).0, 1);
}

#[test]
fn demo_takes_resources_and_instances_only_for_a_command() {
    for arguments in [
        &["demo", "--resources", "lanes"][..],
        &["demo", "--instance", "b=dev"],
        &["demo", "--instance", "z=dev", "--", "true"],
        &["demo", "--check", "--", "true"],
    ] {
        let (code, out, error) = said(&mesh_ctl(arguments));
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {error}");
    }
    let (code, _, error) = said(&mesh_ctl(&["demo", "--instance", "b=dev", "--instance", "b=dev", "--", "true"]));
    assert!(code == 1 && error.contains("given twice"), "{error}");
}

#[test]
fn broken_model_routes_are_refused_with_the_field_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("models.yaml");
    let name = file.to_str().unwrap();
    fs::write(&file, MODELS).unwrap();
    let (code, out, _) = said(&mesh_ctl(&["validate", name]));
    assert_eq!(code, 0, "{out}");
    for (good, bad, path, message) in BROKEN {
        fs::write(&file, MODELS.replacen(good, bad, 1)).unwrap();
        let (code, out, _) = said(&mesh_ctl(&["validate", name]));
        assert_eq!(code, 1, "{bad}: {out}");
        let named = format!("ModelRoute ai/chat: {path}: ");
        assert!(out.lines().any(|line| line.contains(&named) && line.contains(message)), "{named}{message}: {out}");
    }
}

/// Runs `model try` against a sidecar that answers so; gives the request, too.
fn try_model(arguments: &[&str], answer: &str) -> (String, Output) {
    let sidecar = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = sidecar.local_addr().expect("a listener has an address").to_string();
    let child = Command::new(env!("CARGO_BIN_EXE_mesh-ctl"))
        .args(["model", "try", "chat", "--host", "models.internal", "--wait", "20s", "--proxy", &address])
        .args(arguments)
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program is built");
    let (mut stream, _) = sidecar.accept().expect("the program connects");
    let (mut request, mut piece) = (String::new(), [0; 4_096]);
    while !request.ends_with("}") {
        let length = stream.read(&mut piece).expect("the program writes");
        assert_ne!(length, 0, "{request}");
        request.push_str(std::str::from_utf8(&piece[..length]).expect("requests are ASCII"));
    }
    stream.write_all(answer.as_bytes()).expect("the program reads");
    drop(stream);
    (request, child.wait_with_output().expect("the program ends"))
}

const TRIED: &str = "content-type: text/event-stream\r\nx-mesh-model-target: gpt\r\nx-mesh-model-attempts: 2\r\n\
                     x-mesh-overhead-ms: 12.5\r\nconnection: close\r\n\r\n";

#[test]
fn model_try_shows_text_target_attempts_and_usage() {
    let events = "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\
                  \"lo.\"},\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\
                  \"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
    let answer = format!("HTTP/1.1 200 OK\r\n{TRIED}{events}");
    let (request, output) = try_model(&["--stream", "--message", "hi", "--lane", "demo/canary"], &answer);
    let (code, out, error) = said(&output);
    assert_eq!((code, out.as_str()), (0, "Hello.\n"), "{error}");
    assert!(
        error.contains("served by gpt; 2 attempts, 12.5 ms") && error.contains("9 in (? cached), 2 out"),
        "{error}"
    );
    for part in ["POST /v1/chat/completions ", "host: models.internal", "demo/canary", "\"stream\":true", "\"hi\""] {
        assert!(request.contains(part), "{part} is not in {request}");
    }
}

#[test]
fn model_try_fails_where_the_answer_is_an_error_or_breaks_off() {
    let started = "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n";
    let (_, output) = try_model(&["--stream"], &format!("HTTP/1.1 200 OK\r\n{TRIED}{started}"));
    let (code, out, error) = said(&output);
    assert_eq!((code, out.as_str()), (1, "Hel\n"));
    assert!(error.contains("failed: the answer broke off"), "{error}");
    let body = "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"all busy\"}}";
    let length = body.len();
    let answer =
        format!("HTTP/1.1 529 Busy\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
    let (request, output) = try_model(&["--api", "messages", "-o", "json"], &answer);
    let (code, out, _) = said(&output);
    let whole: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &whole["well"], &whole["status"]), (1, &false.into(), &529.into()));
    assert_eq!(whole["problem"], "529: all busy");
    assert!(request.starts_with("POST /v1/messages ") && request.contains("\"max_tokens\":1024"), "{request}");
}
