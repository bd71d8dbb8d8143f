//! Trailer fields.

use mesh_core::{
    fields::Fields,
    relay::{self, Part, Passage, Side, Way},
};

use super::fields::FieldTable;

/// Trailers are judged as a stranger's when they are read; whoever forwards them may know better and drop more.
const WAY: Way = Way { part: Part::Trailer, from: Side::Outside, to: Side::Outside };

/// Trailer fields of one message, without those that may not stand there.
#[derive(Clone, Debug)]
pub struct Trailers(FieldTable);

impl Trailers {
    /// Keeps what may stand in a trailer section (RFC 9110 6.5.1).
    pub(super) fn new(mut table: FieldTable) -> Trailers {
        let FieldTable { bytes, fields, .. } = &mut table;
        fields.retain(|field| relay::passage(&bytes[field.name.range()], WAY, &[]) == Passage::Keep);
        Trailers(table)
    }

    /// Name and value of each field, in the order received.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Fields for Trailers {
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        self.0.each(name, visit);
    }
}
