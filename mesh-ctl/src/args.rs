//! The command line as types. Defaults, names and sentences stand here; the reference page is made from them.

mod lane;
mod model;
mod zone;

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use http::Uri;
use mesh_core::names;

pub(crate) use self::{
    lane::{Change, Explain, Group, Lane, Probe, Set, Watch},
    model::{By, Model, ModelExplain, Try, TryApi, Usage, UsageFormat},
    zone::{Zone, ZoneChange},
};
use crate::{
    commands::{Instance, of_chain},
    exit,
    output::Format,
};

/// See and steer a Lanemesh: services, lanes, proxies, policies.
#[derive(Debug, Parser)]
#[command(name = "mesh-ctl", version, after_help = exit::CODES, after_long_help = exit::CODES)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Args {
    /// Console address of the controller
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "LANEMESH_CONTROLLER_ADMIN",
        default_value = "http://127.0.0.1:8084",
        value_parser = controller_url
    )]
    pub(crate) controller: Uri,
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a whole mesh on this machine, send traffic through it and show it
    Demo(Demo),
    /// Check files of resources without a controller; every problem is named with its place
    Validate(Validate),
    /// Give files of resources to the controller, which checks them against everything else it knows
    Apply(Apply),
    /// Show what the controller knows
    Get(Get),
    /// Check controller, sources, proxies and registrations: what is not well, and what to do about it
    Check {
        /// Format of the result
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Look at proxies
    #[command(subcommand)]
    Proxy(Proxy),
    /// Tokens by which workloads prove who they are
    #[command(subcommand)]
    Token(Token),
    /// See, change and explain lanes
    #[command(subcommand)]
    Lane(Lane),
    /// See which zones serve, move the traffic of one away and back
    #[command(subcommand)]
    Zone(Zone),
    /// See, explain and try calls to language models, and what they use
    #[command(subcommand)]
    Model(Model),
    /// Look at policies
    #[command(subcommand)]
    Policy(Policy),
    /// How each instance of a service stands: state, weight now, why, since when, and who says so
    Endpoints(Endpoints),
    /// What happened to instances: ready, registered, draining, ejected, recovered and more
    Events(Events),
    /// Have sidecars go down in order: callers go elsewhere, what is under way may end. Cannot be taken back
    Drain(Drain),
    /// Versions of mesh-ctl and of the controller
    Version(Version),
    /// Write completion for a shell to standard output
    Completion {
        /// Shell to write for
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write the reference page to standard output
    #[command(hide = true)]
    Reference,
    /// Parent of the processes of a demo; ends them when the demo is gone
    #[command(hide = true)]
    DemoGuard,
}

/// Arguments of `endpoints`.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Endpoints {
    /// Service, NAME or NAME.NAMESPACE
    pub(crate) service: String,
    /// Format of the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Arguments of `events`.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Events {
    /// Of instances of this service alone, NAME or NAME.NAMESPACE
    #[arg(long)]
    pub(crate) service: Option<String>,
    /// Of this pod alone, namespace/pod
    #[arg(long)]
    pub(crate) pod: Option<String>,
    /// Of this kind alone, for example ejected
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// Show so many, the newest
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: u32,
    /// Go on with new ones until interrupted
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Format of the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Arguments of `drain`.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Drain {
    /// Pod, namespace/pod, or a service (NAME or NAME.NAMESPACE): all of its pods
    pub(crate) name: String,
    /// Do it although a service keeps no instance that takes calls
    #[arg(long)]
    pub(crate) leave_none: bool,
    /// Wait until nothing comes in any more at any of them, and say how far they are
    #[arg(long)]
    pub(crate) wait: bool,
    /// Longest wait, for example 30s or 5m
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5m", requires = "wait")]
    pub(crate) timeout: Duration,
    /// Format of the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Commands about policies.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Policy {
    /// The traffic policy in force for a service, field by field: what is written, and the defaults of the rest
    Explain {
        /// Service, NAME or NAME.NAMESPACE
        service: String,
        /// Format of the result
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

/// Arguments of `demo`.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Demo {
    /// Run a fixed scenario, print what passed, and exit 0 or 1
    #[arg(long)]
    pub(crate) check: bool,
    /// One network namespace per pod, applications captured by mesh-proxy redirect (needs root)
    #[arg(long)]
    pub(crate) netns: bool,
    /// End by itself after this time, for example 30s or 5m
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "check")]
    pub(crate) duration: Option<Duration>,
    /// Keep logs and configuration in this folder afterwards
    #[arg(long, value_name = "FOLDER")]
    pub(crate) keep: Option<PathBuf>,
    /// Lane groups, lanes and policies instead of the demo's own: YAML files, or folders of *.yaml files
    #[arg(long, value_name = "FILE", requires = "command")]
    pub(crate) resources: Vec<PathBuf>,
    /// One more instance of service a, b, c or d, with the label `lane: LANE`; may be repeated
    #[arg(long = "instance", value_name = "SERVICE=LANE", requires = "command")]
    pub(crate) instances: Vec<Instance>,
    /// Settings of the Nacos servers that the controller reads beside the demo's services, see docs/nacos.md
    #[arg(long, value_name = "FILE", requires = "command")]
    pub(crate) nacos: Option<PathBuf>,
    /// Leave the applications of service a, b, c or d to COMMAND, which starts its own at the addresses that DEMO_PODS says;
    /// may be repeated
    #[arg(
        long = "without-application",
        value_name = "SERVICE",
        value_parser = of_chain,
        requires = "command",
        conflicts_with = "netns"
    )]
    pub(crate) without_application: Vec<&'static str>,
    /// Run this in the mesh instead of showing traffic, then end; DEMO_ENTRY says where requests enter, DEMO_MESH_CTL
    /// where mesh-ctl is, DEMO_PODS of each pod in a line its name, where its application listens, and its proxy's ports
    /// for the application's calls and for the admin interface
    #[arg(last = true, value_name = "COMMAND", conflicts_with_all = ["check", "duration"])]
    pub(crate) command: Vec<OsString>,
}

