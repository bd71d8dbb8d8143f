//! `mesh-ctl completion`: completion scripts, made from the arguments.

use clap::CommandFactory as _;

use crate::{
    args::Args,
    exit::{Exit, Failure},
    output,
};

/// Writes the script for a shell to standard output.
///
/// # Errors
/// When the script is not UTF-8, which is a defect.
pub(crate) fn run(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "mesh-ctl", &mut script);
    let text = String::from_utf8(script).map_err(|error| Failure::not_well("cannot write the script", error))?;
    output::print(&text);
    Ok(Exit::Well)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_has_a_script_that_knows_the_commands() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "mesh-ctl", &mut script);
            assert!(String::from_utf8(script).unwrap().contains("validate"), "{shell}");
        }
    }
}
