//! What was used of models, as proxies report it and the controller adds it up.

/// Whose use it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsedOf {
    /// `<name>.<namespace>` of the route.
    pub route: String,
    /// Virtual model, as callers wrote it.
    pub model: String,
    /// Target.
    pub target: String,
    /// Its own name of the model.
    pub target_model: String,
    /// Lane of the requests; empty = none.
    pub lane: String,
}

/// Amounts that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Attempts that served.
    pub served: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Tokens read, cached ones included.
    pub input: u64,
    /// Tokens written.
    pub output: u64,
    /// Of `input`, those read from caches of providers.
    pub cached: u64,
    /// Of `input` and `output`, those that are estimated because the target did not say.
    pub estimated: u64,
    /// Money, in millionths of its unit.
    pub money: u64,
}

impl Used {
    /// All amounts, in order of declaration.
    pub fn amounts(&self) -> [u64; 7] {
        let Used { served, failed, input, output, cached, estimated, money } = *self;
        [served, failed, input, output, cached, estimated, money]
    }

    /// Of all amounts, in order of declaration.
    pub fn of_amounts([served, failed, input, output, cached, estimated, money]: [u64; 7]) -> Used {
        Used { served, failed, input, output, cached, estimated, money }
    }

    /// Adds.
    pub fn add(&mut self, more: &Used) {
        *self = self.with(more, u64::saturating_add);
    }

    /// What came since `before`.
    #[must_use]
    pub fn since(&self, before: &Used) -> Used {
        self.with(before, u64::saturating_sub)
    }

    fn with(&self, other: &Used, of: impl Fn(u64, u64) -> u64) -> Used {
        Used {
            served: of(self.served, other.served),
            failed: of(self.failed, other.failed),
            input: of(self.input, other.input),
            output: of(self.output, other.output),
            cached: of(self.cached, other.cached),
            estimated: of(self.estimated, other.estimated),
            money: of(self.money, other.money),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_up_is_what_came_and_nothing_overflows() {
        let one = Used { served: 3, failed: 1, input: 100, output: 50, cached: 20, estimated: 10, money: 7 };
        let mut sum = one;
        sum.add(&one);
        assert_eq!(sum.since(&one), one);
        assert_eq!(one.since(&sum), Used::default());
        assert_eq!((one.amounts(), Used::of_amounts(one.amounts())), ([3, 1, 100, 50, 20, 10, 7], one));
        sum.add(&Used { money: u64::MAX, ..Used::default() });
        assert_eq!(sum.money, u64::MAX);
    }
}