/// Arguments of `validate`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Validate {
    /// YAML files, or folders of *.yaml files; `-` reads standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Format of the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Arguments of `apply`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Apply {
    /// YAML files, or folders of *.yaml files; `-` reads standard input
    #[arg(short = 'f', long = "file", required = true, value_name = "FILE", num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,
    /// Check on the controller, change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Arguments of `get`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Get {
    /// What to show
    #[arg(value_enum)]
    pub(crate) kind: Kind,
    /// Show the one of this name, or those whose name begins so and ends in `*`
    pub(crate) name: Option<String>,
    /// Show one namespace alone
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// Format of the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// What `get` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Services with their ports
    #[value(alias = "service", alias = "svc")]
    Services,
    /// Instances of services
    #[value(alias = "endpoint", alias = "ep")]
    Endpoints,
    /// Lane groups with their lanes
    #[value(alias = "lane")]
    Lanes,
    /// Model routes with their models and targets
    #[value(alias = "model")]
    Models,
    /// Proxies that are connected
    #[value(alias = "proxy")]
    Proxies,
    /// Policies of traffic and access
    #[value(alias = "policy")]
    Policies,
    /// Sources of services and resources: connected or not, and what of them is refused
    #[value(alias = "source")]
    Sources,
    /// Workloads that are registered with registries on their behalf, or not, and why
    #[value(alias = "registration")]
    Registrations,
    /// What is wrong without refusing anything
    #[value(alias = "note")]
    Notes,
}

/// Commands about proxies.
#[derive(Debug, Subcommand)]
pub(crate) enum Proxy {
    /// Revision that each proxy serves against the current one, life of its certificate, age of its snapshot
    Status {
        /// Show this proxy alone (pod, or namespace/pod)
        name: Option<String>,
        /// Format of the result
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Everything that a proxy decides by, from its admin port (loopback of the proxy's own machine or namespace)
    Dump {
        /// Pod, namespace/pod, or HOST:PORT of an admin port
        proxy: String,
        /// Format of the result; a table lists the parts
        #[arg(short, long, value_enum, default_value = "json")]
        output: Format,
    },
}

/// Commands about tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Sign a token for a workload outside Kubernetes; needs the controller's state folder
    Create(TokenCreate),
}

/// Arguments of `token create`.
#[derive(Debug, ClapArgs)]
pub(crate) struct TokenCreate {
    /// Namespace of the workload
    #[arg(short, long, default_value = names::DEFAULT_NAMESPACE)]
    pub(crate) namespace: String,
    /// Service account of the workload
    #[arg(short = 's', long)]
    pub(crate) service_account: String,
    /// How long the token is good, for example 1h or 30d
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "24h")]
    pub(crate) ttl: Duration,
    /// State folder of the controller; holds token.key
    #[arg(long, value_name = "FOLDER", env = "LANEMESH_CONTROLLER_STATE_DIRECTORY")]
    pub(crate) state_directory: PathBuf,
    /// Write to this file (mode 0600) instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Arguments of `version`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Version {
    /// Do not ask the controller
    #[arg(long)]
    pub(crate) client: bool,
    /// Format of the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

fn controller_url(text: &str) -> Result<Uri, String> {
    plain_url(text, "expected http://HOST:PORT, for example http://127.0.0.1:8084")
}

fn sidecar_url(text: &str) -> Result<Uri, String> {
    plain_url(text, "expected http://HOST:PORT, for example http://127.0.0.1:4140")
}

