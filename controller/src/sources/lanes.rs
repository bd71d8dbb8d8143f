//! What the file source writes of lanes: an order to change one, and the marks of time that an applied lane lacks.

use std::path::{Path, PathBuf};

use mesh_core::{
    lane::transition::{self, Moved, Verb},
    model::lane::{LaneRef, LaneState},
    resources::{
        Problem, Resource,
        edit::{self, LaneEdit},
        lane::Lane,
        parse,
    },
};
use serde_json::{Map, Value};
use thiserror::Error;

use super::folder;

/// Reason in the history where a lane was applied in another stage.
const APPLIED: &str = "applied";

/// What somebody wants of a lane.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Another stage.
    Move {
        /// Which way.
        verb: Verb,
        /// Why, for the history.
        reason: String,
    },
    /// Other values of single fields, and the stage whatever it was.
    Set {
        /// Fields, see [`edit::SETTABLE`].
        fields: Map<String, Value>,
        /// Stage.
        state: Option<LaneState>,
        /// Why, for the history.
        reason: String,
    },
}

/// Why an order is not carried out.
#[derive(Debug, Error)]
pub enum OrderError {
    /// There is no such lane.
    #[error("there is no lane {0}")]
    Unknown(LaneRef),
    /// The lane's stage does not allow it.
    #[error(transparent)]
    Refused(#[from] transition::Refused),
    /// A field cannot be set.
    #[error(transparent)]
    Edit(#[from] edit::EditError),
}

/// The text of the lane after the order, at `now` (Unix milliseconds).
pub(super) fn ordered(
    in_place: &[(PathBuf, Resource)],
    lane: &LaneRef,
    order: &Order,
    now: u64,
) -> Result<String, OrderError> {
    let lanes = in_place.iter().filter_map(|(_, resource)| Some((resource, resource.spec.lane()?)));
    let found = lanes.into_iter().find(|(_, known)| known.group == lane.group && known.name == lane.lane);
    let (resource, known) = found.ok_or_else(|| OrderError::Unknown(lane.clone()))?;
    let (moved, fields) = match order {
        Order::Move { verb, reason } => (Some(transition::transition(known, *verb, reason, now)?), Map::new()),
        Order::Set { fields, state, reason } => {
            (state.and_then(|state| transition::declared(known, state, reason, now)), fields.clone())
        }
    };
    Ok(edit::lane(&resource.text, &LaneEdit { created: known.created, moved, fields, now })?)
}

/// Fresh lanes with the marks of time that their text lacks: when they were made, since when they are in their stage,
/// and in which they were before. What is applied again keeps those of `in_place`.
pub(super) fn marked(
    place: &Path,
    in_place: &[(PathBuf, Resource)],
    fresh: Vec<Resource>,
    now: u64,
) -> Result<Vec<Resource>, Vec<Problem>> {
    let old = |new: &Resource| {
        let same = in_place.iter().find(|(file, old)| folder::replaces(place, new, file, old));
        same.and_then(|(_, old)| old.spec.lane()).cloned()
    };
    let mut marked = Vec::with_capacity(fresh.len());
    for resource in fresh {
        match resource.spec.lane().and_then(|lane| marks(lane, old(&resource).as_ref(), now)) {
            Some(marks) => marked.extend(edited(&resource, &marks)?),
            None => marked.push(resource),
        }
    }
    Ok(marked)
}

/// A lane that stands in a file which is written anew would count from now: it gets the moment that it counts from.
pub(super) fn dated(resource: &Resource) -> Option<String> {
    let created = resource.spec.lane()?.created.filter(|_| !resource.text.contains(edit::CREATED))?;
    edit::lane(&resource.text, &LaneEdit { created: Some(created), ..LaneEdit::default() }).ok()
}

fn edited(resource: &Resource, edit: &LaneEdit) -> Result<Vec<Resource>, Vec<Problem>> {
    // What was read once has a text that can be changed.
    let text = edit::lane(&resource.text, edit).unwrap_or_else(|_| resource.text.to_string());
    parse("", &text)
}

/// What the text of `fresh` lacks; `None` where it says everything.
fn marks(fresh: &Lane, old: Option<&Lane>, now: u64) -> Option<LaneEdit> {
    let created = match fresh.created {
        Some(_) => None,
        None => Some(old.and_then(|old| old.created).unwrap_or(now)),
    };
    let moved = stage(fresh, old, now);
    (created.is_some() || moved.is_some()).then(|| LaneEdit { created, moved, now, ..LaneEdit::default() })
}

fn stage(fresh: &Lane, old: Option<&Lane>, now: u64) -> Option<Moved> {
    let Some(old) = old else {
        let is_unmarked = fresh.state_since.is_none();
        return is_unmarked.then(|| Moved { state: fresh.state, since: now, history: fresh.history.clone() });
    };
    // Times of the old stage that came along with a new one say nothing about it.
    if fresh.state_since.is_some() && (fresh.state == old.state || fresh.state_since != old.state_since) {
        return None;
    }
    if let Some(moved) = transition::declared(old, fresh.state, APPLIED, now) {
        return Some(moved);
    }
    let history = if fresh.history.is_empty() { old.history.clone() } else { fresh.history.clone() };
    Some(Moved { state: old.state, since: old.state_since.unwrap_or(now), history })
}

#[cfg(test)]
mod tests;
