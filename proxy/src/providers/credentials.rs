//! Keys of providers, read from files of the sidecar and read again when these change. Never logged, never told to the
//! application.

use std::{
    cell::RefCell,
    fmt,
    path::PathBuf,
    rc::Rc,
    time::{Duration, SystemTime},
};

use ahash::AHashMap;
use mesh_core::model::model_route::Credential;
use thiserror::Error;

/// How often a file is looked at while it is used.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Longest key, bytes.
const LENGTH_MAX: u64 = 16 * 1024;

/// A key; shows itself to nobody but the provider.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Rc<str>);

impl Key {
    /// Its text, for the field that carries it.
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// Why there is no key.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NoCredential {
    /// The file cannot be read.
    #[error("cannot read the credential {path}: {why}", path = .path.display())]
    Unreadable {
        /// File.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// The file holds nothing that can be a key.
    #[error("the credential {path} must be one line of 1 to 16384 printable characters", path = .0.display())]
    Malformed(PathBuf),
}

#[derive(Debug)]
struct Known {
    checked: Duration,
    modified: Option<SystemTime>,
    key: Result<Key, NoCredential>,
}

/// Whether a key is another one than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// It is.
    Yes,
    /// It is the same, or the first.
    No,
}

/// Keys of one worker.
#[derive(Debug)]
pub struct Credentials {
    secrets: PathBuf,
    known: RefCell<AHashMap<Credential, Known>>,
}

impl Credentials {
    /// Secrets are the files `<secrets>/<name>/<key>`.
    pub fn new(secrets: PathBuf) -> Credentials {
        Credentials { secrets, known: RefCell::default() }
    }

    /// The key as it is now (looked at once a second), and whether it was replaced.
    ///
    /// # Errors
    /// When its file cannot be read or holds none; the last good one does not outlive its file.
    pub fn key(&self, credential: &Credential, now: Duration) -> Result<(Key, Renewed), NoCredential> {
        let mut known = self.known.borrow_mut();
        let before = known.get_mut(credential);
        if let Some(fresh) = before.as_ref().filter(|known| now.saturating_sub(known.checked) < CHECK_INTERVAL) {
            return fresh.key.clone().map(|key| (key, Renewed::No));
        }
        let path = self.path(credential);
        let modified = std::fs::metadata(&path).and_then(|metadata| metadata.modified()).ok();
        if let Some(same) = before
            && same.key.is_ok()
            && modified.is_some()
            && same.modified == modified
        {
            same.checked = now;
            return same.key.clone().map(|key| (key, Renewed::No));
        }
        let key = read(path);
        let renewed = match known.get(credential) {
            Some(before) if before.key != key => Renewed::Yes,
            Some(_) | None => Renewed::No,
        };
        known.insert(credential.clone(), Known { checked: now, modified, key: key.clone() });
        key.map(|key| (key, renewed))
    }

    fn path(&self, credential: &Credential) -> PathBuf {
        match credential {
            Credential::File(path) => PathBuf::from(path),
            Credential::Secret { name, key } => self.secrets.join(name).join(key),
        }
    }
}

fn read(path: PathBuf) -> Result<Key, NoCredential> {
    let unreadable = |error: std::io::Error| NoCredential::Unreadable { path: path.clone(), why: error.to_string() };
    if std::fs::metadata(&path).map_err(unreadable)?.len() > LENGTH_MAX {
        return Err(NoCredential::Malformed(path));
    }
    let text = std::fs::read_to_string(&path).map_err(unreadable)?;
    let key = text.trim();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(NoCredential::Malformed(path));
    }
    Ok(Key(key.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_file_is_another_key_after_a_second_and_a_missing_one_is_said() {
        let folder = tempfile::TempDir::new().unwrap();
        let credentials = Credentials::new(folder.path().to_owned());
        let secret = Credential::Secret { name: "openai".to_owned(), key: "api-key".to_owned() };
        let at = Duration::from_millis;
        assert!(matches!(credentials.key(&secret, at(0)), Err(NoCredential::Unreadable { .. })));
        std::fs::create_dir(folder.path().join("openai")).unwrap();
        let file = folder.path().join("openai/api-key");
        std::fs::write(&file, "sk-1\n").unwrap();
        let (key, renewed) = credentials.key(&secret, at(1_000)).unwrap();
        assert_eq!((key.secret(), renewed), ("sk-1", Renewed::Yes));
        // As Kubernetes replaces a mounted secret.
        std::fs::write(folder.path().join("new"), "sk-2").unwrap();
        std::fs::File::open(folder.path().join("new")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        std::fs::rename(folder.path().join("new"), &file).unwrap();
        assert_eq!(credentials.key(&secret, at(1_900)).unwrap().0.secret(), "sk-1");
        let (key, renewed) = credentials.key(&secret, at(2_000)).unwrap();
        assert_eq!((key.secret(), renewed), ("sk-2", Renewed::Yes));
        assert_eq!(format!("{key:?}"), "Key");
        std::fs::write(&file, "two words").unwrap();
        assert_eq!(credentials.key(&secret, at(3_000)), Err(NoCredential::Malformed(file)));
    }
}
