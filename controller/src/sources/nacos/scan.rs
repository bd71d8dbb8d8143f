//! Looks through the whole registry, slowly: names of all services, and which instances stand at which address, so that
//! calls to an address are recognised although nobody subscribed to the service. Keeps nothing else of it.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use mesh_core::discovery::nacos::{Book, Listing, Name, book::Learned};
use tokio::task::JoinSet;

use super::source::{Outcome, Source};

/// How often names are listed.
const NAMES_INTERVAL: Duration = Duration::from_secs(10);
/// Services that are looked at at the same time.
const AT_ONCE: usize = 16;
/// How long a round through all services takes at most.
const ROUND: Duration = Duration::from_secs(300);
/// Services that are looked at again each second, at least.
const AGAIN_PER_SECOND: usize = 20;

/// Where the scan is.
#[derive(Debug)]
pub(super) struct Scan {
    /// Services that were never looked at.
    fresh: BTreeSet<Name>,
    /// Services that were, in the order in which they are looked at again.
    known: VecDeque<Name>,
    /// Of those that were never looked at, the ones that are asked for now.
    fresh_under_way: BTreeSet<Name>,
    /// Of those that are looked at again.
    under_way: BTreeSet<Name>,
    names_under_way: bool,
    /// Names were listed since the start.
    listed: bool,
    next_names: Instant,
    /// Looks that may be taken again now.
    budget: f64,
    filled: Instant,
}

impl Default for Scan {
    fn default() -> Self {
        let now = Instant::now();
        Scan {
            fresh: BTreeSet::new(),
            known: VecDeque::new(),
            fresh_under_way: BTreeSet::new(),
            under_way: BTreeSet::new(),
            names_under_way: false,
            listed: false,
            next_names: now,
            budget: 0.0,
            filled: now,
        }
    }
}

impl Scan {
    /// Every service was looked at once.
    pub(super) fn is_complete(&self) -> bool {
        self.listed && self.fresh.is_empty() && self.fresh_under_way.is_empty()
    }

    /// The connection is new: what was under way is lost.
    pub(super) fn again(&mut self) {
        self.names_under_way = false;
        self.next_names = Instant::now();
        self.fresh.append(&mut self.fresh_under_way);
        self.known.extend(std::mem::take(&mut self.under_way));
    }

    /// Names could not be listed.
    pub(super) fn failed(&mut self) {
        self.names_under_way = false;
        self.next_names = Instant::now() + NAMES_INTERVAL;
    }

    /// All names; what is to be said of those that are new.
    pub(super) fn names(&mut self, book: &mut Book, names: Vec<Name>) -> Vec<String> {
        self.failed();
        self.listed = true;
        let known: BTreeSet<Name> = book.names().cloned().collect();
        self.fresh.extend(names.iter().filter(|name| !known.contains(name)).cloned());
        let current: BTreeSet<&Name> = names.iter().collect();
        self.fresh.retain(|name| current.contains(name));
        self.known.retain(|name| current.contains(name));
        let (learned, full) = book.become_known(names);
        let distinct = learned.iter().filter_map(|learned| match learned {
            Learned::Distinct { label, other } => Some(format!("{other} has its label already; it is {label}")),
            Learned::Known | Learned::New => None,
        });
        distinct.chain(full.iter().map(ToString::to_string)).collect()
    }

    /// Where the instances of a service are.
    pub(super) fn place(&mut self, book: &mut Book, listing: &Listing) {
        let addresses = listing.hosts.iter().filter_map(|host| host.address().ok());
        // What does not fit is not recognised by address; that it is full was said when names were learned.
        let _ = book.place(&listing.name, addresses);
    }

    /// A service was looked at.
    pub(super) fn scanned(&mut self, name: &Name) {
        if self.fresh_under_way.remove(name) | self.under_way.remove(name) {
            self.known.push_back(name.clone());
        }
    }

    /// Asks for what is next.
    pub(super) fn ask(&mut self, book: &Book, source: &Source, questions: &mut JoinSet<Outcome>) {
        if !self.names_under_way && Instant::now() >= self.next_names {
            self.names_under_way = true;
            let (client, groups) = (source.client.clone(), source.server.groups.clone());
            let namespace = source.namespace.clone();
            questions.spawn(async move {
                let mut names = Vec::new();
                for group in &groups {
                    match client.services(group).await {
                        Ok(services) => {
                            names.extend(services.iter().map(|service| Name::new(&namespace, group, service)))
                        }
                        Err(error) => return Outcome::Names(Err(error)),
                    }
                }
                Outcome::Names(Ok(names))
            });
        }
        let per_second = (book.len() as f64 / ROUND.as_secs_f64()).max(AGAIN_PER_SECOND as f64);
        let since = self.filled.elapsed().as_secs_f64();
        self.filled = Instant::now();
        self.budget = (self.budget + per_second * since).min(per_second);
        while self.under_way.len() + self.fresh_under_way.len() < AT_ONCE {
            let name = if let Some(name) = self.fresh.pop_first() {
                self.fresh_under_way.insert(name.clone());
                name
            } else if self.budget >= 1.0
                && let Some(name) = self.known.pop_front()
            {
                self.budget -= 1.0;
                self.under_way.insert(name.clone());
                name
            } else {
                break;
            };
            let client = source.client.clone();
            questions.spawn(async move {
                let listing = client.query(&name).await;
                Outcome::Scanned(name, listing)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_complete_when_all_that_is_new_was_looked_at_and_stays_so_while_others_are_looked_at_again() {
        let (mut scan, mut book) = (Scan::default(), Book::default());
        let name = |service: &str| Name::new("", "", service);
        assert!(!scan.is_complete(), "nothing was listed");
        scan.names(&mut book, vec![name("a")]);
        assert!(!scan.is_complete());
        assert_eq!(scan.fresh.pop_first(), Some(name("a")));
        scan.fresh_under_way.insert(name("a"));
        assert!(!scan.is_complete(), "asked, not answered");
        scan.scanned(&name("a"));
        assert!(scan.is_complete());
        assert_eq!(scan.known.pop_front(), Some(name("a")));
        scan.under_way.insert(name("a"));
        assert!(scan.is_complete(), "looked at again");
        scan.again();
        assert!(scan.is_complete(), "what was known is known after a reconnection");
        assert_eq!(scan.known, [name("a")]);
        scan.names(&mut book, vec![name("a"), name("b")]);
        assert!(!scan.is_complete(), "b is new");
    }
}
