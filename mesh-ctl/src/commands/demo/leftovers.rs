//! What a demo leaves when it and its guard are killed, and how the next one clears it away.
//!
//! The record names each process with its start time, so that an id which was given to another process since is left
//! alone. A block whose record is locked belongs to a living demo and is not touched.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Seek as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, getuid, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

/// Demos that may run at the same time on one machine; each has a block of addresses of its own.
pub(crate) const BLOCKS: u8 = 8;
/// Longest wait for a killed process to be gone.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// A line of the record.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Record {
    /// A process.
    Process {
        /// Its id.
        pid: u32,
        /// Its start, clock ticks since boot; with the id it names one process for ever.
        started: u64,
        /// What it is.
        name: String,
    },
    /// A network namespace.
    Namespace(String),
}

impl Record {
    /// A process that was just started and has not been waited for.
    ///
    /// # Errors
    /// When `/proc` does not tell its start.
    pub(crate) fn process(pid: u32, name: &str) -> io::Result<Record> {
        Ok(Record::Process { pid, started: start_of(pid)?, name: name.to_owned() })
    }

    /// This process.
    pub(crate) fn of_this_process(name: &str) -> Record {
        let pid = std::process::id();
        // Without /proc the record is of no use, and the start 0 matches no process.
        Record::Process { pid, started: start_of(pid).unwrap_or(0), name: name.to_owned() }
    }
}

/// Start of a process, clock ticks since boot (field 22 of /proc/PID/stat, proc(5)).
fn start_of(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything; fields are counted from its end.
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat has no start time"))
}

/// A block that belongs to this demo: folder, record, lock.
pub(crate) struct Block {
    /// 0 to [`BLOCKS`] - 1; part of addresses and names.
    pub(crate) number: u8,
    /// Folder of the demo's files, empty at the start.
    pub(crate) folder: PathBuf,
    /// The record, locked; the guard's standard output.
    pub(crate) record: File,
}

/// Clears every block that nobody holds and gives the first free one that `usable` accepts.
///
/// # Errors
/// When a folder cannot be made, or every block is in use.
pub(crate) async fn claim(usable: impl Fn(u8) -> bool) -> anyhow::Result<(Block, Vec<String>)> {
    let base = base_folder()?;
    let mut cleared = Vec::new();
    let mut claimed = None;
    for number in 0..BLOCKS {
        let path = base.join(format!("{number}.record"));
        let record = File::options().create(true).read(true).append(true).mode(0o600).open(&path);
        let record = record.with_context(|| format!("cannot open {}", path.display()))?;
        match record.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => continue,
            Err(TryLockError::Error(error)) => bail!("cannot lock {}: {error}", path.display()),
        }
        let folder = base.join(number.to_string());
        cleared.extend(clear(&record, number, &folder).await?);
        if claimed.is_none() && usable(number) {
            make_folder(&folder, 0o711)?;
            claimed = Some(Block { number, folder, record });
        }
    }
    let block = claimed.with_context(|| {
        format!("all {BLOCKS} blocks of addresses are in use; end another demo (records in {})", base.display())
    })?;
    Ok((block, cleared))
}

/// Ends and removes what the record names. Gives the names of what was still there.
async fn clear(mut record: &File, number: u8, folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut text = String::new();
    record.read_to_string(&mut text).context("cannot read the record of an earlier demo")?;
    let mut found = Vec::new();
    // A line cut off by a crash names nothing that was used.
    for record in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
        match record {
            Record::Process { pid, started, name } => {
                if kill(pid, started)? {
                    found.push(format!("process {pid} ({name})"));
                }
            }
            Record::Namespace(_) => {}
        }
    }
    for namespace in namespaces_of(number) {
        delete_namespace(&namespace).await;
        found.push(format!("namespace {namespace}"));
    }
    record.set_len(0).context("cannot empty the record of an earlier demo")?;
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(found),
    }
}

/// Removes everything of a block whose demo has ended.
///
/// # Errors
/// When something does not go away.
pub(crate) async fn remove(block: &Block) -> anyhow::Result<()> {
    (&block.record).rewind()?;
    clear(&block.record, block.number, &block.folder).await.map(drop)
}

