//! The rules for nftables: one table of our own, replaced in one transaction.

use std::fmt::{Display, Write as _};

use super::{Failure, Rules, Step, Version};

pub(super) fn steps(rules: &Rules) -> Vec<Step> {
    // Adding before deleting makes the deletion succeed where there was none.
    let mut input = String::from("add table inet lanemesh\ndelete table inet lanemesh\n");
    if !rules.remove {
        write(&mut input, rules).expect("a String takes any text");
    }
    vec![Step { program: "nft", arguments: &["-f", "-"], input, failure: Failure::Fatal }]
}

fn write(out: &mut String, rules: &Rules) -> std::fmt::Result {
    writeln!(out, "table inet lanemesh {{")?;
    writeln!(out, "  chain inbound {{")?;
    writeln!(out, "    type nat hook prerouting priority dstnat; policy accept;")?;
    writeln!(out, "    iifname \"lo\" return")?;
    writeln!(out, "    meta l4proto != tcp return")?;
    writeln!(out, "    tcp dport {} return", set(&rules.inbound_exceptions()))?;
    writeln!(out, "    meta l4proto tcp redirect to :{}", rules.inbound_port)?;
    writeln!(out, "  }}")?;
    writeln!(out, "  chain outbound {{")?;
    writeln!(out, "    type nat hook output priority -100; policy accept;")?;
    writeln!(out, "    meta l4proto != tcp return")?;
    writeln!(out, "    oifname \"lo\" return")?;
    if let Some(uid) = rules.proxy_uid {
        writeln!(out, "    meta skuid {uid} return")?;
    }
    let ports = rules.outbound_exceptions();
    if !ports.is_empty() {
        writeln!(out, "    tcp dport {} return", set(&ports))?;
    }
    for (version, family) in [(Version::V4, "ip"), (Version::V6, "ip6")] {
        for network in rules.networks(version) {
            writeln!(out, "    {family} daddr {network} return")?;
        }
    }
    writeln!(out, "    meta l4proto tcp redirect to :{}", rules.outbound_port)?;
    writeln!(out, "  }}\n}}")
}

fn set(values: &[impl Display]) -> String {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    format!("{{ {} }}", values.join(", "))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        rules: Rules,
    }

    fn input(arguments: &str) -> String {
        let rules = Command::parse_from(["redirect"].into_iter().chain(arguments.split_whitespace())).rules;
        steps(&rules).remove(0).input
    }

    #[test]
    fn own_ports_own_user_and_loopback_are_never_captured() {
        let input = input("--proxy-uid 2102 --skip-inbound-ports 9100,22 --skip-outbound-networks 10.1.2.3/8,fd00::/8");
        for line in [
            "tcp dport { 22, 4140, 4143, 4191, 9100 } return",
            "meta skuid 2102 return",
            "oifname \"lo\" return",
            "ip daddr 10.0.0.0/8 return",
            "ip6 daddr fd00::/8 return",
            "redirect to :4143",
            "redirect to :4140",
        ] {
            assert!(input.contains(line), "{line} is not in:\n{input}");
        }
    }

    #[test]
    fn removing_takes_the_table_away_and_adds_nothing() {
        assert_eq!(input("--remove"), "add table inet lanemesh\ndelete table inet lanemesh\n");
    }
}
