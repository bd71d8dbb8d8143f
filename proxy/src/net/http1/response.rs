//! Heads of responses.

use std::ops::Deref;

use mesh_core::fields::Fields;

use super::{
    Asked, Framing, Malformed, Persistence, Version,
    fields::{FieldTable, Kind, Span},
    framing::{self, Said},
    options::{self, Options},
};

/// Head of a response that passed every check. Fields are reached through [`FieldTable`].
#[derive(Clone, Debug)]
pub struct ResponseHead {
    table: FieldTable,
    version: Version,
    status: u16,
    reason: Span,
    framing: Framing,
    declared_length: Option<u64>,
    persistence: Persistence,
}

impl ResponseHead {
    pub(super) fn new(
        mut table: FieldTable,
        version: Version,
        status: u16,
        reason: Span,
        asked: Asked,
    ) -> Result<ResponseHead, Malformed> {
        let said = framing::read(&table, version);
        let options = options::read(&mut table)?;
        let framing = match (status, asked) {
            (101, _) => switch(&table, options, asked, said?)?,
            (100..200, _) => no_interim_body(said?)?,
            // RFC 9112 6.3, rule 2: whatever the fields say.
            (200..300, Asked::Connect) => Framing::Tunnel,
            (204 | 304, _) | (_, Asked::Head) => said.map(|_| Framing::Empty)?,
            _ => match said? {
                Said::Nothing => Framing::UntilClose,
                Said::Length(length) => Framing::Length(length),
                Said::Chunked => Framing::Chunked,
            },
        };
        let declared_length = match said {
            Ok(Said::Length(length)) if status == 304 || (asked == Asked::Head && status >= 200) => Some(length),
            Ok(_) | Err(_) => None,
        };
        Ok(ResponseHead {
            version,
            status,
            reason,
            framing,
            declared_length: declared_length.filter(|_| status != 204),
            persistence: persistence(status, framing, said, options, version),
            table,
        })
    }

    /// Status, 100 to 999.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Reason phrase as sent.
    pub fn reason(&self) -> &[u8] {
        self.table.slice(self.reason)
    }

    /// Version that the server wrote.
    pub fn version(&self) -> Version {
        self.version
    }

    /// How the body's end is known.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// A 1xx that is followed by another head. 101 is not interim: it is [`Framing::Tunnel`].
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// Content-Length of a response to HEAD, or of a 304: what a GET would have answered.
    pub fn declared_length(&self) -> Option<u64> {
        self.declared_length
    }

    /// Whether the connection can carry another exchange once the body was read whole. Never after something odd.
    pub fn persistence(&self) -> Persistence {
        self.persistence
    }

    pub(super) fn table(&self) -> &FieldTable {
        &self.table
    }

    pub(super) fn into_table(self) -> FieldTable {
        self.table
    }
}

impl Deref for ResponseHead {
    type Target = FieldTable;

    fn deref(&self) -> &FieldTable {
        &self.table
    }
}

impl Fields for ResponseHead {
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        self.table.each(name, visit);
    }
}

fn switch(table: &FieldTable, options: Options, asked: Asked, said: Said) -> Result<Framing, Malformed> {
    let names_protocol = table.of_kind(Kind::Upgrade).is_some_and(|field| !field.value.is_empty());
    if asked != Asked::Upgrade || !options.upgrade || !names_protocol {
        return Err(Malformed::Switch);
    }
    no_interim_body(said).map(|_| Framing::Tunnel)
}

fn no_interim_body(said: Said) -> Result<Framing, Malformed> {
    match said {
        Said::Nothing | Said::Length(0) => Ok(Framing::Empty),
        Said::Length(_) | Said::Chunked => Err(Malformed::InterimBody),
    }
}

fn persistence(
    status: u16,
    framing: Framing,
    said: Result<Said, Malformed>,
    options: Options,
    version: Version,
) -> Persistence {
    // A server that announces a body on 204 may well send one.
    let odd = status == 204 && !matches!(said, Ok(Said::Nothing | Said::Length(0)));
    if odd || matches!(framing, Framing::UntilClose | Framing::Tunnel) {
        return Persistence::Close;
    }
    options.persistence(version)
}
