//! What Content-Length and Transfer-Encoding say together (RFC 9112 6.1 to 6.3).

use super::{
    Malformed, Version,
    fields::{Field, FieldTable, Kind},
    options::{is_token, members},
};

/// What the two fields say, before method and status are considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    Length(u64),
    Chunked,
}

/// Reads both fields; anything ambiguous is refused.
pub(super) fn read(table: &FieldTable, version: Version) -> Result<Said, Malformed> {
    let mut length = None;
    let mut coding = None;
    for field in &table.fields {
        if field.kind == Kind::ContentLength && length.replace(field).is_some() {
            return Err(Malformed::ContentLengthRepeated);
        }
        if field.kind == Kind::TransferEncoding && coding.replace(field).is_some() {
            return Err(Malformed::TransferEncoding);
        }
    }
    match (length, coding) {
        (None, None) => Ok(Said::Nothing),
        (Some(_), Some(_)) => Err(Malformed::LengthAndCoding),
        (Some(length), None) => content_length(table, length).map(Said::Length),
        (None, Some(_)) if version == Version::Http10 => Err(Malformed::CodingTooOld),
        (None, Some(coding)) => transfer_encoding(table, coding).map(|()| Said::Chunked),
    }
}

fn content_length(table: &FieldTable, field: &Field) -> Result<u64, Malformed> {
    let digits = table.slice(field.value);
    if digits.is_empty() || holds_tab(table, field) {
        return Err(Malformed::ContentLength);
    }
    let add = |length: u64, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    };
    digits.iter().try_fold(0, add).ok_or(Malformed::ContentLength)
}

fn transfer_encoding(table: &FieldTable, field: &Field) -> Result<(), Malformed> {
    let value = table.slice(field.value);
    if holds_tab(table, field) {
        return Err(Malformed::TransferEncoding);
    }
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let codings = members(value).count();
    let times = members(value).filter(|coding| chunked(coding)).count();
    let known_form = members(value).all(is_token);
    match members(value).last() {
        Some(last) if codings > 1 && times == 1 && chunked(last) && known_form => Err(Malformed::TransferCoding),
        Some(_) | None => Err(Malformed::TransferEncoding),
    }
}

/// Whether the line holds a tab outside its name: legal whitespace that other parsers are known to take as part of the
/// value, so that they would not see the field.
fn holds_tab(table: &FieldTable, field: &Field) -> bool {
    let rest = &table.bytes[field.name.end as usize..];
    rest.iter().take_while(|byte| **byte != b'\n').any(|byte| *byte == b'\t')
}
