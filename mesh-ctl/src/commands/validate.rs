//! `mesh-ctl validate`: the checks of the controller, without one. All problems are named, each with its place.

use mesh_core::resources::{self, Domains, Problem};
use serde_json::json;

use super::files;
use crate::{
    args,
    exit::{Exit, Failure},
    output,
};

/// Checks every file by itself and, if each is well, all of them together.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn run(validate: &args::Validate) -> Result<Exit, Failure> {
    let files = files::read(&validate.files)?;
    let (count, problems) = check(&files);
    let text = match output::structured(&json!({ "resources": count, "problems": problems }), validate.output)? {
        Some(text) => text,
        None => listed(files.len(), count, &problems),
    };
    output::print(&text);
    Ok(if problems.is_empty() { Exit::Well } else { Exit::NotWell })
}

/// How many resources could be read, 0 where one could not, and what is wrong.
fn check(files: &[files::File]) -> (usize, Vec<Problem>) {
    let (mut all, mut problems) = (Vec::new(), Vec::new());
    for file in files {
        match resources::parse(&file.name, &file.text) {
            Ok(resources) => all.extend(resources),
            Err(found) => problems.extend(found),
        }
    }
    // References into a file that could not be read would be reported as missing.
    if !problems.is_empty() {
        return (0, problems);
    }
    (all.len(), resources::compile(&all, &Domains::default()).err().unwrap_or_default())
}

fn listed(files: usize, resources: usize, problems: &[Problem]) -> String {
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    if problems.is_empty() {
        return format!("{} in {}: no problem\n", plural(resources, "resource"), plural(files, "file"));
    }
    let mut text: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
    text.push_str(&format!("{}\n", plural(problems.len(), "problem")));
    if resources > 0 {
        text.push_str(
            "names are looked up in the files given; give all files of the mesh, or their folder, together\n",
        );
    }
    text
}

/// Problems out of the controller's answer, as lines; those of what was sent are named after `sent`.
pub(crate) fn from_answer(body: &[u8], sent: &str) -> Option<Vec<String>> {
    let whole: serde_json::Value = serde_json::from_slice(body).ok()?;
    let line = |problem: &serde_json::Value| {
        let text = |field: &str| problem[field].as_str().unwrap_or_default().to_owned();
        let file = text("file");
        let mut place = if file.is_empty() { sent.to_owned() } else { file };
        if let Some(line) = problem["line"].as_u64() {
            place.push_str(&format!(":{line}"));
        }
        let parts = [place, text("path"), text("message")];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
    };
    Some(whole.get("problems")?.as_array()?.iter().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> files::File {
        files::File { name: "mesh.yaml".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn every_problem_of_every_document_is_named_with_its_line() {
        let text = "apiVersion: lanemesh.io/v1alpha1\nkind: Services\nservices:\n- name: B!\n  ports:\n  - port: 70000\n\
                    \x20   protocol: carrier-pigeon\n";
        let (_, problems) = check(&[file(text)]);
        let shown = listed(1, 0, &problems);
        for expected in ["mesh.yaml:4: ", "mesh.yaml:6: ", "mesh.yaml:7: ", "services[0].ports[0].protocol", "problems"]
        {
            assert!(shown.contains(expected), "{expected} is not in\n{shown}");
        }
    }

    #[test]
    fn files_are_checked_against_each_other() {
        let services =
            "apiVersion: lanemesh.io/v1alpha1\nkind: Services\nservices:\n- name: b\n  ports:\n  - port: 80\n";
        let (count, problems) = check(&[file(services)]);
        assert_eq!((count, problems.len()), (1, 0), "{problems:?}");
        let (_, problems) = check(&[file(services), file(services)]);
        assert!(!problems.is_empty());
    }

    #[test]
    fn problems_of_the_controller_are_written_like_our_own() {
        let body = br#"{"problems": [{"file": "a.yaml", "line": 3, "path": "spec.x", "message": "unknown field"}]}"#;
        assert_eq!(from_answer(body, "b.yaml").unwrap(), ["a.yaml:3: spec.x: unknown field"]);
        let body = br#"{"problems": [{"file": "", "line": 3, "path": "", "message": "not YAML"}]}"#;
        assert_eq!(from_answer(body, "b.yaml").unwrap(), ["b.yaml:3: not YAML"]);
        assert!(from_answer(b"no JSON", "b.yaml").is_none());
    }
}
