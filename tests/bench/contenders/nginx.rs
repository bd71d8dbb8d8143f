//! nginx: one worker, upstream keep-alive, TLS 1.3 with client certificates between the two of a pair.

use std::net::SocketAddr;

use mesh_tests::programs;

use crate::{
    contenders::{Contender, Place, Running, free_address},
    measure::Measured,
};

/// Whether nginx writes its default access log. Ours counts every exchange in metrics but logs only failures, so the
/// comparison asserted is the one with nginx's log off; with it on is shown beside.
#[derive(Clone, Copy)]
pub(crate) enum AccessLog {
    /// `access_log off`.
    Off,
    /// The distribution's default: the combined format to a file, unbuffered.
    On,
}

/// A single plaintext hop.
///
/// # Errors
/// When nginx does not start.
pub(crate) fn hop(place: &Place, log: AccessLog) -> anyhow::Result<Contender> {
    let name = match log {
        AccessLog::Off => "nginx hop",
        AccessLog::On => "nginx hop, access log",
    };
    let (running, address) = start(place, &name.replace([' ', ','], "-"), "", "http", place.application, "", log)?;
    Ok(Contender::programs(name, address, vec![running]))
}

/// Two of them, mutual TLS between.
///
/// # Errors
/// When nginx does not start.
pub(crate) fn pair(place: &Place, log: AccessLog) -> anyhow::Result<Contender> {
    let name = match log {
        AccessLog::Off => "nginx pair",
        AccessLog::On => "nginx pair, access log",
    };
    let (ca, leaf, key) = (place.path("ca.pem"), place.path("leaf.pem"), place.path("leaf.key"));
    let accept = format!(
        "ssl_certificate {leaf}; ssl_certificate_key {key}; ssl_client_certificate {ca}; ssl_verify_client on; \
         ssl_protocols TLSv1.3;"
    );
    let dial = format!(
        "proxy_ssl_certificate {leaf}; proxy_ssl_certificate_key {key}; proxy_ssl_trusted_certificate {ca}; \
         proxy_ssl_verify on; proxy_ssl_name bench.test; proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3;"
    );
    let file = name.replace([' ', ','], "-");
    let (inner, middle) = start(place, &format!("{file}-b"), " ssl", "http", place.application, &accept, log)?;
    let (outer, address) = start(place, &format!("{file}-a"), "", "https", middle, &dial, log)?;
    Ok(Contender::programs(name, address, vec![outer, inner]))
}

/// A single plaintext hop that passes answers on as they come, for streams.
pub(crate) struct Streaming {
    running: Running,
    /// Where requests enter.
    pub(crate) address: SocketAddr,
}

impl Streaming {
    /// Its processes, to be measured.
    pub(crate) fn measured(&self) -> Measured {
        Measured::new(&self.running.0)
    }
}

/// Starts a [`Streaming`] to `upstream`.
///
/// # Errors
/// When nginx does not start.
pub(crate) fn streaming(place: &Place, upstream: SocketAddr) -> anyhow::Result<Streaming> {
    let extra = "proxy_buffering off; proxy_request_buffering off; client_max_body_size 64m;";
    let (running, address) = start(place, "nginx-streams", "", "http", upstream, extra, AccessLog::Off)?;
    Ok(Streaming { running, address })
}

fn start(
    place: &Place,
    name: &str,
    listen: &str,
    scheme: &str,
    upstream: SocketAddr,
    extra: &str,
    log: AccessLog,
) -> anyhow::Result<(Running, SocketAddr)> {
    let address = free_address()?;
    let folder = place.folder.display();
    let log = match log {
        AccessLog::Off => "off".to_owned(),
        AccessLog::On => format!("{folder}/{name}.access"),
    };
    // Connections are never closed for their number of requests: the default of 1,000 would add handshakes that
    // the others do not make.
    let text = format!(
        "daemon off; worker_processes 1; pid {folder}/{name}.pid; error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log {log};
  client_body_temp_path {folder}/{name}.tmp; proxy_temp_path {folder}/{name}.tmp;
  fastcgi_temp_path {folder}/{name}.tmp; uwsgi_temp_path {folder}/{name}.tmp; scgi_temp_path {folder}/{name}.tmp;
  keepalive_requests 1000000000; keepalive_timeout 300s;
  upstream next {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 300s; }}
  server {{
    listen {address}{listen} backlog=1024;
    {extra}
    location / {{
      proxy_pass {scheme}://next; proxy_http_version 1.1;
      proxy_set_header Connection \"\"; proxy_set_header Host $host;
    }}
  }}
}}
"
    );
    let file = place.write(&format!("{name}.conf"), &text)?;
    let arguments = ["-p", &folder.to_string(), "-e", "stderr", "-c", &file];
    Ok((Running::start(place, name, &programs::system("nginx"), &arguments, address)?, address))
}
