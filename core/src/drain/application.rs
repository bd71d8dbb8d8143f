//! Whether the application beside a draining proxy still needs it.

use std::time::Duration;

use super::Application;

/// Without a connection for so long, an application whose port is gone makes no more calls.
pub const QUIET: Duration = Duration::from_secs(1);
/// Without a connection for so long, an application that still listens, as far as anybody knows, makes no more calls.
pub const QUIET_WHILE_LISTENING: Duration = Duration::from_secs(5);

/// How the sidecar and its application are stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Both are told at the same time: the proxy finds out by itself when its application has ended.
    #[default]
    Classic,
    /// The proxy is told by a signal, and only after its application has ended (Kubernetes: init container with
    /// `restartPolicy: Always`).
    Native,
}

/// Whether the application takes connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// It never did, or nobody knows where.
    Unknown,
    /// It does.
    Listening,
    /// It did, and does not any more.
    Gone,
}

/// What is seen of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether somebody who knows said that it has ended: the signal to a native sidecar, `POST /shutdown`.
    pub ended: Ended,
    /// Its connections to the outbound listener.
    pub connections: usize,
    /// For how long there has been none.
    pub without: Duration,
    /// Its port.
    pub port: Port,
}

/// Whether somebody said that the application has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Somebody did.
    Said,
    /// Nobody did.
    NotSaid,
}

/// Whether the application still needs its sidecar. An application that shuts down closes its port first and makes its
/// last calls then: what counts is that it holds no connection, and the port only says how soon that is believed.
pub fn judge(mode: Mode, seen: &Seen) -> Application {
    let is_gone = match (mode, seen.ended) {
        (_, Ended::Said) => true,
        (Mode::Native, Ended::NotSaid) => false,
        (Mode::Classic, Ended::NotSaid) => {
            let quiet = match seen.port {
                Port::Gone => QUIET,
                Port::Unknown | Port::Listening => QUIET_WHILE_LISTENING,
            };
            seen.connections == 0 && seen.without >= quiet
        }
    };
    if is_gone { Application::Gone } else { Application::Alive }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn application_is_gone_when_it_was_said_or_holds_no_connection() {
        use Application::{Alive, Gone};
        use Ended::{NotSaid, Said};
        let cases = [
            (Mode::Native, Said, 3, 0, Port::Listening, Gone),
            (Mode::Native, NotSaid, 0, 60, Port::Gone, Alive),
            (Mode::Classic, Said, 1, 0, Port::Listening, Gone),
            (Mode::Classic, NotSaid, 1, 0, Port::Gone, Alive),
            (Mode::Classic, NotSaid, 0, 0, Port::Gone, Alive),
            (Mode::Classic, NotSaid, 0, 1, Port::Gone, Gone),
            (Mode::Classic, NotSaid, 0, 4, Port::Unknown, Alive),
            (Mode::Classic, NotSaid, 0, 5, Port::Unknown, Gone),
            (Mode::Classic, NotSaid, 0, 4, Port::Listening, Alive),
            (Mode::Classic, NotSaid, 0, 5, Port::Listening, Gone),
        ];
        for (mode, ended, connections, without, port, expected) in cases {
            let seen = Seen { ended, connections, without: Duration::from_secs(without), port };
            assert_eq!(judge(mode, &seen), expected, "{mode:?} {seen:?}");
        }
    }
}
