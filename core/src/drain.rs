//! The order in which a proxy goes down: which stage it is in, why, and when the next one comes by itself. Pure: time and
//! what is under way are passed in.
//!
//! Every stage is bounded by the time that was given for the whole, so that a proxy always ends before it is killed.

pub mod application;
pub mod message;

use std::time::Duration;

use crate::{fields::Fields, names, outcome::Outcome};

/// What of the grace is left for last words: state, log lines, spans.
pub const RESERVE: Duration = Duration::from_secs(2);
/// Without an exchange for so long, nobody sends any more.
pub const QUIET: Duration = Duration::from_secs(1);
/// How long a caller avoids an instance that said that it drains. One that drains longer says so again, one that was
/// started anew at the same address is found soon.
pub const AVOIDED: Duration = Duration::from_secs(10);

/// How long the parts of going down may take, as people set them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the order to the moment at which the process would be killed; default 30 s, as in Kubernetes.
    pub grace: Duration,
    /// How long new exchanges are taken in any case, so that the news can reach every caller; default 5 s.
    pub floor: Duration,
    /// Over how long callers are told one after the other, so that they do not all come elsewhere at once; default 5 s.
    pub window: Duration,
    /// From the order to the moment at which event streams and gRPC streams are ended; default 20 s.
    pub streams: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            grace: Duration::from_secs(30),
            floor: Duration::from_secs(5),
            window: Duration::from_secs(5),
            streams: Duration::from_secs(20),
        }
    }
}

impl Limits {
    /// From the order to the end, whatever is still under way: the grace less [`RESERVE`], or half of a grace that is as
    /// short as that.
    pub fn end(&self) -> Duration {
        self.grace.saturating_sub(RESERVE).max(self.grace / 2)
    }

    /// Over how long callers are told: as set, and a quarter of the time at most.
    pub fn window(&self) -> Duration {
        self.window.min(self.end() / 4)
    }

    /// From the order to the moment at which streams are ended: as set, and so early that they can be ended in order.
    pub fn streams(&self) -> Duration {
        self.streams.min(self.end() - self.end() / 8)
    }

    /// New exchanges are taken so long in any case.
    fn floor(&self) -> Duration {
        self.floor.max(self.window()).min(self.end() / 2)
    }

    /// The latest moment at which WebSockets are told.
    fn sessions(&self) -> Duration {
        self.streams().saturating_sub(self.window()).max(self.floor())
    }

    /// The latest moment at which nothing new is taken: half of the time that is left after streams were ended.
    fn closing(&self) -> Duration {
        self.streams() + (self.end() - self.streams()) / 2
    }
}

/// How far a proxy has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It serves.
    #[default]
    Serving,
    /// Callers are told one after the other; everything is served.
    Leaving,
    /// WebSockets are told one after the other; streams may end by themselves.
    Sessions,
    /// Streams are ended.
    Streams,
    /// Nothing new comes in: the listener is closed, and connections that carry nothing. What is under way may finish.
    Closing,
    /// Nothing that came in is under way; calls of the application go on.
    Outbound,
    /// Nothing is served any more.
    Done,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Stage; 7] =
        [Stage::Serving, Stage::Leaving, Stage::Sessions, Stage::Streams, Stage::Closing, Stage::Outbound, Stage::Done];

    /// Label for metrics, logs and the admin page.
    pub fn label(self) -> &'static str {
        match self {
            Stage::Serving => "serving",
            Stage::Leaving => "leaving",
            Stage::Sessions => "sessions",
            Stage::Streams => "streams",
            Stage::Closing => "closing",
            Stage::Outbound => "outbound",
            Stage::Done => "done",
        }
    }
}

/// Why a stage began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The order was given.
    Ordered,
    /// The news had its time, and nothing is under way but what lasts.
    Quiet,
    /// What is under way takes too long to wait for it.
    TooLong,
    /// Streams had their time.
    StreamsDue,
    /// All streams have ended.
    StreamsEnded,
    /// Nothing that came in is under way.
    NothingInbound,
    /// The application has ended, or makes no more calls.
    ApplicationGone,
    /// The time is over.
    TimeOver,
}

impl Why {
    /// For logs.
    pub fn label(self) -> &'static str {
        match self {
            Why::Ordered => "ordered",
            Why::Quiet => "quiet",
            Why::TooLong => "too_long",
            Why::StreamsDue => "streams_due",
            Why::StreamsEnded => "streams_ended",
            Why::NothingInbound => "nothing_inbound",
            Why::ApplicationGone => "application_gone",
            Why::TimeOver => "time_over",
        }
    }
}

/// What is under way of what came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnderWay {
    /// Exchanges that end soon.
    pub ordinary: usize,
    /// Exchanges that may last: raw connections, WebSockets, event streams, gRPC streams.
    pub lasting: usize,
    /// When an ordinary one was under way last.
    pub last: Duration,
}

