//! Floods of HTTP/2 frames: what a peer may send of frames that cost work and carry nothing. Pure; the clock is passed in,
//! and asked for only when an allowance is used up.
//!
//! The HTTP/2 library bounds what it keeps (streams, resets that nobody has accepted yet, header blocks), not how often it is
//! made to work. Every kind of frame therefore has an allowance that comes back with time, and some of it with the work that
//! such frames usually belong to.

mod scanner;

use std::{fmt, time::Duration};

pub use self::scanner::{Frame, Kind, Scanner};

/// How many frames may come in one go, and how many more each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Allowance {
    burst: u32,
    per_second: u32,
}

/// Streams that their client gives up. A sidecar may carry those of many callers whose time is over at once.
const RESETS: Allowance = Allowance { burst: 2_000, per_second: 1_000 };
/// PING, SETTINGS, PRIORITY, GOAWAY and frames of unknown kinds. Clients measure their bandwidth with PINGs.
const CONTROL: Allowance = Allowance { burst: 1_000, per_second: 100 };
/// WINDOW_UPDATE: two for each DATA frame of ours come from those who acknowledge every frame. How far they open the window
/// says nothing: that of a client who reads slowly opens by single messages.
const UPDATES: Allowance = Allowance { burst: 4_000, per_second: 1_000 };
/// DATA without a byte that ends nothing, and short CONTINUATION.
const EMPTY: Allowance = Allowance { burst: 200, per_second: 20 };
/// A CONTINUATION of so many bytes is what a long head needs, not made to cost work: a head is cut into frames of 16 KiB, of
/// which the last may be short. How many a head may have, the HTTP/2 library bounds.
const CONTINUATION_LONG: u32 = 8 * 1024;
/// Short ones that the beginning of a head gives back.
const EMPTY_BACK: u32 = 1;
/// Updates that a DATA frame of ours gives back.
const UPDATES_BACK: u32 = 3;
/// Control frames that a request, or a DATA frame that carries something, either way, gives back.
const CONTROL_BACK: u32 = 1;

/// What a peer sent too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// Streams opened and given up.
    Resets,
    /// PING, SETTINGS, PRIORITY, GOAWAY, unknown kinds.
    Control,
    /// WINDOW_UPDATE.
    Updates,
    /// DATA without bytes, short CONTINUATION.
    Empty,
}

impl Flood {
    /// Every kind, in order of declaration.
    pub const ALL: [Flood; 4] = [Flood::Resets, Flood::Control, Flood::Updates, Flood::Empty];

    /// Label for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Flood::Resets => "http2_resets",
            Flood::Control => "http2_control",
            Flood::Updates => "http2_window_updates",
            Flood::Empty => "http2_empty",
        }
    }
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What is left of one allowance.
#[derive(Clone, Copy, Debug)]
struct Left {
    allowance: Allowance,
    count: u32,
    /// When the count was last made up for time.
    since: Duration,
}

impl Left {
    fn new(allowance: Allowance) -> Self {
        Left { allowance, count: allowance.burst, since: Duration::ZERO }
    }

    fn give_back(&mut self, count: u32) {
        self.count = (self.count + count).min(self.allowance.burst);
    }

    /// Uses one; false where none is left.
    fn take(&mut self, now: &impl Fn() -> Duration) -> bool {
        if self.count == 0 {
            let now = now();
            let passed = now.saturating_sub(self.since).as_secs_f64();
            let earned = (passed * f64::from(self.allowance.per_second)).min(f64::from(self.allowance.burst)) as u32;
            if earned == 0 {
                return false;
            }
            (self.count, self.since) = (earned, now);
        }
        self.count -= 1;
        true
    }
}

/// Counts the frames of one connection.
#[derive(Debug)]
pub struct Meter {
    resets: Left,
    control: Left,
    updates: Left,
    empty: Left,
}

impl Default for Meter {
    fn default() -> Self {
        Meter {
            resets: Left::new(RESETS),
            control: Left::new(CONTROL),
            updates: Left::new(UPDATES),
            empty: Left::new(EMPTY),
        }
    }
}

