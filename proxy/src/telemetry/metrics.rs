//! Every metric of the proxy, one row each: full name, kind, labels, meaning. The reference page is made from this
//! table; `render` fills it from the counters.

pub mod render;

use std::fmt::Write as _;

/// What a number means over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes both ways.
    Gauge,
    /// Distribution.
    Histogram,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Full name, as it stands in the answer to a scrape.
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// Names of its labels; each has few values.
    pub labels: &'static str,
    /// Meaning.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($id:ident = $name:literal, $kind:ident, $labels:literal, $help:literal;)+) => {
        $(#[doc = $help] pub const $id: Metric =
            Metric { name: $name, kind: Kind::$kind, labels: $labels, help: $help };)+

        /// Every metric, in the order of the reference page.
        pub const ALL: &[Metric] = &[$($id),+];
    };
}

metrics! {
    EXCHANGES = "mesh_requests_total", Counter, "direction, service, lane, level, reason, outcome",
        "Exchanges that ended, by outcome.";
    RESPONSES = "mesh_responses_total", Counter, "direction, service, lane, level, reason, class",
        "Exchanges that ended, by class of the response's status (none, 1xx to 5xx).";
    DURATION = "mesh_request_duration_seconds", Histogram, "direction, service, lane, level, reason",
        "Time from the start of an exchange to its end.";
    IN_FLIGHT = "mesh_requests_in_flight", Gauge, "direction, service, lane, level, reason", "Exchanges under way.";
    BYTES = "mesh_bytes_total", Counter, "direction, service, lane, level, reason, flow",
        "Bytes from (in) and to (out) the caller.";
    ACCEPTED = "mesh_connections_accepted_total", Counter, "direction", "Connections accepted.";
    OPEN = "mesh_connections_open", Gauge, "direction", "Connections accepted and still open.";
    ACCEPT_PAUSES = "mesh_accept_pauses_total", Counter, "", "Pauses of accepting for want of descriptors, memory or places for connections.";
    SHED = "mesh_shed_total", Counter, "reason",
        "What was given up for others, refused or cut off: exchanges for want of memory (`memory`, `memory_of_connection`, `memory_of_upload`) or of places at an instance (`places_of_upload`), or because their client hardly moves (`slow_request`, `slow_answer`), connections that only wait (`idle_connection`), are too many (`connections`, `connections_of_peer`) or whose head does not become whole (`slow_head`), HTTP/2 connections with too many frames that carry nothing (`http2_…`).";
    BUDGET = "mesh_memory_budget_bytes", Gauge, "", "Memory that this process may ask for.";
    ASKED_FOR = "mesh_memory_used_bytes", Gauge, "", "Memory that it asked for and has not given back.";
    TLS_HANDSHAKES = "mesh_tls_handshakes_total", Counter, "direction", "TLS handshakes that succeeded.";
    TLS_REFUSED = "mesh_tls_refused_total", Counter, "direction, reason",
        "Peers refused for want of a proven identity: callers (inbound), endpoints (outbound).";
    LANE_SOURCES = "mesh_lane_source_total", Counter, "source", "Requests by where their lane label was found.";
    LANE_LEAKS = "mesh_lane_leaks_total", Counter, "lane",
        "Requests of mesh peers that reached this instance of a lane and carry neither its label nor one that falls back to it: always 0 where routing is right.";
    EJECTIONS = "mesh_endpoint_ejections_total", Counter, "service, cause",
        "Instances taken out of traffic because calls to them failed.";
    EJECTIONS_KEPT = "mesh_endpoint_ejections_kept_total", Counter, "service",
        "Failures for which an instance would have been taken out, had its level not needed it.";
    RESTS = "mesh_endpoint_rests_total", Counter, "service",
        "Instances that were left alone for a time because they answered 429 or 503 with `retry-after`.";
    PANICS = "mesh_endpoint_panics_total", Counter, "service",
        "Picks among all instances of the last level, usable or not, because too few of them were usable (panicThreshold).";
    PEERS_DRAINING = "mesh_endpoint_drains_total", Counter, "service",
        "Instances that said, in an answer, that they drain; they are avoided while others can be used.";
    UNUSABLE = "mesh_endpoints_unusable", Gauge, "service, reason",
        "Instances that are not picked like any other, as the worker with most of them sees it.";
    PROBES = "mesh_health_probes_total", Counter, "service, result", "Health checks made of instances.";
    LANE_STALE = "mesh_lane_stale_total", Counter, "",
        "Calls of the application in the context of a request of a lane that ended longer than the linger ago.";
    LANE_AMBIGUOUS = "mesh_lane_ambiguous_total", Counter, "",
        "Requests of a lane whose trace was with the application in another lane, too; the first lane stays.";
    LANE_EVICTED = "mesh_lane_evictions_total", Counter, "",
        "Trace ids that were forgotten before their time because the table was full.";
    LANE_ENTRIES = "mesh_lane_table_entries", Gauge, "",
        "Trace ids that mean a lane, as the worker that knows most counts them: each is told of all.";
    LANE_NOTES_DROPPED = "mesh_lane_notes_dropped_total", Counter, "",
        "Requests of which another worker was not told because its queue was full.";
    LANE_MINTED = "mesh_lane_minted_total", Counter, "",
        "Requests of a lane that were given a trace id because the application would have forwarded none of theirs.";
    MODEL_ATTEMPTS = "mesh_model_attempts_total", Counter,
        "route, target, lane, gen_ai_operation_name, gen_ai_provider_name, gen_ai_request_model, gen_ai_response_model, reason",
        "Attempts at targets of model routes, by what they came to: `success` or the reason of the failure.";
    MODEL_FALLBACKS = "mesh_model_fallback_total", Counter, "route, from, to, reason, committed",
        "Failures of a target, and who was asked next; nobody where `to` is empty. `committed`: the client had some of the answer.";
    MODEL_DRILLS = "mesh_model_drills_total", Counter, "route, target, reason",
        "Failures of targets that callers forced for drills: counted here alone, so that no alert sees them.";
    MODEL_UNHELD = "mesh_model_unheld_requests_total", Counter, "route, why",
        "Requests that were passed on to one target while they came, and could have gone to no other: longer than the route's bodyLimit (`length`), or no room for them (`room`).";
    MODEL_TOKENS = "mesh_model_tokens_total", Counter,
        "route, target, lane, gen_ai_operation_name, gen_ai_provider_name, gen_ai_request_model, gen_ai_response_model, gen_ai_token_type, source",
        "Tokens used, as targets reported them or as they were estimated.";
    MODEL_MONEY = "mesh_model_spend_total", Counter,
        "route, target, lane, gen_ai_operation_name, gen_ai_provider_name, gen_ai_request_model, gen_ai_response_model",
        "Money spent, by the price table of the route, in its unit.";
    MODEL_RESTS = "mesh_model_rests_total", Counter, "route, target, reason",
        "Failures after which a target rested.";
    MODEL_RESTING = "mesh_model_target_resting", Gauge, "route, target, reason",
        "1 while a target rests in a worker at least, with the reason of the longest rest; nothing while it does not.";
    MODEL_SHARE = "mesh_model_target_share", Gauge, "route, target",
        "Share of its weight that a target is worth, 0.05 to 1: slow and failing ones lose it by and by. The least of all workers.";
    MODEL_OVERHEAD = "mesh_model_overhead_seconds", Histogram, "",
        "Time before the target that served was asked: the mesh's own, and that of attempts that failed.";
    GEN_AI_TOKEN_USAGE = "gen_ai_client_token_usage", Histogram,
        "route, target, lane, gen_ai_operation_name, gen_ai_provider_name, gen_ai_request_model, gen_ai_response_model, gen_ai_token_type",
        "Tokens used by one attempt.";
    GEN_AI_FIRST_CHUNK = "gen_ai_client_operation_time_to_first_chunk_seconds", Histogram,
        "route, target, lane, gen_ai_operation_name, gen_ai_provider_name, gen_ai_request_model, gen_ai_response_model",
        "Time from the begin of an attempt to the first event of its stream, whatever it holds.";
    GEN_AI_DURATION = "gen_ai_client_operation_duration_seconds", Histogram,
        "route, target, lane, gen_ai_operation_name, gen_ai_provider_name, gen_ai_request_model, gen_ai_response_model, error_type",
        "Time from the begin of an attempt to its end. `error_type`: the reason of its failure, `cancelled` where it was given up, empty where it was whole.";
    GEN_AI_FIRST_TOKEN = "gen_ai_server_time_to_first_token_seconds", Histogram,
        "route, target, lane, gen_ai_operation_name, gen_ai_provider_name, gen_ai_request_model, gen_ai_response_model",
        "Time from the begin of an attempt to the first token of its stream, of streams that did not fail. Measured where the caller is: the way there and back is in it.";
    GEN_AI_PER_TOKEN = "gen_ai_server_time_per_output_token_seconds", Histogram,
        "route, target, lane, gen_ai_operation_name, gen_ai_provider_name, gen_ai_request_model, gen_ai_response_model",
        "Time from the first token of a whole stream to its end, by the tokens behind the first. A client that reads slowly is in it.";
    CONNECTS = "mesh_upstream_connects_total", Counter, "", "Connections opened to endpoints and to the application.";
    CONNECT_FAILURES = "mesh_upstream_connect_failures_total", Counter, "", "Attempts to open one that failed.";
    REUSED = "mesh_upstream_reused_total", Counter, "", "Exchanges that took a pooled connection.";
    WAITS = "mesh_upstream_waits_total", Counter, "",
        "Exchanges that waited until a connection to their instance was free, or had room for a stream.";
    WAITS_REFUSED = "mesh_upstream_waits_refused_total", Counter, "",
        "Exchanges for which there was no room to wait (`limits.pending`), or that waited in vain.";
    RETRIES = "mesh_retries_total", Counter, "", "Attempts after the first.";
    RETRIES_REFUSED = "mesh_retries_refused_total", Counter, "reason",
        "Attempts that failed and were not repeated: `attempts` (they are used up), `not_named` (the policy does not repeat such failures), `method` (it may have been processed), `body` (longer than what is kept), `budget` (used up).";
    LIMIT_RESERVED = "mesh_model_tokens_reserved_total", Counter, "", "Tokens reserved from limits before models were asked.";
    LIMIT_SETTLED = "mesh_model_tokens_settled_total", Counter, "",
        "Tokens with which reservations were settled: what was used in the end.";
    LIMIT_DECISIONS = "mesh_model_limit_decisions_total", Counter, "route, target, limit, decision",
        "What limits decided about calls to models: `allowed`, `shadowed` (it would have refused), or why it refused: `used`, `too_large`, `unleased`, `store_down`. `target` is empty where the limit is one of callers.";
    LIMIT_PROXIES = "mesh_model_limit_proxies", Gauge, "part",
        "Proxies that this one knows to share limits in a store (`known`), and those of them that had calls lately (`sharing`); of several stores the most.";
    LIMIT_FORGOTTEN = "mesh_model_limit_keys_forgotten_total", Counter, "",
        "Keys whose counts were forgotten because there are too many.";
    LIMIT_STORES_DOWN = "mesh_model_limit_stores_down", Gauge, "",
        "Stores of limits that do not answer: what is counted in them is shared among proxies, or refused.";
    RATE_DECISIONS = "mesh_rate_limit_decisions_total", Counter, "service, limit, decision",
        "What rate limits of the services of this pod decided about requests: `allowed` (this one had room), `shadowed` (it would have refused), or why it refused: `used`, `unleased`, `store_down`.";
    RATE_PROXIES = "mesh_rate_limit_proxies", Gauge, "service, part",
        "Sidecars of a service that this one knows to share its limits in a store (`known`), and those of them that had requests lately (`sharing`).";
    RATE_STORE_DOWN = "mesh_rate_limit_store_down", Gauge, "service",
        "1 while a store that rate limits of the service are counted in does not answer: they are shared among sidecars, open or closed, as configured.";
    RATE_FORGOTTEN = "mesh_rate_limit_keys_forgotten_total", Counter, "",
        "Keys of requests whose counts were forgotten because there are too many.";
    RECORDS_DROPPED = "mesh_records_dropped_total", Counter, "",
        "Exchanges that reached neither access log nor traces because the queue was full.";
    LOG_LINES_DROPPED = "mesh_access_log_dropped_total", Counter, "",
        "Lines of the access log that were dropped because nobody read fast enough.";
    SPANS_EXPORTED = "mesh_spans_exported_total", Counter, "", "Spans that the collector took.";
    SPANS_DROPPED = "mesh_spans_dropped_total", Counter, "", "Spans that it did not take, or that found the queue full.";
    READY = "mesh_ready", Gauge, "", "1 while /ready answers 200.";
    DRAINING = "mesh_draining", Gauge, "", "1 from the order to stop on.";
    LIFECYCLE = "mesh_lifecycle_events_total", Counter, "event",
        "Times at which the proxy became ready, was ordered to stop (draining), and took nothing in any more (drained).";
    CERTIFICATES = "mesh_certificates_total", Counter, "", "Certificates obtained.";
    CERTIFICATE_FAILURES = "mesh_certificate_failures_total", Counter, "", "Attempts to obtain one that failed.";
    CERTIFICATE_END = "mesh_certificate_expiry_timestamp_seconds", Gauge, "",
        "Unix time at which the certificate ends; 0 without certificate.";
    TRUST_ANCHORS = "mesh_trust_anchors", Gauge, "", "Trust anchors in force.";
    SNAPSHOTS = "mesh_snapshots_total", Counter, "", "Snapshots handed to the workers.";
    SNAPSHOT_REVISION = "mesh_snapshot_revision", Gauge, "", "Revision of the snapshot in force.";
    SNAPSHOT_WRITTEN = "mesh_snapshot_written_timestamp_seconds", Gauge, "",
        "Unix time at which the snapshot was last written to disk; 0 = never.";
    POLICY_ACKNOWLEDGED = "mesh_policy_acknowledged_total", Counter, "", "Revisions of the controller applied.";
    POLICY_REFUSED = "mesh_policy_refused_total", Counter, "", "Revisions of the controller refused.";
    STREAM_FAILURES = "mesh_control_stream_failures_total", Counter, "", "Control streams that broke.";
    SUBSCRIPTIONS = "mesh_subscriptions", Gauge, "", "Targets, services and ports that are followed.";
    SUBSCRIPTIONS_REFUSED = "mesh_subscriptions_refused_total", Counter, "",
        "Targets that were not followed because of the bound.";
    STATE_WRITTEN = "mesh_state_writes_total", Counter, "", "Files written into the state directory.";
    STATE_FAILURES = "mesh_state_write_failures_total", Counter, "", "Writes into the state directory that failed.";
    STATE_REFUSED = "mesh_state_refused_total", Counter, "", "Files of the state directory refused at the start.";
    MEMORY = "process_resident_memory_bytes", Gauge, "", "Resident memory.";
    DESCRIPTORS = "process_open_fds", Gauge, "", "Open file descriptors.";
    CPU = "process_cpu_seconds_total", Counter, "", "Processor time, user and system.";
    STARTED = "process_start_time_seconds", Gauge, "", "Unix time at which the process started.";
    BUILD = "mesh_build_info", Gauge, "version", "Always 1.";
}

/// The reference page, Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# Metrics of the proxy\n\n\
         Served at `/metrics` of the admin port. Made by `mesh-proxy metrics --markdown`; do not edit.\n\n\
         | name | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for Metric { name, kind, labels, help } in ALL {
        writeln!(page, "| `{name}` | {} | {labels} | {help} |", kind.label()).expect("a String takes any text");
    }
    page
}

/// The table for a terminal.
pub fn table() -> String {
    let mut text = String::new();
    for Metric { name, kind, labels, help } in ALL {
        let labels = if labels.is_empty() { String::new() } else { format!(" {{{labels}}}") };
        writeln!(text, "{name}{labels}  {}\n    {help}", kind.label()).expect("a String takes any text");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_page_is_the_table() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/proxy-metrics.md");
        let written = std::fs::read_to_string(page).unwrap_or_default();
        assert!(written == reference(), "write the page anew: mesh-proxy metrics --markdown > {page}");
    }

    #[test]
    fn counters_and_nothing_else_end_in_total() {
        for metric in ALL {
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
        }
    }
}
