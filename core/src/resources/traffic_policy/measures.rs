//! Measures that several parts of a traffic policy are written in.

use std::{ops::RangeInclusive, time::Duration};

use crate::resources::{
    node::{Node, Object},
    wording::shortened,
};

/// Whole percent: `70`, or `70%`.
pub(super) fn percent(node: &Node<'_>, range: RangeInclusive<u64>) -> Option<u32> {
    let Some(text) = node.as_text() else { return node.integer(range).map(|number| number as u32) };
    let number = text.strip_suffix('%').and_then(|digits| digits.parse::<u64>().ok());
    let number = number.filter(|number| range.contains(number));
    if number.is_none() {
        let (low, high) = (range.start(), range.end());
        node.problem(format!(
            "{:?} is no whole percentage from {low} to {high}, e.g. {low} or {high}%",
            shortened(text)
        ));
    }
    number.map(|number| number as u32)
}

/// A number of bytes: `65536`, `64KiB`, `1MiB`; `Ki` and `Mi` mean the same.
pub(super) fn bytes(node: &Node<'_>, range: RangeInclusive<u64>) -> Option<u32> {
    let Some(text) = node.as_text() else { return node.integer(range).map(|number| number as u32) };
    let number = [("KiB", 1_024_u64), ("Ki", 1_024), ("MiB", 1_048_576), ("Mi", 1_048_576)]
        .into_iter()
        .find_map(|(unit, size)| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(size));
    let number = number.filter(|number| range.contains(number));
    if number.is_none() {
        let (low, high) = (range.start(), range.end());
        node.problem(format!("{:?} is no size from {low} to {high} bytes, e.g. 64KiB", shortened(text)));
    }
    number.map(|number| number as u32)
}

/// A time span that is not zero.
pub(super) fn positive(object: &Object<'_>, key: &str) -> Option<Duration> {
    let duration = object.get(key)?.duration()?;
    if duration.is_zero() {
        object.problem(key, "may not be 0; leave it out for the default".to_owned());
    }
    Some(duration)
}

/// A time span that is not shorter than `least`.
pub(super) fn at_least(object: &Object<'_>, key: &str, least: Duration) -> Option<Duration> {
    let duration = object.get(key)?.duration()?;
    if duration < least {
        object.problem(key, format!("is less than {least:?}"));
    }
    Some(duration)
}
