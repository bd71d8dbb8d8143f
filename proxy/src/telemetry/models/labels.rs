//! Labels of what is counted of calls to models.

/// Labels of a series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelKey {
    /// `<name>.<namespace>` of the route.
    pub route: String,
    /// Virtual model as the caller named it.
    pub model: String,
    /// Target.
    pub target: String,
    /// Its own name of the model.
    pub target_model: String,
    /// Its provider.
    pub provider: &'static str,
    /// Operation (`chat`, `embeddings`, …).
    pub operation: &'static str,
    /// Lane of the request; empty = none.
    pub lane: String,
}

/// As [`ModelKey`], for finding a series without building its labels anew.
#[derive(Clone, Copy, Debug)]
pub struct ModelLabels<'a> {
    /// `<name>.<namespace>` of the route.
    pub route: &'a str,
    /// Virtual model as the caller named it.
    pub model: &'a str,
    /// Target.
    pub target: &'a str,
    /// Its own name of the model.
    pub target_model: &'a str,
    /// Its provider.
    pub provider: &'static str,
    /// Operation.
    pub operation: &'static str,
    /// Lane of the request; empty = none.
    pub lane: &'a str,
}

impl ModelLabels<'_> {
    /// Where calls beyond the bound of combinations are counted.
    pub(super) const OTHER: ModelLabels<'static> = ModelLabels {
        route: "other",
        model: "other",
        target: "other",
        target_model: "other",
        provider: "other",
        operation: "other",
        lane: "",
    };

    /// Whether a series has these labels; what differs most often is compared first.
    pub(super) fn are(&self, key: &ModelKey) -> bool {
        key.target == self.target
            && key.model == self.model
            && key.lane == self.lane
            && key.route == self.route
            && key.target_model == self.target_model
            && key.operation == self.operation
            && key.provider == self.provider
    }

    pub(super) fn owned(&self) -> ModelKey {
        ModelKey {
            route: self.route.to_owned(),
            model: self.model.to_owned(),
            target: self.target.to_owned(),
            target_model: self.target_model.to_owned(),
            provider: self.provider,
            operation: self.operation,
            lane: self.lane.to_owned(),
        }
    }
}

/// A request that another target served than the first that was asked, or that ended behind its first token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FallbackKey {
    /// Route.
    pub route: String,
    /// Target that failed.
    pub from: String,
    /// Target that was asked next; empty = nobody was.
    pub to: String,
    /// Why.
    pub reason: &'static str,
    /// Whether the client had some of the answer already.
    pub committed: &'static str,
}

/// A failure that a caller forced for a drill.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DrillKey {
    /// Route.
    pub route: String,
    /// Target that was not asked.
    pub target: String,
    /// What is said of it.
    pub reason: &'static str,
}
