//! What may be used: `tokens` of a route, and `limits` of a target.

use std::time::Duration;

use super::{pattern, target};
use crate::{
    model::model_route::{
        Counted, KeyPart, Limit, LimitMode, LimitStore, NamePattern, OnStoreDown, Price, TokenLimits, Word,
    },
    resources::{
        node::{Node, Object, is_field_name},
        wording::shortened,
    },
};

/// Windows that may be asked for.
const WINDOWS: &[(&str, Duration)] = &[
    ("1s", Duration::from_secs(1)),
    ("1m", Duration::from_secs(60)),
    ("1h", Duration::from_secs(3_600)),
    ("1d", Duration::from_secs(86_400)),
];
/// Greatest amount of a limit.
const AMOUNT_MAX: u64 = 1_000_000_000_000_000;
/// Greatest amount of money.
const MONEY_MAX: f64 = 1_000_000_000.0;
/// Greatest price of a million tokens.
const PRICE_MAX: f64 = 1_000_000.0;
/// Smallest amount of money.
const MONEY_MIN: f64 = 1.0 / MILLION;
const MILLION: f64 = 1_000_000.0;
/// Greatest number of a database of Redis that may be asked for.
const DATABASE_MAX: u32 = 1_023;

/// Reads `tokens`.
pub(super) fn read(node: &Node<'_>) -> TokenLimits {
    let default = TokenLimits::default();
    let Some(object) = node.object(&["limits", "key", "store", "onStoreDown", "prices"]) else { return default };
    let store = object.get("store").and_then(|node| store(&node));
    let on_store_down = object.get("onStoreDown").and_then(|node| node.choice(OnStoreDown::WORDS));
    if on_store_down.is_some() && object.get("store").is_none_or(|node| node.is_text("local")) {
        object.problem("onStoreDown", "has no meaning where every proxy counts for itself".to_owned());
    }
    TokenLimits {
        limits: limits(&object),
        key: key(&object),
        store: store.unwrap_or_default(),
        on_store_down: on_store_down.unwrap_or_default(),
        prices: prices(&object),
    }
}

/// Reads `limits` of a target or of `tokens`.
pub(super) fn limits(object: &Object<'_>) -> Vec<Limit> {
    let mut found: Vec<Limit> = Vec::new();
    for node in object.list("limits") {
        let Some(limit) = limit(&node) else { continue };
        if found.iter().any(|other| (other.of, other.window, other.mode) == (limit.of, limit.window, limit.mode)) {
            node.problem(format!("{} is limited over this window already", limit.of.word()));
        }
        found.push(limit);
    }
    found
}

fn limit(node: &Node<'_>) -> Option<Limit> {
    let object = node.object(&["of", "amount", "window", "mode"])?;
    let of = object.required("of").and_then(|node| node.choice(Counted::WORDS));
    let amount = object.required("amount");
    let mode = object.get("mode").and_then(|node| node.choice(LimitMode::WORDS)).unwrap_or_default();
    let window = match of {
        Some(Counted::Concurrent) if object.get("window").is_some() => {
            object.problem("window", "has no meaning for what is under way at the same time".to_owned());
            None
        }
        Some(Counted::Concurrent) => Some(Duration::ZERO),
        Some(Counted::Input | Counted::Output | Counted::Total | Counted::Requests | Counted::Money) | None => {
            object.required("window").and_then(|node| node.choice(WINDOWS))
        }
    };
    let amount = match of? {
        Counted::Money => amount?.number(MONEY_MIN..=MONEY_MAX).map(millionths),
        Counted::Input | Counted::Output | Counted::Total | Counted::Requests | Counted::Concurrent => {
            amount?.integer(1..=AMOUNT_MAX)
        }
    };
    Some(Limit { of: of?, amount: amount?, window: window?, mode })
}

/// Millionths, rounded; the callers' limits keep it far from the ends of the type.
fn millionths(number: f64) -> u64 {
    (number * MILLION).round() as u64
}

