//! Which header fields cross a hop: hop-by-hop rules of RFC 9110 7.6.1, RFC 9112 and RFC 9113 8.2.2, and the fields
//! that only the mesh may set.

use crate::{
    fields::Fields,
    lane::{CarrierRole, ForwardedRole, alike, carrier_role},
    model::lane::LaneGroup,
    names,
};

/// What to do with one field of a message on its way through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Forward unchanged.
    Keep,
    /// Belongs to the connection: dropped (framing and Connection are written anew).
    HopByHop,
    /// Only the mesh may set it: dropped.
    Reserved,
    /// Carrier of a lane (or baggage): dropped and written anew.
    Lane,
}

/// Who stands at one side of a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The application of this pod.
    Application,
    /// A mesh peer with a proven identity.
    Mesh,
    /// Anybody else.
    Outside,
}

/// Part of a message in which a field stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Header of a request.
    Request,
    /// Header of a response, also an interim one.
    Response,
    /// Trailer of either.
    Trailer,
}

/// The way of a message through this proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Part of the message.
    pub part: Part,
    /// Who sent it.
    pub from: Side,
    /// Who receives it.
    pub to: Side,
}

/// What to do with the field called `name`. Fields named by `Connection` are judged by [`nominated`] besides.
pub fn passage(name: &[u8], way: Way, groups: &[LaneGroup]) -> Passage {
    if is_hop_by_hop(name) || (way.part == Part::Trailer && is_barred_from_trailers(name)) {
        return Passage::HopByHop;
    }
    match way.part {
        Part::Request => match carrier_role(name, groups) {
            CarrierRole::Carrier => return Passage::Lane,
            CarrierRole::Alias if way.from == Side::Outside || way.to == Side::Outside => return Passage::Lane,
            CarrierRole::Alias => return Passage::Keep,
            CarrierRole::None if is(name, names::BAGGAGE_HEADER) => return Passage::Lane,
            CarrierRole::None if ForwardedRole::of(name, groups) == ForwardedRole::Carrier => return Passage::Lane,
            CarrierRole::None => (),
        },
        Part::Trailer if carrier_role(name, groups) != CarrierRole::None => return Passage::Reserved,
        Part::Response | Part::Trailer => (),
    }
    let tells = way.part == Part::Response && way.from == Side::Mesh && tells_an_error(name);
    if is_reserved(name) && !tells { Passage::Reserved } else { Passage::Keep }
}

/// Whether `Connection` may take the field called `name` out of the message (RFC 9110 7.6.1). Fields on which framing,
/// routing, authentication or the mesh depend stay, or a client could have them removed behind the checks of this hop.
pub fn nominated(name: &[u8], groups: &[LaneGroup]) -> Passage {
    /// End-to-end fields; listing them in `Connection` is an error of the sender or an attack.
    const STAY: &[&str] = &[
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "content-range",
        "trailer",
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "cache-control",
        "forwarded",
        "via",
        "date",
        "expect",
        "traceparent",
        "tracestate",
        "grpc-timeout",
        "grpc-encoding",
        "grpc-status",
        "grpc-message",
        "x-real-ip",
        "x-request-id",
        names::BAGGAGE_HEADER,
    ];
    let stays = STAY.iter().any(|field| is(name, field))
        || starts(name, "x-forwarded-")
        || starts(name, "x-b3-")
        || name.starts_with(b":")
        || is_reserved(name)
        || carrier_role(name, groups) != CarrierRole::None;
    if stays { Passage::Keep } else { Passage::HopByHop }
}

/// Whether the sender of a request takes trailers: `TE: trailers`, the one value of `TE` that crosses HTTP/2 hops and
/// that the next request must say again (RFC 9113 8.2.2; gRPC servers insist on it).
pub fn takes_trailers(fields: &dyn Fields) -> bool {
    let mut found = false;
    fields.each("te", &mut |value| {
        found |= value.split(|byte| *byte == b',').any(|coding| {
            let name = coding.split(|byte| *byte == b';').next().unwrap_or_default();
            is(name.trim_ascii(), "trailers")
        });
    });
    found
}

