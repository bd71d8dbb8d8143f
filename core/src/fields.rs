//! Header fields as decisions see them, whatever a protocol stores them in.

/// Read access to the header (or trailer) fields of one message. Names are compared without case.
pub trait Fields {
    /// Calls `visit` with every value of `name`, in the order received.
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8]));

    /// The first value of `name`.
    fn first(&self, name: &str) -> Option<&[u8]> {
        let mut found = None;
        self.each(name, &mut |value| {
            if found.is_none() {
                found = Some(value);
            }
        });
        found
    }
}

impl Fields for &[(&str, &str)] {
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        for (_, value) in self.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name)) {
            visit(value.as_bytes());
        }
    }
}
