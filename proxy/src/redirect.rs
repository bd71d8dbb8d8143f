//! `mesh-proxy redirect`: writes the rules that capture the TCP connections of the network namespace it runs in, and
//! exits. Its own table is replaced as a whole, so that running it twice changes nothing. nftables where there is `nft`,
//! else iptables. Needs CAP_NET_ADMIN.

mod iptables;
mod nftables;

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::{Command, Stdio},
};

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use mesh_core::names;
use thiserror::Error;

/// What is captured.
#[derive(Args, Clone, Debug)]
pub struct Rules {
    /// User id of the proxy, whose own connections are not captured.
    #[arg(long, value_name = "UID", required_unless_present = "remove")]
    pub proxy_uid: Option<u32>,
    /// Port to which inbound connections are redirected.
    #[arg(long, default_value_t = names::INBOUND_PORT, value_name = "PORT")]
    pub inbound_port: u16,
    /// Port to which outbound connections are redirected.
    #[arg(long, default_value_t = names::OUTBOUND_PORT, value_name = "PORT")]
    pub outbound_port: u16,
    /// Admin port, which is never captured.
    #[arg(long, default_value_t = names::ADMIN_PORT, value_name = "PORT")]
    pub admin_port: u16,
    /// Inbound ports that are left alone.
    #[arg(long, value_delimiter = ',', value_name = "PORT,…")]
    pub skip_inbound_ports: Vec<u16>,
    /// Outbound ports that are left alone.
    #[arg(long, value_delimiter = ',', value_name = "PORT,…")]
    pub skip_outbound_ports: Vec<u16>,
    /// Networks to which outbound connections are left alone.
    #[arg(long, value_delimiter = ',', value_name = "CIDR,…")]
    pub skip_outbound_networks: Vec<IpNet>,
    /// Take the rules away instead.
    #[arg(long)]
    pub remove: bool,
    /// Print what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// What writes the rules.
    #[arg(long, value_enum, default_value_t)]
    pub tool: Tool,
}

/// What writes the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Tool {
    /// nft where it is installed, else iptables.
    #[default]
    Auto,
    /// nft.
    Nft,
    /// iptables-restore and ip6tables-restore.
    Iptables,
}

/// Why the rules were not written.
#[derive(Debug, Error)]
pub enum RedirectError {
    /// A program is not installed, or cannot be started.
    #[error("cannot start {0}: install nftables, or iptables")]
    Start(&'static str, #[source] io::Error),
    /// It refused.
    #[error("{program} refused the rules ({status}): {said}")]
    Refused {
        /// Which.
        program: &'static str,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said.
        said: String,
    },
}

/// One run of a program that reads rules.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    program: &'static str,
    arguments: &'static [&'static str],
    input: String,
    failure: Failure,
}

/// What a failure of a step means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// The rules are not written.
    Fatal,
    /// There was nothing to take away.
    Expected,
}

/// Writes (or takes away, or prints) the rules. The text is what was done, for `--dry-run`.
///
/// # Errors
/// Names the program and what it said.
pub fn run(rules: &Rules) -> Result<String, RedirectError> {
    let nft = nftables::steps(rules);
    let iptables = iptables::steps(rules);
    let steps = match rules.tool {
        Tool::Nft => nft,
        Tool::Iptables => iptables,
        Tool::Auto if is_installed("nft") => nft,
        Tool::Auto => iptables,
    };
    if rules.dry_run {
        return Ok(printed(&steps));
    }
    for step in &steps {
        execute(step)?;
    }
    Ok(String::new())
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn printed(steps: &[Step]) -> String {
    let mut text = String::new();
    for Step { program, arguments, input, failure: _ } in steps {
        writeln!(text, "# {program} {}\n{input}", arguments.join(" ")).expect("a String takes any text");
    }
    text
}

fn execute(step: &Step) -> Result<(), RedirectError> {
    let failed = |error| RedirectError::Start(step.program, error);
    let mut child = Command::new(step.program)
        .args(step.arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // A program that ended early says why below.
        let _ = input.write_all(step.input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() || step.failure == Failure::Expected {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(RedirectError::Refused { program: step.program, status: output.status, said })
}

impl Rules {
    /// Inbound ports that are never captured: our own and those asked for; ascending, each once.
    fn inbound_exceptions(&self) -> Vec<u16> {
        let mut ports = vec![self.inbound_port, self.outbound_port, self.admin_port];
        ports.extend(&self.skip_inbound_ports);
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    fn outbound_exceptions(&self) -> Vec<u16> {
        let mut ports = self.skip_outbound_ports.clone();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    fn networks(&self, version: Version) -> Vec<String> {
        let of_version = |net: &&IpNet| match version {
            Version::V4 => matches!(net, IpNet::V4(_)),
            Version::V6 => matches!(net, IpNet::V6(_)),
        };
        self.skip_outbound_networks.iter().filter(of_version).map(|net| net.trunc().to_string()).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V4,
    V6,
}
