//! What a registry has, in as little memory as possible: every name by its label, and which services an address belongs
//! to. 10,000 services with 100,000 instances fit into 6 MB; nothing else of them is kept until somebody calls one.

mod index;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use hashbrown::HashTable;
use thiserror::Error;

use self::index::Index;

use super::Name;

/// Most services that are known.
pub const NAMES_MAX: usize = 100_000;
/// Most addresses that are known, over all services.
pub const ADDRESSES_MAX: usize = 1_000_000;

/// Fixed, so that replicas and runs agree. An attacker who makes addresses or names collide slows down his own look-ups.
type Hasher = BuildHasherDefault<DefaultHasher>;

/// Names by label, and services by address.
#[derive(Debug, Default)]
pub struct Book {
    /// By number; `None` = free.
    names: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_name: HashTable<u32>,
    by_label: HashTable<u32>,
    v4: Index<V4>,
    v6: Index<V6>,
    addresses: usize,
}

#[derive(Debug)]
struct Entry {
    name: Name,
    /// [`Name::label`] unless another name has that.
    distinct: Option<Box<str>>,
    addresses: Addresses,
}

type V4 = (u32, u16);
type V6 = (u128, u16);

/// Addresses of a service, sorted: a fourth of what a list of `SocketAddr` would take.
#[derive(Debug, Default)]
struct Addresses {
    v4: Box<[V4]>,
    v6: Box<[V6]>,
}

impl Addresses {
    fn new(addresses: impl IntoIterator<Item = SocketAddr>) -> Addresses {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for address in addresses {
            match address.ip().to_canonical() {
                IpAddr::V4(ip) => v4.push((ip.to_bits(), address.port())),
                IpAddr::V6(ip) => v6.push((ip.to_bits(), address.port())),
            }
        }
        v4.sort_unstable();
        v4.dedup();
        v6.sort_unstable();
        v6.dedup();
        Addresses { v4: v4.into(), v6: v6.into() }
    }

    fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }
}

/// What came of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Learned {
    /// It was known.
    Known,
    /// It has its own label.
    New,
    /// Its label is another's; it has its distinct one.
    Distinct {
        /// The label by which it is known.
        label: String,
        /// Who has the one that it would have.
        other: Name,
    },
}

/// Why something is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Full {
    /// Of names.
    #[error("service {0} is left out: {NAMES_MAX} services are known, more are not kept")]
    Names(Name),
    /// Of addresses.
    #[error("addresses of service {0} are left out: {ADDRESSES_MAX} are known, more are not kept")]
    Addresses(Name),
    /// Both its labels are others'.
    #[error("service {0} is left out: other services have its label and its distinct label")]
    Labels(Name),
}

fn hash(value: impl std::hash::Hash) -> u64 {
    Hasher::default().hash_one(value)
}

impl Entry {
    fn label(&self) -> String {
        self.distinct.as_deref().map_or_else(|| self.name.label(), str::to_owned)
    }
}

impl Book {
    /// Takes note of a name. The first of several with one label keeps it; who learns many at once learns them in order,
    /// so that replicas agree.
    ///
    /// # Errors
    /// When the book is full, or both labels of the name are taken.
    pub fn learn(&mut self, name: &Name) -> Result<Learned, Full> {
        if self.number(name).is_some() {
            return Ok(Learned::Known);
        }
        if self.len() >= NAMES_MAX {
            return Err(Full::Names(name.clone()));
        }
        let (label, mut distinct, mut learned) = (name.label(), None, Learned::New);
        if let Some(other) = self.by_label(&label) {
            let label = name.distinct_label();
            if self.by_label(&label).is_some() {
                return Err(Full::Labels(name.clone()));
            }
            learned = Learned::Distinct { label: label.clone(), other: other.clone() };
            distinct = Some(label);
        }
        let label = distinct.clone().unwrap_or(label);
        let entry = Entry { name: name.clone(), distinct: distinct.map(String::into), addresses: Addresses::default() };
        let number = self.free.pop().unwrap_or(self.names.len() as u32);
        match self.names.get_mut(number as usize) {
            Some(free) => *free = Some(entry),
            None => self.names.push(Some(entry)),
        }
        let names = &self.names;
        let of = |number: &u32| names[*number as usize].as_ref().expect("tables hold numbers of entries");
        self.by_name.insert_unique(hash(name), number, |number| hash(&of(number).name));
        self.by_label.insert_unique(hash(label.as_str()), number, |number| hash(of(number).label().as_str()));
        Ok(learned)
    }

    /// Forgets a name and its addresses.
    pub fn forget(&mut self, name: &Name) {
        let Some(number) = self.number(name) else { return };
        self.replace(number, Addresses::default());
        let Some(entry) = self.names[number as usize].take() else { return };
        let is_it = |other: &u32| *other == number;
        if let Ok(found) = self.by_name.find_entry(hash(name), is_it) {
            found.remove();
        }
        if let Ok(found) = self.by_label.find_entry(hash(entry.label().as_str()), is_it) {
            found.remove();
        }
        self.free.push(number);
    }

