//! Guards of lanes: once a second each active lane that has one is judged by what proxies reported, and drained where it
//! breaks its limits. A guard never takes a lane back into use: people do, and then it counts anew.
//!
//! With several replicas each judges by the proxies connected to it, and the first that sees a breach drains the lane; the
//! others find it drained.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_core::{
    lane::{
        guard::{Verdict, judge},
        transition::Verb,
    },
    model::lane::{LaneRef, LaneState},
    resources::{
        Resource, Spec,
        lane::{Guard, Lane},
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::{
    publish::statistics::Statistics,
    sources::{
        self,
        file::{LaneError, Request},
        lanes::{Order, OrderError},
    },
    telemetry::Metrics,
};

/// How often lanes are judged.
const INTERVAL: Duration = Duration::from_secs(1);
/// Reports that came so soon after a lane was taken into use tell of what was before.
const SETTLE: Duration = Duration::from_secs(5);

/// The guards of all lanes.
pub struct Guards {
    /// Resources in force.
    pub states: sources::States,
    /// What proxies reported.
    pub statistics: Arc<Statistics>,
    /// To the file source.
    pub requests: mpsc::Sender<Request>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// A lane that has a guard.
struct Guarded<'r> {
    name: LaneRef,
    lane: &'r Lane,
    guard: Guard,
}

impl Guards {
    /// Runs until `stopping`.
    pub async fn run(self, stopping: CancellationToken) {
        let mut tick = interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Lanes that could not be drained, with the stage in which that was: said once.
        let mut stuck: BTreeMap<LaneRef, Option<u64>> = BTreeMap::new();
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = tick.tick() => (),
            }
            let resources = self.states.resources();
            let guarded = guarded(resources.iter().flat_map(|list| list.iter()));
            let now = now();
            self.statistics.keep(guarded.iter().map(|one| one.guard.window), now);
            let verdicts = self.judge(&guarded, now);
            stuck.retain(|name, since| guarded.iter().any(|one| one.name == *name && one.lane.state_since == *since));
            for one in &guarded {
                let breach = verdicts.get(&one.name).filter(|verdict| verdict.is_breach());
                if let Some(verdict) = breach.filter(|_| !stuck.contains_key(&one.name))
                    && !self.drain(&one.name, verdict).await
                {
                    stuck.insert(one.name.clone(), one.lane.state_since);
                }
            }
            self.statistics.judged(verdicts);
        }
    }

    fn judge(&self, guarded: &[Guarded<'_>], now: u64) -> BTreeMap<LaneRef, Verdict> {
        let active = guarded.iter().filter(|one| one.lane.state == LaneState::Active);
        let verdict = |one: &Guarded<'_>| {
            let settled = one.lane.state_since.unwrap_or(0).saturating_add(milliseconds(SETTLE));
            let from = now.saturating_sub(milliseconds(one.guard.window)).max(settled);
            let (lane, baseline) = self.statistics.compare(&one.name, from);
            judge(&one.guard, &lane, &baseline)
        };
        active.map(|one| (one.name.clone(), verdict(one))).collect()
    }

    /// Drains a lane; false where that is not possible.
    async fn drain(&self, lane: &LaneRef, verdict: &Verdict) -> bool {
        let reason = format!("guard: {verdict}");
        let (answer, answered) = oneshot::channel();
        let order = Order::Move { verb: Verb::Drain, reason: reason.clone() };
        if self.requests.send(Request::Lane { lane: lane.clone(), order, answer }).await.is_err() {
            return false;
        }
        match answered.await {
            Ok(Ok(())) => {
                warn!(%lane, reason, "lane drained by its guard");
                self.metrics.guard_breached(verdict.label());
                true
            }
            // Somebody was faster.
            Ok(Err(LaneError::Order(OrderError::Refused(_) | OrderError::Unknown(_)))) => true,
            Ok(Err(refused @ (LaneError::Order(OrderError::Edit(_)) | LaneError::Apply(_)))) => {
                error!(%lane, reason, error = %refused, "the guard cannot drain the lane; drain it by hand");
                false
            }
            Err(_) => false,
        }
    }
}

fn guarded<'r>(resources: impl Iterator<Item = &'r Resource>) -> Vec<Guarded<'r>> {
    let mut guarded = Vec::new();
    for resource in resources {
        if let Spec::Lane(lane) = &resource.spec
            && let Some(guard) = lane.guard
        {
            let name = LaneRef { group: lane.group.clone(), lane: lane.name.clone() };
            guarded.push(Guarded { name, lane, guard });
        }
    }
    guarded
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn now() -> u64 {
    milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
