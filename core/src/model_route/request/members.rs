//! Members of an object that are known by name, each at most once.

use std::borrow::Cow;

pub(super) use super::json::Member;
use super::{Refused, json::Walk};

/// The members of an object that were looked for.
pub(super) struct Members<'a> {
    body: &'a [u8],
    found: Vec<(&'static str, Member)>,
    /// Right behind its `{`.
    pub begin: usize,
}

impl<'a> Members<'a> {
    /// Reads a body that must be one object.
    pub(super) fn whole(body: &'a [u8], names: &[&'static str]) -> Result<Members<'a>, Refused> {
        let walk = Walk::enter(body, 0).ok_or_else(|| Refused::whole("the body is no JSON object"))?;
        let (members, walk) = Members::read(body, walk, names)?;
        if walk.is_all() { Ok(members) } else { Err(Refused::whole("something follows the JSON object of the body")) }
    }

    fn read(body: &'a [u8], mut walk: Walk<'a>, names: &[&'static str]) -> Result<(Members<'a>, Walk<'a>), Refused> {
        let mut members = Members { body, found: Vec::new(), begin: walk.at() };
        while let Some(member) = walk.next()? {
            let written = name(&body[member.name.clone()]);
            let Some(known) = names.iter().find(|known| known.as_bytes().eq_ignore_ascii_case(&written)) else {
                continue;
            };
            // Some servers take the first of two, most the last, and some do not look at capitals: the model that
            // is charged and allowed here could be another one than the one that answers.
            if known.as_bytes() != &*written {
                return Err(Refused::of(known, "is written with other capitals"));
            }
            if members.get(known).is_some() {
                return Err(Refused::of(known, "is given twice"));
            }
            members.found.push((known, member));
        }
        Ok((members, walk))
    }

    /// A member, also one that is `null`.
    pub(super) fn get(&self, name: &str) -> Option<&Member> {
        self.found.iter().find(|(found, _)| *found == name).map(|(_, member)| member)
    }

    /// A member that is not `null`.
    pub(super) fn given(&self, name: &str) -> Option<&Member> {
        self.get(name).filter(|member| self.bytes(member) != b"null")
    }

    pub(super) fn text(&self, name: &'static str) -> Result<Option<String>, Refused> {
        let Some(member) = self.given(name) else { return Ok(None) };
        serde_json::from_slice(self.bytes(member)).map(Some).map_err(|_| Refused::of(name, "must be a string"))
    }

    pub(super) fn flag(&self, name: &'static str) -> Result<Option<bool>, Refused> {
        match self.given(name).map(|member| self.bytes(member)) {
            None => Ok(None),
            Some(b"true") => Ok(Some(true)),
            Some(b"false") => Ok(Some(false)),
            // Lenient servers take `"true"` and `1`, and would stream what is awaited whole.
            Some(_) => Err(Refused::of(name, "must be true or false")),
        }
    }

    /// A whole number. One below zero says the same as none: some servers take -1 as "no limit".
    pub(super) fn number(&self, name: &'static str) -> Result<Option<u64>, Refused> {
        let Some(member) = self.given(name) else { return Ok(None) };
        let number: serde_json::Number =
            serde_json::from_slice(self.bytes(member)).map_err(|_| Refused::of(name, "must be a number"))?;
        if let Some(number) = number.as_u64() {
            return Ok(Some(number));
        }
        match number.as_f64() {
            Some(number) if number < 0.0 => Ok(None),
            Some(number) if number.fract() == 0.0 => Ok(Some(number as u64)),
            Some(_) | None => Err(Refused::of(name, "must be a whole number")),
        }
    }

    /// Members of a member that is an object; `None` for all else, which the target judges.
    pub(super) fn object(&self, name: &str, names: &[&'static str]) -> Result<Option<Members<'a>>, Refused> {
        let Some(walk) = self.get(name).and_then(|member| Walk::enter(self.body, member.value.start)) else {
            return Ok(None);
        };
        Members::read(self.body, walk, names).map(|(members, _)| Some(members))
    }

    pub(super) fn object_of(
        &self,
        spellings: [&'static str; 2],
        names: &[&'static str],
    ) -> Result<Option<Members<'a>>, Refused> {
        self.object(self.one(spellings)?, names)
    }

    pub(super) fn number_of(&self, spellings: [&'static str; 2]) -> Result<Option<u64>, Refused> {
        self.number(self.one(spellings)?)
    }

    pub(super) fn text_of(&self, spellings: [&'static str; 2]) -> Result<Option<String>, Refused> {
        self.text(self.one(spellings)?)
    }

    /// That spelling of a member that is given.
    fn one(&self, [first, second]: [&'static str; 2]) -> Result<&'static str, Refused> {
        match (self.get(first), self.get(second)) {
            (Some(_), Some(_)) => Err(Refused::of(first, "is given twice, in two spellings")),
            (None, Some(_)) => Ok(second),
            (_, None) => Ok(first),
        }
    }

    fn bytes(&self, member: &Member) -> &'a [u8] {
        &self.body[member.value.clone()]
    }
}

/// Name of a member without escapes; as written where they are wrong.
pub(super) fn name(written: &[u8]) -> Cow<'_, [u8]> {
    if !written.contains(&b'\\') {
        return Cow::Borrowed(written);
    }
    let quoted = [b"\"", written, b"\""].concat();
    match serde_json::from_slice::<String>(&quoted) {
        Ok(name) => Cow::Owned(name.into_bytes()),
        Err(_) => Cow::Borrowed(written),
    }
}
