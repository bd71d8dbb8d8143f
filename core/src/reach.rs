//! What carries a request to the picked instance.

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

#[cfg(test)]
mod tests {
    use super::*;

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
