//! Our client of Nacos' protocol, versions 2 and 3 (gRPC with JSON inside; HTTP for login and lists): one connection to
//! one namespace. It moves messages and decides nothing about them.
//!
//! [`open`] gives three parts: the [`Client`] that asks, the [`Link`] that whoever owns the connection runs, and the
//! events that it tells. The link connects to one of the server's addresses, keeps the connection alive, logs in and
//! renews the login, and connects again, to the next address, whenever the connection ends.
//!
//! # What is lost with a connection
//! The server forgets, at once, everything that was done over a connection that ended: subscriptions, listening to
//! configurations, and the instances registered over it, which are ephemeral. After every [`Event::Connected`] the owner
//! must do all of it again, and ask anew for every list it holds: changes between the two connections were told to
//! nobody. A server that was started again first answers with empty lists.
//!
//! # What is bounded
//! Attempts to connect, requests and signs of life have deadlines, messages a size, the queue of events a length. An
//! owner that is slow to take events stops the reading of pushes, and nothing else.

mod backoff;
mod client;
mod dial;
mod error;
mod http;
mod lenient;
mod link;
mod login;
mod message;
mod payload;
mod session;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use mesh_core::{
    discovery::nacos::{Listing, name::PUBLIC},
    resources::nacos::{Address, Login, Tls},
};
use serde::Serialize;

pub use self::{
    client::Client,
    error::{Cause, Error, NO_NAMESPACE},
    link::{Link, open},
};

/// For name resolution, TCP, TLS, and the setup of a connection together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one request; a server answers them from memory.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// For one request over HTTP, with its connection.
const HTTP_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest message of a server, bytes: 30,000 instances of one service at about 500 bytes.
const MESSAGE_MAX: usize = 16 << 20;
/// Requests that are made at the same time; more wait.
const CALLS_AT_ONCE: usize = 64;
/// Events that wait for the owner. Each may be a list of many instances.
const EVENT_QUEUE: usize = 64;

/// A server, as far as the connection needs to know it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name in the settings.
    pub name: String,
    /// Where it, or its cluster, is; at least one.
    pub addresses: Vec<Address>,
    /// Id of the namespace; `public` is the default one.
    pub namespace: String,
    /// TLS; in the clear without.
    pub tls: Option<Tls>,
    /// User and password; none where the server asks for none.
    pub login: Option<Login>,
}

impl Options {
    /// The server at one of its addresses, as errors name it.
    fn shown(&self, address: &Address) -> String {
        format!("{} ({})", self.name, address.authority())
    }

    /// The namespace as configurations have it: the default one is empty there.
    fn tenant(&self) -> &str {
        if self.namespace == PUBLIC { "" } else { &self.namespace }
    }
}

/// Something that the connection tells its owner.
#[derive(Clone, Debug)]
pub enum Event {
    /// A connection is set up. Nothing that was done over an earlier one counts any more.
    Connected {
        /// The server with its address.
        server: Arc<str>,
    },
    /// A connection ended, or an attempt to make one failed; the next follows by itself.
    Disconnected {
        /// Why.
        reason: Arc<Error>,
    },
    /// A service that is subscribed to changed, or the server says so: pushes may repeat themselves, and may overtake
    /// each other and the answers to requests.
    Pushed(Listing),
    /// A configuration that is listened to changed, or was removed. The server does not say it again.
    ConfigChanged {
        /// Its id.
        data_id: String,
        /// Its group.
        group: String,
    },
    /// A push that cannot be read; what it said is to be asked for.
    Unreadable(Arc<Error>),
}

/// An instance that is registered over the connection.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// IP address.
    pub ip: String,
    /// Port.
    pub port: u16,
    /// Weight, 0 to 10,000; 1 by default.
    pub weight: f64,
    /// Whether it is healthy as far as we know.
    pub healthy: bool,
    /// Whether it takes traffic.
    pub enabled: bool,
    /// Gone with the connection; the only kind that we register.
    pub ephemeral: bool,
    /// Cluster within the service; `DEFAULT` by default.
    pub cluster_name: String,
    /// What is said about it.
    pub metadata: BTreeMap<String, String>,
}

/// A configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The text.
    pub content: String,
    /// Its type as the registrant says, e.g. `yaml`.
    pub kind: String,
    /// By which changes are noticed.
    pub md5: String,
}

/// A configuration, and which text of it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listened {
    /// Its id.
    pub data_id: String,
    /// Its group.
    pub group: String,
    /// Of the text that is known; empty where there is none.
    pub md5: String,
}
