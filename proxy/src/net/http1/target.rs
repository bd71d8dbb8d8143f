//! The four forms of a request target (RFC 9112 3.2).

use super::{Malformed, authority, fields::Span};

/// Form of a request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`.
    Origin,
    /// `http://host/path?query`: what an explicit proxy is asked.
    Absolute,
    /// `host:port`, of CONNECT only.
    Authority,
    /// `*`, of OPTIONS only.
    Asterisk,
}

/// A checked target; spans are relative to the buffer that holds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) form: TargetForm,
    /// The whole target.
    pub(super) whole: Span,
    /// Authority of the absolute and authority forms.
    pub(super) authority: Option<(Span, authority::Authority)>,
    /// Path and query; empty where the target has none.
    pub(super) path_and_query: Span,
}

/// Checks the target at `whole` of `bytes` against the method.
pub(super) fn parse(bytes: &[u8], method: &[u8], whole: Span) -> Result<Target, Malformed> {
    let text = &bytes[whole.range()];
    if !text.is_ascii() {
        return Err(Malformed::TargetNotAscii);
    }
    if text.contains(&b'#') {
        return Err(Malformed::TargetFragment);
    }
    let nothing = Span { start: whole.end, end: whole.end };
    if method == b"CONNECT" {
        let authority = authority::parse(text)?;
        if authority.port.is_none_or(|port| port == 0) {
            return Err(Malformed::Authority);
        }
        let authority = Some((whole, authority));
        return Ok(Target { form: TargetForm::Authority, whole, authority, path_and_query: nothing });
    }
    match text {
        [b'/', ..] => Ok(Target { form: TargetForm::Origin, whole, authority: None, path_and_query: whole }),
        b"*" if method == b"OPTIONS" => {
            Ok(Target { form: TargetForm::Asterisk, whole, authority: None, path_and_query: nothing })
        }
        _ => absolute(text, whole),
    }
}

fn absolute(text: &[u8], whole: Span) -> Result<Target, Malformed> {
    let scheme = ["http://", "https://"]
        .into_iter()
        .find(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes())))
        .ok_or(Malformed::Target)?;
    let rest = &text[scheme.len()..];
    let length = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let start = whole.start as usize + scheme.len();
    let authority = (Span::new(start, start + length), authority::parse(&rest[..length])?);
    let path_and_query = Span { start: (start + length) as u32, end: whole.end };
    Ok(Target { form: TargetForm::Absolute, whole, authority: Some(authority), path_and_query })
}
