//! Who may set a label. What others send is ignored and taken off.

use super::{Carried, Source};
use crate::{
    identity::Identity,
    model::lane::{LaneGroup, LaneName},
};

/// Groups of which a sender may set the label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MayLabel {
    /// Of every group.
    All,
    /// Of these, not of all.
    Of(Vec<LaneName>),
    /// Of no group: what it says of lanes is not even read.
    None,
}

impl MayLabel {
    /// Of a sender in the mesh with this identity; one whose identity is not known yet is trusted by those groups alone
    /// that trust every identity. Whoever is outside the mesh gets [`MayLabel::None`] without question.
    pub fn of(identity: Option<&Identity>, groups: &[LaneGroup]) -> Self {
        let trusts = |group: &&LaneGroup| match identity {
            Some(identity) => group.may_label(identity),
            None => group.trusted.is_none(),
        };
        match groups.iter().filter(trusts).count() {
            count if count == groups.len() => MayLabel::All,
            0 => MayLabel::None,
            _ => MayLabel::Of(groups.iter().filter(trusts).map(|group| group.name.clone()).collect()),
        }
    }

    /// The label that counts: of a sender whom only some groups trust, one that names a lane of these. It then says of
    /// which group, so that it cannot be taken for another group's lane of the same name. What the proxy found out by
    /// itself counts whoever the sender is.
    pub fn admit(&self, carried: Carried, groups: &[LaneGroup]) -> Option<Carried> {
        let is_said = match carried.source {
            Source::Header | Source::Baggage | Source::Sw8 | Source::Tracestate => true,
            Source::Trace | Source::Rederived | Source::Unanimity | Source::Workload | Source::Entry | Source::None => {
                false
            }
        };
        match self {
            _ if !is_said => Some(carried),
            MayLabel::All => Some(carried),
            MayLabel::None => None,
            MayLabel::Of(trusting) => {
                let named = |group: &&LaneGroup| carried.group.as_ref().is_none_or(|name| *name == group.name);
                let knows = |group: &&LaneGroup| trusting.contains(&group.name) && group.lane(&carried.lane).is_some();
                let group = groups.iter().filter(named).find(knows)?;
                Some(Carried { group: Some(group.name.clone()), ..carried })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::lane::Lane;

    fn group(name: &str, lanes: &[&str], trusted: Option<&[&str]>) -> LaneGroup {
        let lane = |text: &&str| Lane::new(text.parse().expect("a lane name"));
        LaneGroup {
            lanes: lanes.iter().map(lane).collect(),
            trusted: trusted.map(|accounts| accounts.iter().map(|account| identity(account)).collect()),
            ..LaneGroup::new(name.parse().expect("a group name"))
        }
    }

    fn identity(account: &str) -> Identity {
        Identity::new("mesh.test", "demo", account).expect("an identity")
    }

    fn carried(text: &str, source: Source) -> Carried {
        let (group, lane) = text.split_once('/').map_or((None, text), |(group, lane)| (Some(group), lane));
        let name = |text: &str| text.parse().expect("a name");
        Carried { group: group.map(name), lane: name(lane), source }
    }

    #[test]
    fn sender_labels_for_the_groups_that_trust_it_only() {
        let groups = [group("open", &["canary"], None), group("shut", &["canary", "vip"], Some(&["gate"]))];
        let cases = [
            ("gate", "vip", Some("vip")),
            ("gate", "nowhere", Some("nowhere")),
            ("mallory", "vip", None),
            ("mallory", "shut/canary", None),
            ("mallory", "canary", Some("open/canary")),
            ("mallory", "open/canary", Some("open/canary")),
            ("mallory", "nowhere", None),
        ];
        for (account, label, expected) in cases {
            let may = MayLabel::of(Some(&identity(account)), &groups);
            for source in [Source::Header, Source::Baggage, Source::Sw8, Source::Tracestate] {
                let admitted = may.admit(carried(label, source), &groups).map(|carried| carried.to_string());
                assert_eq!(admitted.as_deref(), expected, "{account}: {label}");
            }
            let own = carried(label, Source::Trace);
            assert_eq!(may.admit(own.clone(), &groups), Some(own));
        }
    }

    #[test]
    fn sender_whom_no_group_trusts_says_nothing() {
        let groups = [group("shut", &["vip"], Some(&["gate"]))];
        assert_eq!(MayLabel::of(Some(&identity("mallory")), &groups), MayLabel::None);
        assert_eq!(MayLabel::of(None, &groups), MayLabel::None);
        assert_eq!(MayLabel::of(Some(&identity("gate")), &groups), MayLabel::All);
        assert_eq!(MayLabel::of(None, &[]), MayLabel::All);
        assert_eq!(MayLabel::None.admit(carried("vip", Source::Header), &groups), None);
    }
}
