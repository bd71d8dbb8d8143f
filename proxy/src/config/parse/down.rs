//! Settings of coming up and going down.

use std::time::Duration;

use mesh_core::drain::{Limits, application::Mode};

use super::{Reader, duration, v, v::Variable};
use crate::{
    application::Probe,
    config::Down,
    worker::{Notice, Notices},
};

/// Longest of any of its parts.
const LONGEST: Duration = Duration::from_secs(3_600);

impl Reader {
    pub(super) fn down(&mut self) -> Option<Down> {
        let mut part = |variable: Variable| {
            self.read(variable, "a duration up to 1h, such as 30s or 500ms", |text| {
                duration(text).filter(|deadline| *deadline <= LONGEST)
            })
        };
        let (grace, floor) = (part(v::TERMINATION_GRACE), part(v::DRAIN_FLOOR));
        let (window, streams) = (part(v::DRAIN_WINDOW), part(v::STREAM_DEADLINE));
        let notices = self.read(v::DRAIN_NOTICES, "marker, close, controller, or several separated by commas", notices);
        let mode = self.read(v::SIDECAR_MODE, "classic or native", |text| match text {
            "classic" => Some(Mode::Classic),
            "native" => Some(Mode::Native),
            _ => None,
        });
        let limits = Limits { grace: grace?, floor: floor?, window: window?, streams: streams? };
        Some(Down { limits, notices: notices?, mode: mode? })
    }
}

impl Reader {
    pub(super) fn application_probe(&mut self) -> Option<Probe> {
        self.typed(
            v::APPLICATION_PROBE,
            "http://:PORT/PATH, grpc://:PORT[/SERVICE], tcp://:PORT or exec:PROGRAM ARGUMENTS",
        )
    }
}

fn notices(text: &str) -> Option<Notices> {
    let withheld = Notice::Withheld;
    let mut notices = Notices { marker: withheld, close: withheld, controller: withheld };
    for one in text.split(',') {
        match one.trim() {
            "marker" => notices.marker = Notice::Given,
            "close" => notices.close = Notice::Given,
            "controller" => notices.controller = Notice::Given,
            _ => return None,
        }
    }
    Some(notices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Role, parse::settings};

    fn read(name: &str, value: &str) -> Result<Down, Vec<String>> {
        let pairs = [("LANEMESH_CONTROLLER_ADDRESS", "c:1"), (name, value)];
        let owned = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        settings(Role::Sidecar, owned).map(|settings| settings.down).map_err(|error| error.problems)
    }

    #[test]
    fn parts_of_the_way_down_are_read_and_what_is_wrong_is_named() {
        let down = read("LANEMESH_DRAIN_FLOOR", "0s").unwrap();
        assert_eq!(down, Down { limits: Limits { floor: Duration::ZERO, ..Limits::default() }, ..Down::default() });
        assert_eq!(read("LANEMESH_SIDECAR_MODE", "native").unwrap().mode, Mode::Native);
        let marker = read("LANEMESH_DRAIN_NOTICES", "marker").unwrap().notices;
        let withheld = Notice::Withheld;
        assert_eq!(marker, Notices { marker: Notice::Given, close: withheld, controller: withheld });
        for (name, value) in [
            ("LANEMESH_STREAM_DEADLINE", "2h"),
            ("LANEMESH_DRAIN_WINDOW", "5"),
            ("LANEMESH_DRAIN_NOTICES", "marker,shout"),
            ("LANEMESH_SIDECAR_MODE", "modern"),
            ("LANEMESH_APPLICATION_PROBE", "8080"),
        ] {
            let problems = read(name, value).unwrap_err();
            assert!(problems.len() == 1 && problems[0].starts_with(&format!("{name}={value:?}: ")), "{problems:?}");
        }
    }
}
