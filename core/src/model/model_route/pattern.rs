//! Names of models: how they are written, and which of them others cover.

use std::{fmt, str::FromStr};

use thiserror::Error;

use super::NamePattern;

/// Longest name of a model, bytes.
pub const MODEL_NAME_MAX: usize = 256;

/// What is wrong with the name of a model.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NotAName {
    /// Empty or too long.
    #[error("is no name of a model: it has 1 to {MODEL_NAME_MAX} characters")]
    Length,
    /// A character that would have to be written otherwise in JSON, a path or a query.
    #[error("is no name of a model: letters, digits and - _ . : / @ + = ~ , alone may stand in it")]
    Character,
    /// A star that is not at the end.
    #[error("may have a * at its end only")]
    Star,
}

/// Checks the name of a model without `*`.
///
/// # Errors
/// When it could not stand as it is in JSON and in a path.
pub fn model_name(text: &str) -> Result<(), NotAName> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@+=~,".contains(&byte);
    match text {
        _ if text.is_empty() || text.len() > MODEL_NAME_MAX => Err(NotAName::Length),
        _ if text.contains('*') => Err(NotAName::Star),
        _ if !text.bytes().all(fits) => Err(NotAName::Character),
        _ => Ok(()),
    }
}

impl FromStr for NamePattern {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        match text.strip_suffix('*') {
            Some("") => Ok(NamePattern::Any),
            Some(prefix) => model_name(prefix).map(|()| NamePattern::Prefix(prefix.to_owned())),
            None => model_name(text).map(|()| NamePattern::Exact(text.to_owned())),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NamePattern::Exact(name) => f.write_str(name),
            NamePattern::Prefix(prefix) => write!(f, "{prefix}*"),
            NamePattern::Any => f.write_str("*"),
        }
    }
}

impl NamePattern {
    /// Whether it fits every name that `other` fits.
    pub fn covers(&self, other: &NamePattern) -> bool {
        match (self, other) {
            (NamePattern::Any, _) => true,
            (NamePattern::Prefix(prefix), NamePattern::Exact(other) | NamePattern::Prefix(other)) => {
                other.starts_with(prefix.as_str())
            }
            (NamePattern::Exact(name), NamePattern::Exact(other)) => name == other,
            (NamePattern::Prefix(_) | NamePattern::Exact(_), NamePattern::Any)
            | (NamePattern::Exact(_), NamePattern::Prefix(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> NamePattern {
        text.parse().unwrap()
    }

    #[test]
    fn patterns_read_back_as_written_and_a_star_stands_at_the_end_only() {
        for text in ["gpt-4o", "gpt-4*", "*", "meta-llama/Llama-3.1-8B", "@cf/meta/llama:free"] {
            assert_eq!(pattern(text).to_string(), text);
        }
        let refused = [
            ("", NotAName::Length),
            ("a*b", NotAName::Star),
            ("**", NotAName::Star),
            ("a b", NotAName::Character),
            ("a\"", NotAName::Character),
            ("modèle", NotAName::Character),
        ];
        for (text, why) in refused {
            assert_eq!(text.parse::<NamePattern>(), Err(why), "{text}");
        }
        assert_eq!("x".repeat(MODEL_NAME_MAX + 1).parse::<NamePattern>(), Err(NotAName::Length));
    }

    #[test]
    fn pattern_covers_what_fits_no_more_names_than_itself() {
        let covers = |one: &str, other: &str| pattern(one).covers(&pattern(other));
        assert!(covers("*", "*") && covers("*", "a*") && covers("a*", "ab*") && covers("a*", "ab") && covers("a", "a"));
        assert!(!covers("a*", "*") && !covers("ab*", "a*") && !covers("ab", "ab*") && !covers("a", "b"));
    }
}
