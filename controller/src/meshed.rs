//! Who runs behind a sidecar, by address: out of the table of connected proxies, kept on disk, since a controller that
//! starts again must know it before the proxies have come back. Instances of registries get their identities from it.

use std::{collections::BTreeMap, io, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    compose::{Meshed, News, Said},
    demand::{Demand, Guard, Want},
    publish::proxies::Proxies,
    sign::files,
    sources::Change,
};

/// File of the state directory.
pub const FILE: &str = "workloads.json";
/// Proxies that come and go within this time are one change.
const TOGETHER: Duration = Duration::from_millis(50);

/// The task.
pub struct Watcher {
    /// Connected proxies.
    pub proxies: Arc<Proxies>,
    /// Registries are asked what else runs where a proxy is.
    pub demand: Arc<Demand>,
    /// What all sources say, with who is known.
    pub said: watch::Receiver<Arc<Said>>,
    /// To where one world is made of all sources.
    pub changes: mpsc::Sender<Change>,
    /// Where it is kept.
    pub file: PathBuf,
}

impl Watcher {
    /// Runs until `stopping`.
    pub async fn run(self, stopping: CancellationToken) {
        let mut changes = self.proxies.changes();
        let mut kept = self.read();
        let mut connected = kept.clone();
        let mut hosts: BTreeMap<IpAddr, Option<Guard>> = BTreeMap::new();
        loop {
            hosts.retain(|host, _| connected.contains_key(host));
            for host in connected.keys() {
                hosts.entry(*host).or_insert_with(|| self.demand.want(Want::Host(*host)));
            }
            if !self.tell(connected).await {
                return;
            }
            let known = self.said.borrow().meshed().clone();
            if known != kept {
                self.write(&known);
                kept = known;
            }
            tokio::select! {
                () = stopping.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
            sleep(TOGETHER).await;
            changes.borrow_and_update();
            connected = self.proxies.meshed();
        }
    }

    /// Tells who is connected, and waits until it is taken in; false when everything stops.
    async fn tell(&self, connected: BTreeMap<IpAddr, Meshed>) -> bool {
        let (done, taken) = oneshot::channel();
        let change = Change { news: News::Meshed(connected), done: Some(done) };
        self.changes.send(change).await.is_ok() && taken.await.is_ok()
    }

    fn read(&self) -> BTreeMap<IpAddr, Meshed> {
        let read = std::fs::read(&self.file).and_then(|text| serde_json::from_slice(&text).map_err(io::Error::other));
        match read {
            Ok(known) => known,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                warn!(file = %self.file.display(), %error, "workloads from before are not known");
                BTreeMap::new()
            }
        }
    }

    fn write(&self, known: &BTreeMap<IpAddr, Meshed>) {
        let text = serde_json::to_vec(known).expect("workloads are made of texts and numbers");
        if let Err(error) = files::replace(&self.file, &text, files::SECRET) {
            warn!(file = %self.file.display(), %error, "workloads cannot be kept for the next start");
        }
    }
}
