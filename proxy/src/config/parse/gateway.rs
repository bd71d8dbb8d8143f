//! Settings that only a gateway has: where and how it takes calls from outside the mesh.

use super::{ADDRESS, Reader, v};
use crate::config::{Gateway, OutsideLanes, OutsideTls, Role};

/// Most proxies in front of a gateway that may be trusted.
const FORWARDED_HOPS_MAX: usize = 16;

impl Reader {
    pub(super) fn gateway(&mut self, role: Role) -> Option<Gateway> {
        let outside_lanes = self.read(v::OUTSIDE_LANES, "strip or trust", |text| match text {
            "strip" => Some(OutsideLanes::Strip),
            "trust" => Some(OutsideLanes::Trust),
            _ => None,
        });
        let forwarded_hops = self.read(v::FORWARDED_HOPS, "a count from 0 to 16", |text| {
            text.parse().ok().filter(|count| *count <= FORWARDED_HOPS_MAX)
        });
        let tls = self.outside_tls(role);
        Some(Gateway { outside_lanes: outside_lanes?, forwarded_hops: forwarded_hops?, tls })
    }

    fn outside_tls(&mut self, role: Role) -> Option<OutsideTls> {
        let listen = self.typed(v::TLS_LISTEN, ADDRESS);
        let (certificate_file, key_file) = (self.path(v::TLS_CERTIFICATE_FILE), self.path(v::TLS_KEY_FILE));
        let parts = [
            (v::TLS_LISTEN, self.text(v::TLS_LISTEN).is_some()),
            (v::TLS_CERTIFICATE_FILE, certificate_file.is_some()),
            (v::TLS_KEY_FILE, key_file.is_some()),
        ];
        let set: Vec<&str> = parts.iter().filter(|(_, is_set)| *is_set).map(|(variable, _)| variable.name).collect();
        match (role, set.len()) {
            (_, 0) => {}
            (Role::Sidecar, _) => {
                self.problems.push(format!("{}: only a gateway takes TLS from outside", set.join(", ")));
            }
            (Role::Gateway, _) => {
                for (variable, _) in parts.iter().filter(|(_, is_set)| !is_set) {
                    self.problems.push(format!("{} is not set: expected it beside {}", variable.name, set.join(", ")));
                }
            }
        }
        Some(OutsideTls { listen: listen?, certificate_file: certificate_file?, key_file: key_file? })
    }
}
