//! Files of the state directory: made on the first start, read, and replaced whole.
//!
//! Several replicas may start on the same empty directory at once. Every file is written aside and then linked to its
//! name, which fails if another replica was first; whoever loses uses the winner's file. A crash at any point leaves
//! only whole files, from which the next start goes on.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Largest file that is read as key, certificate or bundle, bytes: room for some hundred certificates.
const FILE_MAX: u64 = 1 << 20;
/// Permissions of what only the controller may read.
pub const SECRET: u32 = 0o600;
/// Permissions of what is no secret.
pub const PUBLIC: u32 = 0o644;

/// Where keys and certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Root certificate and the key that signs issuers. Only with the built-in authority.
    pub root: Option<Pair>,
    /// Issuer certificate (with intermediates toward the root, if any) and the key that signs leaves.
    pub issuer: Pair,
    /// Trust anchors, PEM, one or more.
    pub trust_bundle: PathBuf,
    /// Key that signs workload tokens, PKCS#8 PEM, P-256.
    pub token_key: PathBuf,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Certificate, PEM.
    pub certificate: PathBuf,
    /// Key, PKCS#8 PEM.
    pub key: PathBuf,
}

impl Paths {
    /// The files of a state directory.
    pub fn in_directory(directory: &Path) -> Self {
        let pair = |name: &str| Pair {
            certificate: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}.key")),
        };
        Paths {
            root: Some(pair("root")),
            issuer: pair("issuer"),
            trust_bundle: directory.join("trust-bundle.pem"),
            token_key: directory.join("token.key"),
        }
    }
}

/// A file that cannot be used.
#[derive(Debug, Error)]
#[error("{}: cannot {action}", path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { action, path, source }
}

/// Makes a directory for secrets (0700) unless it is there.
///
/// # Errors
/// When it cannot be made.
pub fn directory(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make the directory", path))
}

/// Reads a file.
///
/// # Errors
/// When it cannot be read, or is larger than any file of its purpose.
pub fn read(path: &Path) -> Result<String, FileError> {
    let size = fs::metadata(path).map_err(failed("read", path))?.len();
    if size > FILE_MAX {
        let reason = io::Error::other(format!("{size} bytes; at most {FILE_MAX} are allowed"));
        return Err(failed("read", path)(reason));
    }
    fs::read_to_string(path).map_err(failed("read", path))
}

/// Writes a file unless there is one, and returns what is there then.
///
/// # Errors
/// When it can neither be written nor read.
pub fn create(path: &Path, content: &str, mode: u32) -> Result<String, FileError> {
    let aside = write_aside(path, content.as_bytes(), mode)?;
    let linked = fs::hard_link(&aside, path);
    fs::remove_file(&aside).map_err(failed("remove", &aside))?;
    match linked {
        Ok(()) => synchronise(path).map(|()| content.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(path),
        Err(error) => Err(failed("create", path)(error)),
    }
}

/// Replaces a file at once, or makes it.
///
/// # Errors
/// When it cannot be written; what was there stays.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let aside = write_aside(path, content, mode)?;
    fs::rename(&aside, path).map_err(failed("replace", path))?;
    synchronise(path)
}

/// Writes `content` beside `path` under a name of its own, synced to disk.
fn write_aside(path: &Path, content: &[u8], mode: u32) -> Result<PathBuf, FileError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.{}.{:016x}", std::process::id(), rand::random::<u64>()));
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(&aside).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    written.map_err(failed("write", &aside))?;
    Ok(aside)
}

/// Makes a new name in a directory survive a power failure.
fn synchronise(path: &Path) -> Result<(), FileError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(directory).and_then(|file| file.sync_all()).map_err(failed("sync", directory))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_first_to_create_a_file_wins_and_all_others_get_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        let seen: Vec<String> = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..8)
                .map(|number| {
                    let path = &path;
                    scope.spawn(move || create(path, &format!("content {number}"), SECRET).unwrap())
                })
                .collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        assert!(seen.iter().all(|content| *content == seen[0]), "{seen:?}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SECRET);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = read(Path::new("/nonexistent/issuer.pem")).unwrap_err();
        assert_eq!(error.to_string(), "/nonexistent/issuer.pem: cannot read");
    }
}
