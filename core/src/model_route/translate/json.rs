//! JSON as translations need it: objects whose members are looked at one by one and otherwise stay text, and a tree that
//! is written in the order in which it was built.
//!
//! Text that is carried over (schemas, arguments of tools) is never read into numbers and maps: digits and the order of
//! properties, which models follow, would be lost.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::{SerializeMap as _, SerializeSeq as _},
};
use serde_json::value::RawValue;

use super::Untranslatable;

/// An object, its members unread.
pub(super) struct Object<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

/// The object that a body or the data of an event is.
///
/// # Errors
/// It is none; the member is called `body`.
pub(super) fn document(text: &[u8]) -> Result<Object<'_>, Untranslatable> {
    let text = std::str::from_utf8(text).map_err(|_| Untranslatable::malformed("body"))?;
    serde_json::from_str(text).map_err(|_| Untranslatable::malformed("body"))
}

/// The object that this is.
pub(super) fn object_of(raw: &RawValue) -> Option<Object<'_>> {
    serde_json::from_str(raw.get()).ok()
}

/// Elements of the array that this is.
pub(super) fn list_of(raw: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(raw.get()).ok()
}

/// The text that this is. Halves of surrogate pairs, which JSON allows and text cannot hold, become U+FFFD.
pub(super) fn text_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::Deserializer::from_str(raw.get()).deserialize_bytes(TextVisitor).ok()
}

/// Whether this asks for nothing: false, zero, or empty.
pub(super) fn says_nothing(raw: &RawValue) -> bool {
    match raw.get() {
        "null" | "false" | "0" | "\"\"" => true,
        text if text.starts_with('{') => object_of(raw).is_some_and(|object| object.members.is_empty()),
        text if text.starts_with('[') => list_of(raw).is_some_and(|list| list.is_empty()),
        _ => false,
    }
}

/// The JSON object that this text holds, as written; an empty text counts as one without members.
pub(super) fn object_in(text: Cow<'_, str>) -> Option<Cow<'_, RawValue>> {
    if text.trim().is_empty() {
        return Some(Cow::Owned(empty_object()));
    }
    let raw = match text {
        Cow::Borrowed(text) => Cow::Borrowed(serde_json::from_str::<&RawValue>(text).ok()?),
        Cow::Owned(text) => Cow::Owned(RawValue::from_string(text).ok()?),
    };
    raw.get().starts_with('{').then_some(raw)
}

/// `{}`.
pub(super) fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).unwrap_or_default()
}

impl<'a> Object<'a> {
    /// Member of this name, the last one if there are several; null counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        let (_, raw) = self.members.iter().rev().find(|(member, _)| member == name)?;
        (raw.get() != "null").then_some(*raw)
    }

    /// Text of a member.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, Untranslatable> {
        self.read(name, text_of)
    }

    /// Text of a member that must be there.
    ///
    /// # Errors
    /// It is missing or something else.
    pub(super) fn needed(&self, name: &str) -> Result<Cow<'a, str>, Untranslatable> {
        self.text(name)?.ok_or_else(|| Untranslatable::malformed(name))
    }

    /// Number of a member, as written.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn number(&self, name: &str) -> Result<Option<&'a RawValue>, Untranslatable> {
        self.read(name, |raw| {
            raw.get().starts_with(|first: char| first == '-' || first.is_ascii_digit()).then_some(raw)
        })
    }

    /// A count that may be missing, or be something else.
    pub(super) fn count(&self, name: &str) -> Option<u64> {
        self.get(name)?.get().parse().ok()
    }

    /// Object of a member.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn object(&self, name: &str) -> Result<Option<Object<'a>>, Untranslatable> {
        self.read(name, object_of)
    }

    /// Elements of a member; none if it is missing.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn list(&self, name: &str) -> Result<Vec<&'a RawValue>, Untranslatable> {
        Ok(self.read(name, list_of)?.unwrap_or_default())
    }

    fn read<T>(&self, name: &str, of: impl Fn(&'a RawValue) -> Option<T>) -> Result<Option<T>, Untranslatable> {
        match self.get(name) {
            None => Ok(None),
            Some(raw) => of(raw).map(Some).ok_or_else(|| Untranslatable::malformed(name)),
        }
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            members.push((name, map.next_value()?));
        }
        Ok(Object { members })
    }
}

struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(TextVisitor).map(Name)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Cow<'de, str>, E> {
        Ok(String::from_utf8_lossy(bytes))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(String::from_utf8_lossy(bytes).into_owned()))
    }
}

/// A tree to be written.
pub(super) enum Json<'a> {
    /// Left out where it is a member or an element.
    Absent,
    /// `null`.
    Null,
    /// `true`, `false`.
    Flag(bool),
    /// A count.
    Count(u64),
    /// A text.
    Text(Cow<'a, str>),
    /// Carried over as it was written.
    Raw(Cow<'a, RawValue>),
    /// An array.
    List(Vec<Json<'a>>),
    /// An object.
    Object(Vec<(&'static str, Json<'a>)>),
}

/// An object of these members, without those that are absent.
pub(super) fn object<'a, const N: usize>(members: [(&'static str, Json<'a>); N]) -> Json<'a> {
    Json::Object(members.into())
}

impl Json<'_> {
    /// Writes it behind `out`, on one line unless text that was carried over has several.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("memory takes every byte, and every name of a member is text");
    }

    /// Its text.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Json::Absent | Json::Null => serializer.serialize_unit(),
            Json::Flag(flag) => serializer.serialize_bool(*flag),
            Json::Count(count) => serializer.serialize_u64(*count),
            Json::Text(text) => serializer.serialize_str(text),
            Json::Raw(raw) => raw.serialize(serializer),
            Json::List(list) => {
                let mut sequence = serializer.serialize_seq(None)?;
                for element in list.iter().filter(|element| !matches!(element, Json::Absent)) {
                    sequence.serialize_element(element)?;
                }
                sequence.end()
            }
            Json::Object(members) => {
                let mut map = serializer.serialize_map(None)?;
                for (name, value) in members.iter().filter(|(_, value)| !matches!(value, Json::Absent)) {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'a> From<&'a str> for Json<'a> {
    fn from(text: &'a str) -> Self {
        Json::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Json<'_> {
    fn from(text: String) -> Self {
        Json::Text(Cow::Owned(text))
    }
}

impl<'a> From<Cow<'a, str>> for Json<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        Json::Text(text)
    }
}

impl From<u64> for Json<'_> {
    fn from(count: u64) -> Self {
        Json::Count(count)
    }
}

impl From<bool> for Json<'_> {
    fn from(flag: bool) -> Self {
        Json::Flag(flag)
    }
}

impl<'a> From<&'a RawValue> for Json<'a> {
    fn from(raw: &'a RawValue) -> Self {
        Json::Raw(Cow::Borrowed(raw))
    }
}

impl<'a> From<Cow<'a, RawValue>> for Json<'a> {
    fn from(raw: Cow<'a, RawValue>) -> Self {
        Json::Raw(raw)
    }
}

impl<'a> From<Vec<Json<'a>>> for Json<'a> {
    fn from(list: Vec<Json<'a>>) -> Self {
        Json::List(list)
    }
}

impl<'a, T: Into<Json<'a>>> From<Option<T>> for Json<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Json::Absent, Into::into)
    }
}
