//! How one resource names another.

use super::node::Node;

/// `<name>.<namespace>` out of `name` (in this namespace) or `name.namespace`.
pub(super) fn service_label(node: &Node<'_>, namespace: &str) -> Option<String> {
    let text = node.dns_name()?;
    match text.split('.').count() {
        1 => Some(format!("{text}.{namespace}")),
        2 => Some(text),
        _ => {
            node.problem(format!("{text:?} names no service: expected <name> or <name>.<namespace>"));
            None
        }
    }
}
