//! Connection options (RFC 9110 7.6.1): what this connection does, and which fields end here.

use mesh_core::relay::{self, Passage};

use super::{
    Malformed, Persistence, Version,
    fields::{FieldTable, Kind},
};

/// Most connection options of one message: marking fields costs options × fields.
const OPTIONS_MAX: usize = 32;

/// What the Connection fields of a message say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    pub(super) te: bool,
}

impl Options {
    /// Whether the connection can carry another message (RFC 9112 9.3).
    pub(super) fn persistence(self, version: Version) -> Persistence {
        let stays = self.keep_alive || version == Version::Http11;
        if stays && !self.close { Persistence::Keep } else { Persistence::Close }
    }
}

/// Reads the Connection fields and marks the fields that they nominate.
pub(super) fn read(table: &mut FieldTable) -> Result<Options, Malformed> {
    let mut options = Options::default();
    let mut seen = 0;
    for index in 0..table.fields.len() {
        if table.fields[index].kind != Kind::Connection {
            continue;
        }
        let line = table.bytes.slice(table.fields[index].value.range());
        for option in members(&line) {
            seen += 1;
            if seen > OPTIONS_MAX || !is_token(option) {
                return Err(Malformed::Connection);
            }
            take(table, &mut options, option)?;
        }
    }
    Ok(options)
}

fn take(table: &mut FieldTable, options: &mut Options, option: &[u8]) -> Result<(), Malformed> {
    let is = |known: &str| option.eq_ignore_ascii_case(known.as_bytes());
    match Kind::of(option) {
        // Dropping these on command would move the end or the destination of the message.
        Kind::Host | Kind::ContentLength | Kind::TransferEncoding => return Err(Malformed::Connection),
        Kind::Te => options.te = true,
        Kind::Upgrade => options.upgrade = true,
        Kind::HopByHop => options.keep_alive |= is("keep-alive"),
        Kind::Other if is("close") => options.close = true,
        Kind::Other | Kind::Nominated | Kind::Connection | Kind::Trailer | Kind::Expect => {
            if relay::nominated(option, &[]) != Passage::HopByHop {
                return Ok(());
            }
            let FieldTable { bytes, fields, .. } = table;
            for field in fields.iter_mut().filter(|field| field.kind == Kind::Other) {
                if bytes[field.name.range()].eq_ignore_ascii_case(option) {
                    field.kind = Kind::Nominated;
                }
            }
        }
    }
    Ok(())
}

/// Members of a comma-separated list, without surrounding whitespace; empty ones are skipped (RFC 9110 5.6.1.2).
pub(super) fn members(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Whether a text is a token (RFC 9110 5.6.2).
pub(super) fn is_token(text: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(allowed)
}
