//! The last good state on disk, so that a restart needs neither controller nor CA: `snapshot.json` and `identity.json`.
//! Each is one header line (magic, version, SHA-256, length) and JSON; written beside, synchronised and renamed; 0600.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use mesh_core::{identity::Identity, snapshot::Snapshot};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::{
    io::AsyncWriteExt as _,
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

use crate::{
    cause::error_chain,
    identity::{Credentials, Held},
    net::tls::{KeyAndChain, leaf_identity},
    shared::Shared,
    telemetry::control::ControlCounters,
};

/// First word of the header line.
const MAGIC: &str = "lanemesh-state";
/// Changes with every change of the form that an older or newer proxy would misread.
const VERSION: u32 = 1;
/// Largest file that is read, bytes: as large as what the controller may send.
const FILE_MAX: u64 = 256 << 20;
/// Shortest time between two writes of a file.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
const SNAPSHOT_FILE: &str = "snapshot.json";
const IDENTITY_FILE: &str = "identity.json";

/// Why a file of the state directory is not used. Its name is the label of the metric.
#[derive(Debug, Error)]
pub enum Refused {
    /// It cannot be read.
    #[error("cannot be read")]
    Read(#[source] io::Error),
    /// No header line, or not ours.
    #[error("has no header of ours")]
    Header,
    /// Written by another version.
    #[error("is of version {0}, this proxy reads version {VERSION}")]
    Version(String),
    /// Shorter or longer than its header says.
    #[error("has {found} bytes of content, its header says {expected}")]
    Length {
        /// Bytes there.
        found: usize,
        /// Bytes promised.
        expected: usize,
    },
    /// Changed since it was written.
    #[error("does not match its checksum")]
    Checksum,
    /// Not the content that was expected.
    #[error("does not hold what it should")]
    Content(#[source] serde_json::Error),
    /// The identity in it is not usable.
    #[error("holds an identity that cannot be used: {0}")]
    Identity(&'static str),
    /// Larger than [`FILE_MAX`].
    #[error("has {0} bytes, at most {FILE_MAX} are read")]
    TooLarge(u64),
}

/// What was found at the start.
#[derive(Debug, Default)]
pub struct Kept {
    /// The snapshot, and when it was written.
    pub snapshot: Option<(Snapshot, SystemTime)>,
    /// The certificate, whether or not it is still valid.
    pub held: Option<Held>,
}

/// Reads what an earlier process left. What cannot be used is refused with a warning and counted.
pub fn load(directory: &Path, identity: &Identity, counters: &ControlCounters) -> Kept {
    let snapshot = read::<Snapshot>(&directory.join(SNAPSHOT_FILE));
    let held = read::<IdentityRecord>(&directory.join(IDENTITY_FILE))
        .map(|found| found.map(|(record, _)| record.held(identity)).transpose())
        .and_then(|held| held);
    Kept {
        snapshot: usable(directory, SNAPSHOT_FILE, snapshot, counters),
        held: usable(directory, IDENTITY_FILE, held, counters),
    }
}

fn usable<T>(directory: &Path, file: &str, found: Result<Option<T>, Refused>, counters: &ControlCounters) -> Option<T> {
    found.unwrap_or_else(|refused| {
        ControlCounters::add(&counters.state_refused);
        let path = directory.join(file);
        tracing::warn!(path = %path.display(), reason = error_chain(&refused), "kept state refused: starting without");
        None
    })
}

/// A file and when it was written; `None` where there is none.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<(T, SystemTime)>, Refused> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Refused::Read(error)),
    };
    if metadata.len() > FILE_MAX {
        return Err(Refused::TooLarge(metadata.len()));
    }
    let bytes = fs::read(path).map_err(Refused::Read)?;
    let value = serde_json::from_slice(content(&bytes)?).map_err(Refused::Content)?;
    Ok(Some((value, metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH))))
}

/// The content behind a header line that fits it.
fn content(bytes: &[u8]) -> Result<&[u8], Refused> {
    let end = bytes.iter().take(256).position(|byte| *byte == b'\n').ok_or(Refused::Header)?;
    let header = std::str::from_utf8(&bytes[..end]).map_err(|_| Refused::Header)?;
    let content = &bytes[end + 1..];
    let mut words = header.split(' ');
    let (magic, version) = (words.next(), words.next());
    if magic != Some(MAGIC) {
        return Err(Refused::Header);
    }
    let version = version.and_then(|word| word.strip_prefix('v')).ok_or(Refused::Header)?;
    if version != VERSION.to_string() {
        return Err(Refused::Version(version.to_owned()));
    }
    let (Some(checksum), Some(length), None) = (words.next(), words.next(), words.next()) else {
        return Err(Refused::Header);
    };
    let expected = length.parse().map_err(|_| Refused::Header)?;
    if content.len() != expected {
        return Err(Refused::Length { found: content.len(), expected });
    }
    if checksum == sum(content) { Ok(content) } else { Err(Refused::Checksum) }
}

