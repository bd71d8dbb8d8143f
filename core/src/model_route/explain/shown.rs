//! Targets as proxies and controllers show them: JSON with stable names. Times are seconds, `p95` milliseconds.

use serde_json::{Map, Value, json};

use super::{Question, Row, Stand, Verdict};
use crate::{
    model::model_route::{ModelRoute, ModelTarget, VirtualModel, Word},
    model_route::{choice::Why, standing::State},
};

/// Whose word the states of an answer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// That of so many workers of a proxy, the worst of them.
    Workers(usize),
    /// Nobody's: only the route is known.
    Nothing,
}

/// The answer to a question, as `explain` found it.
pub fn answer(question: &Question, (route, model): (&ModelRoute, &VirtualModel), rows: &[Row], known: Known) -> Value {
    let row = |row: &Row| {
        let target = &model.targets[row.target];
        let mut shown = described(target);
        match known {
            Known::Workers(_) => stand(&mut shown, &row.stand),
            Known::Nothing => {}
        }
        shown.insert("model".to_owned(), json!(target.model_name(&question.model)));
        shown.insert("order".to_owned(), json!(row.order));
        shown.insert("chosen".to_owned(), json!(row.order == Some(1)));
        shown.insert("first".to_owned(), json!(row.first));
        shown.insert("why".to_owned(), json!(why(row, model)));
        Value::Object(shown)
    };
    let states = match known {
        Known::Workers(count) => format!("as {count} workers of the proxy see them; where they differ, the worst"),
        Known::Nothing => "not known: this is what the route alone says".to_owned(),
    };
    json!({
        "model": question.model,
        "route": route.name,
        "hosts": route.hosts,
        "virtualModel": model.name.to_string(),
        "lane": question.lane.as_ref().map(ToString::to_string),
        "attempts": model.retry.attempts,
        "onExhausted": model.on_exhausted.word(),
        "states": states,
        "targets": rows.iter().map(row).collect::<Vec<_>>(),
    })
}

/// One target in a list of all.
pub fn listed((route, model): (&ModelRoute, &VirtualModel), target: &ModelTarget, standing: Option<&Stand>) -> Value {
    let mut shown = described(target);
    shown.insert("route".to_owned(), json!(route.name));
    shown.insert("hosts".to_owned(), json!(route.hosts));
    shown.insert("model".to_owned(), json!(model.name.to_string()));
    shown.insert("targetModel".to_owned(), json!(target.model));
    if let Some(standing) = standing {
        stand(&mut shown, standing);
    }
    Value::Object(shown)
}

fn described(target: &ModelTarget) -> Map<String, Value> {
    let fields = [
        ("target", json!(target.name)),
        ("provider", json!(target.provider.as_str())),
        ("endpoint", json!(target.endpoint.to_string())),
        ("priority", json!(target.priority)),
        ("weight", json!(target.weight)),
        ("onlyLane", json!(target.lane)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn stand(shown: &mut Map<String, Value>, stand: &Stand) {
    let (state, reason, rests_for) = match stand.state {
        State::Ready => ("ready", None, None),
        State::Trial => ("trial", None, None),
        State::Resting { until, reason } => ("resting", Some(reason.as_str()), Some(until.as_secs_f64())),
    };
    // In thousandths: more is not known.
    let share = (stand.share * 1_000.0).round() / 1_000.0;
    shown.insert("state".to_owned(), json!(state));
    shown.insert("reason".to_owned(), json!(reason));
    shown.insert("restsFor".to_owned(), json!(rests_for));
    shown.insert("share".to_owned(), json!(share));
    shown.insert("p95".to_owned(), json!(stand.p95.map(|time| time.as_secs_f64() * 1_000.0)));
}

fn why(row: &Row, model: &VirtualModel) -> String {
    match (row.verdict, row.order) {
        (Verdict::Unable(unable), _) => unable.as_str().to_owned(),
        (Verdict::Beyond(_), _) => format!("not reached: {} attempts in all", model.retry.attempts),
        (Verdict::Asked(Why::Order | Why::Slow), Some(order)) if order > 1 => "when those before it fail".to_owned(),
        (Verdict::Asked(Why::LeastBad), Some(order)) if order > 1 => "rests; only when those before it fail".to_owned(),
        (Verdict::Asked(why), _) => why.to_string(),
    }
}
