//! What goes wrong between us and a Nacos server: always with the server, what was asked of it, and what came back.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use thiserror::Error;

/// Longest text of a peer that is kept in an error, characters.
const SAID_MAX: usize = 300;

/// What a person can do about a namespace that is not there.
pub const NO_NAMESPACE: &str = "correct `namespaces` of the Nacos settings (ids, not the names that the console shows), or \
                                make the namespace";

/// Something that a server was asked for and did not do.
#[derive(Debug, Error)]
#[error("Nacos {server}: {request}: {cause}")]
pub struct Error {
    /// Name of the server in the settings, with the address that was asked.
    pub server: Arc<str>,
    /// What was asked, e.g. `ServiceQueryRequest`, `login`.
    pub request: &'static str,
    /// Why it was not done.
    pub cause: Cause,
}

/// Why something was not done.
#[derive(Debug, Error)]
pub enum Cause {
    /// No TCP connection, or its name is unknown.
    #[error("cannot be reached: {0}")]
    Unreachable(io::Error),
    /// The TLS handshake failed, mostly because the certificate is none that we trust.
    #[error("TLS failed: {0}")]
    Tls(io::Error),
    /// What we trust cannot be read.
    #[error("the file of certificate authorities {} cannot be used: {reason}", file.display())]
    Trust {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The password cannot be read.
    #[error("the password file {} cannot be read: {reason}", file.display())]
    Password {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// User and password were refused.
    #[error("user {user:?} was refused (HTTP {status}): {said}")]
    Login {
        /// The user.
        user: String,
        /// Status of the answer.
        status: u16,
        /// What the server said.
        said: String,
    },
    /// The server asks for a login, or ours does not reach.
    #[error("not allowed (403): {said}")]
    Denied {
        /// What the server said.
        said: String,
    },
    /// The server has no such namespace; it answers with empty lists for it.
    #[error("unknown namespace {namespace:?}; it has {}", known.join(", "))]
    UnknownNamespace {
        /// The namespace.
        namespace: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The server refuses for another reason.
    #[error("refused ({code}): {said}")]
    Refused {
        /// Its code; of HTTP or of Nacos.
        code: i64,
        /// What the server said.
        said: String,
    },
    /// What the server sent is not what was asked for.
    #[error("the answer cannot be read: {0}")]
    Malformed(String),
    /// No answer came.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Silent(Duration),
    /// The call failed below the protocol of Nacos.
    #[error("failed: {0}")]
    Call(Box<tonic::Status>),
    /// The token was not taken, and there is no new one.
    #[error("no login: {}", .0.cause)]
    NoLogin(Arc<Error>),
    /// There is no connection at this moment.
    #[error("no connection at this moment: {0}")]
    NotConnected(String),
    /// The connection ended.
    #[error("the connection ended: {0}")]
    Ended(String),
    /// The server sent us to another one, as it does before it stops or to even out its load.
    #[error("the server sent us to another one")]
    Moved {
        /// Where to, if it said so: host and gRPC port.
        to: Option<(String, u16)>,
    },
}

impl Cause {
    /// What a person can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Cause::Unreachable(_) | Cause::Silent(_) | Cause::NotConnected(_) | Cause::Ended(_) => {
                "see that the server runs, that `addresses` of the Nacos settings is right, and that its HTTP and gRPC \
                 ports are open from here"
            }
            Cause::Tls(_) | Cause::Trust { .. } => "see `tls` of the Nacos settings: caFile, serverName, http",
            Cause::Password { .. } => "make passwordFile of the Nacos settings readable for the controller",
            Cause::Login { .. } => {
                "correct username of the Nacos settings or the password in passwordFile, which is read at every login"
            }
            Cause::NoLogin(error) => error.cause.remedy(),
            Cause::Denied { .. } => "give the user of the Nacos settings the rights that docs/nacos.md names",
            Cause::UnknownNamespace { .. } => NO_NAMESPACE,
            Cause::Refused { .. } | Cause::Malformed(_) | Cause::Call(_) | Cause::Moved { .. } => {
                "see the log of the Nacos server"
            }
        }
    }

    /// What the code of a response means.
    pub(super) fn of_code(code: i64, said: &str) -> Self {
        let said = shortened(said);
        match code {
            // NacosException.NO_RIGHT; 401 comes from plugins.
            403 | 401 => Cause::Denied { said },
            code => Cause::Refused { code, said },
        }
    }
}

/// What a peer said, short enough for a log line.
pub(super) fn shortened(said: &str) -> String {
    said.chars().filter(|letter| !letter.is_control()).take(SAID_MAX).collect()
}
