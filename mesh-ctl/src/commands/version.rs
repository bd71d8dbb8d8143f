//! `mesh-ctl version`: this program and the controller it speaks to.

use serde_json::json;

use crate::{
    args,
    cluster::Controller,
    exit::{Exit, Failure},
    output::{self, plain},
};

/// Version of this program.
const CLIENT: &str = env!("CARGO_PKG_VERSION");

/// Shows the versions.
///
/// # Errors
/// When the controller is asked for and cannot be reached.
pub(crate) async fn run(controller: &Controller, version: &args::Version) -> Result<Exit, Failure> {
    let mut versions = json!({ "client": CLIENT });
    if !version.client {
        let answer = controller.read("/api/v1/version").await?;
        versions["controller"] = answer["version"].clone();
    }
    let text = match output::structured(&versions, version.output)? {
        Some(text) => text,
        None => {
            let row = |name: &str| {
                let text = versions[name].as_str().unwrap_or("unknown");
                vec![plain(name), plain(text)]
            };
            let parts: &[&str] = if version.client { &["client"] } else { &["client", "controller"] };
            output::lines(&output::table(&["PART", "VERSION"], parts.iter().map(|name| row(name))))
        }
    };
    output::print(&text);
    Ok(Exit::Well)
}
