//! Every kind of resource that is read, with its version and reader. A new kind is a row here.

use super::{
    Metadata, Spec,
    document::{Node, Object},
    services,
};
use crate::names::{self, API_VERSION};

/// What a reader makes of a document; the kind is filled in by the caller.
type Read = fn(&Node<'_>) -> Option<(Metadata, Spec)>;

/// A kind.
pub(super) struct Kind {
    /// Name of the kind.
    pub(super) name: &'static str,
    /// The one version that is read.
    pub(super) api_version: &'static str,
    /// Reader of the whole document.
    pub(super) read: Read,
}

/// All kinds.
pub(super) const KINDS: &[Kind] = &[Kind { name: "Services", api_version: API_VERSION, read: read_services }];

fn read_services(root: &Node<'_>) -> Option<(Metadata, Spec)> {
    let document = root.object(&["apiVersion", "kind", "services"])?;
    let metadata = Metadata { kind: "", namespace: names::DEFAULT_NAMESPACE.to_owned(), name: String::new() };
    Some((metadata, Spec::Services(services::read(&document))))
}
