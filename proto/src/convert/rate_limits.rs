//! Rate limits of a traffic policy ↔ model.

use std::time::Duration;

use mesh_core::model::{
    model_route::Word as _,
    policy::{RateKey, RateLimit},
};

use super::{Invalid, duration, models, required, wire_duration, zones};
use crate::mesh::v1 as wire;

pub(super) fn to_wire(limit: &RateLimit) -> wire::RateLimit {
    wire::RateLimit {
        name: limit.name.clone(),
        matches: limit.matches.iter().map(zones::match_to_wire).collect(),
        key: limit.key.iter().map(RateKey::to_string).collect(),
        requests: limit.requests,
        per: Some(wire_duration(limit.per)),
        burst: limit.burst,
        redis: models::store_to_wire(&limit.store),
        on_store_down: limit.on_store_down.word().to_owned(),
        mode: limit.mode.word().to_owned(),
    }
}

pub(super) fn from_wire(limit: wire::RateLimit) -> Result<RateLimit, Invalid> {
    let per = duration("rate_limit.per", required("rate_limit.per", limit.per)?)?;
    if limit.requests == 0 || per < Duration::from_secs(1) {
        return Err(Invalid::value("rate_limit.requests", "nothing at all, or in no time"));
    }
    Ok(RateLimit {
        name: limit.name,
        matches: limit.matches.into_iter().map(zones::match_from_wire).collect::<Result<_, _>>()?,
        key: limit.key.iter().map(|part| key(part)).collect::<Result<_, _>>()?,
        requests: limit.requests,
        per,
        burst: limit.burst.max(1),
        store: models::store_from_wire(limit.redis)?,
        on_store_down: models::word("rate_limit.on_store_down", &limit.on_store_down)?,
        mode: models::word("rate_limit.mode", &limit.mode)?,
    })
}

fn key(part: &str) -> Result<RateKey, Invalid> {
    let word = RateKey::WORDS.into_iter().find(|(word, _)| *word == part).map(|(_, key)| key);
    let header = || part.strip_prefix(RateKey::HEADER).map(|name| RateKey::Header(name.to_owned()));
    word.or_else(header).ok_or_else(|| Invalid::value("rate_limit.key", format!("{part:?} is not known")))
}
