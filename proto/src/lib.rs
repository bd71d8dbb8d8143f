//! What travels between proxies, and between proxies and controller: the API of our own ([`mesh`]), generated from
//! `mesh/v1/*.proto`, and the conversion ([`convert`]) of it and of Linkerd's API to the types of mesh-core. Beside them the
//! envelope of Nacos' gRPC protocol ([`nacos`]).

pub mod convert;

/// Generated from `proto/mesh`; regenerate with `UPDATE_GENERATED=1 cargo test -p mesh-proto --test generated`.
pub mod mesh {
    /// Version 1.
    pub mod v1 {
        include!("gen/mesh.v1.rs");
    }
}

/// What Nacos speaks on its gRPC port, generated from `proto/nacos` as [`mesh`] is.
pub mod nacos {
    pub use prost_types::Any;

    include!("gen/nacos.rs");
}

pub use linkerd2_proxy_api as linkerd;
