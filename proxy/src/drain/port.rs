//! Whether the application takes connections, as the kernel lists the sockets of this network namespace (proc(5),
//! `/proc/net/tcp`). Nobody is asked: a connection made to find out would be one that the application has to serve.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use mesh_core::drain::application::Port;

/// State of a socket that listens, as the kernel writes it.
const LISTEN: &str = "0A";

/// The port, or ports, of the application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplicationPort {
    address: Option<IpAddr>,
    listened: BTreeSet<u16>,
}

impl ApplicationPort {
    /// Those of `ports` that the application listens on now; `address` is where it is reached, if not everywhere.
    pub fn find(address: Option<IpAddr>, ports: impl IntoIterator<Item = u16>) -> Self {
        ApplicationPort::among(address, ports, &listening())
    }

    fn among(address: Option<IpAddr>, ports: impl IntoIterator<Item = u16>, open: &[(IpAddr, u16)]) -> Self {
        let mut found = ApplicationPort { address, listened: BTreeSet::new() };
        found.listened = ports.into_iter().filter(|port| found.is_open(*port, open)).collect();
        found
    }

    /// Whether it still does.
    pub fn look(&self) -> Port {
        if self.listened.is_empty() { Port::Unknown } else { self.state(&listening()) }
    }

    fn state(&self, open: &[(IpAddr, u16)]) -> Port {
        let is_open = self.listened.iter().any(|port| self.is_open(*port, open));
        if is_open { Port::Listening } else { Port::Gone }
    }

    fn is_open(&self, port: u16, open: &[(IpAddr, u16)]) -> bool {
        let fits = |ip: IpAddr| ip.is_unspecified() || self.address.is_none_or(|address| address == ip);
        open.iter().any(|(ip, listening)| *listening == port && fits(*ip))
    }
}

/// Every address that is listened on in this network namespace.
fn listening() -> Vec<(IpAddr, u16)> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|path| parse(&read(path))).collect()
}

fn parse(table: &str) -> Vec<(IpAddr, u16)> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next()?, fields.nth(1)?);
        let (ip, port) = local.split_once(':')?;
        if state != LISTEN {
            return None;
        }
        Some((address(ip)?, u16::from_str_radix(port, 16).ok()?))
    };
    table.lines().filter_map(line).collect()
}

/// An address as the kernel writes it: words of four bytes in its own order, which is the lowest first on every machine
/// that this runs on.
fn address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::swap_bytes);
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let whole = words.iter().fold(0_u128, |whole, word| whole << 32 | u128::from(*word));
            Some(Ipv6Addr::from(whole).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   2: 0100007F:1F91 0100007F:A000 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   3: 00000000000000000000000001000000:2382 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 1 1 0
";

    #[test]
    fn sockets_that_listen_are_read_and_no_others() {
        let expected: Vec<(IpAddr, u16)> = vec![
            ("127.0.0.1".parse().unwrap(), 8080),
            ("0.0.0.0".parse().unwrap(), 80),
            ("::1".parse().unwrap(), 9090),
        ];
        assert_eq!(parse(TABLE), expected);
    }

    #[test]
    fn port_is_gone_when_it_was_listened_on_at_the_applications_address() {
        let open = parse(TABLE);
        let here = Some("127.0.0.1".parse().unwrap());
        let elsewhere = Some("127.0.0.2".parse().unwrap());
        for (address, port, found) in [
            (here, 8080, true),
            (elsewhere, 8080, false),
            (elsewhere, 80, true),
            (None, 8080, true),
            (None, 8081, false),
        ] {
            let application = ApplicationPort::among(address, [port], &open);
            assert_eq!(application.listened.contains(&port), found, "{address:?} {port}");
            if found {
                assert_eq!((application.state(&open), application.state(&[])), (Port::Listening, Port::Gone));
            }
        }
        assert_eq!(ApplicationPort::default().look(), Port::Unknown);
    }

    #[test]
    fn socket_of_this_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let application = ApplicationPort::find(Some("127.0.0.1".parse().unwrap()), [port]);
        assert_eq!(application.look(), Port::Listening);
        drop(listener);
        assert_eq!(application.look(), Port::Gone);
    }
}
