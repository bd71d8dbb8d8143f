//! From what proxies want to services of this namespace: which have to be followed, and which wants are answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Instant,
};

use mesh_core::{
    discovery::nacos::Name,
    resources::mesh_service::{Member, Source as Kind},
};

use super::source::Running;
use crate::demand::{Want, Wanted};

/// What is known of wants.
#[derive(Debug, Default)]
pub(super) struct Wants {
    /// Services of each want, since it was last looked at.
    services: BTreeMap<Want, BTreeSet<Name>>,
    /// Services whose list is published.
    published: BTreeSet<Name>,
    /// Services from an earlier run, and since when they are here: wanted again, or let go after a while.
    kept: BTreeMap<Name, Instant>,
}

impl Wants {
    /// A service from an earlier run: its proxies will come again.
    pub(super) fn keep(&mut self, name: &Name) {
        self.kept.insert(name.clone(), Instant::now());
    }

    /// What was told of these is in force.
    pub(super) fn published(&mut self, names: &[Name]) {
        self.published.extend(names.iter().cloned());
    }
}

impl Running {
    /// Services that have to be followed: always, or since somebody wants them or did not long ago.
    pub(super) fn needed(&mut self) -> BTreeSet<Name> {
        let idle_after = self.source.server.idle_after;
        let ours = |name: &&Name| name.namespace() == Name::new(&self.source.namespace, "", "").namespace();
        let mut needed: BTreeSet<Name> = self.source.server.always.iter().filter(ours).cloned().collect();
        self.wants.kept.retain(|_, since| since.elapsed() < idle_after);
        needed.extend(self.wants.kept.keys().cloned());
        let members = self.source.said.borrow().members();
        let mut services = BTreeMap::new();
        let wanted = self.source.demand.all();
        let hosts = wanted.iter().filter_map(|wanted| match wanted.want {
            Want::Host(host) => Some(host),
            Want::Service(_) | Want::Address(_) => None,
        });
        let on_hosts = self.book.on(hosts);
        for Wanted { want, idle } in wanted {
            if idle.is_some_and(|idle| idle >= idle_after) {
                self.source.demand.forget(&self.source.name, &want);
                continue;
            }
            let names = self.services_of(&want, &members, &on_hosts);
            needed.extend(names.iter().cloned());
            services.insert(want, names);
        }
        self.wants.services = services;
        let watched = &self.watched;
        self.wants.published.retain(|name| watched.contains_key(name));
        needed
    }

    fn services_of(
        &self,
        want: &Want,
        members: &BTreeMap<String, BTreeSet<Member>>,
        on_hosts: &BTreeMap<IpAddr, BTreeSet<&Name>>,
    ) -> BTreeSet<Name> {
        match want {
            Want::Service(label) => {
                let own = self.labels.service(label, &self.book);
                let joined = members.get(label).into_iter().flatten().filter_map(|member| self.member(member));
                own.into_iter().chain(joined).collect()
            }
            Want::Address(address) => self.book.at(*address).into_iter().cloned().collect(),
            Want::Host(host) => {
                on_hosts.get(&host.to_canonical()).into_iter().flatten().map(|name| Name::clone(name)).collect()
            }
        }
    }

    /// The service that a member of a logical service is here.
    fn member(&self, member: &Member) -> Option<Name> {
        let name = Name::of_grouped(member.namespace.as_deref().unwrap_or_default(), &member.name);
        let here = Name::new(&self.source.namespace, "", "");
        (member.source == Kind::Nacos && name.namespace() == here.namespace()).then_some(name)
    }

    /// Answers every want of which all is known and published, or of which nothing can be known now.
    pub(super) fn answer(&self) {
        let is_away = self.tried && !self.connected;
        for (want, names) in &self.wants.services {
            let is_known = match want {
                Want::Service(_) => true,
                Want::Address(_) | Want::Host(_) => !names.is_empty() || self.scan.is_complete(),
            };
            let is_published = names.iter().all(|name| self.wants.published.contains(name));
            if is_away || (is_known && is_published) {
                self.source.demand.answer(&self.source.name, want);
            }
        }
    }
}
