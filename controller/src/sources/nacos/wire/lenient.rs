//! Reads JSON of servers that are not strict about its types: numbers stand in quotes, or are no numbers at all, and
//! `null` stands for whatever is absent. Nothing a field may hold costs the message around it.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// One value, whatever its type.
#[derive(Debug)]
enum Scalar {
    /// `null`, a list or an object.
    Nothing,
    Flag(bool),
    Whole(i64),
    Real(f64),
    Text(String),
}

struct AnyScalar;

impl<'de> Visitor<'de> for AnyScalar {
    type Value = Scalar;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Flag(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar::Whole(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar::Whole(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
        Ok(Scalar::Real(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Scalar, E> {
        Ok(Scalar::Text(value))
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalar, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Nothing)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Scalar, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Nothing)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyScalar)
    }
}

/// A text; other scalars as they are written, anything else empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text(pub(super) String);

impl From<Scalar> for Text {
    fn from(scalar: Scalar) -> Self {
        Text(match scalar {
            Scalar::Nothing => String::new(),
            Scalar::Flag(value) => value.to_string(),
            Scalar::Whole(value) => value.to_string(),
            Scalar::Real(value) => value.to_string(),
            Scalar::Text(value) => value,
        })
    }
}

/// A whole number; 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Whole(pub(super) i64);

impl From<Scalar> for Whole {
    fn from(scalar: Scalar) -> Self {
        Whole(match scalar {
            Scalar::Nothing | Scalar::Flag(_) => 0,
            Scalar::Whole(value) => value,
            // Saturates, and is 0 for what is no number.
            Scalar::Real(value) => value as i64,
            Scalar::Text(value) => value.trim().parse().unwrap_or_default(),
        })
    }
}

/// A number, also one of those that JSON has none of (`"NaN"`); `ABSENT` where there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Real<const ABSENT: i8>(pub(super) f64);

impl<const ABSENT: i8> Default for Real<ABSENT> {
    fn default() -> Self {
        Real(f64::from(ABSENT))
    }
}

impl<const ABSENT: i8> From<Scalar> for Real<ABSENT> {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Nothing | Scalar::Flag(_) => Real::default(),
            Scalar::Whole(value) => Real(value as f64),
            Scalar::Real(value) => Real(value),
            Scalar::Text(value) => value.trim().parse().map_or_else(|_| Real::default(), Real),
        }
    }
}

/// True or false; `ABSENT` where it is neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flag<const ABSENT: bool>(pub(super) bool);

impl<const ABSENT: bool> Default for Flag<ABSENT> {
    fn default() -> Self {
        Flag(ABSENT)
    }
}

impl<const ABSENT: bool> From<Scalar> for Flag<ABSENT> {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Flag(value) => Flag(value),
            Scalar::Text(value) => value.trim().parse().map_or_else(|_| Flag::default(), Flag),
            Scalar::Nothing | Scalar::Whole(_) | Scalar::Real(_) => Flag::default(),
        }
    }
}

macro_rules! read_as_scalar {
    ($([$($parameter:tt)*] $read:ty),*) => {$(
        impl<'de, $($parameter)*> Deserialize<'de> for $read {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Scalar::deserialize(deserializer).map(Self::from)
            }
        }
    )*};
}

read_as_scalar!([] Text, [] Whole, [const ABSENT: i8] Real<ABSENT>, [const ABSENT: bool] Flag<ABSENT>);

/// Texts by key; nothing where there is no object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entries(pub(super) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyEntries;

        impl<'de> Visitor<'de> for AnyEntries {
            type Value = Entries;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_bool<E>(self, _: bool) -> Result<Entries, E> {
                Ok(Entries::default())
            }

            fn visit_i64<E>(self, _: i64) -> Result<Entries, E> {
                Ok(Entries::default())
            }

            fn visit_u64<E>(self, _: u64) -> Result<Entries, E> {
                Ok(Entries::default())
            }

            fn visit_f64<E>(self, _: f64) -> Result<Entries, E> {
                Ok(Entries::default())
            }

            fn visit_str<E>(self, _: &str) -> Result<Entries, E> {
                Ok(Entries::default())
            }

            fn visit_unit<E>(self) -> Result<Entries, E> {
                Ok(Entries::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entries, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Entries::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Entries, A::Error> {
                let mut found = BTreeMap::new();
                while let Some((key, value)) = object.next_entry::<String, Text>()? {
                    found.insert(key, value.0);
                }
                Ok(Entries(found))
            }
        }

        deserializer.deserialize_any(AnyEntries)
    }
}

/// The elements of a list; none where it is `null`.
pub(super) fn skipped<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Sample {
        #[serde(default)]
        text: Text,
        #[serde(default)]
        whole: Whole,
        #[serde(default)]
        real: Real<1>,
        #[serde(default)]
        flag: Flag<true>,
        #[serde(default)]
        entries: Entries,
    }

    fn sample(json: &str) -> Sample {
        serde_json::from_str(json).expect(json)
    }

    #[test]
    fn absent_fields_have_their_defaults() {
        let read = sample("{}");
        assert_eq!(read, sample(r#"{"text":null,"whole":null,"real":null,"flag":null,"entries":null}"#));
        assert_eq!((read.text.0.as_str(), read.whole.0, read.real.0, read.flag.0), ("", 0, 1.0, true));
        assert!(read.entries.0.is_empty());
    }

    #[test]
    fn a_value_of_another_type_costs_no_message() {
        for wrong in ["[1,[2]]", r#"{"a":{"b":1}}"#, "true", "-7", "1e300", "0.5", r#""x""#, "18446744073709551615"] {
            let json = format!(
                r#"{{"text":{wrong},"whole":{wrong},"real":{wrong},"flag":{wrong},"entries":{wrong},"unknown":{wrong}}}"#
            );
            sample(&json);
        }
    }

    #[test]
    fn numbers_may_stand_in_quotes() {
        let read =
            sample(r#"{"text":12,"whole":"8080","real":"0.25","flag":"false","entries":{"a":1,"b":null,"c":"x"}}"#);
        assert_eq!((read.text.0.as_str(), read.whole.0, read.real.0, read.flag.0), ("12", 8080, 0.25, false));
        let entries: Vec<_> = read.entries.0.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(entries, [("a", "1"), ("b", ""), ("c", "x")]);
        assert!(sample(r#"{"real":"NaN"}"#).real.0.is_nan(), "left to who weighs it");
    }
}
