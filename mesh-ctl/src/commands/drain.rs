//! `mesh-ctl drain`: orders sidecars to go down, by the controller, and follows how far they are.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    args,
    cluster::Controller,
    exit::{Exit, Failure},
    output::{self, Text, Tone, plain},
};

/// Pause between two looks at how far they are.
const LOOK: Duration = Duration::from_millis(250);

/// Gives the order, and waits if it is to.
///
/// # Errors
/// When the controller cannot be reached, or does not give the order.
pub(crate) async fn run(controller: &Controller, order: &args::Drain) -> Result<Exit, Failure> {
    let request = json!({ "name": order.name, "leaveNone": order.leave_none }).to_string();
    let answer = controller.send("/api/v1/drain", request.into_bytes()).await?;
    let whole: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let Some(items) = whole["items"].as_array() else {
        return Err(match whole["error"].as_str() {
            Some(reason) => Failure::plain(reason)
                .advise("`mesh-ctl get proxies` lists pods; --leave-none allows that a service keeps no instance"),
            None => controller.refused("/api/v1/drain", &answer),
        });
    };
    let mut pods: Vec<Pod> = items.iter().map(Pod::of).collect();
    let end = Instant::now() + order.timeout;
    while order.wait && !pods.iter().all(Pod::is_done) && Instant::now() < end {
        sleep(LOOK).await;
        take(&mut pods, &controller.items("proxies").await?);
    }
    let shown: Vec<Value> = pods.iter().map(Pod::value).collect();
    let text = match output::structured(&json!({ "items": shown }), order.output)? {
        Some(text) => text,
        None => output::lines(&output::table(&["NAMESPACE", "POD", "STATE"], pods.iter().map(Pod::row))),
    };
    output::print(&text);
    Ok(if order.wait && !pods.iter().all(Pod::is_done) { Exit::NotWell } else { Exit::Well })
}

/// Takes in how far they are, and says what changed.
fn take(pods: &mut [Pod], items: &[Value]) {
    let now: BTreeMap<(String, String, u64), Pod> = items.iter().map(Pod::of).map(|pod| (pod.key(), pod)).collect();
    for pod in pods {
        let life = match now.get(&pod.key()) {
            Some(found) => found.life.clone(),
            // Its stream has ended with it, or the next process of the pod is here.
            None => "gone".to_owned(),
        };
        if life != pod.life {
            pod.life = life;
            output::progress(&format!("{}/{}: {}", pod.namespace, pod.name, pod.life));
        }
    }
}

/// A pod that was ordered to drain.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pod {
    namespace: String,
    name: String,
    /// When its process began.
    started: u64,
    /// How far it is.
    life: String,
}

impl Pod {
    fn of(item: &Value) -> Pod {
        let text = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
        Pod {
            namespace: text("namespace"),
            name: text("pod"),
            started: item["started"].as_u64().unwrap_or_default(),
            life: text("life"),
        }
    }

    fn key(&self) -> (String, String, u64) {
        (self.namespace.clone(), self.name.clone(), self.started)
    }

    /// Nothing comes in any more.
    fn is_done(&self) -> bool {
        matches!(self.life.as_str(), "drained" | "gone")
    }

    /// What is shown for people.
    fn state(&self) -> &str {
        match self.life.as_str() {
            "draining" | "drained" | "gone" => &self.life,
            _ => "ordered",
        }
    }

    fn value(&self) -> Value {
        json!({ "namespace": self.namespace, "pod": self.name, "state": self.state() })
    }

    fn row(&self) -> Vec<Text> {
        let tone = if self.is_done() { Tone::Good } else { Tone::Odd };
        vec![plain(&self.namespace), plain(&self.name), (self.state().to_owned(), tone)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(started: u64, life: &str) -> Value {
        json!({ "namespace": "demo", "pod": "b-1", "started": started, "life": life })
    }

    #[test]
    fn a_pod_is_followed_until_its_process_is_drained_or_another_one_is_there() {
        let mut pods = [Pod::of(&item(7, "ready"))];
        assert_eq!((pods[0].state(), pods[0].is_done()), ("ordered", false));
        for (items, state, done) in [
            (vec![item(7, "ready")], "ordered", false),
            (vec![item(7, "draining")], "draining", false),
            (vec![item(7, "drained"), item(8, "not_ready")], "drained", true),
            (vec![item(8, "ready")], "gone", true),
        ] {
            take(&mut pods, &items);
            assert_eq!((pods[0].state(), pods[0].is_done()), (state, done), "{items:?}");
        }
    }
}
