//! The life of a proxy: `mesh.v1.Lifecycle` ↔ [`Life`], `mesh.v1.Standing` ↔ [`Standing`].

use std::time::{Duration, SystemTime};

use mesh_core::lifecycle::{Registration, Standing, State};

use super::{Invalid, required, time, timestamp};
use crate::mesh::v1 as wire;

/// How far the life of a proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The stage.
    pub state: State,
    /// When it began.
    pub since: SystemTime,
    /// When the process was ready for the first time.
    pub ready_since: Option<SystemTime>,
}

impl Life {
    /// The message.
    pub fn to_wire(&self) -> wire::Lifecycle {
        let state = match self.state {
            State::NotReady => wire::LifecycleState::NotReady,
            State::Ready => wire::LifecycleState::Ready,
            State::Draining => wire::LifecycleState::Draining,
            State::Drained => wire::LifecycleState::Drained,
        };
        wire::Lifecycle {
            state: state.into(),
            since: Some(timestamp(self.since)),
            ready_since: self.ready_since.map(timestamp),
        }
    }

    /// Reads the message.
    ///
    /// # Errors
    /// Names the field.
    pub fn from_wire(message: &wire::Lifecycle) -> Result<Self, Invalid> {
        let state = wire::LifecycleState::try_from(message.state);
        let state = match state.map_err(|error| Invalid::value("lifecycle.state", error))? {
            wire::LifecycleState::NotReady => State::NotReady,
            wire::LifecycleState::Ready => State::Ready,
            wire::LifecycleState::Draining => State::Draining,
            wire::LifecycleState::Drained => State::Drained,
        };
        Ok(Life {
            state,
            since: time("lifecycle.since", required("lifecycle.since", message.since)?)?,
            ready_since: message.ready_since.map(|ready| time("lifecycle.ready_since", ready)).transpose()?,
        })
    }
}

/// The message; none where it says nothing.
pub(super) fn standing_to_wire(standing: Standing) -> Option<wire::Standing> {
    let (registration, wait) = match standing.registration {
        Registration::NotOurs => (wire::Registration::None, Duration::ZERO),
        Registration::Awaited(wait) => (wire::Registration::Awaited, wait),
        Registration::Visible => (wire::Registration::Visible, Duration::ZERO),
    };
    (standing != Standing::default()).then(|| wire::Standing {
        drain: standing.drain,
        registration: registration.into(),
        registration_wait_seconds: u32::try_from(wait.as_secs()).unwrap_or(u32::MAX),
    })
}

/// Reads the message.
pub(super) fn standing_from_wire(message: Option<wire::Standing>) -> Result<Standing, Invalid> {
    let Some(message) = message else { return Ok(Standing::default()) };
    let registration = wire::Registration::try_from(message.registration);
    let registration = match registration.map_err(|error| Invalid::value("standing.registration", error))? {
        wire::Registration::None => Registration::NotOurs,
        wire::Registration::Awaited => {
            Registration::Awaited(Duration::from_secs(u64::from(message.registration_wait_seconds)))
        }
        wire::Registration::Visible => Registration::Visible,
    };
    Ok(Standing { drain: message.drain, registration })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_reads_back_as_it_was() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for state in State::ALL {
            for ready_since in [None, Some(at(1_800_000_000))] {
                let life = Life { state, since: at(1_800_000_007), ready_since };
                assert_eq!(Life::from_wire(&life.to_wire()), Ok(life));
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let since = Some(timestamp(SystemTime::UNIX_EPOCH));
        for (message, field) in [
            (wire::Lifecycle { state: 9, since, ready_since: None }, "lifecycle.state"),
            (wire::Lifecycle { state: 1, since: None, ready_since: None }, "lifecycle.since"),
        ] {
            assert!(Life::from_wire(&message).unwrap_err().to_string().contains(field), "{field}");
        }
        let standing = wire::Standing { drain: false, registration: 7, registration_wait_seconds: 0 };
        assert!(standing_from_wire(Some(standing)).unwrap_err().to_string().contains("standing.registration"));
    }
}
