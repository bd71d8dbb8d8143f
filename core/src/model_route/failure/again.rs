//! When a target wants to be asked again, in every form in which providers say it.

use std::time::Duration;

use serde_json::Value;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time, format_description::well_known::Rfc3339};

use super::said::Said;
use crate::{fields::Fields, model::model_route::Reason};

/// Longest wait that is believed; also keeps sums of times far from overflow.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Pairs of what is left and when it is full again. All answers of these providers carry them, not only refusals.
const WINDOWS: [(&str, &str); 6] = [
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
];

/// What the fields of an answer say: `retry-after-ms`, `retry-after`, and for a refused rate the windows.
pub(super) fn from_fields(fields: &dyn Fields, reason: Reason, now: Duration) -> Option<Duration> {
    let text = |name: &str| fields.first(name).and_then(|value| std::str::from_utf8(value).ok()).map(str::trim);
    // Dates are the target's; so is the clock against which they mean something.
    let now = text("date").and_then(date).unwrap_or(now);
    let milliseconds = text("retry-after-ms").and_then(seconds).map(|wait| wait / 1000);
    let said = milliseconds.or_else(|| text("retry-after").and_then(|value| wait(value, now)));
    if said.is_some() || reason != Reason::Rate {
        return said.map(|wait| wait.min(LONGEST));
    }
    // A window refused if nothing is left of it. Where something is left of all, the request was larger than what is
    // left of a window of tokens.
    let waits = WINDOWS.iter().filter_map(|(left, reset)| {
        let used_up = text(left).and_then(|left| left.parse::<f64>().ok()).is_none_or(|left| left <= 0.0);
        Some((used_up, reset.contains("tokens"), wait(text(reset)?, now)?))
    });
    let used_up = waits.clone().filter(|(used_up, _, _)| *used_up).map(|(_, _, wait)| wait).max();
    used_up
        .or_else(|| waits.filter(|(_, tokens, _)| *tokens).map(|(_, _, wait)| wait).max())
        .map(|wait| wait.min(LONGEST))
}

/// What an error object says: Google's `RetryInfo`, or OpenAI's and Gemini's sentence.
pub(super) fn from_object(said: &Said<'_>) -> Option<Duration> {
    let info = said.details.iter().find_map(|detail| detail.get("retryDelay").and_then(Value::as_str));
    let sentence = || {
        let message = said.message?;
        let (_, rest) = message.split_once("try again in ").or_else(|| message.split_once("retry in "))?;
        let end = rest.find([' ', ',']).unwrap_or(rest.len());
        span(rest[..end].trim_end_matches('.'))
    };
    info.and_then(span).or_else(sentence).map(|wait| wait.min(LONGEST))
}

/// A wait as seconds, duration or date, as `retry-after` says it.
pub(crate) fn wait(text: &str, now: Duration) -> Option<Duration> {
    seconds(text).or_else(|| span(text)).or_else(|| {
        let at = date(text).or_else(|| since_epoch(OffsetDateTime::parse(text, &Rfc3339).ok()?))?;
        Some(at.saturating_sub(now))
    })
}

/// Plain seconds, also with a fraction.
fn seconds(text: &str) -> Option<Duration> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    plain.then(|| text.parse().ok().and_then(bounded)).flatten()
}

/// A duration as Go and Google's JSON write it: `1s`, `6m0s`, `20ms`, `1h2m3.5s`.
fn span(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
        ("d", 86_400.0),
    ];
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == &rest[..unit])?;
        total += number * factor;
        rest = &rest[unit..];
    }
    if text.is_empty() { None } else { bounded(total) }
}

fn bounded(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds.min(LONGEST.as_secs_f64())).ok()
}

/// A date of HTTP, in its three forms (RFC 9110 5.6.7), as time since the Unix epoch.
fn date(text: &str) -> Option<Duration> {
    let mut parts = text.split([' ', ',', '-']).filter(|part| !part.is_empty());
    let mut next = || parts.next();
    let (_weekday, first, second, third, fourth) = (next()?, next()?, next()?, next()?, next()?);
    let (day, month, year, clock) = match first.parse::<u8>() {
        Ok(day) => (day, second, third, fourth),
        // `Sun Nov  6 08:49:37 1994`
        Err(_) => (second.parse().ok()?, first, fourth, third),
    };
    let year = match (year.len(), year.parse::<i32>().ok()?) {
        // `Sunday, 06-Nov-94`: the century that is nearest.
        (2, year @ 70..) => 1900 + year,
        (2, year) => 2000 + year,
        (_, year) => year,
    };
    let month = MONTHS.iter().find(|(name, _)| *name == month)?.1;
    let mut clock = clock.split(':').map(str::parse::<u8>);
    let mut next = || clock.next()?.ok();
    // A leap second is the last one of its minute here.
    let time = Time::from_hms(next()?, next()?, next()?.min(59)).ok()?;
    since_epoch(PrimitiveDateTime::new(Date::from_calendar_date(year, month, day).ok()?, time).assume_utc())
}

const MONTHS: [(&str, Month); 12] = [
    ("Jan", Month::January),
    ("Feb", Month::February),
    ("Mar", Month::March),
    ("Apr", Month::April),
    ("May", Month::May),
    ("Jun", Month::June),
    ("Jul", Month::July),
    ("Aug", Month::August),
    ("Sep", Month::September),
    ("Oct", Month::October),
    ("Nov", Month::November),
    ("Dec", Month::December),
];

fn since_epoch(at: OffsetDateTime) -> Option<Duration> {
    (at - OffsetDateTime::UNIX_EPOCH).try_into().ok()
}
