//! Repeats as one worker makes them: budgets by service, and what is decided of the attempts of one exchange. Core decides
//! ([`mesh_core::retry`]); this keeps what is left and counts.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::Duration,
};

use ahash::AHashMap;
use mesh_core::{
    model::policy::RetryBudget,
    retry::{self, Attempt, Budget, Cost, Decision, Extent, Failure, Refusal, Rules},
};

use crate::{
    datapath::enforce::{Plan, To},
    worker::Worker,
};

/// How often what requests earned is worked out.
const SETTLE: Duration = Duration::from_secs(1);

/// Budgets of the services that this worker called lately. Their names are the controller's, so that callers cannot make
/// there be more of them than it has.
#[derive(Debug)]
pub struct Budgets {
    known: RefCell<AHashMap<Arc<str>, Budget>>,
    workers: u32,
    settled: Cell<Duration>,
}

impl Budgets {
    /// Budgets of one of so many workers.
    pub fn new(workers: usize) -> Self {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX);
        Budgets { known: RefCell::default(), workers, settled: Cell::new(Duration::ZERO) }
    }

    /// A request to `service`.
    fn note(&self, service: &Arc<str>, policy: RetryBudget, now: impl FnOnce() -> Duration) {
        let mut known = self.known.borrow_mut();
        match known.get_mut(service) {
            Some(budget) => budget.note(),
            None => known.entry(Arc::clone(service)).or_insert(Budget::new(policy, self.workers, now())).note(),
        }
    }

    fn with<T>(&self, service: &Arc<str>, policy: RetryBudget, now: Duration, ask: impl FnOnce(&mut Budget) -> T) -> T {
        let mut known = self.known.borrow_mut();
        ask(known.entry(Arc::clone(service)).or_insert_with(|| Budget::new(policy, self.workers, now)))
    }

    /// Works out what requests earned, and forgets services that are not called any more. Cheap, called often.
    pub fn tick(&self, now: Duration) {
        if now.saturating_sub(self.settled.get()) < SETTLE {
            return;
        }
        self.settled.set(now);
        self.known.borrow_mut().retain(|_, budget| {
            budget.settle(now);
            !budget.is_blank()
        });
    }
}

/// What may be repeated of one exchange.
pub struct Repeats<'a> {
    worker: &'a Worker,
    service: &'a Arc<str>,
    rules: Rules<'a>,
}

/// Whether a repeat is paid for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Payment {
    /// It is to be made now.
    Due,
    /// Somebody wants to know whether it could be.
    Asked,
}

impl<'a> Repeats<'a> {
    /// The repeats of an exchange that begins.
    pub fn new(worker: &'a Worker, plan: &'a Plan) -> Self {
        let extent = match plan.to {
            To::Application(_) => Extent::Unsent,
            To::Service(_) | To::Endpoint(_) | To::Outside(_) | To::Provider(..) => Extent::All,
        };
        let rules = Rules { policy: &plan.traffic.retries, route: plan.retry.as_ref(), extent };
        if rules.attempts() > 1 {
            worker.retries.note(&plan.service, plan.traffic.retries.budget, || worker.now());
        }
        Repeats { worker, service: &plan.service, rules }
    }

    /// Longest request body that is kept; `None` where nothing is repeated.
    pub fn body_limit(&self) -> Option<usize> {
        (self.rules.attempts() > 1).then(|| self.rules.body_limit())
    }

    /// Whether a failure is one of those that are repeated at all.
    pub fn names(&self, failure: Failure) -> bool {
        self.rules.names(failure)
    }

    /// Whether another attempt would be made now. Nothing is paid; a refusal is counted.
    pub fn ask(&self, attempt: &Attempt<'_>) -> Decision {
        self.judge(attempt, Payment::Asked)
    }

    /// Whether another attempt is made. It is paid for; a refusal is counted.
    pub fn decide(&self, attempt: &Attempt<'_>) -> Decision {
        self.judge(attempt, Payment::Due)
    }

    fn judge(&self, attempt: &Attempt<'_>, payment: Payment) -> Decision {
        let is_paid = || match (attempt.failure.cost(), payment) {
            (Cost::Nothing, _) => true,
            (Cost::Repeat, Payment::Due) => self.budget(Budget::take),
            (Cost::Repeat, Payment::Asked) => self.budget(Budget::has),
        };
        let decision = match retry::decide(attempt, &self.rules) {
            Decision::Repeat(_) if !is_paid() => Decision::GiveUp(Refusal::BudgetUsed),
            decision => decision,
        };
        if let Decision::GiveUp(refusal) = decision {
            self.worker.sink.metrics.retries_refused[refusal as usize].add(1);
        }
        decision
    }

    fn budget(&self, ask: impl FnOnce(&mut Budget, RetryBudget, Duration) -> bool) -> bool {
        let (policy, now) = (self.rules.policy.budget, self.worker.now());
        self.worker.retries.with(self.service, policy, now, |budget| ask(budget, policy, now))
    }

    /// How long to wait before the attempt that follows `attempt`; `None` = not at all.
    pub fn pause(&self, attempt: &Attempt<'_>) -> Option<Duration> {
        match (self.rules.extent, attempt.failure.cost()) {
            // The caller's sidecar waits, which has other instances to ask.
            (Extent::Unsent, _) | (Extent::All, Cost::Nothing) => None,
            (Extent::All, Cost::Repeat) => {
                Some(retry::pause(&self.rules.policy.backoff, attempt.made, self.worker.random()))
            }
        }
    }
}
