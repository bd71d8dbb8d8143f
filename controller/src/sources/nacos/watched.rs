//! One service of Nacos that is followed: what is believed of it, and what of that was told.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_core::{
    discovery::nacos::{
        Guard, Host, Listing, Name,
        disk::Stored,
        guard::Taken,
        name::DEFAULT_GROUP,
        service::{self, NOTES_MAX},
    },
    resources::{mesh_service::Source as Kind, registered::Registered, services::AddressCalls},
};
use tracing::{debug, info};

use super::table::Shown;
use crate::compose::SourceName;

/// A service that is followed.
#[derive(Debug)]
pub(super) struct Watched {
    /// What is believed.
    pub(super) guard: Guard,
    /// `<name>.<namespace>` in the mesh.
    pub(super) label: String,
    /// The server tells us of changes over the connection of this moment.
    pub(super) subscribed: bool,
    /// A question is under way.
    pub(super) asking: bool,
    /// The server refused to answer; not asked again before.
    pub(super) not_before: Option<Instant>,
    /// A list came in this run.
    pub(super) listed: bool,
    /// When the last list came, or the service was taken up.
    pub(super) asked: Instant,
    /// What was told last.
    told: Option<Arc<Registered>>,
}

impl Watched {
    /// Nothing is known of it yet.
    pub(super) fn new(label: String, hold: Duration, now: Instant) -> Self {
        let guard = Guard::new(hold);
        Watched {
            guard,
            label,
            subscribed: false,
            asking: false,
            not_before: None,
            listed: false,
            asked: now,
            told: None,
        }
    }

    /// Known from an earlier run.
    pub(super) fn restored(stored: Stored, clusters: &[String], hold: Duration, now: Instant) -> (Name, Self) {
        let Stored { name, label, mut hosts } = stored;
        // Settings may have changed since.
        hosts.retain(|host| clusters.is_empty() || clusters.contains(&host.cluster));
        let guard = Guard::restored(hold, hosts);
        (name, Watched { guard, ..Watched::new(label, hold, now) })
    }

    /// Takes a list in, and says what was done with it.
    pub(super) fn take(&mut self, listing: Listing, since_start: Duration, now: Instant) -> Taken {
        let name = listing.name.clone();
        let taken = self.guard.take(listing, since_start);
        self.listed = true;
        self.asked = now;
        match taken {
            Taken::Believed { added: 0, removed: 0 } => debug!(service = %name, "list unchanged but for details"),
            Taken::Believed { .. } => info!(service = %name, outcome = %taken, "list"),
            Taken::Held { .. } | Taken::Old { .. } => info!(service = %name, outcome = %taken, "list not believed"),
        }
        taken
    }

    /// What to write to disk.
    pub(super) fn stored(&self, name: &Name) -> Stored {
        let hosts: Vec<Host> = self.guard.instances().map(|(_, host, _, _)| host.clone()).collect();
        Stored { name: name.clone(), label: self.label.clone(), hosts }
    }

    /// What there is to tell, if it is something else than before: `Some(None)` = no such service any more. `exists` says
    /// whether the registry lists the service; without instances it is one only then.
    pub(super) fn tell(
        &mut self,
        name: &Name,
        exists: bool,
        (address_calls, now): (AddressCalls, u64),
        source: &SourceName,
    ) -> (Option<Option<Arc<Registered>>>, Shown) {
        let (short, namespace) = self.label.split_once('.').unwrap_or((&self.label, ""));
        let service::Listed { service, rows, notes, notes_left_out } =
            service::register(name, (short, namespace), &self.guard, address_calls, now);
        if notes_left_out > 0 {
            debug!(service = %name, notes_left_out, "more than {NOTES_MAX} notes");
        }
        let is_there = exists || !self.guard.is_empty();
        let told = is_there.then(|| {
            let grouped = match name.group() {
                DEFAULT_GROUP => name.service().to_owned(),
                group => format!("{group}@@{}", name.service()),
            };
            Registered { source: Kind::Nacos, name: grouped, namespace: name.namespace().to_owned(), service }
        });
        let shown = Shown { source: source.clone(), label: self.label.clone(), rows, notes };
        if self.told.as_deref() == told.as_ref() {
            return (None, shown);
        }
        self.told = told.map(Arc::new);
        (Some(self.told.clone()), shown)
    }
}
