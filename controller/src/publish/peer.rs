//! Who is at the other end of a connection, and what that peer may ask for.

use std::net::SocketAddr;

use mesh_core::identity::Identity;
use tonic::{Request, Status};

/// The peer of a connection; in the extensions of every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// What it proved.
    pub proof: Proof,
}

/// What a peer proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A workload of the trust domain.
    Mesh(Identity),
    /// Plaintext on the listener that takes loopback connections only: trusted like the machine.
    Loopback,
    /// Nothing: may ask for a certificate, and for nothing else.
    Nothing,
}

impl Peer {
    fn of<T>(request: &Request<T>) -> Result<&Peer, Status> {
        request.extensions().get::<Peer>().ok_or_else(|| Status::internal("the connection has no peer"))
    }

    /// The peer of a request, which must have proved who it is.
    ///
    /// # Errors
    /// `Unauthenticated` otherwise.
    pub fn proven<T>(request: &Request<T>) -> Result<Peer, Status> {
        let peer = Peer::of(request)?;
        match peer.proof {
            Proof::Mesh(_) | Proof::Loopback => Ok(peer.clone()),
            Proof::Nothing => Err(Status::unauthenticated("only Certify takes a client without certificate")),
        }
    }

    /// Refuses questions about workloads of other namespaces.
    ///
    /// # Errors
    /// `PermissionDenied` when the peer's certificate says another namespace.
    pub fn in_namespace(&self, namespace: &str) -> Result<(), Status> {
        match &self.proof {
            Proof::Mesh(identity) if identity.namespace() == namespace => Ok(()),
            Proof::Loopback => Ok(()),
            Proof::Mesh(identity) => Err(Status::permission_denied(format!(
                "{identity} may not ask for workloads of namespace {namespace:?}"
            ))),
            Proof::Nothing => Err(Status::unauthenticated("a client certificate is needed")),
        }
    }

    /// Refuses to take somebody for another service account.
    ///
    /// # Errors
    /// `PermissionDenied` when the peer's certificate says another account.
    pub fn is_account(&self, namespace: &str, service_account: &str) -> Result<(), Status> {
        self.in_namespace(namespace)?;
        match &self.proof {
            Proof::Mesh(identity) if identity.service_account() != service_account => Err(Status::permission_denied(
                format!("{identity} says that it is service account {service_account:?}"),
            )),
            Proof::Mesh(_) | Proof::Loopback | Proof::Nothing => Ok(()),
        }
    }

    /// Namespace that bare names are looked up in: the caller's own.
    pub fn namespace<'p>(&'p self, stated: &'p str) -> &'p str {
        match &self.proof {
            Proof::Mesh(identity) => identity.namespace(),
            Proof::Loopback | Proof::Nothing => stated,
        }
    }
}
