//! What limits would say to a call that is only thought of: nothing is reserved, nothing is counted.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    ask::Ask,
    decisions::{self, Decisions},
    key::Key,
    ledger::{Ledger, Quota, Standing, Why, shapes, why},
    table::Limited,
    tally::{AMOUNT_MAX, Shape},
};
use crate::model::model_route::{Counted, Word as _};

/// How one limit finds a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Name of the limit, as in metrics.
    pub name: String,
    /// How it stands.
    pub standing: Standing,
    /// What the call asks of it.
    pub asked: u64,
    /// Why it would refuse, or say so in shadow mode; `None` = it would not.
    pub refuses: Option<Why>,
}

impl Ledger {
    /// What each limit of the quota would say.
    pub fn look(&self, quota: &Quota<'_>, key: &Key, ask: &Ask, now: Duration) -> Vec<Look> {
        let shapes = shapes(quota.limits);
        let store = self.store_of(quota);
        let decisions = |shape: &Shape| Decisions::new(quota.route, "", decisions::name(shape));
        let limited = Limited { shapes: &shapes, store: store.as_ref(), decisions: &decisions };
        let account = self.table.look(key, &limited);
        let of = |(limit, tally)| {
            let standing = Standing::of(tally, limit, now);
            let window = tally.shape.window_at(tally.time(now));
            let asked = ask.of(limit.of);
            let has_room =
                tally.spent(window).saturating_add(asked) <= tally.bound(window, limit.amount.min(AMOUNT_MAX));
            let refuses = (!has_room).then(|| why(tally, &standing, asked));
            Look { name: decisions::name(&tally.shape), standing, asked, refuses }
        };
        quota.limits.iter().zip(account.tallies.iter().map(Arc::as_ref)).map(of).collect()
    }
}

impl Look {
    /// As explanations have it: seconds, and money in its unit. `target` is empty for limits of callers.
    pub fn shown(&self, target: Option<&str>) -> Value {
        let Standing { limit, remaining, reset } = &self.standing;
        let shown = |amount: u64| match limit.of {
            Counted::Money => json!(amount as f64 / 1e6),
            Counted::Input | Counted::Output | Counted::Total | Counted::Requests | Counted::Concurrent => {
                json!(amount)
            }
        };
        json!({
            "target": target,
            "limit": self.name,
            "mode": limit.mode.word(),
            "amount": shown(limit.amount),
            "remaining": shown(*remaining),
            "asked": shown(self.asked),
            "resetsIn": if limit.of == Counted::Concurrent { Value::Null } else { json!(reset.as_secs_f64()) },
            "refuses": self.refuses.map(Why::as_str),
        })
    }
}