/// Whether the application still needs its sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Application {
    /// It may still call.
    Alive,
    /// It has no more calls to make.
    Gone,
}

/// A stage that began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The stage.
    pub stage: Stage,
    /// Why it began.
    pub why: Why,
}

/// A proxy on its way down.
#[derive(Clone, Copy, Debug)]
pub struct Descent {
    limits: Limits,
    ordered: Duration,
    stage: Stage,
    /// When it entered the stage.
    entered: Duration,
}

impl Descent {
    /// The order was given at `now`.
    pub fn begin(limits: Limits, now: Duration) -> (Self, Step) {
        let descent = Descent { limits, ordered: now, stage: Stage::Leaving, entered: now };
        (descent, Step { stage: Stage::Leaving, why: Why::Ordered })
    }

    /// The stage.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Enters the next stage if it is time for that; asked again until it says `None`.
    pub fn advance(&mut self, now: Duration, under_way: UnderWay, application: Application) -> Option<Step> {
        let (stage, why) = self.next_stage(now, under_way, application)?;
        (self.stage, self.entered) = (stage, now);
        Some(Step { stage, why })
    }

    fn next_stage(&self, now: Duration, under_way: UnderWay, application: Application) -> Option<(Stage, Why)> {
        let (limits, passed) = (&self.limits, now.saturating_sub(self.ordered));
        let is_over = passed >= limits.end();
        let nothing = under_way.ordinary == 0 && under_way.lasting == 0;
        let is_quiet = under_way.ordinary == 0 && now.saturating_sub(under_way.last) >= QUIET;
        match self.stage {
            Stage::Serving | Stage::Done => None,
            // Without application there is nobody for whom anything could be taken.
            Stage::Leaving if application == Application::Gone && nothing => {
                Some((Stage::Closing, Why::ApplicationGone))
            }
            Stage::Leaving | Stage::Sessions | Stage::Streams if is_over => Some((Stage::Closing, Why::TimeOver)),
            Stage::Leaving if passed >= limits.floor() && is_quiet => Some((Stage::Sessions, Why::Quiet)),
            Stage::Leaving => (passed >= limits.sessions()).then_some((Stage::Sessions, Why::TooLong)),
            Stage::Sessions if nothing && is_quiet => Some((Stage::Closing, Why::NothingInbound)),
            Stage::Sessions => (passed >= limits.streams()).then_some((Stage::Streams, Why::StreamsDue)),
            // Callers that go on calling are not waited for: they were told, and find others.
            Stage::Streams if under_way.lasting == 0 => Some((Stage::Closing, Why::StreamsEnded)),
            Stage::Streams => (passed >= limits.closing()).then_some((Stage::Closing, Why::TooLong)),
            Stage::Closing if nothing && application == Application::Gone => {
                Some((Stage::Outbound, Why::NothingInbound))
            }
            // Requests may still be on their way on connections that were there before the listener was closed.
            Stage::Closing if nothing && is_quiet && now.saturating_sub(self.entered) >= QUIET => {
                Some((Stage::Outbound, Why::NothingInbound))
            }
            Stage::Closing => is_over.then_some((Stage::Outbound, Why::TimeOver)),
            Stage::Outbound => match application {
                Application::Gone => Some((Stage::Done, Why::ApplicationGone)),
                Application::Alive => is_over.then_some((Stage::Done, Why::TimeOver)),
            },
        }
    }

    /// When the stage ends although nothing else changes; `None` = it does not.
    pub fn next(&self) -> Option<Duration> {
        let limits = &self.limits;
        let after = match self.stage {
            Stage::Serving | Stage::Done => return None,
            Stage::Leaving => limits.sessions(),
            Stage::Sessions => limits.streams(),
            Stage::Streams => limits.closing(),
            Stage::Closing | Stage::Outbound => limits.end(),
        };
        Some(self.ordered + after.min(limits.end()))
    }

    /// When everything is over.
    pub fn end(&self) -> Duration {
        self.ordered + self.limits.end()
    }
}

/// How long after the beginning of a window of `length` one of many is told; `random` is a uniform draw.
pub fn turn(length: Duration, random: u64) -> Duration {
    // The share keeps 32 bits: nobody can tell.
    length.mul_f64((random >> 32) as f64 / f64::from(u32::MAX))
}

/// What an answer of a mesh peer says of its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing.
    Nothing,
    /// It drains.
    Draining,
    /// It drains, and its application did not get the request, which may therefore go elsewhere.
    NotTaken,
}

/// Reads what an answer of a mesh peer says of its instance.
pub fn told(fields: &dyn Fields) -> Told {
    if fields.first(names::DRAINING_HEADER).is_none() {
        return Told::Nothing;
    }
    let error = fields.first(names::ERROR_HEADER);
    if error == Some(Outcome::ConnectFailed.label().as_bytes()) { Told::NotTaken } else { Told::Draining }
}

#[cfg(test)]
mod tests;
