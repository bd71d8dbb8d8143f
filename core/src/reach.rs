//! What carries a request to the picked instance, and when its connection counts as lost.

use crate::{model::endpoint::ProtocolHint, relay::Side};

/// What the caller speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// HTTP/1 that its sidecar carries over HTTP/2 (`l5d-orig-proto`).
    Http1OverHttp2,
}

/// Which versions of HTTP can carry a request whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Both.
    Either,
    /// HTTP/1 alone: an upgrade, a CONNECT, an expected `100 Continue` (which peers are known to drop from HTTP/2), a
    /// request without authority or with a target that no URI of HTTP/2 can be made of.
    Http1Only,
}

/// What carries the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carriage {
    /// An HTTP/1 connection: so spoke the caller, or the peer's caller.
    Http1,
    /// An HTTP/2 stream: so spoke the caller.
    Http2,
    /// An HTTP/2 stream, marked with `l5d-orig-proto`: the endpoint's sidecar asks for it.
    Http1OverHttp2,
}

/// Decides. The caller's protocol stays, since that costs least; only a mesh peer that asks for it is given HTTP/1 over
/// HTTP/2. `form` is asked only where it matters.
pub fn carriage(spoken: Spoken, to: Side, hint: ProtocolHint, form: impl FnOnce() -> Form) -> Carriage {
    match (spoken, to, hint) {
        (Spoken::Http2, _, _) => Carriage::Http2,
        (Spoken::Http1, Side::Mesh, ProtocolHint::Http2) => match form() {
            Form::Either => Carriage::Http1OverHttp2,
            Form::Http1Only => Carriage::Http1,
        },
        (Spoken::Http1 | Spoken::Http1OverHttp2, _, _) => Carriage::Http1,
    }
}

/// Retransmissions in a row without any answer that show that the peer is lost: with the shortest time out of Linux
/// (200 ms, doubled each time) three seconds.
const RETRANSMISSIONS_MAX: u8 = 4;
/// Probes in a row without any answer that show it of a connection on which nothing waits to be acknowledged.
const PROBES_MAX: u8 = 2;

/// What the kernel sent in vain since the peer was heard last: an acknowledgement of anything ends both rows, also that
/// of one who takes no more bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unanswered {
    /// Retransmissions after a time out.
    pub retransmissions: u8,
    /// Probes of a connection that was quiet, or whose peer took no more.
    pub probes: u8,
}

impl Unanswered {
    /// Whether the peer is lost: neither its application nor its kernel can be reached, so that nothing it may still say
    /// is worth waiting for.
    pub fn is_lost(self) -> bool {
        self.retransmissions >= RETRANSMISSIONS_MAX || self.probes >= PROBES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_is_lost_once_several_attempts_in_a_row_to_reach_its_kernel_were_in_vain() {
        for (retransmissions, probes, expected) in
            [(0, 0, false), (3, 0, false), (4, 0, true), (9, 0, true), (0, 1, false), (0, 2, true), (3, 1, false)]
        {
            let unanswered = Unanswered { retransmissions, probes };
            assert_eq!(unanswered.is_lost(), expected, "{unanswered:?}");
        }
    }

    #[test]
    fn http1_goes_over_http2_only_to_mesh_peers_that_ask_for_it() {
        use Form::{Either, Http1Only};
        let cases = [
            (Spoken::Http1, Side::Mesh, ProtocolHint::Http2, Either, Carriage::Http1OverHttp2),
            (Spoken::Http1, Side::Mesh, ProtocolHint::Http2, Http1Only, Carriage::Http1),
            (Spoken::Http1, Side::Mesh, ProtocolHint::Unknown, Either, Carriage::Http1),
            (Spoken::Http1, Side::Mesh, ProtocolHint::Opaque, Either, Carriage::Http1),
            (Spoken::Http1, Side::Outside, ProtocolHint::Http2, Either, Carriage::Http1),
            (Spoken::Http1, Side::Application, ProtocolHint::Http2, Either, Carriage::Http1),
            (Spoken::Http2, Side::Mesh, ProtocolHint::Unknown, Either, Carriage::Http2),
            (Spoken::Http2, Side::Outside, ProtocolHint::Http2, Either, Carriage::Http2),
            (Spoken::Http1OverHttp2, Side::Application, ProtocolHint::Unknown, Either, Carriage::Http1),
        ];
        for (spoken, to, hint, form, expected) in cases {
            assert_eq!(carriage(spoken, to, hint, || form), expected, "{spoken:?} {to:?} {hint:?} {form:?}");
        }
    }
}