/// Processes and namespaces of a block that are still there.
pub(crate) fn remaining(mut record: &File, number: u8) -> anyhow::Result<Vec<String>> {
    let mut text = String::new();
    record.rewind()?;
    record.read_to_string(&mut text)?;
    let mut found: Vec<String> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter_map(|record| match record {
            Record::Process { pid, started, name } => {
                start_of(pid).is_ok_and(|start| start == started).then(|| format!("process {pid} ({name})"))
            }
            Record::Namespace(_) => None,
        })
        .collect();
    found.extend(namespaces_of(number).into_iter().map(|name| format!("namespace {name}")));
    Ok(found)
}

/// Kills the process that began at `started`, and waits until it is gone. False when it was gone already.
fn kill(pid: u32, started: u64) -> anyhow::Result<bool> {
    let Some(id) = Pid::from_raw(pid.cast_signed()) else { return Ok(false) };
    // The descriptor is taken before the start is compared: what is signalled is what was compared.
    let Ok(process) = pidfd_open(id, PidfdFlags::empty()) else { return Ok(false) };
    if start_of(pid).ok() != Some(started) {
        return Ok(false);
    }
    pidfd_send_signal(&process, Signal::KILL)
        .with_context(|| format!("cannot end process {pid} of an earlier demo; end it by hand"))?;
    let wait = Timespec { tv_sec: KILL_WAIT.as_secs().cast_signed(), tv_nsec: 0 };
    // Readable once it has ended (pidfd_open(2)).
    poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&wait)).context("cannot wait for a process")?;
    Ok(true)
}

/// Name of a namespace of a block.
pub(crate) fn namespace(number: u8, pod: &str) -> String {
    format!("lmdemo-{number}-{pod}")
}

fn namespaces_of(number: u8) -> Vec<String> {
    let prefix = namespace(number, "");
    // No folder: no namespace was ever named on this machine.
    let Ok(entries) = fs::read_dir("/run/netns") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(&prefix))
        .collect()
}

/// Deletes a namespace, with the interfaces and rules in it. One that is not there is no failure.
pub(crate) async fn delete_namespace(name: &str) {
    // What is left is found by `remaining` and by the next start.
    let _ = Command::new("ip").args(["netns", "delete", name]).output().await;
}

/// Folder of all demos of this user. In a folder that others may write to, it must be ours alone.
fn base_folder() -> anyhow::Result<PathBuf> {
    let parent = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let user = getuid().as_raw();
    let folder = parent.join(format!("lanemesh-demo-{user}"));
    make_folder(&folder, 0o711)?;
    let found = fs::symlink_metadata(&folder).with_context(|| format!("cannot look at {}", folder.display()))?;
    if !found.is_dir() || found.uid() != user || found.mode() & 0o022 != 0 {
        bail!("{} must be a folder that only user {user} can write to; remove it and start again", folder.display());
    }
    Ok(folder)
}

/// Makes a folder unless it is there.
///
/// # Errors
/// Names the folder.
pub(crate) fn make_folder(folder: &Path, mode: u32) -> anyhow::Result<()> {
    match fs::DirBuilder::new().mode(mode).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot make the folder {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command as Process, Stdio};

    use super::*;

    #[test]
    fn recorded_process_is_killed_and_one_with_another_start_is_left_alone() {
        let mut child = Process::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let Record::Process { pid, started, .. } = Record::process(child.id(), "sleep").unwrap() else {
            panic!("a process is recorded as a process")
        };
        assert!(!kill(pid, started + 1).unwrap());
        assert!(child.try_wait().unwrap().is_none());
        assert!(kill(pid, started).unwrap());
        assert!(!child.wait().unwrap().success());
        assert!(!kill(pid, started).unwrap());
    }

    #[test]
    fn record_survives_the_way_through_its_file() {
        for record in [Record::of_this_process("x"), Record::Namespace("lmdemo-0-a".to_owned())] {
            let line = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
        }
    }
}
