//! Heads of requests.

use std::ops::Deref;

use bytes::Bytes;
use mesh_core::{fields::Fields, relay::takes_trailers};

use super::{
    Framing, Malformed, Persistence, TargetForm, Version,
    authority::{self, Authority},
    fields::{FieldTable, Kind, Span},
    framing::{self, Said},
    options::{self, Options, members},
    target::{self, Target},
};

/// What a response's framing depends on in the request it answers (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// HEAD: the response has no body whatever it says.
    Head,
    /// CONNECT: success makes a tunnel.
    Connect,
    /// An upgrade was offered and forwarded: 101 makes a tunnel.
    Upgrade,
    /// Anything else.
    Plain,
}

/// Head of a request that passed every check. Fields are reached through [`FieldTable`].
#[derive(Clone, Debug)]
pub struct RequestHead {
    table: FieldTable,
    method: Span,
    version: Version,
    target: Target,
    authority: Option<(Span, Authority)>,
    framing: Framing,
    options: Options,
    upgrade: Option<Span>,
    expects_continue: bool,
    te_trailers: bool,
}

impl RequestHead {
    /// Copies what it points into, so that it keeps nothing else of the buffer in which it came.
    pub fn detach(&mut self) {
        self.table.bytes = Bytes::copy_from_slice(&self.table.bytes);
    }

    pub(super) fn new(
        mut table: FieldTable,
        method: Span,
        target: Span,
        version: Version,
    ) -> Result<RequestHead, Malformed> {
        let target = target::parse(&table.bytes, table.slice(method), target)?;
        let framing = match framing::read(&table, version)? {
            Said::Nothing => Framing::Empty,
            Said::Length(length) => Framing::Length(length),
            Said::Chunked => Framing::Chunked,
        };
        let authority = target.authority.or(host(&table, version)?);
        let options = options::read(&mut table)?;
        Ok(RequestHead {
            method,
            version,
            target,
            authority,
            framing: if target.form == TargetForm::Authority { tunnel_framing(framing)? } else { framing },
            options,
            upgrade: upgrade(&table, table.slice(method), version, options, framing),
            expects_continue: expects_continue(&table)? && version == Version::Http11,
            te_trailers: options.te && takes_trailers(&table),
            table,
        })
    }

    /// Method, a token.
    pub fn method(&self) -> &str {
        self.table.text(self.method)
    }

    /// Version that the client wrote.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The whole target as sent.
    pub fn target(&self) -> &str {
        self.table.text(self.target.whole)
    }

    /// Form of the target.
    pub fn target_form(&self) -> TargetForm {
        self.target.form
    }

    /// Path without query: `/` where an absolute target has none, `*` for the asterisk form, empty for CONNECT.
    pub fn path(&self) -> &str {
        match self.target.form {
            TargetForm::Asterisk => "*",
            TargetForm::Authority => "",
            TargetForm::Origin | TargetForm::Absolute => {
                let path = self.path_and_query().split('?').next().unwrap_or_default();
                if path.is_empty() { "/" } else { path }
            }
        }
    }

    /// Query without `?`, as sent.
    pub fn query(&self) -> Option<&str> {
        self.path_and_query().split_once('?').map(|(_, query)| query)
    }

    /// Target toward an origin, in two parts: the absolute form loses its authority (RFC 9112 3.2.1).
    pub fn origin_target(&self) -> [&str; 2] {
        match self.target.form {
            TargetForm::Origin | TargetForm::Authority | TargetForm::Asterisk => ["", self.target()],
            TargetForm::Absolute => match self.path_and_query() {
                "" if self.method() == "OPTIONS" => ["", "*"],
                path if path.starts_with('/') => ["", path],
                query => ["/", query],
            },
        }
    }

    fn path_and_query(&self) -> &str {
        self.table.text(self.target.path_and_query)
    }

    /// `host[:port]` that the request is for: from the target where it has one (Host is ignored then, RFC 9112 3.2.2),
    /// else from Host. `None` only for HTTP/1.0 without Host.
    pub fn authority(&self) -> Option<&str> {
        self.authority.map(|(span, _)| self.table.text(span))
    }

    /// Host of the authority, as sent, brackets of an IPv6 address included.
    pub fn host(&self) -> Option<&str> {
        let (span, authority) = self.authority?;
        self.table.text(span).get(..usize::from(authority.host_len))
    }

