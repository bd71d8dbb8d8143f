//! Names of levels in paths of the Destination API, for proxies that cannot choose a level themselves: a path
//! `<subset>.lanes.<service path>` means the instances of one level alone.

use super::Level;
use crate::model::service::ServiceKey;

/// Label between subset and service.
const LANES: &str = ".lanes.";
/// Subset of baseline. No lane is called so: theirs end in a hash.
const BASELINE: &str = "baseline";
/// Characters of a lane's name that a subset shows.
const SHOWN_MAX: usize = 40;

/// The label that names a level: legible, and a DNS label whatever the lane is called.
pub fn subset(level: &Level) -> String {
    let lane = match level {
        Level::Baseline => return BASELINE.to_owned(),
        Level::Lane(lane) => lane,
    };
    let legible = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let shown: String = lane.lane.as_str().chars().take(SHOWN_MAX).map(legible).collect();
    // FNV-1a; 48 of its bits tell the lanes of a mesh apart.
    let hash = lane
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("l{}-{:012x}", shown.trim_end_matches('-'), hash & 0xffff_ffff_ffff)
}

/// Path of the instances of one level of a service.
pub fn path(service: &ServiceKey, level: &Level) -> ServiceKey {
    ServiceKey(format!("{}{LANES}{service}", subset(level)).into())
}

/// Subset and path of the service, where a path means one level alone.
pub fn split(path: &str) -> Option<(&str, &str)> {
    let (subset, service) = path.split_once(LANES)?;
    (!subset.is_empty() && !subset.contains('.')).then_some((subset, service))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_has_a_path_of_its_own_that_is_a_host_name() {
        let key = ServiceKey("b.demo.svc.cluster.local:80".into());
        let lanes = ["shop/canary", "shop/Canary", "pay/canary", "shop/dev.alice", "shop/_", "shop/-", "shop/..."];
        let long = format!("shop/{}", "x".repeat(63));
        let mut seen = std::collections::BTreeSet::new();
        for lane in lanes.iter().copied().chain([long.as_str()]) {
            let path = path(&key, &Level::Lane(lane.parse().unwrap()));
            let (subset, service) = split(path.as_str()).unwrap();
            assert_eq!(service, key.as_str());
            assert!(subset.len() <= 63 && subset.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{subset}");
            assert!(seen.insert(subset.to_owned()), "{lane}");
        }
        assert_eq!(path(&key, &Level::Baseline).as_str(), "baseline.lanes.b.demo.svc.cluster.local:80");
        for whole in [key.as_str(), "lanes.demo:80", ".lanes.b.demo:80", "a.b.lanes.c:80"] {
            assert_eq!(split(whole), None, "{whole}");
        }
    }
}
