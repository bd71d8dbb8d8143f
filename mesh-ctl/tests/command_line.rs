//! `mesh-ctl` as its users run it: exit codes, and what stands on standard output and standard error.

use std::{
    fs,
    process::{Command, Output},
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
