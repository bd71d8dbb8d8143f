//! Whether a caller may use an inbound port, and a request one of its routes. Unknown denies.

use std::net::IpAddr;

use crate::{identity::Identity, model::policy::InboundServer, route::RequestParts};

/// Who calls.
#[derive(Clone, Debug)]
pub struct Caller<'a> {
    /// Address of the caller.
    pub address: IpAddr,
    /// Proven identity; `None` = plaintext.
    pub identity: Option<&'a Identity>,
}

/// What was decided, and by which rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Allowed by the authorization of this name.
    Allow {
        /// Name of the authorization.
        authorization: &'a str,
    },
    /// Denied.
    Deny(Denial),
}

/// Why a caller was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denial {
    /// No policy is known for the port.
    UnknownPort,
    /// The port takes mesh identities only and the caller has none.
    Plaintext,
    /// The caller's identity or network is in no authorization.
    NotAuthorized,
}

impl Denial {
    /// Label for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Denial::UnknownPort => "unknown_port",
            Denial::Plaintext => "plaintext",
            Denial::NotAuthorized => "not_authorized",
        }
    }
}

/// May `caller` open a connection to the port? Where routes have authorizations of their own, a caller whom any of them
/// allows may connect; each request is then judged by [`request`].
pub fn connection<'a>(server: Option<&'a InboundServer>, caller: &Caller<'_>) -> Verdict<'a> {
    let _ = (server, caller);
    Verdict::Deny(Denial::UnknownPort)
}

/// May `caller` make this request? The first route whose hosts and matches fit decides; without one the server does.
pub fn request<'a>(server: &'a InboundServer, caller: &Caller<'_>, parts: &RequestParts<'_>) -> Verdict<'a> {
    let _ = (server, caller, parts);
    Verdict::Deny(Denial::UnknownPort)
}
