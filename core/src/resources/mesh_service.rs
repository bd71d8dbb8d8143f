//! Kind `MeshService`: one logical service over several sources.

use std::fmt;

use super::node::Node;

/// What a mesh service says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshService {
    /// Where its instances come from.
    pub members: Vec<Member>,
}

/// A service of one source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// The source.
    pub source: Source,
    /// Name there.
    pub name: String,
    /// Namespace there; the source's default unless written.
    pub namespace: Option<String>,
}

/// Where services come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Kubernetes Services.
    Kubernetes,
    /// Nacos naming.
    Nacos,
    /// Kind `Services`.
    File,
    /// DNS records.
    Dns,
}

impl Source {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Kubernetes => "kubernetes",
            Source::Nacos => "nacos",
            Source::File => "file",
            Source::Dns => "dns",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

const SOURCES: &[(&str, Source)] =
    &[("kubernetes", Source::Kubernetes), ("nacos", Source::Nacos), ("file", Source::File), ("dns", Source::Dns)];

/// Reads the specification.
pub(super) fn read(spec: &Node<'_>) -> Option<MeshService> {
    let spec = spec.object(&["members"])?;
    Some(MeshService { members: spec.required_list("members").iter().filter_map(member).collect() })
}

fn member(node: &Node<'_>) -> Option<Member> {
    let object = node.object(&["source", "name", "namespace"])?;
    let source = object.required("source").and_then(|node| node.choice(SOURCES));
    let name = object.required("name").and_then(|node| node.filled_text());
    let namespace = object.get("namespace").and_then(|node| node.filled_text());
    Some(Member { source: source?, name: name?, namespace })
}
