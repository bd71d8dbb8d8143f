//! The harness of whole-mesh tests: the mesh as real processes on loopback addresses or in network namespaces.
//!
//! Start with [`mesh::Mesh`]. What a test talks with is in [`client`] (requests), [`server`] (ordinary applications),
//! [`raw`] (bytes as a test wants them), [`control_plane`] (one that says whatever a test says), [`collector`] (traces), [`peer`] (mesh transport with certificates of the test's own making), [`registry`]
//! (Nacos, and clients of it that are not ours), [`models`] (a stand-in for providers of language models, and their SDKs).

pub mod addresses;
pub mod client;
pub mod collector;
pub mod control_plane;
pub mod forward;
pub mod frames;
pub mod length;
pub mod load;
pub mod mesh;
pub mod metrics;
pub mod models;
pub mod netns;
pub mod observability;
pub mod peer;
pub mod pod;
pub mod process;
pub mod programs;
pub mod promql;
pub mod raw;
pub mod redis;
pub mod registry;
pub mod server;
pub mod strict;
pub mod wait;
