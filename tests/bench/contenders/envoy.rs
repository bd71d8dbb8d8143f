//! Envoy: one worker thread each, HTTP/2 over mutual TLS between, as its meshes run it; statistics on, access log off.

use std::net::SocketAddr;

use anyhow::Context;
use serde_json::{Value, json};

use crate::contenders::{Contender, Place, Running, free_address};

/// Two of them, mutual TLS between.
///
/// # Errors
/// When Envoy does not start.
pub(crate) fn pair(place: &Place) -> anyhow::Result<Contender> {
    let (address, middle) = (free_address()?, free_address()?);
    let common = json!({
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{
            "certificate_chain": {"filename": place.path("leaf.pem")},
            "private_key": {"filename": place.path("leaf.key")},
        }],
        "validation_context": {"trusted_ca": {"filename": place.path("ca.pem")}},
        "alpn_protocols": ["h2"],
    });
    let accept = transport("DownstreamTlsContext", json!({"require_client_certificate": true}), &common);
    let dial = transport("UpstreamTlsContext", json!({"sni": "bench.test"}), &common);
    let inner = start(place, "envoy-pair-b", middle, &configuration(middle, place.application, Some(accept), None))?;
    let outer = start(place, "envoy-pair-a", address, &configuration(address, middle, None, Some(dial)))?;
    Ok(Contender::programs("envoy pair", address, vec![outer, inner]))
}

fn start(place: &Place, name: &str, listen: SocketAddr, configuration: &Value) -> anyhow::Result<Running> {
    let program = place.envoy.as_deref().context("no Envoy named")?;
    let file = place.write(&format!("{name}.json"), &configuration.to_string())?;
    let arguments = ["-c", &file, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"];
    Running::start(place, name, program, &arguments, listen)
}

fn transport(kind: &str, mut extra: Value, common: &Value) -> Value {
    extra["@type"] = format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}").into();
    extra["common_tls_context"] = common.clone();
    json!({"name": "envoy.transport_sockets.tls", "typed_config": extra})
}

fn configuration(listen: SocketAddr, upstream: SocketAddr, accept: Option<Value>, dial: Option<Value>) -> Value {
    let socket = |address: SocketAddr| json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "codec_type": "AUTO",
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "next"}}],
        }]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
    });
    let mut chain = json!({
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
    });
    if let Some(accept) = accept {
        chain["transport_socket"] = accept;
    }
    let mut cluster = json!({
        "name": "next", "type": "STATIC", "connect_timeout": "2s",
        "load_assignment": {"cluster_name": "next", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(upstream)}}]}]},
    });
    if let Some(dial) = dial {
        cluster["transport_socket"] = dial;
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        });
    }
    json!({"static_resources": {
        "listeners": [{"name": "in", "address": socket(listen), "filter_chains": [chain]}],
        "clusters": [cluster],
    }})
}
