//! How an instance is chosen among the usable ones of a level and zone.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How an instance is chosen. All of them heed weights, also those of instances that warm up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LoadBalancing {
    /// The cheaper of two that are drawn, by latency (peak EWMA) and exchanges under way; the default.
    #[default]
    PeakEwma,
    /// The one of two that are drawn with fewer exchanges under way.
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// By chance.
    Random,
    /// By what is in the request, on a ring: few requests move when an instance comes or goes, and an instance that has
    /// much more than its share passes some on.
    RingHash {
        /// Where the key is looked for, in order; never empty. A request without a key goes anywhere.
        on: Vec<HashOn>,
    },
    /// By what is in the request, by a table: as even as can be, and nearly as stable as the ring.
    Maglev {
        /// Where the key is looked for, in order; never empty. A request without a key goes anywhere.
        on: Vec<HashOn>,
    },
}

impl LoadBalancing {
    /// The words of resources and of the wire.
    pub const WORDS: [&'static str; 6] = ["peakEwma", "leastRequest", "roundRobin", "random", "ringHash", "maglev"];

    /// The word for it.
    pub fn word(&self) -> &'static str {
        match self {
            LoadBalancing::PeakEwma => "peakEwma",
            LoadBalancing::LeastRequest => "leastRequest",
            LoadBalancing::RoundRobin => "roundRobin",
            LoadBalancing::Random => "random",
            LoadBalancing::RingHash { .. } => "ringHash",
            LoadBalancing::Maglev { .. } => "maglev",
        }
    }

    /// What a word means, with the places of the key; `None` for a word that is not known. The places are left out where
    /// they have no meaning.
    pub fn of_word(word: &str, on: Vec<HashOn>) -> Option<Self> {
        Some(match word {
            "peakEwma" => LoadBalancing::PeakEwma,
            "leastRequest" => LoadBalancing::LeastRequest,
            "roundRobin" => LoadBalancing::RoundRobin,
            "random" => LoadBalancing::Random,
            "ringHash" => LoadBalancing::RingHash { on },
            "maglev" => LoadBalancing::Maglev { on },
            _ => return None,
        })
    }

    /// Where the key is looked for; empty where there is none.
    pub fn hash_on(&self) -> &[HashOn] {
        match self {
            LoadBalancing::RingHash { on } | LoadBalancing::Maglev { on } => on,
            LoadBalancing::PeakEwma
            | LoadBalancing::LeastRequest
            | LoadBalancing::RoundRobin
            | LoadBalancing::Random => &[],
        }
    }
}

/// Where the key of a request is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HashOn {
    /// In this header, lower case.
    Header(String),
    /// In this cookie.
    Cookie {
        /// Name.
        name: String,
        /// A request without the cookie is answered with one that lives so long (zero: as long as the browser's session);
        /// `None` = it is not.
        ttl: Option<Duration>,
    },
    /// In this query parameter.
    Query(String),
    /// It is the address of the caller.
    SourceIp,
}
