//! Bodies written to HTTP/1 connections.

use std::num::NonZeroUsize;

use super::{Part, heads};
use crate::{datapath::wire::Wire, net::http1};

/// Appends a part of a body.
pub(super) fn push(wire: &mut Wire, chunked: bool, part: Part) {
    let ends = part.is_last();
    let mut trailers = None;
    match part {
        Part::Data(bytes, _) => match NonZeroUsize::new(bytes.len()) {
            Some(length) if chunked => {
                http1::write_chunk_head(wire.out(), length);
                wire.push(bytes);
                http1::write_chunk_tail(wire.out());
            }
            Some(_) => wire.push(bytes),
            None => {}
        },
        Part::Trailers(given) => trailers = Some(given),
        Part::End => {}
    }
    if ends && chunked {
        heads::last_chunk(wire.out(), trailers.as_ref());
    }
}
