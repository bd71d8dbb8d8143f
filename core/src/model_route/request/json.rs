//! Walking over JSON without reading it: where members and values begin and end.
//!
//! What passes here need not be valid JSON, but whatever is valid is divided as every parser divides it: strings are
//! skipped by their quotes, brackets must match, and no byte stands between that begins a comment or another string.

use std::ops::Range;

use super::Refused;

/// Brackets open at once below the top of a body. The parser of translated bodies goes as deep.
const MOST_DEPTH: u32 = 126;

/// A member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Between the quotes of its name.
    pub name: Range<usize>,
    /// Its value, without white space around it.
    pub value: Range<usize>,
    /// Whether the value is an object or a list that is not empty.
    pub filled: bool,
    /// Whether an image stands in the value.
    pub image: Image,
}

/// Whether an image stands in a value: a part whose type is one of an image, or a MIME type of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Image {
    Seen,
    NotSeen,
}

/// An object, member by member.
pub(super) struct Walk<'a> {
    body: &'a [u8],
    at: usize,
    first: bool,
}

impl<'a> Walk<'a> {
    /// Enters the object at `at`, if one is there behind white space.
    pub(super) fn enter(body: &'a [u8], at: usize) -> Option<Walk<'a>> {
        let at = blank(body, at);
        (body.get(at) == Some(&b'{')).then_some(Walk { body, at: at + 1, first: true })
    }

    /// Where it stands: behind the `{`, a member, or at last the `}`.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The next member; `None` behind the last one, and only there.
    pub(super) fn next(&mut self) -> Result<Option<Member>, Refused> {
        let mut at = blank(self.body, self.at);
        match self.body.get(at) {
            Some(b'}') => {
                self.at = at + 1;
                return Ok(None);
            }
            Some(b',') if !self.first => at = blank(self.body, at + 1),
            Some(_) if self.first => (),
            Some(_) | None => return Err(broken(at)),
        }
        self.first = false;
        expect(self.body, at, b'"')?;
        let end = string(self.body, at + 1)?;
        let name = at + 1..end - 1;
        let colon = blank(self.body, end);
        expect(self.body, colon, b':')?;
        let begin = blank(self.body, colon + 1);
        let (end, filled, image) = value(self.body, begin)?;
        self.at = end;
        Ok(Some(Member { name, value: begin..end, filled, image }))
    }

    /// Whether only white space is left behind the object.
    pub(super) fn is_all(&self) -> bool {
        blank(self.body, self.at) == self.body.len()
    }
}

fn broken(at: usize) -> Refused {
    Refused::whole(format!("the body is no valid JSON at byte {at}"))
}

fn expect(body: &[u8], at: usize, byte: u8) -> Result<(), Refused> {
    if body.get(at) == Some(&byte) { Ok(()) } else { Err(broken(at)) }
}

/// The first byte from `at` on that is no white space.
fn blank(body: &[u8], at: usize) -> usize {
    let rest = body.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count()
}

/// Behind the closing quote of a string whose text begins at `begin`.
fn string(body: &[u8], begin: usize) -> Result<usize, Refused> {
    let mut from = begin;
    loop {
        let rest = body.get(from..).unwrap_or_default();
        let quote = from + memchr::memchr(b'"', rest).ok_or_else(|| broken(body.len()))?;
        // Looking for quotes alone and back from them is faster than stopping at every backslash: some clients write all
        // that is not ASCII as `\uXXXX`. No byte is looked at twice, for no quote stands between backslashes.
        let backslashes = body[begin..quote].iter().rev().take_while(|byte| **byte == b'\\').count();
        if backslashes % 2 == 0 {
            return Ok(quote + 1);
        }
        from = quote + 1;
    }
}

/// End of the value at `begin`, whether it is an object or list with something in it, and whether an image is.
fn value(body: &[u8], begin: usize) -> Result<(usize, bool, Image), Refused> {
    match body.get(begin) {
        Some(b'"') => Ok((string(body, begin + 1)?, false, Image::NotSeen)),
        Some(b'{' | b'[') => {
            let (end, image) = nested(body, begin)?;
            Ok((end, blank(body, begin + 1) + 1 < end, image))
        }
        Some(byte) if is_plain(*byte) => {
            let length = body[begin..].iter().take_while(|byte| is_plain(**byte)).count();
            Ok((begin + length, false, Image::NotSeen))
        }
        Some(_) | None => Err(broken(begin)),
    }
}

/// Numbers, `true`, `false`, `null`; also the `NaN` of some writers.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

/// End of the object or list at `begin`.
fn nested(body: &[u8], begin: usize) -> Result<(usize, Image), Refused> {
    // One bit for each open bracket, the innermost lowest: 1 for an object.
    let (mut open, mut depth) = (0_u128, 0_u32);
    let (mut image, mut before) = (Image::NotSeen, Before::Other);
    let mut at = begin;
    while let Some(byte) = body.get(at) {
        at += 1;
        match byte {
            b'"' => {
                let end = string(body, at)?;
                (before, image) = before.string(&body[at..end - 1], image);
                at = end;
            }
            b' ' | b'\t' | b'\n' | b'\r' => (),
            b':' => before = before.colon(),
            b'{' | b'[' if depth == MOST_DEPTH => {
                return Err(Refused::whole(format!("the body is nested more than {MOST_DEPTH} levels deep")));
            }
            b'{' | b'[' => {
                (open, depth, before) = (open << 1 | u128::from(*byte == b'{'), depth + 1, Before::Other);
            }
            b'}' | b']' => {
                if open & 1 != u128::from(*byte == b'}') {
                    return Err(broken(at - 1));
                }
                (open, depth, before) = (open >> 1, depth - 1, Before::Other);
                if depth == 0 {
                    return Ok((at, image));
                }
            }
            b',' => before = Before::Other,
            byte if is_plain(*byte) => before = Before::Other,
            _ => return Err(broken(at - 1)),
        }
    }
    Err(broken(body.len()))
}

/// What stands before a string, as far as it says whether an image follows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Other,
    /// `"type"`, perhaps a name.
    Type,
    /// `"type":`
    OfType,
    /// `"mimeType"`, perhaps a name.
    Mime,
    /// `"mimeType":`
    OfMime,
}

impl Before {
    fn colon(self) -> Before {
        match self {
            Before::Type => Before::OfType,
            Before::Mime => Before::OfMime,
            Before::Other | Before::OfType | Before::OfMime => Before::Other,
        }
    }

    fn string(self, text: &[u8], image: Image) -> (Before, Image) {
        let seen = match self {
            // OpenAI's chat, its Responses, and Anthropic.
            Before::OfType => matches!(text, b"image_url" | b"input_image" | b"image"),
            // Gemini.
            Before::OfMime => text.starts_with(b"image/"),
            Before::Other | Before::Type | Before::Mime => false,
        };
        let next = match text {
            b"type" => Before::Type,
            b"mimeType" | b"mime_type" => Before::Mime,
            _ => Before::Other,
        };
        (next, if seen { Image::Seen } else { image })
    }
}