    /// Makes the known names these: forgets the others, learns what is new, in order of the names. What could not be
    /// learned as it is, is said.
    pub fn become_known(&mut self, mut names: Vec<Name>) -> (Vec<Learned>, Vec<Full>) {
        names.sort();
        let gone: Vec<Name> = self.names().filter(|name| names.binary_search(name).is_err()).cloned().collect();
        gone.iter().for_each(|name| self.forget(name));
        let (mut distinct, mut full) = (Vec::new(), Vec::new());
        for name in &names {
            match self.learn(name) {
                Ok(learned @ Learned::Distinct { .. }) => distinct.push(learned),
                Ok(Learned::Known | Learned::New) => {}
                Err(error) => full.push(error),
            }
        }
        (distinct, full)
    }

    /// Makes the addresses of a known service these.
    ///
    /// # Errors
    /// When they do not fit any more; none of the service are known then.
    pub fn place(&mut self, name: &Name, addresses: impl IntoIterator<Item = SocketAddr>) -> Result<(), Full> {
        let Some(number) = self.number(name) else { return Ok(()) };
        let addresses = Addresses::new(addresses);
        let had = self.entry(number).map_or(0, |entry| entry.addresses.len());
        if self.addresses - had + addresses.len() > ADDRESSES_MAX {
            self.replace(number, Addresses::default());
            return Err(Full::Addresses(name.clone()));
        }
        self.replace(number, addresses);
        Ok(())
    }

    fn replace(&mut self, number: u32, addresses: Addresses) {
        let Some(entry) = self.names.get_mut(number as usize).and_then(Option::as_mut) else { return };
        let old = std::mem::replace(&mut entry.addresses, addresses);
        let new = &entry.addresses;
        self.addresses = self.addresses - old.len() + new.len();
        self.v4.replace(number, &old.v4, &new.v4);
        self.v6.replace(number, &old.v6, &new.v6);
    }

    fn entry(&self, number: u32) -> Option<&Entry> {
        self.names.get(number as usize)?.as_ref()
    }

    fn number(&self, name: &Name) -> Option<u32> {
        let is_it = |number: &u32| self.entry(*number).is_some_and(|entry| entry.name == *name);
        self.by_name.find(hash(name), is_it).copied()
    }

    /// The service of a label.
    pub fn by_label(&self, label: &str) -> Option<&Name> {
        let is_it = |number: &u32| self.entry(*number).is_some_and(|entry| entry.label() == label);
        let number = self.by_label.find(hash(label), is_it)?;
        self.entry(*number).map(|entry| &entry.name)
    }

    /// The label by which a name is known.
    pub fn label(&self, name: &Name) -> Option<String> {
        self.entry(self.number(name)?).map(Entry::label)
    }

    /// Services that an address belongs to, in order of names.
    pub fn at(&self, address: SocketAddr) -> Vec<&Name> {
        let port = address.port();
        let numbers = match address.ip().to_canonical() {
            IpAddr::V4(ip) => self.v4.at((ip.to_bits(), port)),
            IpAddr::V6(ip) => self.v6.at((ip.to_bits(), port)),
        };
        let entries = numbers.into_iter().filter_map(|number| self.entry(number));
        let mut names: Vec<&Name> = entries.map(|entry| &entry.name).collect();
        names.sort();
        names
    }

    /// Services that have instances on these hosts, by host as it is given. Looks at every address, once for all hosts.
    pub fn on(&self, hosts: impl IntoIterator<Item = IpAddr>) -> BTreeMap<IpAddr, BTreeSet<&Name>> {
        let mut found: BTreeMap<IpAddr, BTreeSet<&Name>> =
            hosts.into_iter().map(|host| (host.to_canonical(), BTreeSet::new())).collect();
        if found.is_empty() {
            return found;
        }
        for entry in self.names.iter().flatten() {
            let v4 = entry.addresses.v4.iter().map(|(bits, _)| IpAddr::from(Ipv4Addr::from_bits(*bits)));
            let v6 = entry.addresses.v6.iter().map(|(bits, _)| IpAddr::from(Ipv6Addr::from_bits(*bits)));
            for host in v4.chain(v6) {
                if let Some(names) = found.get_mut(&host) {
                    names.insert(&entry.name);
                }
            }
        }
        found
    }

    /// Every known name, in no order.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.names.iter().flatten().map(|entry| &entry.name)
    }

    /// How many services are known.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// How many addresses are known, each as often as it has services.
    pub fn addresses(&self) -> usize {
        self.addresses
    }
}

#[cfg(test)]
mod tests;