impl Meter {
    /// Takes in a frame of the peer; `now` is the time since the connection began.
    ///
    /// # Errors
    /// What there is too much of.
    pub fn received(&mut self, frame: Frame, now: impl Fn() -> Duration) -> Result<(), Flood> {
        let (left, flood) = match frame.kind {
            Kind::Data if frame.length > 0 || frame.ends_stream => {
                self.control.give_back(CONTROL_BACK);
                return Ok(());
            }
            Kind::Headers => {
                self.control.give_back(CONTROL_BACK);
                self.empty.give_back(EMPTY_BACK);
                return Ok(());
            }
            Kind::Continuation if frame.length >= CONTINUATION_LONG => return Ok(()),
            Kind::Data | Kind::Continuation => (&mut self.empty, Flood::Empty),
            Kind::Reset => (&mut self.resets, Flood::Resets),
            Kind::WindowUpdate => (&mut self.updates, Flood::Updates),
            Kind::Priority | Kind::Settings | Kind::Ping | Kind::GoAway | Kind::Other => {
                (&mut self.control, Flood::Control)
            }
        };
        if left.take(&now) { Ok(()) } else { Err(flood) }
    }

    /// Takes in a frame of ours.
    pub fn sent(&mut self, frame: Frame) {
        if frame.kind == Kind::Data && frame.length > 0 {
            self.updates.give_back(UPDATES_BACK);
            self.control.give_back(CONTROL_BACK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: Kind) -> Frame {
        Frame { kind, length: 8, ends_stream: false, ends_headers: true }
    }

    /// Frames until one is too many, all at the same moment.
    fn until_too_many(frame: Frame) -> (u32, Flood) {
        let mut meter = Meter::default();
        for count in 0..1_000_000 {
            if let Err(flood) = meter.received(frame, || Duration::ZERO) {
                return (count, flood);
            }
        }
        panic!("a million of {frame:?} were taken");
    }

    #[test]
    fn every_kind_of_frame_that_carries_nothing_has_its_allowance() {
        for (frame, count, flood) in [
            (frame(Kind::Reset), RESETS.burst, Flood::Resets),
            (frame(Kind::Ping), CONTROL.burst, Flood::Control),
            (frame(Kind::Settings), CONTROL.burst, Flood::Control),
            (frame(Kind::Priority), CONTROL.burst, Flood::Control),
            (frame(Kind::GoAway), CONTROL.burst, Flood::Control),
            (frame(Kind::Other), CONTROL.burst, Flood::Control),
            (frame(Kind::WindowUpdate), UPDATES.burst, Flood::Updates),
            (frame(Kind::Continuation), EMPTY.burst, Flood::Empty),
            (Frame { length: 0, ..frame(Kind::Data) }, EMPTY.burst, Flood::Empty),
        ] {
            assert_eq!(until_too_many(frame), (count, flood), "{frame:?}");
        }
    }

    #[test]
    fn allowance_comes_back_with_time_and_never_beyond_its_burst() {
        let mut meter = Meter::default();
        let mut flood = |at: u64| {
            (0..10_000).take_while(|_| meter.received(frame(Kind::Ping), || Duration::from_secs(at)).is_ok()).count()
        };
        // Of the first second some comes back at once.
        assert_eq!(flood(1), 1_100);
        assert_eq!(flood(1), 0);
        assert_eq!(flood(3), 200);
        assert_eq!(flood(1_000), 1_000);
    }

    #[test]
    fn long_heads_are_free() {
        let mut meter = Meter::default();
        for _ in 0..100_000 {
            let whole = Frame { length: 16 * 1024, ..frame(Kind::Continuation) };
            for frame in [frame(Kind::Headers), whole, whole, frame(Kind::Continuation)] {
                assert_eq!(meter.received(frame, || Duration::ZERO), Ok(()));
            }
        }
    }

    #[test]
    fn pings_and_updates_that_belong_to_data_are_free() {
        let mut meter = Meter::default();
        for _ in 0..100_000 {
            meter.sent(frame(Kind::Data));
            for kind in [Kind::Ping, Kind::WindowUpdate, Kind::WindowUpdate] {
                assert_eq!(meter.received(frame(kind), || Duration::ZERO), Ok(()));
            }
        }
    }
}
