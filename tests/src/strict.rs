//! HTTP/1 requests read as strictly as the standard allows: how an application counts what arrives.

/// Splits bytes into requests; `None` where the last one is not whole, or what follows the one before is none.
///
/// # Panics
/// When a request has two framings, or a length that is no number: no proxy may send that.
pub fn requests(mut bytes: &[u8]) -> Option<Vec<String>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = request_length(bytes)?;
        found.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
        bytes = &bytes[length..];
    }
    Some(found)
}

/// Length of the first request in `bytes`; `None` where it is not whole.
///
/// # Panics
/// As [`requests`].
pub fn request_length(bytes: &[u8]) -> Option<usize> {
    let head_end = find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_lowercase();
    let field = |name: &str| head.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
    let body = match (field("transfer-encoding:"), field("content-length:")) {
        (Some(_), Some(_)) => panic!("two framings arrived: {head}"),
        (Some(_), None) => chunked_length(&bytes[head_end..])?,
        (None, Some(length)) => length.parse().expect("a length that arrives is a number"),
        (None, None) => 0,
    };
    let length = head_end + body;
    (bytes.len() >= length).then_some(length)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn chunked_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line_end = at + find(bytes.get(at..)?, b"\r\n")?;
        let line = std::str::from_utf8(&bytes[at..line_end]).ok()?;
        let size = usize::from_str_radix(line.split(';').next()?, 16).ok()?;
        at = line_end + 2;
        if size == 0 {
            return trailers_end(bytes, at);
        }
        at = at.checked_add(size)?;
        if bytes.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
}

fn trailers_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let line = find(bytes.get(at..)?, b"\r\n")?;
        at += line + 2;
        if line == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_their_framing() {
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\na: b\r\n\r\n";
        let length = "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\r\n\r\n";
        let both = format!("{chunked}{length}GET / HTTP/1.1\r\n\r\n");
        assert_eq!(requests(both.as_bytes()).unwrap().len(), 3);
        for cut in 1..chunked.len() {
            assert_eq!(requests(&chunked.as_bytes()[..cut]), None, "{cut}");
        }
    }
}
