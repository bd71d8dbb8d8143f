//! What may be used of models, by whom, and what it costs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Credential, NamePattern};

/// What callers may use.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TokenLimits {
    /// Each counts on its own; the first that is used up refuses.
    pub limits: Vec<Limit>,
    /// What tells callers apart; empty = all together.
    pub key: Vec<KeyPart>,
    /// Where it is counted.
    pub store: LimitStore,
    /// What follows when the store cannot be reached.
    pub on_store_down: OnStoreDown,
    /// Prices, by model of the target (exact, or a prefix ending in `*`).
    pub prices: Vec<Price>,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// What is counted.
    pub of: Counted,
    /// Greatest amount in a window: tokens, requests, streams; of money millionths of its unit.
    pub amount: u64,
    /// Window: 1 s, 1 min, 1 h or 1 day; without meaning for concurrent streams.
    pub window: Duration,
    /// Whether it refuses, or only says that it would.
    pub mode: LimitMode,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Counted {
    /// Tokens read.
    Input,
    /// Tokens written.
    Output,
    /// Both.
    Total,
    /// Requests.
    Requests,
    /// Exchanges under way.
    Concurrent,
    /// Money, by the price table.
    Money,
}

/// Whether a limit refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum LimitMode {
    /// It does.
    #[default]
    Enforce,
    /// It only counts what it would refuse.
    Shadow,
}

/// What tells callers apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyPart {
    /// SPIFFE identity of the workload.
    Identity,
    /// Its namespace.
    Namespace,
    /// Lane of the request.
    Lane,
    /// Value of this request header, lower case.
    Header(String),
}

/// Where limits are counted.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum LimitStore {
    /// In each proxy for itself.
    #[default]
    Local,
    /// In Redis.
    Redis {
        /// `redis://[user@]host:port[/database]`; never holds a password.
        url: String,
        /// Password.
        password: Option<Credential>,
    },
}

/// What follows when the store cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnStoreDown {
    /// Each proxy keeps to its fair share.
    #[default]
    Open,
    /// Everything is refused.
    Closed,
}

/// Price of a model's tokens, in millionths of a unit of money for a million tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Model as the target names it.
    pub model: NamePattern,
    /// Tokens read.
    pub input: u64,
    /// Tokens read from the provider's cache; as `input` unless given.
    pub cached: u64,
    /// Tokens written.
    pub output: u64,
}
