//! Targets and models for tests of this folder.

use std::sync::Arc;

use crate::model::model_route::{
    Capabilities, Credential, Failure, ModelEndpoint, ModelTarget, NamePattern, Provider, Reason, Security,
    VirtualModel,
};

/// A target `name` at a place of its own, of this priority, that can do everything but what is special.
pub(super) fn target(name: &str, priority: u32) -> ModelTarget {
    ModelTarget {
        name: name.to_owned(),
        provider: Provider::Openai,
        endpoint: ModelEndpoint::External {
            security: Security::SystemRoots,
            host: format!("{name}.example"),
            port: 443,
            prefix: String::new(),
            proxy: None,
        },
        model: Some(format!("{name}-model")),
        credential: Some(Credential::File(format!("/keys/{name}"))),
        priority,
        weight: 1,
        lane: None,
        context_window: None,
        capabilities: Capabilities::default(),
        limits: Vec::new(),
    }
}

/// The model `m` with these targets and every default, except that the budget never ends.
pub(super) fn model(targets: Vec<ModelTarget>) -> VirtualModel {
    let mut model = VirtualModel {
        name: NamePattern::Exact("m".to_owned()),
        targets: targets.into_iter().map(Arc::new).collect(),
        timers: Default::default(),
        retry: Default::default(),
        hedge: Default::default(),
        escalate: Default::default(),
        on_exhausted: Default::default(),
        mid_stream: Default::default(),
    };
    model.retry.budget_percent = 1_000_000;
    model
}

/// A failure of this reason.
pub(super) fn failure(reason: Reason) -> Failure {
    Failure { reason, status: 500, message: reason.as_str().to_owned(), code: None, retry_after: None }
}
