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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, parse::settings};

    const CONTROLLER: (&str, &str) = ("LANEMESH_CONTROLLER_ADDRESS", "c:1");
    const LISTEN: (&str, &str) = ("LANEMESH_TLS_LISTEN", "0.0.0.0:443");
    const CERTIFICATE: (&str, &str) = ("LANEMESH_TLS_CERTIFICATE_FILE", "/tls/tls.crt");
    const KEY: (&str, &str) = ("LANEMESH_TLS_KEY_FILE", "/tls/tls.key");

    fn read(role: Role, pairs: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        let owned = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        settings(role, owned).map_err(|error| error.problems)
    }

    #[test]
    fn tls_from_outside_is_a_gateways_and_needs_all_of_its_settings() {
        let whole = read(Role::Gateway, &[CONTROLLER, LISTEN, CERTIFICATE, KEY]).unwrap();
        assert_eq!(whole.gateway.tls.unwrap().listen.to_string(), "0.0.0.0:443");
        assert_eq!(read(Role::Gateway, &[CONTROLLER]).unwrap().gateway.tls, None);
        let part = read(Role::Gateway, &[CONTROLLER, LISTEN, KEY]).unwrap_err();
        assert_eq!(
            part,
            ["LANEMESH_TLS_CERTIFICATE_FILE is not set: expected it beside LANEMESH_TLS_LISTEN, LANEMESH_TLS_KEY_FILE"]
        );
        let sidecar = read(Role::Sidecar, &[CONTROLLER, LISTEN, CERTIFICATE, KEY]).unwrap_err();
        assert_eq!(sidecar.len(), 1);
        assert!(sidecar[0].ends_with("only a gateway takes TLS from outside"), "{sidecar:?}");
    }

    #[test]
    fn labels_from_outside_are_taken_off_and_nobody_in_front_is_trusted_unless_set() {
        let gateway = read(Role::Gateway, &[CONTROLLER]).unwrap().gateway;
        assert_eq!((gateway.outside_lanes, gateway.forwarded_hops), (OutsideLanes::Strip, 0));
        let set = [CONTROLLER, ("LANEMESH_OUTSIDE_LANES", "trust"), ("LANEMESH_FORWARDED_HOPS", "2")];
        let gateway = read(Role::Gateway, &set).unwrap().gateway;
        assert_eq!((gateway.outside_lanes, gateway.forwarded_hops), (OutsideLanes::Trust, 2));
        assert!(read(Role::Gateway, &[CONTROLLER, ("LANEMESH_FORWARDED_HOPS", "17")]).is_err());
    }
}