/// Whether the sidecar that answers wants the client's connection closed after it (`l5d-proxy-connection: close`).
pub fn closes_connection(fields: &dyn Fields) -> bool {
    fields.first(names::PROXY_CONNECTION_HEADER).is_some_and(|value| is(value, "close"))
}

fn is(name: &[u8], text: &str) -> bool {
    name.eq_ignore_ascii_case(text.as_bytes())
}

fn starts(name: &[u8], text: &str) -> bool {
    name.get(..text.len()).is_some_and(|start| is(start, text))
}

fn is_hop_by_hop(name: &[u8]) -> bool {
    match name.len() {
        2 => is(name, "te"),
        7 => is(name, "upgrade"),
        10 => is(name, "connection") || is(name, "keep-alive"),
        14 => is(name, "http2-settings"),
        16 => is(name, "proxy-connection"),
        17 => is(name, "transfer-encoding"),
        20 => is(name, names::PROXY_CONNECTION_HEADER),
        _ => false,
    }
}

/// Framing, routing and authentication never stand in trailers (RFC 9110 6.5.1).
fn is_barred_from_trailers(name: &[u8]) -> bool {
    match name.len() {
        4 => is(name, "host"),
        6 => is(name, "cookie") || is(name, "expect"),
        7 => is(name, "trailer"),
        10 => is(name, "set-cookie"),
        12 => is(name, "content-type") || is(name, "max-forwards"),
        13 => is(name, "authorization") || is(name, "content-range") || is(name, "cache-control"),
        14 => is(name, "content-length"),
        16 => is(name, "content-encoding") || is(name, "www-authenticate"),
        18 => is(name, "proxy-authenticate"),
        19 => is(name, "proxy-authorization"),
        _ => name.starts_with(b":"),
    }
}

/// Also with `_` for `-`: to applications behind CGI, WSGI and the like both are the same.
fn is_reserved(name: &[u8]) -> bool {
    let begins = |text: &str| name.get(..text.len()).is_some_and(|start| alike(start, text.as_bytes()));
    match name.first() {
        Some(b'l' | b'L') => begins("l5d-"),
        Some(b'x' | b'X') => begins("x-mesh-") || alike(name, names::FORWARDED_CLIENT_CERT_HEADER.as_bytes()),
        _ => false,
    }
}

