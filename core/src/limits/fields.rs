//! How limits stand, as clients of each dialect read it in the fields of an answer.
//!
//! OpenAI: <https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers>; Anthropic:
//! <https://docs.anthropic.com/en/api/rate-limits#response-headers>. Gemini has no such fields.

use std::time::Duration;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::ledger::Standing;
use crate::model::model_route::{Counted, Dialect, LimitMode};

/// Fields for an answer; of several limits of a kind the one with least left is told. Limits in shadow mode and of money
/// or concurrency are not told. `now` counts from 1970.
pub fn fields(dialect: Dialect, standings: &[Standing], now: Duration) -> Vec<(&'static str, String)> {
    match dialect {
        Dialect::Openai => openai(standings),
        Dialect::Anthropic => anthropic(standings, now),
        Dialect::Gemini => Vec::new(),
    }
}

/// The limit with least left, as part of its amount, among those that count one of these.
fn tightest<'a>(standings: &'a [Standing], of: &[Counted]) -> Option<&'a Standing> {
    let told = |standing: &&Standing| standing.limit.mode == LimitMode::Enforce && of.contains(&standing.limit.of);
    let part = |standing: &Standing| standing.remaining as f64 / standing.limit.amount.max(1) as f64;
    standings.iter().filter(told).min_by(|a, b| part(a).total_cmp(&part(b)))
}

const TOKENS: &[Counted] = &[Counted::Total, Counted::Input, Counted::Output];

fn openai(standings: &[Standing]) -> Vec<(&'static str, String)> {
    let kinds = [
        (
            [Counted::Requests].as_slice(),
            ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
        ),
        (TOKENS, ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"]),
    ];
    let mut fields = Vec::with_capacity(6);
    for (of, [limit, remaining, reset]) in kinds {
        let Some(standing) = tightest(standings, of) else { continue };
        fields.push((limit, standing.limit.amount.to_string()));
        fields.push((remaining, standing.remaining.to_string()));
        fields.push((reset, duration(standing.reset)));
    }
    fields
}

fn anthropic(standings: &[Standing], now: Duration) -> Vec<(&'static str, String)> {
    let kinds = [
        (
            [Counted::Requests].as_slice(),
            [
                "anthropic-ratelimit-requests-limit",
                "anthropic-ratelimit-requests-remaining",
                "anthropic-ratelimit-requests-reset",
            ],
        ),
        (
            TOKENS,
            [
                "anthropic-ratelimit-tokens-limit",
                "anthropic-ratelimit-tokens-remaining",
                "anthropic-ratelimit-tokens-reset",
            ],
        ),
        (
            &[Counted::Input],
            [
                "anthropic-ratelimit-input-tokens-limit",
                "anthropic-ratelimit-input-tokens-remaining",
                "anthropic-ratelimit-input-tokens-reset",
            ],
        ),
        (
            &[Counted::Output],
            [
                "anthropic-ratelimit-output-tokens-limit",
                "anthropic-ratelimit-output-tokens-remaining",
                "anthropic-ratelimit-output-tokens-reset",
            ],
        ),
    ];
    let mut fields = Vec::with_capacity(12);
    for (of, [limit, remaining, reset]) in kinds {
        let Some(standing) = tightest(standings, of) else { continue };
        fields.push((limit, standing.limit.amount.to_string()));
        fields.push((remaining, standing.remaining.to_string()));
        if let Some(moment) = moment(now + standing.reset) {
            fields.push((reset, moment));
        }
    }
    fields
}

/// As OpenAI writes durations: `120ms`, `1.5s`, `6m0s`, `2h3m4s`.
fn duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let seconds = match (rest / 1_000, rest % 1_000) {
        (whole, 0) => format!("{whole}s"),
        (whole, part) => format!("{whole}.{}s", format!("{part:03}").trim_end_matches('0')),
    };
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

/// RFC 3339, whole seconds, rounded up: what is told is over then.
fn moment(since_epoch: Duration) -> Option<String> {
    let seconds = since_epoch.as_secs() + u64::from(since_epoch.subsec_nanos() > 0);
    let moment = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
    moment.format(&Rfc3339).ok()
}