fn sum(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let content = serde_json::to_vec(value).expect("state is made of strings, numbers and lists: always JSON");
    let mut bytes = format!("{MAGIC} v{VERSION} {} {}\n", sum(&content), content.len()).into_bytes();
    bytes.extend(content);
    bytes
}

/// Writes a file so that a reader, or a machine that loses power, finds the old or the new one.
async fn write(directory: &Path, file: &str, bytes: &[u8]) -> io::Result<()> {
    let path = directory.join(file);
    let beside = directory.join(format!(".{file}.new"));
    let mut options = tokio::fs::OpenOptions::new();
    let mut handle = options.write(true).create(true).truncate(true).mode(0o600).open(&beside).await?;
    handle.write_all(bytes).await?;
    handle.sync_all().await?;
    drop(handle);
    tokio::fs::rename(&beside, &path).await?;
    tokio::fs::File::open(directory).await?.sync_all().await
}

#[derive(Serialize, Deserialize)]
struct IdentityRecord {
    /// PKCS#8, base64.
    key: String,
    /// DER, base64; leaf first.
    chain: Vec<String>,
}

impl IdentityRecord {
    fn new(held: &Held) -> Self {
        let chain = held.own.chain.iter().map(|certificate| BASE64_STANDARD.encode(certificate)).collect();
        IdentityRecord { key: BASE64_STANDARD.encode(held.own.key.secret_der()), chain }
    }

    fn held(self, identity: &Identity) -> Result<Held, Refused> {
        let decode = |text: String| BASE64_STANDARD.decode(text).map_err(|_| Refused::Identity("not base64"));
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(decode(self.key)?));
        let chain: Vec<_> =
            self.chain.into_iter().map(|text| decode(text).map(CertificateDer::from)).collect::<Result<_, _>>()?;
        let leaf = chain.first().ok_or(Refused::Identity("no certificate"))?;
        let (found, validity) = leaf_identity(leaf, identity.trust_domain())
            .map_err(|_| Refused::Identity("the certificate proves nothing in this trust domain"))?;
        if found != *identity {
            return Err(Refused::Identity("the certificate is another workload's"));
        }
        let own = KeyAndChain { key, chain };
        Ok(Held { own, not_before: validity.not_before, not_after: validity.not_after })
    }
}

/// What is kept, and where.
pub struct Keeper {
    /// State directory.
    pub directory: PathBuf,
    /// Snapshots.
    pub shared: Arc<Shared>,
    /// Certificates.
    pub credentials: watch::Receiver<Arc<Credentials>>,
    /// Counted in.
    pub counters: Arc<ControlCounters>,
}

impl Keeper {
    /// Writes what changes until `stop` closes, and once more then.
    pub async fn run(mut self, mut stop: mpsc::Receiver<()>) {
        let mut revision = self.shared.revision.clone();
        let mut earliest = Instant::now();
        let mut written = (*revision.borrow_and_update(), None);
        loop {
            let stopped = tokio::select! {
                changed = revision.changed() => changed.is_err(),
                changed = self.credentials.changed() => changed.is_err(),
                _ = stop.recv() => true,
            };
            if !stopped {
                tokio::select! {
                    () = sleep_until(earliest) => {}
                    _ = stop.recv() => {}
                }
            }
            earliest = Instant::now() + WRITE_INTERVAL;
            self.write_changes(&mut written).await;
            if stopped || stop.is_closed() {
                return;
            }
        }
    }

    async fn write_changes(&mut self, written: &mut (u64, Option<SystemTime>)) {
        let snapshot = self.shared.load();
        let revision = snapshot.revision;
        // Thousands of instances are megabytes of text: not on the thread that hears the controller.
        let encoded =
            async { spawn_blocking(move || encode(snapshot.as_ref())).await.expect("encoding does not panic") };
        if revision != written.0 && self.write_file(SNAPSHOT_FILE, &encoded.await).await {
            written.0 = revision;
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            ControlCounters::set(&self.counters.snapshot_written, now.as_secs());
        }
        let held = self.credentials.borrow_and_update().held.clone();
        if let Some(held) = held.filter(|held| Some(held.not_after) != written.1)
            && self.write_file(IDENTITY_FILE, &encode(&IdentityRecord::new(&held))).await
        {
            written.1 = Some(held.not_after);
        }
    }

