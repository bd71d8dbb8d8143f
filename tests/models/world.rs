//! A mesh in which an application calls models: one pod with a sidecar that calls, providers that are stood in for outside
//! of the mesh and in it, and a route to them.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use mesh_tests::{
    client::{self, Version},
    mesh::Mesh,
    models::{
        events::{self, Answer},
        sdk::{Api, Ask},
        stand_in::{Bill, Received, StandIn, Target},
    },
    pod::PodSpec,
    wait::{PATIENCE, until},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Virtual host of the models.
pub(crate) const HOST: &str = "llm.demo";
/// Pod of the application that calls.
pub(crate) const CALLER: &str = "client";
/// First port of targets outside of the mesh.
const FIRST_PORT: u16 = 9_000;
/// Last octet of their address.
const OUTSIDE: u8 = 200;

/// Where a target is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Outside,
    /// A service of this name, instances with sidecars.
    InMesh,
}

/// An instance of a service of the mesh.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    /// Its pod, and name at the stand-in.
    pub(crate) pod: &'static str,
    /// Its zone.
    pub(crate) zone: Option<&'static str>,
    /// Value of its label `lane`.
    pub(crate) lane: Option<&'static str>,
}

/// A target of a virtual model.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    name: String,
    provider: String,
    place: Place,
    fields: Value,
    instances: Vec<Instance>,
}

impl Served {
    /// A target outside of the mesh that wants the key `key-of-<name>`.
    pub(crate) fn outside(name: &str, provider: &str) -> Served {
        let (name, provider) = (name.to_owned(), provider.to_owned());
        Served { name, provider, place: Place::Outside, fields: json!({}), instances: Vec::new() }
    }

    /// A target in the mesh, a service of its own name, without key.
    pub(crate) fn in_mesh(name: &str, provider: &str) -> Served {
        Served { place: Place::InMesh, ..Served::outside(name, provider) }
    }

    /// Its instances in the mesh; one of its own name unless told.
    pub(crate) fn instances(self, instances: &[Instance]) -> Served {
        Served { instances: instances.to_vec(), ..self }
    }

    /// Pods of a target in the mesh.
    fn pods(&self) -> Vec<PodSpec> {
        if self.instances.is_empty() {
            return vec![PodSpec::new(&self.name).of(&self.name).protocol("http1")];
        }
        let pod = |instance: &Instance| {
            let mut pod = PodSpec::new(instance.pod).of(&self.name).protocol("http1").account(&self.name);
            if let Some(zone) = instance.zone {
                pod = pod.zone(zone);
            }
            match instance.lane {
                Some(lane) => pod.label("lane", lane),
                None => pod,
            }
        };
        self.instances.iter().map(pod).collect()
    }

    /// Names at the stand-in.
    fn names(&self) -> Vec<String> {
        if self.instances.is_empty() {
            return vec![self.name.clone()];
        }
        self.instances.iter().map(|instance| instance.pod.to_owned()).collect()
    }

    /// A field of the target as the resource has it.
    pub(crate) fn with(mut self, field: &str, value: Value) -> Served {
        self.fields[field] = value;
        self
    }

    /// Tried after those of lower priority.
    pub(crate) fn priority(self, priority: u32) -> Served {
        self.with("priority", json!(priority))
    }
}

/// A virtual model.
#[derive(Clone, Debug)]
pub(crate) struct Virtual {
    name: String,
    targets: Vec<Served>,
    fields: Value,
}

impl Virtual {
    /// A model with these targets, tried in this order, patient enough for a busy machine.
    pub(crate) fn new(name: &str, targets: Vec<Served>) -> Virtual {
        let fields = json!({
            "timers": {"connect": "1s", "firstToken": "2s", "idle": "2s", "total": "60s"},
            "retry": {"attempts": 3, "budget": "100%"},
        });
        let in_order = (0..).zip(targets).map(|(priority, target)| match target.fields.get("priority") {
            Some(_) => target,
            None => target.priority(priority),
        });
        Virtual { name: name.to_owned(), targets: in_order.collect(), fields }
    }

    /// A field of the model as the resource has it.
    pub(crate) fn with(mut self, field: &str, value: Value) -> Virtual {
        self.fields[field] = value;
        self
    }
}

/// The running world.
pub(crate) struct World {
    /// The mesh.
    pub(crate) mesh: Mesh,
    /// All providers.
    pub(crate) stand_in: StandIn,
    models: Vec<Virtual>,
    callers: Vec<&'static str>,
    /// `spec.tokens` of the route.
    tokens: Value,
    keys: TempDir,
}

