//! What one worker keeps of servers that model routes name: what they showed, their keys, addresses and TLS.

pub mod credentials;
mod names;
mod room;
mod trust;
mod warm;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use mesh_core::{
    model::model_route::{ModelTarget, UsageInStreams},
    model_route::{estimate::Estimates, standing::Standings},
};
use tokio::time::Instant;

pub use self::{
    credentials::{Credentials, Key, NoCredential},
    names::{Names, NoAddress},
    room::Room,
    trust::{NoTrust, Offer, Roots, said},
    warm::Warm,
};
use crate::telemetry::models::{Learned, ModelMetrics};

/// How often what changed is shown.
const SHOWN_EVERY: Duration = Duration::from_secs(1);

/// State of one worker about providers.
#[derive(Debug)]
pub struct Providers {
    /// Who rests, who is slow, how much may be repeated.
    pub standings: RefCell<Standings>,
    /// Keys.
    pub credentials: Credentials,
    /// Targets that refuse to be asked for usage in streams, by route and name.
    pub without_usage: RefCell<BTreeMap<String, BTreeSet<String>>>,
    /// Tokens from bytes, as learned by model.
    pub estimates: RefCell<Estimates>,
    /// Addresses of hosts.
    pub names: Names,
    /// Targets to which connections are kept ready.
    pub warm: Warm,
    /// TLS by whom is trusted.
    pub roots: Roots,
    /// When standings were shown last, and which.
    shown: Cell<(Duration, u64)>,
}

impl Providers {
    /// How usage is had from streams of a target.
    pub fn usage_of(&self, route: &str, target: &ModelTarget) -> UsageInStreams {
        match target.capabilities.usage {
            UsageInStreams::Auto => {
                let known = self.without_usage.borrow();
                let refuses = known.get(route).is_some_and(|targets| targets.contains(&target.name));
                if refuses { UsageInStreams::Never } else { UsageInStreams::Auto }
            }
            known @ (UsageInStreams::Never | UsageInStreams::Continuous) => known,
        }
    }

    /// A target refused to be asked for usage; false where that was known already.
    pub fn refuse_usage(&self, route: &str, target: &ModelTarget) -> bool {
        self.without_usage.borrow_mut().entry(route.to_owned()).or_default().insert(target.name.clone())
    }

    /// Nothing is known yet; secrets are looked for in this folder.
    pub fn new(secrets: PathBuf) -> Providers {
        Providers {
            standings: RefCell::default(),
            credentials: Credentials::new(secrets),
            without_usage: RefCell::default(),
            estimates: RefCell::default(),
            names: Names::default(),
            warm: Warm::default(),
            roots: Roots::default(),
            shown: Cell::default(),
        }
    }

    /// Shows the admin page what changed, once a second at most. Cheap, called often.
    pub fn tick(&self, metrics: &ModelMetrics, now: Duration, started: Instant) {
        let (at, shown) = self.shown.get();
        let standings = self.standings.borrow();
        if standings.changes() == shown || now.saturating_sub(at) < SHOWN_EVERY {
            return;
        }
        self.shown.set((now, standings.changes()));
        metrics.show(Learned { standings: standings.clone(), started });
    }
}

#[cfg(test)]
mod tests {
    use mesh_core::model::model_route::Credential;

    use super::*;

    #[test]
    fn standings_are_shown_once_a_second_and_only_when_they_changed() {
        let (providers, metrics, started) = (Providers::new(PathBuf::new()), ModelMetrics::default(), Instant::now());
        let shown = |milliseconds| {
            providers.tick(&metrics, Duration::from_millis(milliseconds), started);
            metrics.learned().map(|learned| learned.standings.changes())
        };
        let change = || providers.standings.borrow_mut().renewed(&Credential::File("key".to_owned()));
        assert_eq!(shown(1_000), None);
        change();
        assert_eq!(shown(2_000), Some(1));
        change();
        assert_eq!((shown(2_900), shown(3_000)), (Some(1), Some(2)));
        let before = metrics.learned();
        assert_eq!(shown(9_000), Some(2));
        assert!(before.zip(metrics.learned()).is_some_and(|(one, other)| std::sync::Arc::ptr_eq(&one, &other)));
    }
}
