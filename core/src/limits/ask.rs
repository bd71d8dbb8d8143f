//! How much an exchange uses of each kind of limit, before (estimated) and after (as it was).

use crate::model::model_route::{Counted, NamePattern, Price, Usage};

/// Tokens for which a price is written.
const PRICED_TOKENS: u128 = 1_000_000;

/// What a model's tokens cost, in millionths of a unit of money for a million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Tokens read.
    pub input: u64,
    /// Tokens read from the provider's cache.
    pub cached: u64,
    /// Tokens written.
    pub output: u64,
}

impl Rates {
    /// Of a model as its target names it: the most exact pattern counts. `None` where no price is written.
    pub fn of(prices: &[Price], model: &str) -> Option<Rates> {
        let rank = |price: &&Price| match &price.model {
            NamePattern::Exact(name) => (name == model).then_some(usize::MAX),
            NamePattern::Prefix(prefix) => model.starts_with(prefix.as_str()).then_some(prefix.len() + 1),
            NamePattern::Any => Some(0),
        };
        let best = prices.iter().filter_map(|price| Some((rank(&price)?, price))).max_by_key(|(rank, _)| *rank);
        best.map(|(_, price)| Rates { input: price.input, cached: price.cached, output: price.output })
    }

    /// Millionths of a unit of money, rounded up: many cheap calls are not free.
    pub fn cost(&self, usage: &Usage) -> u64 {
        let cached = usage.cached.min(usage.input);
        let of = |tokens: u64, rate: u64| u128::from(tokens) * u128::from(rate);
        let parts = [of(usage.input - cached, self.input), of(cached, self.cached), of(usage.output, self.output)];
        let sum = parts.into_iter().fold(0, u128::saturating_add);
        u64::try_from(sum.div_ceil(PRICED_TOKENS)).unwrap_or(u64::MAX)
    }
}

/// What an exchange is expected to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Tokens to be read.
    pub input: u64,
    /// Tokens to be written.
    pub output: u64,
    /// What they cost; without, money limits do not see it.
    pub rates: Option<Rates>,
}

impl Ask {
    /// How much of a limit of this kind is reserved: never 0 of what is used up by asking, so that an exhausted limit
    /// refuses whatever the estimate says.
    pub(super) fn of(&self, counted: Counted) -> u64 {
        let usage = Usage { input: self.input, output: self.output, cached: 0 };
        let amount = used(counted, &usage, self.rates.map_or(0, |rates| rates.cost(&usage)));
        match counted {
            Counted::Money if self.rates.is_none() => 0,
            Counted::Money | Counted::Input | Counted::Output | Counted::Total => amount.max(1),
            Counted::Requests | Counted::Concurrent => amount,
        }
    }
}

/// How much of a limit of this kind was used, at this cost.
pub(super) fn used(counted: Counted, usage: &Usage, money: u64) -> u64 {
    match counted {
        Counted::Input => usage.input,
        Counted::Output => usage.output,
        Counted::Total => usage.input.saturating_add(usage.output),
        Counted::Requests | Counted::Concurrent => 1,
        Counted::Money => money,
    }
}
