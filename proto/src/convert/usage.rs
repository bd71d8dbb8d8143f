//! What proxies report of models: `mesh.v1.TargetUsage` ↔ [`Used`].

use mesh_core::model_route::usage::{Used, UsedOf};

use crate::mesh::v1 as wire;

/// Most targets in one report.
pub const TARGETS_MAX: usize = 1_000;
/// Longest name that is read, characters; what is beyond is cut off.
const NAME_MAX: usize = 300;

/// The message.
pub fn to_wire(of: &UsedOf, used: &Used) -> wire::TargetUsage {
    wire::TargetUsage {
        route: of.route.clone(),
        model: of.model.clone(),
        target: of.target.clone(),
        target_model: of.target_model.clone(),
        lane: of.lane.clone(),
        served: used.served,
        failed: used.failed,
        input: used.input,
        output: used.output,
        cached: used.cached,
        estimated: used.estimated,
        money: used.money,
    }
}

/// Reads the message.
pub fn from_wire(message: &wire::TargetUsage) -> (UsedOf, Used) {
    let name = |text: &str| text.chars().take(NAME_MAX).collect();
    let of = UsedOf {
        route: name(&message.route),
        model: name(&message.model),
        target: name(&message.target),
        target_model: name(&message.target_model),
        lane: name(&message.lane),
    };
    let used = Used {
        served: message.served,
        failed: message.failed,
        input: message.input,
        output: message.output,
        cached: message.cached,
        estimated: message.estimated,
        money: message.money,
    };
    (of, used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_reads_back_as_it_was_and_long_names_are_cut() {
        let name = |text: &str| text.to_owned();
        let of = UsedOf {
            route: name("chat.ai"),
            model: name("chat"),
            target: name("gpt"),
            target_model: name("gpt-4o"),
            lane: name("demo/canary"),
        };
        let used = Used { served: 1, failed: 2, input: 3, output: 4, cached: 5, estimated: 6, money: 7 };
        assert_eq!(from_wire(&to_wire(&of, &used)), (of.clone(), used));
        let long = UsedOf { model: "ä".repeat(1_000), ..of };
        assert_eq!(from_wire(&to_wire(&long, &used)).0.model.chars().count(), NAME_MAX);
    }
}
