//! The reference page of mesh-ctl, made from the arguments: `mesh-ctl reference > docs/reference/mesh-ctl.md`.

use clap::{Arg, Command, CommandFactory as _};

use crate::{
    args::Args,
    exit::{self, Exit},
    output,
};

/// Writes the page to standard output.
pub(crate) fn run() -> Exit {
    output::print(&page());
    Exit::Well
}

fn page() -> String {
    let mut command = Args::command();
    command.build();
    let mut text = String::from(
        "# mesh-ctl\n\nMade by `mesh-ctl reference`; do not edit.\n\nTables are for people: columns may be added. For \
         programs there is `-o json` and `-o yaml`. Colour\nis used on a terminal only.\n\n",
    );
    text.push_str(&codes());
    text.push_str("\n## Options of every command\n\n");
    text.push_str(&options(command.get_arguments().filter(|argument| argument.is_global_set())));
    for child in command.get_subcommands().filter(|child| !child.is_hide_set() && child.get_name() != "help") {
        section(child, &format!("mesh-ctl {}", child.get_name()), &mut text);
    }
    text
}

/// The table of exit codes, from what `--help` says.
fn codes() -> String {
    let mut text = String::from("## Exit codes\n\n| code | meaning |\n|---|---|\n");
    for line in exit::CODES.lines().skip(1) {
        if let Some((code, meaning)) = line.trim().split_once("  ") {
            text.push_str(&format!("| {code} | {} |\n", meaning.trim()));
        }
    }
    text
}

fn section(command: &Command, path: &str, text: &mut String) {
    let children: Vec<&Command> = command.get_subcommands().filter(|child| child.get_name() != "help").collect();
    if !children.is_empty() {
        for child in children {
            section(child, &format!("{path} {}", child.get_name()), text);
        }
        return;
    }
    text.push_str(&format!("\n## {path}\n\n{}.\n\n", about(command)));
    let mut usage = path.to_owned();
    for argument in command.get_positionals() {
        usage.push_str(&format!(" {}", placeholder(argument)));
    }
    let own: Vec<&Arg> = command.get_arguments().filter(|argument| !argument.is_global_set()).collect();
    if own.iter().any(|argument| !argument.is_positional() && argument.get_id() != "help") {
        usage.push_str(" [OPTIONS]");
    }
    text.push_str(&format!("```\n{usage}\n```\n\n"));
    text.push_str(&options(own.into_iter().filter(|argument| argument.get_id() != "help")));
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn placeholder(argument: &Arg) -> String {
    let name = value_name(argument);
    let several = argument.get_num_args().is_some_and(|range| range.max_values() > 1);
    let name = if several { format!("{name}...") } else { name };
    if argument.is_required_set() { name } else { format!("[{name}]") }
}

fn value_name(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    names.first().map_or_else(|| argument.get_id().as_str().to_uppercase(), ToString::to_string)
}

fn options<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let mut text = String::new();
    for argument in arguments {
        let mut name = match (argument.get_short(), argument.get_long()) {
            (Some(short), Some(long)) => format!("-{short}, --{long}"),
            (None, Some(long)) => format!("--{long}"),
            (Some(short), None) => format!("-{short}"),
            (None, None) => placeholder(argument),
        };
        let takes_value = argument.get_action().takes_values();
        if takes_value && !argument.is_positional() {
            name.push_str(&format!(" {}", value_name(argument)));
        }
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!("- `{name}`: {help}"));
        let words: Vec<String> = argument
            .get_possible_values()
            .iter()
            .filter(|value| takes_value && !value.is_hide_set())
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        if !words.is_empty() {
            text.push_str(&format!(" ({})", words.join(", ")));
        }
        let defaults: Vec<String> =
            argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
        if takes_value && !defaults.is_empty() {
            text.push_str(&format!("; default {}", defaults.join(", ")));
        }
        if let Some(variable) = argument.get_env() {
            text.push_str(&format!("; environment `{}`", variable.to_string_lossy()));
        }
        if argument.is_required_set() && !argument.is_positional() {
            text.push_str("; required");
        }
        text.push_str(".\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_page_is_the_one_that_the_arguments_make() {
        let written = include_str!("../../../docs/reference/mesh-ctl.md");
        assert!(written == page(), "run `cargo run -p mesh-ctl -- reference > docs/reference/mesh-ctl.md`");
    }
}
