//! Keeps the connection: login, setup, signs of life, and again.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, Semaphore, mpsc, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    Address, CALLS_AT_ONCE, Cause, Client, EVENT_QUEUE, Error, Event, Options,
    backoff::Attempts,
    login::{Token, login},
    session::Session,
};

/// A connection that lived this long was a good one: attempts count from the start again.
const GOOD_AFTER: Duration = Duration::from_secs(10);
/// Pause between two logins of one connection: servers count the failed ones, and lock users out.
const LOGIN_PAUSE: Duration = Duration::from_secs(3);

/// A login that failed is tried again after this time, or when a request needs it.
const LOGIN_AGAIN: Duration = Duration::from_secs(30);

/// What link and client share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    /// The connection, or why there is none.
    pub(super) state: watch::Sender<State>,
    /// What the last login came to.
    pub(super) login: watch::Sender<LoggedIn>,
    /// Told when a server no longer takes the token.
    pub(super) stale: Notify,
    /// Who may ask at the same time.
    pub(super) calls: Semaphore,
}

/// The connection, or why there is none.
pub(super) enum State {
    Up(Arc<Session>),
    Down(Option<Arc<Error>>),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            State::Up(session) => f.debug_tuple("Up").field(&session.server).finish(),
            State::Down(reason) => f.debug_tuple("Down").field(reason).finish(),
        }
    }
}

/// What logins came to.
#[derive(Clone, Debug, Default)]
pub(super) struct LoggedIn {
    /// The token of the last good one.
    pub(super) token: Option<Token>,
    /// Why the last one failed, if it did.
    pub(super) failed: Option<Arc<Error>>,
    /// How many there were.
    pub(super) count: u64,
}

impl Shared {
    fn token(&self) -> Option<Arc<str>> {
        self.login.borrow().token.as_ref().map(|token| Arc::clone(&token.value))
    }
}

/// The connection itself: does its work while [`Link::run`] is polled, and ends with it.
#[derive(Debug)]
pub struct Link {
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
}

/// A connection that is about to be made, who asks over it, and what it tells. `options` have at least one address.
pub fn open(options: Options) -> (Client, Link, mpsc::Receiver<Event>) {
    let (events, told) = mpsc::channel(EVENT_QUEUE);
    let shared = Arc::new(Shared {
        options,
        state: watch::Sender::new(State::Down(None)),
        login: watch::Sender::new(LoggedIn::default()),
        stale: Notify::new(),
        calls: Semaphore::new(CALLS_AT_ONCE),
    });
    (Client::new(Arc::clone(&shared)), Link { shared, events }, told)
}

impl Link {
    /// Connects, and keeps connected, until `stopping`. What was registered over the connection ends with it.
    pub async fn run(self, stopping: CancellationToken) {
        tokio::select! {
            () = stopping.cancelled() => (),
            () = self.keep() => (),
        }
        self.down(None);
    }

    /// Ends only where there is nothing to connect to.
    async fn keep(&self) {
        let addresses = &self.shared.options.addresses;
        if addresses.is_empty() {
            return;
        }
        let mut at = rand::random_range(0..addresses.len());
        let mut attempts = Attempts::default();
        loop {
            let begun = Instant::now();
            let reason = self.once(&addresses[at]).await;
            at = next(addresses, at, &reason.cause);
            if begun.elapsed() >= GOOD_AFTER {
                attempts = Attempts::default();
            }
            attempts = attempts.failed();
            self.down(Some(Arc::clone(&reason)));
            // Fails only when nobody wants to know any more.
            drop(self.events.send(Event::Disconnected { reason }).await);
            sleep(attempts.wait(addresses.len(), rand::random())).await;
        }
    }

    fn down(&self, reason: Option<Arc<Error>>) {
        if let State::Up(session) = self.shared.state.send_replace(State::Down(reason)) {
            session.end();
        }
    }

    /// One connection from its beginning to its end, and why it ended.
    async fn once(&self, address: &Address) -> Arc<Error> {
        if let Err(error) = self.login(address).await {
            return error;
        }
        let Shared { options, .. } = &*self.shared;
        let token = self.shared.token();
        let opened = Session::open(options, address, token.as_deref(), self.events.clone()).await;
        let (session, pushes) = match opened {
            Ok(opened) => opened,
            Err(error) => return Arc::new(error),
        };
        let server = Arc::clone(&session.server);
        self.shared.state.send_replace(State::Up(Arc::clone(&session)));
        let told = async {
            drop(self.events.send(Event::Connected { server: Arc::clone(&server) }).await);
            pushes.await
        };
        let cause = tokio::select! {
            cause = told => cause,
            cause = session.lives() => cause,
            cause = self.stay_logged_in(address) => cause,
        };
        Arc::new(Error { server, request: "connection", cause })
    }

    /// Logs in where the settings say who we are.
    async fn login(&self, address: &Address) -> Result<(), Arc<Error>> {
        let options = &self.shared.options;
        let Some(who) = &options.login else { return Ok(()) };
        let given = login(address, options.tls.as_ref(), who).await;
        let failed = |cause| Error { server: options.shown(address).into(), request: "login", cause };
        let (token, failed) = match given {
            Ok(token) => (Some(token), None),
            Err(cause) => (None, Some(Arc::new(failed(cause)))),
        };
        self.shared.login.send_modify(|logged_in| {
            logged_in.count += 1;
            logged_in.failed.clone_from(&failed);
            // A token that is no longer renewed may still be good for a while.
            logged_in.token = token.or(logged_in.token.take());
        });
        failed.map_or(Ok(()), Err)
    }

    /// Renews the login in time, and when a server no longer takes it. What fails is tried again after a pause, and is
    /// told to those who ask.
    async fn stay_logged_in(&self, address: &Address) -> Cause {
        if self.shared.options.login.is_none() {
            return std::future::pending().await;
        }
        let mut wait = self.renewal();
        loop {
            tokio::select! {
                () = sleep(wait) => (),
                () = self.shared.stale.notified() => (),
            }
            wait = match self.login(address).await {
                Ok(()) => self.renewal(),
                Err(error) => {
                    tracing::warn!(error = %error, "login not renewed");
                    LOGIN_AGAIN
                }
            };
            sleep(LOGIN_PAUSE).await;
        }
    }

    fn renewal(&self) -> Duration {
        self.shared.login.borrow().token.as_ref().map_or(LOGIN_PAUSE, |token| token.renewed_after)
    }
}

/// Which address is tried after the one `at` failed: where a server sent us, else the next.
fn next(addresses: &[Address], at: usize, cause: &Cause) -> usize {
    let told = match cause {
        Cause::Moved { to: Some((host, port)) } => addresses
            .iter()
            .position(|address| address.host == *host && (address.grpc_port == *port || address.port == *port)),
        _ => None,
    };
    told.unwrap_or((at + 1) % addresses.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_server_is_where_we_were_sent_if_we_know_it() {
        let address = |host: &str| Address { host: host.to_owned(), port: 8848, grpc_port: 9848 };
        let addresses = ["a", "b", "c"].map(address);
        let moved = |host: &str, port| Cause::Moved { to: Some((host.to_owned(), port)) };
        assert_eq!(next(&addresses, 0, &moved("c", 9848)), 2);
        assert_eq!(next(&addresses, 0, &moved("c", 1)), 1, "another port is another server");
        assert_eq!(next(&addresses, 2, &moved("unknown", 9848)), 0);
        assert_eq!(next(&addresses, 1, &Cause::Moved { to: None }), 2);
        assert_eq!(next(&addresses[..1], 0, &Cause::Ended(String::new())), 0);
    }
}