impl World {
    /// Starts it and waits until the route is in force.
    pub(crate) async fn start(models: Vec<Virtual>) -> World {
        World::start_with(models, |pod| pod).await
    }

    /// As [`World::start`], with a caller that differs.
    pub(crate) async fn start_with(models: Vec<Virtual>, caller: impl FnOnce(PodSpec) -> PodSpec) -> World {
        World::start_among(models, caller, &[]).await
    }

    /// As [`World::start_with`], with these resources besides, YAML documents.
    pub(crate) async fn start_among(
        models: Vec<Virtual>,
        caller: impl FnOnce(PodSpec) -> PodSpec,
        resources: &[&str],
    ) -> World {
        World::start_of(models, vec![(CALLER, caller(PodSpec::new(CALLER)))], json!({}), resources).await
    }

    /// As [`World::start`], with callers of these names who share limits, as `spec.tokens` has them.
    pub(crate) async fn start_limited(models: Vec<Virtual>, callers: &[&'static str], tokens: Value) -> World {
        let callers = callers.iter().map(|name| (*name, PodSpec::new(name).account(CALLER))).collect();
        World::start_of(models, callers, tokens, &[]).await
    }

    async fn start_of(
        models: Vec<Virtual>,
        callers: Vec<(&'static str, PodSpec)>,
        tokens: Value,
        resources: &[&str],
    ) -> World {
        let names = callers.iter().map(|(name, _)| *name).collect();
        let mut builder = callers.into_iter().fold(Mesh::builder(), |builder, (_, pod)| builder.pod(pod));
        for served in targets(&models).filter(|served| served.place == Place::InMesh) {
            for pod in served.pods() {
                builder = builder.pod(pod);
            }
        }
        for resource in resources {
            builder = builder.resource(resource);
        }
        let mesh = builder.start().await;
        let keys = TempDir::with_prefix("lanemesh-keys-").expect("a temporary folder");
        let mut stood_in = Vec::new();
        for (port, served) in (FIRST_PORT..).zip(targets(&models)) {
            // What Azure, DashScope and others have of OpenAI's dialect they have under other paths.
            let provider = if served.provider == "openai-compatible" { "openai" } else { &served.provider };
            for name in served.names() {
                stood_in.push(match served.place {
                    Place::Outside => Target::new(&name, provider, SocketAddr::new(mesh.address(OUTSIDE), port)),
                    Place::InMesh => Target::new(&name, provider, mesh.application(&name)).open(),
                });
            }
        }
        for target in &stood_in {
            std::fs::write(keys.path().join(&target.name), &target.key).expect("the temporary folder is writable");
        }
        let stand_in = StandIn::start(stood_in).await;
        let world = World { mesh, stand_in, models, callers: names, tokens, keys };
        world.mesh.write_source("models.yaml", &world.route().to_string());
        world.in_force().await;
        world
    }

    /// The resource; JSON is YAML.
    pub(crate) fn route(&self) -> Value {
        let models: Vec<Value> = self.models.iter().map(|model| self.model(model)).collect();
        json!({
            "apiVersion": "lanemesh.io/v1alpha1",
            "kind": "ModelRoute",
            "metadata": {"name": "models", "namespace": "demo"},
            "spec": {"hosts": [HOST], "models": models, "tokens": self.tokens},
        })
    }

    fn model(&self, model: &Virtual) -> Value {
        let mut fields = model.fields.clone();
        fields["name"] = json!(model.name);
        fields["targets"] = model.targets.iter().map(|served| self.target(served)).collect();
        fields
    }

    fn target(&self, served: &Served) -> Value {
        let mut fields = json!({"name": served.name, "provider": served.provider});
        match served.place {
            Place::Outside => {
                let url = self.stand_in.url(&served.name);
                let prefix = if served.provider == "dashscope" { "/compatible-mode" } else { "" };
                fields["endpoint"] = json!(format!("{url}{prefix}"));
                fields["credential"] = json!({"file": self.key_file(&served.name)});
            }
            Place::InMesh => fields["endpoint"] = json!({"service": format!("{}.demo:80", served.name)}),
        }
        for (name, value) in served.fields.as_object().expect("fields are an object") {
            fields[name] = value.clone();
        }
        fields
    }

    /// The file with a target's key.
    pub(crate) fn key_file(&self, target: &str) -> PathBuf {
        self.keys.path().join(target)
    }

    async fn in_force(&self) {
        let names: Vec<&str> = self.models.iter().map(|model| model.name.as_str()).collect();
        for caller in &self.callers {
            until("the model route is in force", PATIENCE, || async {
                let outbound = self.mesh.pod(caller).outbound();
                let answer = client::get(outbound, Version::Http1, HOST, "/v1/models", &[]).await.ok()?;
                let listed: Value = serde_json::from_slice(&answer.body).ok()?;
                let models = listed["data"].as_array()?.iter();
                let ids: Vec<&str> = models.filter_map(|model| model["id"].as_str()).collect();
                names.iter().all(|name| name.contains('*') || ids.contains(name)).then_some(())
            })
            .await;
        }
    }

    /// Where the application sends its calls.
    pub(crate) fn outbound(&self) -> SocketAddr {
        self.mesh.pod(CALLER).outbound()
    }

    /// A call of a model by an SDK, as an application makes it: the host is a header, a key there is not.
    pub(crate) fn ask(&self, api: Api, model: &str) -> Ask {
        Ask::new(api, &format!("http://{}", self.outbound())).header("Host", HOST).model(model)
    }

    /// A call of Gemini's API without SDK.
    pub(crate) async fn gemini(&self, model: &str, streaming: Streaming) -> Answer {
        let body = json!({"contents": [{"role": "user", "parts": [{"text": "one two three"}]}]});
        self.post(&gemini_path(model, streaming), &body).await
    }

    /// A call without SDK.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        events::post(self.outbound(), HOST, path, &[], body).await
    }

    /// Bills of a target, once nothing is under way.
    pub(crate) async fn bills_of(&self, target: &str) -> Vec<Bill> {
        self.stand_in.settled().await.into_iter().filter(|bill| bill.target == target).collect()
    }

    /// Tokens of prompts and answers that the caller's sidecar counted, by target.
    pub(crate) async fn accounted(&self) -> BTreeMap<String, (u64, u64)> {
        let metrics = self.mesh.pod(CALLER).metrics().await;
        let mut counted = BTreeMap::new();
        for sample in metrics.samples.iter().filter(|sample| sample.name == "mesh_model_tokens_total") {
            let (input, output): &mut (u64, u64) = counted.entry(sample.labels["target"].clone()).or_default();
            match sample.labels["gen_ai_token_type"].as_str() {
                "input" => *input += sample.value as u64,
                "output" => *output += sample.value as u64,
                _ => {}
            }
        }
        counted
    }

    /// What the sidecar counted equals what each target billed.
    ///
    /// # Panics
    /// When not.
    pub(crate) async fn assert_accounted(&self) {
        let bills = self.stand_in.settled().await;
        let counted = self.accounted().await;
        let mut differ = Vec::new();
        for target in targets(&self.models) {
            let own: Vec<&Bill> = bills.iter().filter(|bill| bill.target == target.name).collect();
            let (counted, billed) =
                (counted.get(&target.name).copied().unwrap_or_default(), StandIn::sum(own.iter().copied()));
            if counted != billed {
                differ.push(format!("{}: counted {counted:?}, billed {billed:?}: {:?}", target.name, own.last()));
            }
        }
        assert!(differ.is_empty(), "tokens of {} targets:\n{}", differ.len(), differ.join("\n"));
    }

    /// The last request that a target received.
    pub(crate) async fn last_seen(&self, target: &str) -> Received {
        let seen = self.stand_in.seen_by(target).await;
        seen.last().unwrap_or_else(|| panic!("{target} received nothing")).clone()
    }
}

fn targets(models: &[Virtual]) -> impl Iterator<Item = &Served> {
    models.iter().flat_map(|model| &model.targets)
}

/// Whether a stream is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streaming {
    /// It is.
    Yes,
    /// The answer comes whole.
    No,
}

impl Streaming {
    /// Both.
    pub(crate) const BOTH: [Streaming; 2] = [Streaming::Yes, Streaming::No];

    /// An SDK's call, with a stream or without.
    pub(crate) fn of(self, ask: Ask) -> Ask {
        match self {
            Streaming::Yes => ask.stream(),
            Streaming::No => ask,
        }
    }
}

/// Path of Gemini's API.
pub(crate) fn gemini_path(model: &str, streaming: Streaming) -> String {
    match streaming {
        Streaming::Yes => format!("/v1beta/models/{model}:streamGenerateContent?alt=sse"),
        Streaming::No => format!("/v1beta/models/{model}:generateContent"),
    }
}
