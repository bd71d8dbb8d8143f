//! Arguments of `mesh-ctl lane …`.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use http::Uri;
use mesh_core::{
    identity::Identity,
    model::lane::{LaneName, LaneRef},
};

use super::{duration, header};
use crate::output::Format;

/// Name of a lane group.
pub(crate) type Group = LaneName;

/// Commands about lanes.
#[derive(Debug, Subcommand)]
pub(crate) enum Lane {
    /// Lanes with stage, share, members, traffic and what their guards say
    List {
        /// Show this group alone
        group: Option<Group>,
        /// Format of the result
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// One lane with its rules, instances, traffic and history
    Show {
        /// GROUP/LANE
        lane: LaneRef,
        /// Format of the result
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// For a request given by method, URL and headers: what its entry decides, which instances serve it, and why
    Explain(Explain),
    /// Send one labelled request through a real chain and name the hop where its label is lost
    Probe(Probe),
    /// Set share, ramp, rule, priority, ttl or stage of a lane
    Set(Set),
    /// Take a lane into use
    Activate(Change),
    /// Stain no new requests; honour labels until none can be under way
    Drain(Change),
    /// Ignore the label of a draining or unused lane from now on
    Close(Change),
    /// Make the instances of a lane baseline
    Promote(Change),
    /// Undo the last change of a lane's stage
    Rollback(Change),
    /// Follow lanes and their traffic until interrupted
    Watch(Watch),
}

/// Arguments of every command that changes the stage of a lane.
#[derive(Debug, ClapArgs)]
pub(crate) struct Change {
    /// GROUP/LANE
    pub(crate) lane: LaneRef,
    /// Why, for the lane's history
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    /// Format of the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Arguments of `lane set`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Set {
    /// Lane, reason, format.
    #[command(flatten)]
    pub(crate) change: Change,
    /// Share of users, 0 to 100 in steps of 0.01; ends a ramp
    #[arg(long, value_name = "PERCENT", conflicts_with = "ramp")]
    pub(crate) percentage: Option<f64>,
    /// Where the user's key stands, for example header:x-user; several times, in order of preference
    #[arg(long = "key", value_name = "KEY")]
    pub(crate) keys: Vec<String>,
    /// Move the share from now on: FROM:TO:TIME[:exponential], for example 5:50:2h
    #[arg(long, value_name = "RAMP", value_parser = ramp)]
    pub(crate) ramp: Option<Ramp>,
    /// Rule, as in the resource: '{any: [{on: header, name: x-beta, operator: present}]}'
    #[arg(long = "match", value_name = "YAML")]
    pub(crate) rule: Option<String>,
    /// Order among lanes at an entry: greater first
    #[arg(long, value_name = "NUMBER")]
    pub(crate) priority: Option<u32>,
    /// Life of the lane from when it was made, for example 8h
    #[arg(long, value_name = "TIME")]
    pub(crate) ttl: Option<String>,
    /// Stage, whatever it was before
    #[arg(long, value_enum)]
    pub(crate) state: Option<State>,
    /// Take a field away; may be given several times
    #[arg(long, value_enum, value_name = "FIELD")]
    pub(crate) clear: Vec<Field>,
}

/// A movement of a share.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ramp {
    /// Percent at the start.
    pub(crate) from: f64,
    /// Percent at the end.
    pub(crate) to: f64,
    /// Time, as resources write it.
    pub(crate) over: String,
    /// Slow at first.
    pub(crate) exponential: bool,
}

/// Stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    /// Label honoured, nothing stained
    Draft,
    /// In use
    Active,
    /// Nothing new is stained
    Draining,
    /// Label ignored
    Closed,
    /// Instances are baseline
    Promoted,
}

impl State {
    /// The word of resources.
    pub(crate) fn word(self) -> &'static str {
        match self {
            State::Draft => "draft",
            State::Active => "active",
            State::Draining => "draining",
            State::Closed => "closed",
            State::Promoted => "promoted",
        }
    }
}

/// Fields that can be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Field {
    /// Share of users
    Percentage,
    /// Movement of the share
    Ramp,
    /// Rule
    Match,
    /// Order at the entry
    Priority,
    /// End of life
    Ttl,
    /// Conditions under which it drains by itself
    Guard,
}

impl Field {
    /// The name in resources.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Field::Percentage => "percentage",
            Field::Ramp => "ramp",
            Field::Match => "match",
            Field::Priority => "priority",
            Field::Ttl => "ttl",
            Field::Guard => "guard",
        }
    }
}

/// Arguments of `lane explain`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Explain {
    /// Method of the request
    pub(crate) method: String,
    /// URL of the request; its host names the first service
    pub(crate) url: Uri,
    /// Header of the request, `Name: value`; may be given several times
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    /// Service at which the request enters, NAME or NAME.NAMESPACE (default: the URL's host)
    #[arg(long, value_name = "SERVICE")]
    pub(crate) entry: Option<String>,
    /// Services after it, in order of calls (default: every one that shares a lane group with it)
    #[arg(long, value_name = "SERVICE", value_delimiter = ',')]
    pub(crate) chain: Vec<String>,
    /// Address of the caller
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) source_ip: Option<IpAddr>,
    /// Identity of the caller, spiffe://… (default: some workload of the mesh)
    #[arg(long, value_name = "IDENTITY", conflicts_with = "outside")]
    pub(crate) identity: Option<Identity>,
    /// The caller is outside the mesh: what it says of lanes is taken off, as a gateway does
    #[arg(long)]
    pub(crate) outside: bool,
    /// Zone of the caller, to see which zones serve
    #[arg(long, value_name = "ZONE")]
    pub(crate) zone: Option<String>,
    /// Format of the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Arguments of `lane probe`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Probe {
    /// GROUP/LANE
    pub(crate) lane: LaneRef,
    /// URL of the request; its host names the first service
    pub(crate) url: Uri,
    /// Through which proxy: outbound address of a sidecar, or address of a gateway that trusts labels
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) via: SocketAddr,
    /// Further header of the request, `Name: value`; may be given several times
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    /// Services that the request is known to visit; one that no proxy is seen to call is where the trace ends
    #[arg(long, value_name = "SERVICE", value_delimiter = ',')]
    pub(crate) expect: Vec<String>,
    /// Longest wait for the answer, and for reports of proxies
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub(crate) wait: Duration,
    /// Format of the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Arguments of `lane watch`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Watch {
    /// Follow this group alone
    pub(crate) group: Option<Group>,
    /// End after this time, for example 30s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// Format of a line where the result is no terminal
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

fn ramp(text: &str) -> Result<Ramp, String> {
    let expected = || "expected FROM:TO:TIME[:exponential], for example 5:50:2h".to_owned();
    let parts: Vec<&str> = text.split(':').collect();
    let (from, to, over, exponential) = match parts[..] {
        [from, to, over] => (from, to, over, false),
        [from, to, over, "exponential"] => (from, to, over, true),
        _ => return Err(expected()),
    };
    let percent = |text: &str| text.parse::<f64>().map_err(|_| expected());
    Ok(Ramp { from: percent(from)?, to: percent(to)?, over: over.to_owned(), exponential })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ramp_is_from_to_and_time() {
        let linear = Ramp { from: 5.0, to: 50.0, over: "2h".to_owned(), exponential: false };
        assert_eq!(ramp("5:50:2h"), Ok(linear.clone()));
        assert_eq!(ramp("5:50:2h:exponential"), Ok(Ramp { exponential: true, ..linear }));
        for refused in ["", "5:50", "a:b:1h", "5:50:1h:fast"] {
            assert!(ramp(refused).is_err(), "{refused}");
        }
    }
}
