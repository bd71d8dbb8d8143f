//! Queries of URLs: fields percent-encoded and back, as our own pages have them.

use std::borrow::Cow;

/// Fields of a query that are read at most.
const FIELDS_MAX: usize = 32;

/// Names and values, decoded, in order. `+` stays, as base64 in a header has it.
pub fn fields(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).take(FIELDS_MAX);
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name).into_owned(), decoded(value).into_owned())
        })
        .collect()
}

/// The query of these fields, without question mark.
pub fn query<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let pairs = fields.into_iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// Percent-encoded, but for what RFC 3986 calls unreserved.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    let hex = |digit: Option<&u8>| digit.and_then(|digit| char::from(*digit).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        match (first, hex(after.first()), hex(after.get(1))) {
            (b'%', Some(high), Some(low)) => {
                // Two digits of four bits make eight.
                bytes.push((high << 4 | low) as u8);
                rest = &after[2..];
            }
            (_, _, _) => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let written = [("model", "meta-llama/Llama 3:8b"), ("lane", "demo/ä&=%"), ("empty", "")];
        let text = query(written);
        assert!(text.starts_with("model=meta-llama%2FLlama%203%3A8b&"), "{text}");
        let read = fields(&text);
        let pairs: Vec<(&str, &str)> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, written);
    }

    #[test]
    fn what_is_no_encoding_stays_and_fields_are_bounded() {
        assert_eq!(fields("a=%zz&b=+&c")[0].1, "%zz");
        assert_eq!(fields("a=%zz&b=+&c")[1..], [("b".into(), "+".into()), ("c".into(), String::new())]);
        assert_eq!(fields(&"a=1&".repeat(100)).len(), FIELDS_MAX);
    }
}
