//! The rules for iptables, where nftables is missing: two chains of our own in the table `nat`, for IPv4 and IPv6.

use std::fmt::Write as _;

use super::{Failure, Rules, Step, Version};

const INBOUND: &str = "LANEMESH_INBOUND";
const OUTBOUND: &str = "LANEMESH_OUTBOUND";
/// The multiport match takes this many ports at most (iptables-extensions(8)).
const PORTS_PER_RULE: usize = 15;

pub(super) fn steps(rules: &Rules) -> Vec<Step> {
    let families = [(Version::V4, "iptables-restore"), (Version::V6, "ip6tables-restore")];
    families.into_iter().flat_map(|(version, program)| of_family(rules, version, program)).collect()
}

fn of_family(rules: &Rules, version: Version, program: &'static str) -> Vec<Step> {
    let step = |input: String, failure| Step { program, arguments: &["--noflush"], input, failure };
    // Declared and emptied first, so that the jumps can be taken away whether or not they are there.
    let clear = format!("*nat\n:{INBOUND} - [0:0]\n:{OUTBOUND} - [0:0]\nCOMMIT\n");
    let unhook = |hook, chain| format!("*nat\n-D {hook} -p tcp -j {chain}\nCOMMIT\n");
    let mut steps = vec![
        step(clear, Failure::Fatal),
        step(unhook("PREROUTING", INBOUND), Failure::Expected),
        step(unhook("OUTPUT", OUTBOUND), Failure::Expected),
    ];
    if rules.remove {
        steps.push(step(format!("*nat\n-X {INBOUND}\n-X {OUTBOUND}\nCOMMIT\n"), Failure::Fatal));
    } else {
        steps.push(step(written(rules, version), Failure::Fatal));
    }
    steps
}

fn written(rules: &Rules, version: Version) -> String {
    let mut out = format!("*nat\n:{INBOUND} - [0:0]\n:{OUTBOUND} - [0:0]\n");
    let mut rule = |chain: &str, text: String| writeln!(out, "-A {chain} {text}").expect("a String takes any text");
    rule(INBOUND, "-i lo -j RETURN".to_owned());
    for ports in rules.inbound_exceptions().chunks(PORTS_PER_RULE) {
        rule(INBOUND, format!("-p tcp -m multiport --dports {} -j RETURN", list(ports)));
    }
    rule(INBOUND, format!("-p tcp -j REDIRECT --to-ports {}", rules.inbound_port));
    rule(OUTBOUND, "-o lo -j RETURN".to_owned());
    if let Some(uid) = rules.proxy_uid {
        rule(OUTBOUND, format!("-m owner --uid-owner {uid} -j RETURN"));
    }
    for ports in rules.outbound_exceptions().chunks(PORTS_PER_RULE) {
        rule(OUTBOUND, format!("-p tcp -m multiport --dports {} -j RETURN", list(ports)));
    }
    for network in rules.networks(version) {
        rule(OUTBOUND, format!("-d {network} -j RETURN"));
    }
    rule(OUTBOUND, format!("-p tcp -j REDIRECT --to-ports {}", rules.outbound_port));
    rule("PREROUTING", format!("-p tcp -j {INBOUND}"));
    rule("OUTPUT", format!("-p tcp -j {OUTBOUND}"));
    out.push_str("COMMIT\n");
    out
}

fn list(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    ports.join(",")
}
