//! How many requests a service takes (`rateLimits` of a traffic policy), decided by the sidecar in front of it.
//!
//! Each [`Rule`] has a count for every key: a token bucket in this process, or a share of one that all sidecars of the
//! service spend from leases. Requests are held against the rules of their port one after the other, without a lock, and
//! without memory of their own unless a key is new.

mod bucket;
mod counts;
mod key;
mod refused;
mod rules;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use self::{bucket::Pace, counts::Taken};
use super::{
    decisions::Decisions,
    ledger::{Ledger, Why},
};
use crate::model::model_route::LimitMode;

pub use self::{
    counts::Counts,
    key::Asked,
    refused::Refused,
    rules::{PortRules, Rule, Rules},
};

/// Health checks that are let through before every limit, of each process. Further ones count as any request: nobody can
/// pass the limits with the path of a health check.
pub const HEALTH_CHECKS_PER_SECOND: u64 = 200;

impl Ledger {
    /// Takes a request from every limit of its port that it meets, or from none.
    ///
    /// # Errors
    /// The first limit that is used up and refuses.
    pub fn admit(&self, port: &PortRules, asked: &Asked<'_>, now: Duration) -> Result<(), Box<Refused>> {
        if port.is_health_check(asked) && self.rates.takes_health_check(now) {
            return Ok(());
        }
        // Limits in shadow mode from which nothing was taken.
        let mut shadowed: Vec<usize> = Vec::new();
        for (at, rule) in port.rules().iter().enumerate() {
            let Some(found) = rule.found(asked) else { continue };
            match (self.take_request(rule, asked, found, now), rule.limit.mode) {
                (Taken::Whole, LimitMode::Enforce | LimitMode::Shadow) => {}
                // As if it had been refused, so that what is counted is what would be.
                (Taken::Nothing(_), LimitMode::Shadow) => shadowed.push(at),
                (Taken::Nothing(refused), LimitMode::Enforce) => {
                    self.give_requests_back(&port.rules()[..at], &shadowed, asked, now);
                    return Err(refused);
                }
            }
        }
        Ok(())
    }

    /// Decisions of each limit, for metrics: `route` is the service.
    pub fn rate_decisions(&self) -> Arc<Vec<Arc<Decisions>>> {
        self.rates.decisions()
    }

    /// Keys of requests that were forgotten for others.
    pub fn rate_keys_forgotten(&self) -> u64 {
        self.rates.forgotten()
    }

    fn give_requests_back(&self, rules: &[Rule], shadowed: &[usize], asked: &Asked<'_>, now: Duration) {
        for (at, rule) in rules.iter().enumerate() {
            if let Some(found) = rule.found(asked).filter(|_| !shadowed.contains(&at)) {
                self.rates.give_back(rule, asked, found, now);
            }
        }
    }
}
