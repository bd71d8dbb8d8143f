//! What may be used of models ↔ model.

use std::time::Duration;

use mesh_core::model::model_route::{KeyPart, Limit, LimitStore, Price, TokenLimits, Word};

use super::{target, word};
use crate::{
    convert::{Invalid, optional_duration, wire_duration},
    mesh::v1 as wire,
};

/// What the name of a header follows in the key of limits.
const HEADER: &str = "header:";

pub(super) fn to_wire(tokens: &TokenLimits) -> wire::TokenLimits {
    wire::TokenLimits {
        limits: tokens.limits.iter().map(limit_to_wire).collect(),
        key: tokens.key.iter().map(key_to_wire).collect(),
        redis: store_to_wire(&tokens.store),
        on_store_down: tokens.on_store_down.word().to_owned(),
        prices: tokens.prices.iter().map(price_to_wire).collect(),
    }
}

pub(super) fn from_wire(tokens: wire::TokenLimits) -> Result<TokenLimits, Invalid> {
    Ok(TokenLimits {
        limits: tokens.limits.into_iter().map(limit_from_wire).collect::<Result<_, _>>()?,
        key: tokens.key.iter().map(|part| key_from_wire(part)).collect::<Result<_, _>>()?,
        store: store_from_wire(tokens.redis)?,
        on_store_down: word("token_limits.on_store_down", &tokens.on_store_down)?,
        prices: tokens.prices.into_iter().map(price_from_wire).collect::<Result<_, _>>()?,
    })
}

pub(in crate::convert) fn store_to_wire(store: &LimitStore) -> Option<wire::RedisStore> {
    match store {
        LimitStore::Local => None,
        LimitStore::Redis { url, password } => {
            Some(wire::RedisStore { url: url.clone(), password: password.as_ref().map(target::credential_to_wire) })
        }
    }
}

pub(in crate::convert) fn store_from_wire(redis: Option<wire::RedisStore>) -> Result<LimitStore, Invalid> {
    let Some(redis) = redis else { return Ok(LimitStore::Local) };
    let password = redis.password.map(target::credential_from_wire).transpose()?;
    Ok(LimitStore::Redis { url: redis.url, password })
}

pub(super) fn limit_to_wire(limit: &Limit) -> wire::Limit {
    wire::Limit {
        of: limit.of.word().to_owned(),
        amount: limit.amount,
        window: Some(wire_duration(limit.window)),
        mode: limit.mode.word().to_owned(),
    }
}

pub(super) fn limit_from_wire(limit: wire::Limit) -> Result<Limit, Invalid> {
    Ok(Limit {
        of: word("limit.of", &limit.of)?,
        amount: limit.amount,
        window: optional_duration("limit.window", limit.window)?.unwrap_or(Duration::ZERO),
        mode: word("limit.mode", &limit.mode)?,
    })
}

fn key_to_wire(part: &KeyPart) -> String {
    match part {
        KeyPart::Identity => "identity".to_owned(),
        KeyPart::Namespace => "namespace".to_owned(),
        KeyPart::Lane => "lane".to_owned(),
        KeyPart::Header(name) => format!("{HEADER}{name}"),
    }
}

fn key_from_wire(part: &str) -> Result<KeyPart, Invalid> {
    match part {
        "identity" => Ok(KeyPart::Identity),
        "namespace" => Ok(KeyPart::Namespace),
        "lane" => Ok(KeyPart::Lane),
        _ => match part.strip_prefix(HEADER) {
            Some(name) => Ok(KeyPart::Header(name.to_owned())),
            None => Err(Invalid::value("token_limits.key", format!("{part:?} is not known"))),
        },
    }
}

fn price_to_wire(price: &Price) -> wire::Price {
    wire::Price { model: price.model.to_string(), input: price.input, cached: price.cached, output: price.output }
}

fn price_from_wire(price: wire::Price) -> Result<Price, Invalid> {
    let model = price.model.parse().map_err(|error| Invalid::value("price.model", error))?;
    Ok(Price { model, input: price.input, cached: price.cached, output: price.output })
}
