//! How many requests a service takes, and from whom. Keys and stores as limits of models have them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{
    model_route::{LimitMode, LimitStore, Word},
    route::RouteMatch,
};

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Unique in the policy; for metrics and logs.
    pub name: String,
    /// Requests that count, by any of these; empty = all.
    pub matches: Vec<RouteMatch>,
    /// What tells callers apart: each has the whole limit; empty = all together.
    pub key: Vec<RateKey>,
    /// So many requests …
    pub requests: u64,
    /// … in each 1 s, 1 min or 1 h.
    pub per: Duration,
    /// So many at once after a quiet time; as `requests` unless written. Where it is counted for all proxies, each keeps to
    /// it by itself.
    pub burst: u64,
    /// Where it is counted.
    pub store: LimitStore,
    /// What follows when the store cannot be reached.
    pub on_store_down: OnRateStoreDown,
    /// Whether it refuses, or only says that it would.
    pub mode: LimitMode,
}

/// What tells callers apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RateKey {
    /// Proven identity of the calling workload.
    Identity,
    /// Its namespace.
    Namespace,
    /// Which of the limit's conditions it meets.
    Route,
    /// Lane of the request.
    Lane,
    /// Value of this request header, lower case.
    Header(String),
}

impl RateKey {
    /// What the name of a header follows where a key is written.
    pub const HEADER: &'static str = "header:";
    /// Keys that are one word.
    pub const WORDS: [(&'static str, RateKey); 4] = [
        ("identity", RateKey::Identity),
        ("namespace", RateKey::Namespace),
        ("route", RateKey::Route),
        ("lane", RateKey::Lane),
    ];
}

impl std::fmt::Display for RateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            RateKey::Identity => "identity",
            RateKey::Namespace => "namespace",
            RateKey::Route => "route",
            RateKey::Lane => "lane",
            RateKey::Header(name) => return write!(f, "{}{name}", RateKey::HEADER),
        })
    }
}

/// What follows when the store of a rate limit cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnRateStoreDown {
    /// Each proxy keeps to its fair share.
    #[default]
    Local,
    /// Nothing is refused.
    Open,
    /// Everything is refused.
    Closed,
}

impl Word for OnRateStoreDown {
    const WORDS: &'static [(&'static str, Self)] =
        &[("local", OnRateStoreDown::Local), ("open", OnRateStoreDown::Open), ("closed", OnRateStoreDown::Closed)];
}
