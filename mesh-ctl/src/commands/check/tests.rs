//! Tests of what is found, out of what the console says.

use super::*;

fn grades(findings: &[Finding]) -> Vec<(Grade, &str)> {
    findings.iter().map(|finding| (finding.result, finding.subject.as_str())).collect()
}

#[test]
fn a_source_that_is_away_is_an_error_with_the_remedy_that_the_controller_names() {
    let facts = json!({ "connection": "down", "reason": "user \"m\" was refused", "remedy": "correct username" });
    let finding = of_source(&json!({ "name": "nacos/closed/public", "facts": facts, "problems": [] }));
    assert_eq!((finding.result, finding.subject.as_str()), (Grade::Error, "nacos/closed/public"));
    assert!(finding.what.contains("user \"m\" was refused"), "{finding:?}");
    assert_eq!(finding.advice.as_deref(), Some("correct username"));
}

#[test]
fn a_refused_document_and_an_unknown_namespace_are_errors_that_name_their_place() {
    let problem = json!({ "file": "mesh.yaml", "line": 3, "path": "spec.x", "message": "unknown field" });
    let refused = of_source(&json!({ "name": "file", "facts": {}, "problems": [problem] }));
    assert_eq!(refused.result, Grade::Error);
    assert!(refused.what.ends_with("mesh.yaml:3: spec.x: unknown field"), "{refused:?}");
    let note = json!({ "path": "nacos/main/prdo", "message": "unknown namespace \"prdo\"; it has public" });
    let up = json!({ "connection": "up", "server": "main (n:8848)", "remedy": "make it" });
    let source = json!({ "name": "nacos/main/prdo", "facts": up, "problems": [], "notes": [note] });
    let unknown = of_source(&source);
    assert_eq!((unknown.result, unknown.advice.as_deref()), (Grade::Error, Some("make it")));
    assert!(unknown.what.contains("prdo") && unknown.what.contains("public"), "{unknown:?}");
    assert_eq!(of_notes(&[note], &[source]), [], "it is said once");
}

#[test]
fn sources_that_are_well_say_where_they_read() {
    let up = json!({ "connection": "up", "server": "main (n:8848)" });
    let connected = of_source(&json!({ "name": "nacos/main/public", "facts": up, "problems": [], "notes": [] }));
    assert_eq!((connected.result, connected.what.as_str()), (Grade::Ok, "connected to main (n:8848)"));
    let loaded = of_source(&json!({ "name": "file", "place": "/mesh", "facts": {}, "problems": [], "notes": [] }));
    assert_eq!((loaded.result, loaded.what.as_str()), (Grade::Ok, "loaded from /mesh"));
}

#[test]
fn proxies_that_are_not_well_are_named_and_the_others_counted() {
    let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
    let standing = |pod: &str, applied: &str, refused: Option<&str>, end: u64, version: &str| {
        Standing::read(&json!({
            "namespace": "demo",
            "pod": pod,
            "version": version,
            "currentRevision": "r2",
            "appliedRevision": applied,
            "refusedReason": refused,
            "certificateNotAfter": end,
        }))
    };
    let standings = [
        standing("a", "r2", None, 1_080_000, "1"),
        standing("b", "r1", Some("no such kind"), 1_080_000, "1"),
        standing("c", "r2", None, 999_999, "1"),
        standing("d", "r2", None, 1_000_060, "1"),
        standing("e", "r1", None, 1_080_000, "1"),
        standing("f", "r2", None, 1_080_000, "0"),
    ];
    assert_eq!(
        grades(&of_proxies(&standings, "1", now)),
        [
            (Grade::Error, "demo/b"),
            (Grade::Error, "demo/c"),
            (Grade::Warning, "demo/d"),
            (Grade::Warning, "demo/e"),
            (Grade::Warning, "demo/f"),
            (Grade::Ok, "1 of 6"),
        ]
    );
    assert_eq!(of_proxies(&[], "1", now)[0].result, Grade::Warning);
}

#[test]
fn registrations_that_fail_are_errors_and_the_others_one_line_for_each_registry() {
    let item = |state: &str, address: &str| {
        json!({ "source": "nacos/main/public", "registeredAs": "b@@DEFAULT_GROUP@public", "address": address,
                "state": state, "reason": "not allowed (403)", "remedy": "give rights" })
    };
    let findings = of_registrations(&[
        item("registered", "10.0.0.1:80"),
        item("left out", "10.0.0.2:80"),
        item("failed", "10.0.0.3:80"),
        item("waiting", "10.0.0.4:80"),
    ]);
    assert_eq!(
        grades(&findings),
        [
            (Grade::Error, "b@@DEFAULT_GROUP@public 10.0.0.3:80"),
            (Grade::Warning, "b@@DEFAULT_GROUP@public 10.0.0.4:80"),
            (Grade::Ok, "nacos/main/public"),
        ]
    );
    assert!(findings[0].what.contains("not allowed (403)"), "{findings:?}");
    assert!(findings[2].what.starts_with("1 registered, 1 left out"), "{findings:?}");
}

#[test]
fn a_malformed_registration_is_a_warning_that_names_service_instance_and_key() {
    let note = json!({ "service": "orders@@DEFAULT_GROUP@public", "instance": "10.0.0.1:80", "key": "zone",
                       "problem": "is no name" });
    let findings = of_notes(&[note], &[]);
    assert_eq!(grades(&findings), [(Grade::Warning, "orders@@DEFAULT_GROUP@public 10.0.0.1:80")]);
    assert_eq!(findings[0].what, "zone: is no name");
}

#[test]
fn the_table_has_a_line_for_each_finding_and_ends_with_the_numbers() {
    let findings = [of_controller(true, OWN_VERSION), of_controller(false, OWN_VERSION), of_controller(true, "0.0.0")];
    let text = shown(&findings);
    assert_eq!(text.lines().count(), 4, "{text}");
    let results: Vec<_> = text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(results, ["ok", "error", "warning"]);
    assert_eq!(summary(1, 2, 3), "1 error, 2 warnings, 3 ok");
}
