//! Tests of calls to language models: the official SDKs of OpenAI and Anthropic, and clients without any, against a
//! stand-in for providers, by themselves and through the mesh.
#![cfg(test)]

#[path = "models/cancel.rs"]
mod cancel;
#[path = "models/continued.rs"]
mod continued;
#[path = "models/credentials.rs"]
mod credentials;
#[path = "models/dialects.rs"]
mod dialects;
#[path = "models/drills.rs"]
mod drills;
#[path = "models/events.rs"]
mod events;
#[path = "models/example.rs"]
mod example;
#[path = "models/fallback.rs"]
mod fallback;
#[path = "models/faults.rs"]
mod faults;
#[path = "models/http2.rs"]
mod http2;
#[path = "models/in_mesh.rs"]
mod in_mesh;
#[path = "models/limits.rs"]
mod limits;
#[path = "models/long.rs"]
mod long;
#[path = "models/matrix.rs"]
mod matrix;
#[path = "models/midstream.rs"]
mod midstream;
#[path = "models/realtime.rs"]
mod realtime;
#[path = "models/stand_in.rs"]
mod stand_in;
#[path = "models/telemetry.rs"]
mod telemetry;
#[path = "models/tls.rs"]
mod tls;
#[path = "models/world.rs"]
mod world;