fn plain_url(text: &str, expected: &str) -> Result<Uri, String> {
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Uri = full.parse().map_err(|error| format!("{error}; {expected}"))?;
    match (uri.scheme_str(), uri.host(), uri.path()) {
        (Some("http"), Some(_), "" | "/") => Ok(uri),
        _ => Err(expected.to_owned()),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let expected = "expected `Name: value`";
    let (name, value) = text.split_once(':').ok_or(expected)?;
    let name = name.trim().parse::<http::HeaderName>().map_err(|error| format!("{error}; {expected}"))?;
    let value = value.trim();
    http::HeaderValue::from_str(value).map_err(|error| format!("{error}; {expected}"))?;
    Ok((name.as_str().to_owned(), value.to_owned()))
}

/// Reads a whole number with a unit: ms, s, m, h or d.
fn duration(text: &str) -> Result<Duration, String> {
    let expected = "expected a whole number with a unit of ms, s, m, h or d, for example 90s";
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(expected)?;
    let number: u64 = text[..digits].parse().map_err(|_| expected)?;
    let milliseconds = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected.to_owned()),
    };
    match number.checked_mul(milliseconds) {
        Some(0) => Err("must be more than 0".to_owned()),
        Some(total) => Ok(Duration::from_millis(total)),
        None => Err("is too long".to_owned()),
    }
}

/// Reads `proxy dump`'s argument as the address of an admin port, if it is one.
pub(crate) fn admin_address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn durations_have_a_unit_and_are_more_than_nothing() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for refused in ["", "s", "5", "0s", "-1s", "1.5h", "5 m", "99999999999999999999s", "18446744073709551615d"] {
            assert!(duration(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn controller_is_an_address_or_a_plain_url() {
        for accepted in ["http://127.0.0.1:8084", "127.0.0.1:8084", "http://localhost:1/"] {
            assert!(controller_url(accepted).is_ok(), "{accepted}");
        }
        for refused in ["https://127.0.0.1:8084", "http://h:1/path", "ftp://h"] {
            assert!(controller_url(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn headers_are_written_as_curl_takes_them() {
        assert_eq!(header("X-Mesh-Lane: canary"), Ok(("x-mesh-lane".to_owned(), "canary".to_owned())));
        assert_eq!(header("empty:"), Ok(("empty".to_owned(), String::new())));
        for refused in ["no colon", "bad name: x", "a: b\nc"] {
            assert!(header(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn every_command_of_the_readme_is_understood() {
        for line in [
            "demo --check",
            "demo --netns --check",
            "demo --duration 30s",
            "validate a.yaml b.yaml",
            "apply -f a.yaml",
            "apply -f a.yaml b.yaml --dry-run",
            "get services",
            "get ep b -n demo -o json",
            "get registrations",
            "check -o json",
            "proxy status -o yaml",
            "proxy dump demo/b",
            "token create -n demo -s b --state-directory /tmp/x --ttl 1h",
            "lane explain GET http://gateway.demo/ -H x-mesh-lane:canary --entry gateway.demo",
            "lane explain GET http://a/ --chain b,c --source-ip 10.0.0.1 --outside --zone eu-1a -o json",
            "lane list",
            "lane probe shop/canary http://a.demo/x --via 127.0.0.1:4140 --expect b,c -o json",
            "lane list shop -o yaml",
            "lane show shop/canary",
            "lane set shop/canary --percentage 12.5 --key header:x-user --ttl 8h --priority 3",
            "lane set shop/canary --ramp 5:50:2h --state active --clear guard",
            "lane drain shop/canary --reason slow",
            "lane rollback shop/canary",
            "lane watch shop --duration 5s",
            "zone list",
            "zone list b.demo -o json",
            "zone drain eu-1a --reason power",
            "zone restore eu-1a",
            "model list",
            "model list chat* --admin demo/b -o yaml",
            "model explain chat-large",
            "model explain gpt-4o --host models.internal --api messages --tools --json --vision --tokens 900 --lane g/l -o json",
            "model explain chat-large --admin 127.0.0.1:4191",
            "model try chat-large",
            "model try chat-large --host m --message hi --stream --api messages --proxy http://127.0.0.1:4140 -o json",
            "model usage",
            "model usage --by identity,lane,model,target -o csv",
            "drain demo/b-1 --wait --timeout 2m",
            "drain b.demo --leave-none -o json",
            "endpoints b.demo -o json",
            "events --service b.demo --kind ejected --limit 5 --follow",
            "version --client",
            "completion bash",
            "--controller 127.0.0.1:9 get lanes",
        ] {
            let words = std::iter::once("mesh-ctl").chain(line.split(' '));
            Args::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn wrong_usage_is_exit_code_two() {
        for line in
            ["get nothing", "validate", "demo --check --duration 5s", "apply", "-o json", "model usage --by price"]
        {
            let words = std::iter::once("mesh-ctl").chain(line.split(' '));
            assert_eq!(Args::try_parse_from(words).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