    async fn write_file(&self, file: &str, bytes: &[u8]) -> bool {
        match write(&self.directory, file, bytes).await {
            Ok(()) => {
                ControlCounters::add(&self.counters.state_written);
                true
            }
            Err(error) => {
                ControlCounters::add(&self.counters.state_failures);
                let path = self.directory.join(file);
                tracing::warn!(path = %path.display(), %error, "state cannot be kept");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use mesh_core::model::route::Target;
    use tempfile::TempDir;

    use super::*;

    fn identity() -> Identity {
        Identity::new("cluster.local", "demo", "a").unwrap()
    }

    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot { revision: 7, policy_revision: "r7".to_owned(), ..Snapshot::default() };
        snapshot.unknown.insert(Target::Authority("nowhere".into(), 80));
        snapshot.trust_anchors.push(vec![1, 2, 3].into());
        snapshot
    }

    fn held() -> Held {
        let issuer_key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = rcgen::Issuer::new(params, issuer_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![rcgen::SanType::URI(identity().to_string().try_into().unwrap())];
        let chain = vec![params.signed_by(&key, &issuer).unwrap().der().clone()];
        let (_, validity) = leaf_identity(&chain[0], "cluster.local").unwrap();
        let own = KeyAndChain { key: key.into(), chain };
        Held { own, not_before: validity.not_before, not_after: validity.not_after }
    }

    async fn kept() -> TempDir {
        let directory = TempDir::new().unwrap();
        write(directory.path(), SNAPSHOT_FILE, &encode(&snapshot())).await.unwrap();
        write(directory.path(), IDENTITY_FILE, &encode(&IdentityRecord::new(&held()))).await.unwrap();
        directory
    }

    #[tokio::test]
    async fn what_was_written_is_found_again_and_readable_by_the_owner_alone() {
        let directory = kept().await;
        let counters = ControlCounters::default();
        let found = load(directory.path(), &identity(), &counters);
        assert_eq!(found.snapshot.unwrap().0, snapshot());
        assert!(found.held.is_some());
        assert_eq!(ControlCounters::get(&counters.state_refused), 0);
        for file in [SNAPSHOT_FILE, IDENTITY_FILE] {
            let mode = fs::metadata(directory.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "no file is left beside");
    }

    #[test]
    fn state_of_a_proxy_that_knew_no_model_routes_is_read() {
        let mut older = serde_json::to_value(snapshot()).unwrap();
        older.as_object_mut().unwrap().remove("model_routes").expect("it is written");
        assert_eq!(serde_json::from_value::<Snapshot>(older).unwrap(), snapshot());
    }

    #[tokio::test]
    async fn nothing_kept_is_no_refusal() {
        let directory = TempDir::new().unwrap();
        let counters = ControlCounters::default();
        let found = load(directory.path(), &identity(), &counters);
        assert!(found.snapshot.is_none() && found.held.is_none());
        assert_eq!(ControlCounters::get(&counters.state_refused), 0);
    }

    #[tokio::test]
    async fn truncated_changed_or_foreign_files_are_refused_and_counted() {
        let good = encode(&snapshot());
        let header = good.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let mut flipped = good.clone();
        flipped[header + 20] ^= 1;
        let older = String::from_utf8(good.clone()).unwrap().replacen(" v1 ", " v0 ", 1).into_bytes();
        let cases: [(&str, Vec<u8>, &str); 7] = [
            ("truncated", good[..good.len() - 1].to_vec(), "its header says"),
            ("bit flipped", flipped, "checksum"),
            ("older version", older, "is of version 0"),
            ("empty", Vec::new(), "header"),
            ("header only", good[..header].to_vec(), "its header says"),
            ("longer", [good.as_slice(), b"x"].concat(), "its header says"),
            ("other content", encode(&"text"), "does not hold what it should"),
        ];
        let directory = kept().await;
        for (case, bytes, reason) in cases {
            let counters = ControlCounters::default();
            fs::write(directory.path().join(SNAPSHOT_FILE), &bytes).unwrap();
            let refused = read::<Snapshot>(&directory.path().join(SNAPSHOT_FILE)).unwrap_err();
            assert!(refused.to_string().contains(reason), "{case}: {refused}");
            let found = load(directory.path(), &identity(), &counters);
            assert!(found.snapshot.is_none() && found.held.is_some(), "{case}");
            assert_eq!(ControlCounters::get(&counters.state_refused), 1, "{case}");
        }
    }

    #[tokio::test]
    async fn identity_of_another_workload_is_refused() {
        let directory = kept().await;
        let counters = ControlCounters::default();
        let other = Identity::new("cluster.local", "demo", "b").unwrap();
        assert!(load(directory.path(), &other, &counters).held.is_none());
        assert_eq!(ControlCounters::get(&counters.state_refused), 1);
    }
}
