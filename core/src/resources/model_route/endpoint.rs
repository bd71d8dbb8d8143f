//! Where a target is: a URL outside of the mesh, or a service in it.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{
    model::model_route::{ModelEndpoint, Security},
    resources::{
        node::{Node, Object, is_dns_label},
        wording::shortened,
    },
};

/// Reads `endpoint`.
pub(super) fn read(node: &Node<'_>, namespace: &str) -> Option<ModelEndpoint> {
    if node.as_text().is_some() {
        return external(node, None, None);
    }
    let object = node.object(&["url", "roots", "proxy", "service", "prefix"])?;
    match (object.get("url"), object.get("service")) {
        (Some(url), None) => {
            meaningless(&object, &["prefix"], "stands in the url");
            let proxy = object.get("proxy").and_then(|node| proxy(&node));
            external(&url, object.get("roots"), proxy)
        }
        (None, Some(service)) => {
            meaningless(&object, &["roots", "proxy"], "has no meaning for a service of the mesh");
            let prefix = object.get("prefix").map(|node| written_prefix(&node)).unwrap_or_default();
            Some(ModelEndpoint::Service { authority: authority(&service, namespace)?, prefix })
        }
        (Some(_), Some(_)) | (None, None) => {
            node.problem("exactly one of url and service says where the target is".to_owned());
            None
        }
    }
}

fn meaningless(object: &Object<'_>, keys: &[&str], why: &str) {
    for key in keys.iter().filter(|key| object.get(key).is_some()) {
        object.problem(key, why.to_owned());
    }
}

fn external(node: &Node<'_>, roots: Option<Node<'_>>, proxy: Option<String>) -> Option<ModelEndpoint> {
    let text = node.text()?;
    let url = match url(&text) {
        Ok(url) => url,
        Err(message) => {
            node.problem(message);
            return None;
        }
    };
    let security = match (url.secure, roots) {
        (Scheme::Https, None) => Security::SystemRoots,
        (Scheme::Https, Some(roots)) => Security::Roots(absolute_path(&roots)?),
        (Scheme::Http, None) => Security::None,
        (Scheme::Http, Some(roots)) => {
            roots.problem("has no meaning for http://".to_owned());
            Security::None
        }
    };
    Some(ModelEndpoint::External { security, host: url.host, port: url.port, prefix: url.prefix, proxy })
}

/// The path of a file of the sidecar.
pub(super) fn absolute_path(node: &Node<'_>) -> Option<String> {
    let path = node.filled_text()?;
    if !path.is_empty() && (!path.starts_with('/') || path.contains('\0')) {
        node.problem(format!("{:?} is no path of a file of the sidecar: it begins with /", shortened(&path)));
    }
    Some(path)
}

#[derive(Clone, Copy)]
enum Scheme {
    Http,
    Https,
}

struct Url {
    secure: Scheme,
    host: String,
    port: u16,
    prefix: String,
}

/// Takes a URL apart; the error is a sentence and holds nothing that may be a secret.
fn url(text: &str) -> Result<Url, String> {
    const EXPECTED: &str = "expected https://host, http://host:port/prefix, or {service: name.namespace:port}";
    let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (Scheme::Https, rest),
        (None, Some(rest)) => (Scheme::Http, rest),
        (None, None) => return Err(format!("{:?} is no URL: {EXPECTED}", shortened(text))),
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("no user or password may stand in a URL; `credential` says where the key is".to_owned());
    }
    if path.contains(['?', '#']) {
        return Err("neither query nor fragment may stand in the URL of a target".to_owned());
    }
    let default = match secure {
        Scheme::Http => 80,
        Scheme::Https => 443,
    };
    let found = host_and_port(authority, Some(default));
    let (host, port) = found.ok_or_else(|| format!("{:?} is no host and port: {EXPECTED}", shortened(authority)))?;
    Ok(Url { secure, host, port, prefix: prefix(path)? })
}

/// Whether a text is `host:port`.
pub(super) fn is_host_and_port(text: &str) -> bool {
    host_and_port(text, None).is_some()
}

/// Host (of an IPv6 address without brackets, in lower case) and port out of `host[:port]`.
fn host_and_port(authority: &str, default: Option<u16>) -> Option<(String, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            let port = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
            (address.to_string(), port)
        }
        None => {
            let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
            let host = host.to_ascii_lowercase();
            let is_name = host.len() <= 253 && host.split('.').all(is_dns_label);
            // Digits and dots alone are an address, and one of four numbers.
            let is_address = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            let fits = if is_address { host.parse::<Ipv4Addr>().is_ok() } else { is_name };
            (fits.then_some(host)?, port)
        }
    };
    let port = match port {
        Some(text) => text.parse().ok().filter(|port| *port != 0)?,
        None => default?,
    };
    Some((host, port))
}

fn proxy(node: &Node<'_>) -> Option<String> {
    let text = node.text()?;
    if !is_host_and_port(&text) {
        node.problem(format!("{:?} is no proxy: expected host:port", shortened(&text)));
    }
    Some(text)
}

fn written_prefix(node: &Node<'_>) -> String {
    let text = node.text().unwrap_or_default();
    prefix(&text).map_err(|message| node.problem(message)).unwrap_or_default()
}

/// The path in front of the API's own, without slash at its end.
fn prefix(path: &str) -> Result<String, String> {
    let path = path.trim_end_matches('/');
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    let visible = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"\\".contains(&byte));
    if !path.is_empty() && (!visible || !path.starts_with('/') || !path[1..].split('/').all(is_plain)) {
        return Err(format!("{:?} is no path: it begins with / and has no //, /./ or /../", shortened(path)));
    }
    Ok(path.to_owned())
}

/// `name.namespace:port`; the namespace is the resource's unless written.
fn authority(node: &Node<'_>, namespace: &str) -> Option<String> {
    let text = node.text()?;
    let parts = text.rsplit_once(':').and_then(|(name, port)| {
        let port = port.parse::<u16>().ok().filter(|port| *port != 0)?;
        let labels: Vec<&str> = name.split('.').collect();
        labels.iter().all(|label| is_dns_label(label)).then_some((labels, port))
    });
    match parts {
        Some((labels, port)) if labels.len() == 1 => Some(format!("{}.{namespace}:{port}", labels[0])),
        Some((labels, port)) if labels.len() == 2 => Some(format!("{}:{port}", labels.join("."))),
        Some(_) | None => {
            let message = format!("{:?} is no service of the mesh: expected name.namespace:port", shortened(&text));
            node.problem(message);
            None
        }
    }
}
