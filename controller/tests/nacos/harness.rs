//! A connection with its events, run by a task that ends with it.

use std::time::Duration;

use mesh_controller::sources::nacos::wire::{Client, Event, Instance, Options, open};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

/// Longest wait for anything; only a failing test waits that long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A connection; it ends when dropped.
pub(crate) struct Connection {
    pub(crate) client: Client,
    /// Where it is connected to, as its event said.
    pub(crate) server: String,
    events: mpsc::Receiver<Event>,
    _running: JoinSet<()>,
}

impl Connection {
    /// Opens one.
    pub(crate) fn begin(options: Options) -> Connection {
        let (client, link, events) = open(options);
        let mut running = JoinSet::new();
        running.spawn(link.run(CancellationToken::new()));
        Connection { client, server: String::new(), events, _running: running }
    }

    /// Opens one and waits until it is connected.
    pub(crate) async fn up(options: Options) -> Connection {
        let mut connection = Connection::begin(options);
        loop {
            match connection.next().await {
                Event::Connected { server } => {
                    connection.server = server.to_string();
                    return connection;
                }
                Event::Disconnected { reason } => eprintln!("{reason}"),
                event @ (Event::Pushed(_) | Event::ConfigChanged { .. } | Event::Unreadable(_)) => {
                    panic!("{event:?} before a connection")
                }
            }
        }
    }

    /// The next event.
    pub(crate) async fn next(&mut self) -> Event {
        let event = timeout(DEADLINE, self.events.recv()).await.expect("an event in time");
        event.expect("the link runs")
    }

    /// Nothing was told.
    pub(crate) fn expect_quiet(&mut self) {
        let told = self.events.try_recv();
        assert!(told.is_err(), "{told:?}");
    }
}

/// An instance as a registrant has it that says little.
pub(crate) fn instance(ip: &str, port: u16) -> Instance {
    Instance {
        ip: ip.to_owned(),
        port,
        weight: 1.0,
        healthy: true,
        enabled: true,
        ephemeral: true,
        cluster_name: "DEFAULT".to_owned(),
        metadata: [("lane".to_owned(), "gray".to_owned())].into(),
    }
}