    /// Port of the authority.
    pub fn port(&self) -> Option<u16> {
        self.authority.and_then(|(_, authority)| authority.port)
    }

    /// How the body's end is known: [`Framing::Empty`], [`Framing::Length`] or [`Framing::Chunked`]. A CONNECT has no
    /// body: what follows its head waits for the answer.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the client will send another request on this connection.
    pub fn persistence(&self) -> Persistence {
        self.options.persistence(self.version)
    }

    /// Whether the client waits for `100 Continue` before it sends the body (HTTP/1.1 only, RFC 9110 10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// Protocols of an upgrade that may be forwarded. `None` as well where RFC 9110 7.8 says or lets us ignore the
    /// offer: HTTP/1.0, no `Connection: upgrade`, `Connection: close` beside it, several Upgrade lines, a body, HEAD,
    /// CONNECT, or `h2c` (RFC 9113 3.1).
    pub fn upgrade(&self) -> Option<&[u8]> {
        self.upgrade.map(|span| self.table.slice(span))
    }

    /// Whether the client accepts trailers (`TE: trailers`, named by Connection).
    pub fn te_trailers(&self) -> bool {
        self.te_trailers
    }

    /// What the response parser must know of this request.
    pub fn asked(&self) -> Asked {
        match self.method() {
            "HEAD" => Asked::Head,
            "CONNECT" => Asked::Connect,
            _ if self.upgrade.is_some() => Asked::Upgrade,
            _ => Asked::Plain,
        }
    }

    pub(super) fn table(&self) -> &FieldTable {
        &self.table
    }

    pub(super) fn into_table(self) -> FieldTable {
        self.table
    }
}

impl Deref for RequestHead {
    type Target = FieldTable;

    fn deref(&self) -> &FieldTable {
        &self.table
    }
}

impl Fields for RequestHead {
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        self.table.each(name, visit);
    }
}

fn host(table: &FieldTable, version: Version) -> Result<Option<(Span, Authority)>, Malformed> {
    let mut found = None;
    for field in table.fields.iter().filter(|field| field.kind == Kind::Host) {
        if found.replace(field.value).is_some() {
            return Err(Malformed::HostRepeated);
        }
    }
    match found {
        Some(span) => match authority::parse(table.slice(span)) {
            Ok(authority) => Ok(Some((span, authority))),
            Err(Malformed::Userinfo) => Err(Malformed::Userinfo),
            Err(_) => Err(Malformed::HostInvalid),
        },
        None if version == Version::Http11 => Err(Malformed::HostMissing),
        None => Ok(None),
    }
}

/// Content of a CONNECT has no meaning and would be the tunnel's first bytes to some readers (RFC 9110 9.3.6).
fn tunnel_framing(framing: Framing) -> Result<Framing, Malformed> {
    match framing {
        Framing::Empty | Framing::Length(0) => Ok(Framing::Empty),
        Framing::Length(_) => Err(Malformed::ContentLength),
        Framing::Chunked | Framing::UntilClose | Framing::Tunnel => Err(Malformed::TransferEncoding),
    }
}

fn expects_continue(table: &FieldTable) -> Result<bool, Malformed> {
    let mut expects = false;
    for field in table.fields.iter().filter(|field| field.kind == Kind::Expect) {
        if expects || !table.slice(field.value).eq_ignore_ascii_case(b"100-continue") {
            return Err(Malformed::Expectation);
        }
        expects = true;
    }
    Ok(expects)
}

fn upgrade(table: &FieldTable, method: &[u8], version: Version, options: Options, framing: Framing) -> Option<Span> {
    let meant = options.upgrade && !options.close && version == Version::Http11;
    // After HEAD or CONNECT a switch would contend with another reading of the response.
    let possible = framing.is_bodiless() && method != b"HEAD" && method != b"CONNECT";
    if !meant || !possible {
        return None;
    }
    let mut lines = table.fields.iter().filter(|field| field.kind == Kind::Upgrade);
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    let value = table.slice(line.value);
    let offers_h2c = members(value).any(|protocol| protocol.eq_ignore_ascii_case(b"h2c"));
    (members(value).next().is_some() && !offers_h2c).then_some(line.value)
}
