//! Reading PromQL: which series an expression selects and which labels it groups by. Enough to find names that do not
//! exist; `promtool` judges the rest.

use std::{iter::Peekable, str::Chars};

/// What an expression names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Series, in order.
    pub selectors: Vec<Selector>,
    /// Labels of `by`, `without`, `on`, `ignoring`, `group_left` and `group_right`.
    pub grouped: Vec<String>,
}

/// One selection of series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Name of the metric or of the recording rule.
    pub name: String,
    /// Conditions on labels.
    pub matchers: Vec<Matcher>,
}

/// A condition on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// Label.
    pub label: String,
    /// Whether the value is a regular expression.
    pub is_pattern: bool,
    /// Value as it stands, without its quotes.
    pub value: String,
}

/// Words that group labels.
const GROUPING: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Words between operands, and numbers that are words.
const WORDS: &[&str] = &["and", "or", "unless", "offset", "bool", "inf", "nan"];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Mark(char),
}

/// Reads an expression.
pub fn named(expression: &str) -> Named {
    let tokens = tokens(expression);
    let mut found = Named::default();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        let Token::Word(word) = token else { continue };
        let opens = |mark| tokens.get(at) == Some(&Token::Mark(mark));
        if GROUPING.contains(&word.as_str()) {
            if opens('(') {
                let end = end_of(&tokens, at, ')');
                found.grouped.extend(words(&tokens[at..end]));
                at = end;
            }
        } else if !is_call(&tokens, at) && !WORDS.contains(&word.as_str()) {
            let end = if opens('{') { end_of(&tokens, at, '}') } else { at };
            found.selectors.push(Selector { name: word.clone(), matchers: matchers(&tokens[at..end]) });
            at = end;
        }
    }
    found
}

/// Whether a function or an aggregation stands before this place.
fn is_call(tokens: &[Token], at: usize) -> bool {
    match tokens.get(at) {
        Some(Token::Mark(mark)) => *mark == '(',
        Some(Token::Word(word)) => word == "by" || word == "without",
        Some(Token::Text(_)) | None => false,
    }
}

fn end_of(tokens: &[Token], from: usize, close: char) -> usize {
    let distance = tokens[from..].iter().position(|token| *token == Token::Mark(close));
    distance.map_or(tokens.len(), |distance| from + distance + 1)
}

fn words(tokens: &[Token]) -> Vec<String> {
    let word = |token: &Token| match token {
        Token::Word(word) => Some(word.clone()),
        Token::Text(_) | Token::Mark(_) => None,
    };
    tokens.iter().filter_map(word).collect()
}

fn matchers(tokens: &[Token]) -> Vec<Matcher> {
    let mut found = Vec::new();
    let mut label = None;
    let mut is_pattern = false;
    for token in tokens {
        match token {
            Token::Word(word) => (label, is_pattern) = (Some(word.clone()), false),
            Token::Mark('~') => is_pattern = true,
            Token::Mark(_) => (),
            Token::Text(value) => {
                found.extend(label.take().map(|label| Matcher { label, is_pattern, value: value.clone() }));
            }
        }
    }
    found
}

fn tokens(expression: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut left = expression.chars().peekable();
    while let Some(c) = left.next() {
        match c {
            '#' => while left.next().is_some_and(|c| c != '\n') {},
            '"' | '\'' | '`' => found.push(Token::Text(quoted(c, &mut left))),
            c if c.is_ascii_digit() => {
                // A number or a duration.
                let part_of = |c: &char| c.is_ascii_alphanumeric() || *c == '.';
                while left.next_if(part_of).is_some() {}
            }
            c if c.is_ascii_alphabetic() || c == '_' || c == ':' => {
                let mut word = String::from(c);
                while let Some(more) = left.next_if(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == ':') {
                    word.push(more);
                }
                found.push(Token::Word(word));
            }
            c if c.is_whitespace() => (),
            c => found.push(Token::Mark(c)),
        }
    }
    found
}

fn quoted(quote: char, left: &mut Peekable<Chars<'_>>) -> String {
    let mut text = String::new();
    while let Some(c) = left.next() {
        match c {
            '\\' if quote != '`' => {
                text.push(c);
                text.extend(left.next());
            }
            c if c == quote => break,
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(expression: &str) -> Vec<String> {
        named(expression).selectors.into_iter().map(|selector| selector.name).collect()
    }

    #[test]
    fn series_are_told_from_functions_words_and_labels() {
        let expression = "sum by (service, le) (rate(a_total{lane!=\"\", x=~\"b|c\"}[5m])) / on (service) group_left () \
                          (0.5 * b:c:rate5m offset 10m > 0) or clamp_min(d, 1e3) unless sum(e) without (y) # f";
        assert_eq!(names(expression), ["a_total", "b:c:rate5m", "d", "e"]);
        assert_eq!(named(expression).grouped, ["service", "le", "service", "y"]);
    }

    #[test]
    fn matchers_are_read_with_their_kind() {
        let matchers = named("a{lane!=\"\", x=~\"b}|c\", y='z'}").selectors.remove(0).matchers;
        let shown: Vec<_> =
            matchers.iter().map(|one| (one.label.as_str(), one.is_pattern, one.value.as_str())).collect();
        assert_eq!(shown, [("lane", false, ""), ("x", true, "b}|c"), ("y", false, "z")]);
    }
}
