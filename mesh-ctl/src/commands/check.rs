//! `mesh-ctl check`: one look at everything the controller knows of itself. What is not well is said with its name and what
//! to do about it; nothing is changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use serde_json::{Value, json};

use super::proxy::{self, Standing};
use crate::{
    cluster::Controller,
    exit::{Exit, Failure},
    output::{self, Format, Tone, plain},
};

/// Version of this program.
const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Grade {
    /// As it should be.
    Ok,
    /// Works, and is worth a look.
    Warning,
    /// Does not work.
    Error,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    result: Grade,
    /// What was checked: `controller`, `source`, `proxy`, `registration` or `note`.
    check: &'static str,
    /// Which one.
    subject: String,
    what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, subject: impl Into<String>, what: impl Into<String>) -> Finding {
        Finding { result: Grade::Ok, check, subject: subject.into(), what: what.into(), advice: None }
    }

    fn bad(
        result: Grade,
        (check, subject): (&'static str, impl Into<String>),
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Finding {
        Finding { result, check, subject: subject.into(), what: what.into(), advice: Some(advice.into()) }
    }
}

/// Checks everything and shows it.
///
/// # Errors
/// When the controller cannot be reached, or is of another age than this program.
pub(crate) async fn run(controller: &Controller, format: Format) -> Result<Exit, Failure> {
    let ready = controller.is_ready().await?;
    let version = controller.read("/api/v1/version").await?["version"].as_str().unwrap_or_default().to_owned();
    let sources = controller.items("source").await?;
    let mut findings = vec![of_controller(ready, &version)];
    findings.extend(sources.iter().map(of_source));
    findings.extend(of_proxies(&proxy::standings(controller).await?, &version, SystemTime::now()));
    findings.extend(of_registrations(&controller.items("registrations").await?));
    findings.extend(of_notes(&controller.items("notes").await?, &sources));
    let count = |grade| findings.iter().filter(|finding| finding.result == grade).count();
    let (errors, warnings) = (count(Grade::Error), count(Grade::Warning));
    let whole = json!({ "checks": findings, "errors": errors, "warnings": warnings });
    let text = match output::structured(&whole, format)? {
        Some(text) => text,
        None => format!("{}{}\n", shown(&findings), summary(errors, warnings, count(Grade::Ok))),
    };
    output::print(&text);
    Ok(if errors == 0 { Exit::Well } else { Exit::NotWell })
}

fn shown(findings: &[Finding]) -> String {
    let row = |finding: &Finding| {
        let result = match finding.result {
            Grade::Ok => ("ok".to_owned(), Tone::Good),
            Grade::Warning => ("warning".to_owned(), Tone::Odd),
            Grade::Error => ("error".to_owned(), Tone::Bad),
        };
        let advice = finding.advice.as_deref().unwrap_or("-");
        vec![result, plain(finding.check), plain(&finding.subject), plain(&finding.what), plain(advice)]
    };
    let headings = ["RESULT", "CHECK", "SUBJECT", "WHAT", "WHAT TO DO"];
    output::lines(&output::table(&headings, findings.iter().map(row)))
}

fn summary(errors: usize, warnings: usize, ok: usize) -> String {
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    format!("{}, {}, {ok} ok", plural(errors, "error"), plural(warnings, "warning"))
}

fn of_controller(ready: bool, version: &str) -> Finding {
    if !ready {
        let what = "not ready: it serves no proxy before every source has been loaded once";
        return Finding::bad(Grade::Error, ("controller", version), what, "see the sources");
    }
    if version != OWN_VERSION {
        let advice = "use mesh-ctl and controller of one version";
        return Finding::bad(Grade::Warning, ("controller", version), format!("mesh-ctl is {OWN_VERSION}"), advice);
    }
    Finding::ok("controller", version, "ready")
}

fn of_source(source: &Value) -> Finding {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (name, facts) = (text(&source["name"]), &source["facts"]);
    let remedy = facts["remedy"].as_str().unwrap_or("see the log of the controller");
    if facts["connection"] == "down" {
        let what = format!("away, what was known stays in force: {}", text(&facts["reason"]));
        return Finding::bad(Grade::Error, ("source", name), what, remedy);
    }
    let problems = source["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    if let Some(first) = problems.first() {
        let what = format!("{} refused, the last good state stays in force: {}", problems.len(), problem(first));
        let advice = "correct what is named; `mesh-ctl get sources -o yaml` lists all problems";
        return Finding::bad(Grade::Error, ("source", name), what, advice);
    }
    if let Some(note) = source["notes"].as_array().and_then(|notes| notes.first()) {
        return Finding::bad(Grade::Error, ("source", name), text(&note["message"]), remedy);
    }
    match (facts["connection"].as_str(), facts["server"].as_str()) {
        (Some(_), Some(server)) => Finding::ok("source", name, format!("connected to {server}")),
        (Some(_), None) | (None, _) => Finding::ok("source", name, format!("loaded from {}", text(&source["place"]))),
    }
}

/// A problem with its place.
fn problem(problem: &Value) -> String {
    let text = |field: &str| problem[field].as_str().unwrap_or_default();
    let line = problem["line"].as_u64().map(|line| format!(":{line}")).unwrap_or_default();
    let parts = [format!("{}{line}", text("file")), text("path").to_owned(), text("message").to_owned()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

/// Proxies that are not well, each by itself, and one line for all others.
fn of_proxies(standings: &[Standing], version: &str, now: SystemTime) -> Vec<Finding> {
    if standings.is_empty() {
        let advice = "see the log of a proxy: whether it reaches the controller, and whether its token is taken";
        return vec![Finding::bad(Grade::Warning, ("proxy", "-"), "none is connected", advice)];
    }
    let mut findings: Vec<Finding> = standings.iter().filter_map(|standing| of_proxy(standing, version, now)).collect();
    let well = standings.len() - findings.len();
    if well > 0 {
        findings.push(Finding::ok("proxy", format!("{well} of {}", standings.len()), "serve the current revision"));
    }
    findings
}

fn of_proxy(standing: &Standing, version: &str, now: SystemTime) -> Option<Finding> {
    let subject = ("proxy", format!("{}/{}", standing.namespace, standing.pod));
    if let (false, Some(reason)) = (standing.is_current(), &standing.refused) {
        let what = format!("refuses what the controller publishes: {reason}");
        return Some(Finding::bad(Grade::Error, subject, what, "use proxy and controller of one version"));
    }
    let advice = "see that the proxy reaches the controller, and that its token is good";
    let life = standing.certificate_life(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    match life {
        Some(Duration::ZERO) => return Some(Finding::bad(Grade::Error, subject, "its certificate has ended", advice)),
        Some(life) if life < proxy::SHORT_LIFE => {
            let what = format!("its certificate ends in {} s and was not renewed", life.as_secs());
            return Some(Finding::bad(Grade::Warning, subject, what, advice));
        }
        Some(_) | None => {}
    }
    if !standing.is_current() {
        let advice = "look again; if it stays so, see the log of the proxy";
        return Some(Finding::bad(Grade::Warning, subject, "does not serve the current revision yet", advice));
    }
    let differs = standing.version != version;
    let what = || format!("is of version {}, the controller of {version}", standing.version);
    differs.then(|| Finding::bad(Grade::Warning, subject, what(), "use proxy and controller of one version"))
}

/// Registrations that should be there and are not, each by itself, and one line for all others of a registry.
fn of_registrations(items: &[Value]) -> Vec<Finding> {
    let text = |item: &Value, field: &str| item[field].as_str().unwrap_or_default().to_owned();
    let (mut findings, mut others) = (Vec::new(), BTreeMap::<String, (usize, usize)>::new());
    for item in items {
        let of_source = others.entry(text(item, "source")).or_default();
        let subject = ("registration", format!("{} {}", text(item, "registeredAs"), text(item, "address")));
        match item["state"].as_str() {
            Some("failed") => {
                let what = format!("cannot be registered with {}: {}", text(item, "source"), text(item, "reason"));
                findings.push(Finding::bad(Grade::Error, subject, what, text(item, "remedy")));
            }
            Some("waiting") => {
                let what = format!("not registered with {} yet", text(item, "source"));
                findings.push(Finding::bad(Grade::Warning, subject, what, "look again in a few seconds"));
            }
            Some("left out") => of_source.1 += 1,
            Some(_) | None => of_source.0 += 1,
        }
    }
    findings.extend(others.into_iter().filter(|(_, counts)| *counts != (0, 0)).map(|(source, (here, out))| {
        let what = format!("{here} registered, {out} left out; `mesh-ctl get registrations` says why");
        Finding::ok("registration", source, if out == 0 { format!("{here} registered") } else { what })
    }));
    findings
}

/// Notes, but for those of sources, which are said with their source.
fn of_notes(notes: &[Value], sources: &[Value]) -> Vec<Finding> {
    let names: BTreeSet<&str> = sources.iter().filter_map(|source| source["name"].as_str()).collect();
    let finding = |note: &Value| {
        let text = |field: &str| note[field].as_str().unwrap_or_default().to_owned();
        match note["path"].as_str() {
            Some(path) => {
                let advice = "correct what is named, or wait until what it names is there";
                Finding::bad(Grade::Warning, ("note", path), text("message"), advice)
            }
            None => {
                let subject = ("note", format!("{} {}", text("service"), text("instance")));
                let advice = "correct it where the instance is registered";
                Finding::bad(Grade::Warning, subject, format!("{}: {}", text("key"), text("problem")), advice)
            }
        }
    };
    let is_other = |note: &&Value| note["path"].as_str().is_none_or(|path| !names.contains(path));
    notes.iter().filter(is_other).map(finding).collect()
}

#[cfg(test)]
mod tests;