/// Set by the peer's sidecar for whoever reads the answer.
fn tells_an_error(name: &[u8]) -> bool {
    is(name, names::ERROR_HEADER) || is(name, names::PROXY_ERROR_HEADER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::lane::Carrier;

    const OUT: Way = Way { part: Part::Request, from: Side::Application, to: Side::Mesh };
    const IN: Way = Way { part: Part::Request, from: Side::Mesh, to: Side::Application };
    const STRANGER: Way = Way { part: Part::Request, from: Side::Outside, to: Side::Application };
    const LEAVING: Way = Way { part: Part::Request, from: Side::Application, to: Side::Outside };
    const ANSWER: Way = Way { part: Part::Response, from: Side::Mesh, to: Side::Application };
    const OWN_ANSWER: Way = Way { part: Part::Response, from: Side::Application, to: Side::Mesh };
    const TRAILER: Way = Way { part: Part::Trailer, from: Side::Application, to: Side::Mesh };

    fn groups() -> Vec<LaneGroup> {
        let carrier = Carrier {
            header: "x-gray".to_owned(),
            baggage_key: "gray".to_owned(),
            aliases: vec!["x-mse-tag".to_owned()],
        };
        vec![LaneGroup { carrier, ..LaneGroup::new("g".parse().unwrap()) }]
    }

    #[test]
    fn each_field_passes_as_its_meaning_asks() {
        use Passage::{HopByHop, Keep, Lane, Reserved};
        let everywhere = [OUT, IN, STRANGER, LEAVING, ANSWER, OWN_ANSWER, TRAILER];
        for name in [
            "Connection",
            "keep-alive",
            "TE",
            "Transfer-Encoding",
            "upgrade",
            "HTTP2-Settings",
            "proxy-connection",
            "l5d-proxy-connection",
        ] {
            for way in everywhere {
                assert_eq!(passage(name.as_bytes(), way, &groups()), HopByHop, "{name} {way:?}");
            }
        }
        let cases = [
            ("content-type", OUT, Keep),
            ("content-length", OUT, Keep),
            ("trailer", OUT, Keep),
            ("x-meshed", OUT, Keep),
            ("traceparent", OUT, Keep),
            ("X-Mesh-Lane", OUT, Lane),
            ("mesh-lane", OUT, Lane),
            ("x-gray", IN, Lane),
            ("gray", IN, Lane),
            ("baggage", IN, Lane),
            ("x_mesh_lane", OUT, Lane),
            ("X-Mesh_Lane", STRANGER, Lane),
            ("mesh_lane", IN, Lane),
            ("X_MSE_TAG", STRANGER, Lane),
            ("uberctx-mesh-lane", STRANGER, Lane),
            ("ot-baggage-gray", STRANGER, Lane),
            ("baggage-Mesh-Lane", STRANGER, Lane),
            ("uberctx-mesh-lane", IN, Keep),
            ("jaeger-baggage", STRANGER, Lane),
            ("Correlation_Context", STRANGER, Lane),
            ("correlation-context", LEAVING, Lane),
            ("correlation-context", OUT, Keep),
            ("SW8-Correlation", IN, Lane),
            ("sw8_correlation", STRANGER, Lane),
            ("uberctx-user", STRANGER, Keep),
            ("baggage-", STRANGER, Keep),
            ("l5d_client_id", OUT, Reserved),
            ("x_mesh_decided", IN, Reserved),
            ("x_forwarded_client_cert", IN, Reserved),
            ("x-mse-tag", IN, Keep),
            ("x-mse-tag", STRANGER, Lane),
            ("x-mse-tag", LEAVING, Lane),
            ("l5d-client-id", OUT, Reserved),
            ("L5D-Client-Id", IN, Reserved),
            ("x-forwarded-client-cert", IN, Reserved),
            ("x-mesh-draining", IN, Reserved),
            ("x-mesh-draining", ANSWER, Reserved),
            ("x-mesh-error", ANSWER, Keep),
            ("l5d-proxy-error", ANSWER, Keep),
            ("x-mesh-error", OWN_ANSWER, Reserved),
            ("baggage", OWN_ANSWER, Keep),
            ("grpc-status", TRAILER, Keep),
            ("content-length", TRAILER, HopByHop),
            ("host", TRAILER, HopByHop),
            ("x-mesh-lane", TRAILER, Reserved),
            ("x-gray", TRAILER, Reserved),
        ];
        for (name, way, expected) in cases {
            assert_eq!(passage(name.as_bytes(), way, &groups()), expected, "{name} {way:?}");
        }
    }

    #[test]
    fn connection_cannot_nominate_away_what_the_next_hop_relies_on() {
        for name in [
            "Host",
            "content-length",
            "authorization",
            "x-mesh-lane",
            "X-Gray",
            "baggage",
            "l5d-client-id",
            "x-forwarded-for",
            "cookie",
        ] {
            assert_eq!(nominated(name.as_bytes(), &groups()), Passage::Keep, "{name}");
        }
        for name in ["keep-alive", "x-custom", "foo"] {
            assert_eq!(nominated(name.as_bytes(), &groups()), Passage::HopByHop, "{name}");
        }
    }

    #[test]
    fn trailers_are_announced_only_by_their_word() {
        for (value, expected) in
            [("trailers", true), ("gzip;q=0.5, Trailers", true), ("trailers;q=1", true), ("x-trailers", false)]
        {
            let fields: &[(&str, &str)] = &[("TE", value)];
            assert_eq!(takes_trailers(&fields), expected, "{value}");
        }
    }
}
