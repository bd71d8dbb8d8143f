//! `mesh-ctl apply`: gives files of resources to the controller, all or nothing per file.

use http::StatusCode;

use super::{files, validate};
use crate::{
    args,
    cluster::Controller,
    exit::{Exit, Failure},
    output,
};

/// Sends every file; stops at the first that the controller refuses.
///
/// # Errors
/// When a file cannot be read or the controller cannot be reached.
pub(crate) async fn run(controller: &Controller, apply: &args::Apply) -> Result<Exit, Failure> {
    let path = if apply.dry_run { "/api/v1/validate" } else { "/api/v1/apply" };
    for file in files::read(&apply.files)? {
        let answer = controller.send(path, file.text.into_bytes()).await?;
        let problems = validate::from_answer(&answer.body, &file.name).unwrap_or_default();
        match answer.status {
            StatusCode::OK | StatusCode::UNPROCESSABLE_ENTITY if !problems.is_empty() => {
                for problem in problems {
                    output::print(&format!("{problem}\n"));
                }
                output::print("the controller keeps what it has\n");
                return Ok(Exit::NotWell);
            }
            StatusCode::OK => {
                let done = if apply.dry_run { "would be applied" } else { "applied" };
                output::print(&format!("{}: {done}\n", file.name));
            }
            _ => return Err(controller.refused(path, &answer)),
        }
    }
    Ok(Exit::Well)
}
