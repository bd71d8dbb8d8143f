//! Which targets outside of the mesh are kept warm: those that a used model would ask first, as long as it is used.

use std::{cell::RefCell, sync::Arc, time::Duration};

use mesh_core::model::model_route::{ModelEndpoint, ModelTarget, VirtualModel};
use tokio::sync::Notify;

/// How long after its last use a target is kept warm.
const KEPT_FOR: Duration = Duration::from_secs(300);
/// A target that could not be reached is left alone for so long.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// Targets that one worker keeps warm; further ones are dialled when they are asked.
const TARGETS_MAX: usize = 32;

/// Targets of one worker that are kept warm.
#[derive(Debug, Default)]
pub struct Warm {
    kept: RefCell<Vec<Kept>>,
    /// Told when a target is to be kept warm that was not.
    pub changed: Notify,
}

#[derive(Debug)]
struct Kept {
    target: Arc<ModelTarget>,
    connect: Duration,
    until: Duration,
    /// Not looked at before.
    next: Duration,
}

impl Warm {
    /// A model is used: its best targets outside of the mesh are kept warm from now on.
    pub fn used(&self, model: &VirtualModel, now: Duration) {
        let outside = || model.targets.iter().filter(|target| target.weight > 0 && is_outside(target));
        let Some(best) = outside().map(|target| target.priority).min() else { return };
        let (mut kept, until) = (self.kept.borrow_mut(), now.saturating_add(KEPT_FOR));
        for target in outside().filter(|target| target.priority == best) {
            let is_room = kept.len() < TARGETS_MAX;
            match kept.iter_mut().find(|kept| Arc::ptr_eq(&kept.target, target)) {
                Some(known) => known.until = until,
                None if is_room => {
                    let target = Arc::clone(target);
                    kept.push(Kept { target, connect: model.timers.connect, until, next: now });
                    self.changed.notify_one();
                }
                None => {}
            }
        }
    }

    /// Targets that are to be looked at now, and how long it may take to connect to each. Those not used any more are
    /// forgotten.
    pub fn due(&self, now: Duration) -> Vec<(Arc<ModelTarget>, Duration)> {
        let mut kept = self.kept.borrow_mut();
        kept.retain(|kept| kept.until > now);
        let due = kept.iter().filter(|kept| kept.next <= now);
        due.map(|kept| (Arc::clone(&kept.target), kept.connect)).collect()
    }

    /// Whether none is kept warm.
    pub fn is_empty(&self) -> bool {
        self.kept.borrow().is_empty()
    }

    /// A target could not be reached: it is looked at later.
    pub fn failed(&self, target: &Arc<ModelTarget>, now: Duration) {
        let mut kept = self.kept.borrow_mut();
        if let Some(known) = kept.iter_mut().find(|kept| Arc::ptr_eq(&kept.target, target)) {
            known.next = now.saturating_add(RETRY_AFTER);
        }
    }
}

fn is_outside(target: &ModelTarget) -> bool {
    match target.endpoint {
        ModelEndpoint::External { .. } => true,
        ModelEndpoint::Service { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use mesh_core::model::model_route::{Capabilities, NamePattern, Provider, Security};

    use super::*;

    fn target(name: &str, endpoint: ModelEndpoint, priority: u32) -> Arc<ModelTarget> {
        Arc::new(ModelTarget {
            name: name.to_owned(),
            provider: Provider::Openai,
            endpoint,
            model: None,
            credential: None,
            priority,
            weight: 1,
            lane: None,
            context_window: None,
            capabilities: Capabilities::default(),
            limits: Vec::new(),
        })
    }

    fn model() -> VirtualModel {
        let outside = |host: &str| ModelEndpoint::External {
            security: Security::SystemRoots,
            host: host.to_owned(),
            port: 443,
            prefix: String::new(),
            proxy: None,
        };
        let inside = ModelEndpoint::Service { authority: "small.ai:80".to_owned(), prefix: String::new() };
        let targets = vec![
            target("small", inside, 0),
            target("one", outside("one"), 1),
            target("two", outside("two"), 1),
            target("last", outside("last"), 2),
        ];
        VirtualModel {
            name: NamePattern::Any,
            targets,
            timers: Default::default(),
            retry: Default::default(),
            hedge: Default::default(),
            escalate: Default::default(),
            on_exhausted: Default::default(),
            mid_stream: Default::default(),
        }
    }

    #[test]
    fn best_targets_outside_are_kept_warm_until_their_model_was_not_used_for_long() {
        let (warm, model, at) = (Warm::default(), model(), Duration::from_secs);
        let due = |now| warm.due(at(now)).iter().map(|(target, _)| target.name.clone()).collect::<Vec<_>>();
        assert!(warm.is_empty());
        warm.used(&model, at(10));
        assert_eq!(due(10), ["one", "two"]);
        warm.failed(&model.targets[1], at(10));
        assert_eq!((due(39), due(40)), (vec!["two".to_owned()], vec!["one".to_owned(), "two".to_owned()]));
        warm.used(&model, at(200));
        assert_eq!(due(499).len(), 2);
        assert_eq!(due(500).len(), 0);
        assert!(warm.is_empty());
    }

    #[test]
    fn no_more_targets_are_kept_warm_than_the_bound() {
        let (warm, now) = (Warm::default(), Duration::ZERO);
        (0..TARGETS_MAX).for_each(|_| warm.used(&model(), now));
        assert_eq!(warm.due(now).len(), TARGETS_MAX);
    }
}
