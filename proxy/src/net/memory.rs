//! The memory budget of this process: how much it may ask for, and how much of that it has. One number for everything that
//! is kept, whoever keeps it (bytes of bodies, TLS, HTTP/2, tables), so that nothing can be forgotten in the count.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use mesh_core::shedding::Pressure;

use super::sys;

/// Bytes; 0 = no budget. Set once, before workers start.
static BUDGET: AtomicUsize = AtomicUsize::new(0);

/// From here on the process has this budget, bytes.
pub fn set_budget(bytes: usize) {
    BUDGET.store(bytes, Ordering::Relaxed);
}

/// The budget, bytes; 0 = none.
pub fn budget() -> usize {
    BUDGET.load(Ordering::Relaxed)
}

/// How much of the budget is used. Two loads: cheap enough for every read of a connection.
pub fn pressure() -> Pressure {
    Pressure::of(sys::asked_for(), budget())
}

/// Memory to which the control group limits this process, bytes; `None` where it does not. Both versions of control groups:
/// the group as this process sees it, and where its own group is not mounted as the root, below that.
pub fn limit_of_group() -> Option<usize> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    places(&groups).iter().filter_map(read_limit).min()
}

fn read_limit(file: impl AsRef<Path>) -> Option<usize> {
    fs::read_to_string(file).ok().and_then(|text| parse_limit(&text))
}

/// `max`, or the largest number of pages, are no limits.
fn parse_limit(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|limit| *limit < usize::MAX / 4)
}

/// Files that may say the limit, for the contents of `/proc/self/cgroup`.
fn places(groups: &str) -> Vec<String> {
    let mut places =
        vec!["/sys/fs/cgroup/memory.max".to_owned(), "/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned()];
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        if controllers.is_empty() {
            places.push(format!("/sys/fs/cgroup{path}/memory.max"));
        } else if controllers.split(',').any(|controller| controller == "memory") {
            places.push(format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"));
        }
    }
    places
}

/// Descriptors that this process may have (`/proc/self/limits`); `None` where the kernel does not say, or sets no limit.
pub fn descriptors() -> Option<usize> {
    parse_descriptors(&fs::read_to_string("/proc/self/limits").ok()?)
}

fn parse_descriptors(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_found_in_both_versions_of_control_groups() {
        let found = places("4:memory:/pod/a\n9:name=systemd:/\n0::/pod/a\n");
        assert!(found.contains(&"/sys/fs/cgroup/memory/pod/a/memory.limit_in_bytes".to_owned()));
        assert!(found.contains(&"/sys/fs/cgroup/pod/a/memory.max".to_owned()));
        assert_eq!(parse_limit("100663296\n"), Some(96 * 1024 * 1024));
        assert_eq!(parse_limit("max\n"), None);
        assert_eq!(parse_limit("9223372036854771712\n"), None);
    }

    #[test]
    fn soft_limit_of_descriptors_is_read() {
        let text = "Limit      Soft Limit   Hard Limit   Units\nMax open files            256         4096   files\n";
        assert_eq!(parse_descriptors(text), Some(256));
        assert!(descriptors().is_some());
    }
}
