//! Settings of what the process may take of memory and connections.

use super::{Reader, v};
use crate::config::Bounds;

/// Most connections that anybody may ask for.
const CONNECTIONS_MAX: usize = 1_048_576;

impl Reader {
    pub(super) fn bounds(&mut self) -> Option<Bounds> {
        let is_set = self.text(v::MEMORY_BUDGET).is_some();
        let memory = self.number(v::MEMORY_BUDGET, "bytes", 16_777_216..=1_099_511_627_776);
        let connections = self.number(v::CONNECTIONS, "a count", 16..=CONNECTIONS_MAX);
        let connections_per_peer = self.number(v::CONNECTIONS_PER_PEER, "a count", 1..=CONNECTIONS_MAX);
        (memory.is_some() || !is_set).then_some(Bounds {
            memory,
            connections: connections?,
            connections_per_peer: connections_per_peer?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Role, parse::settings};

    fn read(pairs: &[(&str, &str)]) -> Result<Bounds, Vec<String>> {
        let pairs = [("LANEMESH_CONTROLLER_ADDRESS", "c:1")].iter().chain(pairs);
        let owned = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        settings(Role::Sidecar, owned).map(|settings| settings.bounds).map_err(|error| error.problems)
    }

    #[test]
    fn bounds_are_read_and_what_is_wrong_is_named() {
        let bounds = Bounds { memory: None, connections: 16_384, connections_per_peer: 4_096 };
        assert_eq!(read(&[]), Ok(bounds));
        assert_eq!(
            read(&[("LANEMESH_MEMORY_BUDGET", "67108864"), ("LANEMESH_CONNECTIONS", "100")]),
            Ok(Bounds { memory: Some(67_108_864), connections: 100, ..bounds })
        );
        let problems = read(&[("LANEMESH_MEMORY_BUDGET", "1"), ("LANEMESH_CONNECTIONS_PER_PEER", "0")]).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}
