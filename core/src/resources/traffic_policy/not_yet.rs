//! Fields that are read and carried to proxies, and that no proxy heeds yet. Who writes one is told so: a setting that is
//! taken and does nothing would be relied on.

use super::fields::Field;
use crate::resources::node::Node;

/// A field with everything below it, and what of it happens anyway and may be written, as JSON has it.
const NOT_YET: &[(&str, Option<&str>)] = &[];

/// Whether fields that are not in force yet are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotYet {
    /// Each is a problem.
    Refused,
    /// They are read as if they were in force.
    Taken,
}

impl Field {
    /// Whether proxies heed it.
    pub fn is_in_force(&self) -> bool {
        let is_part = |whole: &str| {
            self.path.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        !NOT_YET.iter().any(|(path, _)| is_part(path))
    }
}

/// Records a problem with each field of a specification that is written and not in force yet.
pub(super) fn refuse(spec: &Node<'_>) {
    for (path, harmless) in NOT_YET {
        let written = path.split('.').try_fold(spec.clone(), |node, key| node.child(key));
        let Some(written) = written else { continue };
        let says = written.json().map(|json| json.to_string());
        let is_harmless = harmless.is_some() && says.as_deref() == *harmless;
        if !is_harmless {
            written.problem("is not in force yet: leave it out".to_owned());
        }
    }
}
