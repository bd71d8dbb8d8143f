//! Which zone's instances take an exchange, among the usable ones of its level: those of the caller's own zone where the
//! service asks for that, any where there is none. Shares between zones are deliberately not here.

use std::borrow::Cow;

use crate::model::policy::Zones;

/// Why these instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The service does not ask for a zone.
    NotAsked,
    /// The caller's zone is not known.
    OwnUnknown,
    /// No candidate is in the caller's zone.
    NobodyThere,
    /// Those in the caller's zone.
    Own,
}

/// The candidates (positions) that a pick chooses from. `zone_of` is asked for candidates only.
pub fn prefer<'a, 'z>(
    zones: &Zones,
    own: Option<&str>,
    candidates: Cow<'a, [usize]>,
    zone_of: impl Fn(usize) -> Option<&'z str>,
) -> (Cow<'a, [usize]>, Reason) {
    if !zones.prefer_same {
        return (candidates, Reason::NotAsked);
    }
    let Some(own) = own else { return (candidates, Reason::OwnUnknown) };
    let is_near = |position: &usize| zone_of(*position) == Some(own);
    let near = candidates.iter().filter(|position| is_near(position)).count();
    if near == 0 {
        return (candidates, Reason::NobodyThere);
    }
    if near == candidates.len() {
        return (candidates, Reason::Own);
    }
    (candidates.iter().copied().filter(is_near).collect(), Reason::Own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_of_the_own_zone_are_preferred_where_that_is_asked_for_and_there_are_some() {
        let zones = [Some("a"), Some("b"), None, Some("a")];
        let (asked, not_asked) = (&Zones { prefer_same: true, ..Zones::default() }, &Zones::default());
        for (zones_of_service, own, candidates, expected, reason) in [
            (asked, Some("a"), &[0, 1, 2, 3][..], &[0, 3][..], Reason::Own),
            (asked, Some("a"), &[0, 3], &[0, 3], Reason::Own),
            (asked, Some("b"), &[0, 2, 3], &[0, 2, 3], Reason::NobodyThere),
            (asked, Some("c"), &[0, 1, 2, 3], &[0, 1, 2, 3], Reason::NobodyThere),
            (asked, None, &[0, 1, 2, 3], &[0, 1, 2, 3], Reason::OwnUnknown),
            (asked, Some("a"), &[], &[], Reason::NobodyThere),
            (not_asked, Some("a"), &[0, 1], &[0, 1], Reason::NotAsked),
        ] {
            let found = prefer(zones_of_service, own, Cow::Borrowed(candidates), |position| zones[position]);
            assert_eq!((found.0.as_ref(), found.1), (expected, reason), "{own:?} {candidates:?}");
        }
    }
}