fn key(tokens: &Object<'_>) -> Vec<KeyPart> {
    let mut found = Vec::new();
    for node in tokens.list("key") {
        let Some(part) = key_part(&node) else { continue };
        if found.contains(&part) {
            node.problem("stands here twice".to_owned());
        }
        found.push(part);
    }
    found
}

/// `identity`, `namespace`, `lane` or `header:<name>`.
fn key_part(node: &Node<'_>) -> Option<KeyPart> {
    let text = node.text()?;
    match text.as_str() {
        "identity" => Some(KeyPart::Identity),
        "namespace" => Some(KeyPart::Namespace),
        "lane" => Some(KeyPart::Lane),
        _ => {
            let name = key_header(&text);
            if name.is_none() {
                let text = shortened(&text);
                node.problem(format!("{text:?} is not known (allowed: identity, namespace, lane, header:<name>)"));
            }
            name.map(KeyPart::Header)
        }
    }
}

/// Name of the header, in lower case, of a key `header:<name>`.
pub(in crate::resources) fn key_header(text: &str) -> Option<String> {
    let name = text.strip_prefix("header:")?;
    is_field_name(name).then(|| name.to_ascii_lowercase())
}

/// `local`, or `{redis: {url, password}}`.
pub(in crate::resources) fn store(node: &Node<'_>) -> Option<LimitStore> {
    match node.as_text() {
        Some("local") => return Some(LimitStore::Local),
        Some(_) => {
            node.problem("expected local, or {redis: {url: redis://host:port}}".to_owned());
            return None;
        }
        None => {}
    }
    let redis = node.object(&["redis"])?.required("redis")?.object(&["url", "password"])?;
    let password = redis.get("password").map(|node| target::credential(&node));
    let url = redis.required("url").and_then(|node| redis_url(&node));
    let password = match password {
        Some(read) => Some(read?),
        None => None,
    };
    Some(LimitStore::Redis { url: url?, password })
}

/// `redis://[user@]host:port[/database]`. What is wrong is not repeated: a password may stand in it.
fn redis_url(node: &Node<'_>) -> Option<String> {
    let text = node.text()?;
    let rest = text.strip_prefix("redis://");
    let (user, place) = rest.map_or((None, ""), |rest| match rest.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, rest),
    });
    if user.is_some_and(|user| user.contains(':')) {
        node.problem("no password may stand in it; write password: {file: /path} beside it".to_owned());
        return None;
    }
    let (authority, database) =
        place.split_once('/').map_or((place, None), |(authority, database)| (authority, Some(database)));
    let database = database.is_none_or(|text| text.parse::<u32>().is_ok_and(|number| number <= DATABASE_MAX));
    let user = user.is_none_or(|user| !user.is_empty() && user.bytes().all(|byte| byte.is_ascii_graphic()));
    if rest.is_none() || !user || !database || !super::endpoint::is_host_and_port(authority) {
        node.problem("is no address of Redis: expected redis://[user@]host:port[/database]".to_owned());
        return None;
    }
    Some(text)
}

fn prices(tokens: &Object<'_>) -> Vec<Price> {
    let mut found: Vec<Price> = Vec::new();
    for node in tokens.list("prices") {
        let Some(price) = price(&node) else { continue };
        if found.iter().any(|other| other.model == price.model) {
            node.problem(format!("{} has a price already", price.model));
        }
        found.push(price);
    }
    found
}

fn price(node: &Node<'_>) -> Option<Price> {
    let object = node.object(&["model", "input", "cached", "output"])?;
    let model: Option<NamePattern> = object.required("model").and_then(|node| pattern(&node));
    let read = |node: Node<'_>| node.number(0.0..=PRICE_MAX).map(millionths);
    let (input, output) = (object.required("input").and_then(read), object.required("output").and_then(read));
    let cached = object.get("cached").and_then(read);
    Some(Price { model: model?, input: input?, cached: cached.or(input)?, output: output? })
}
