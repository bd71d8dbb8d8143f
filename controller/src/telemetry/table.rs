//! Every metric of the controller as a row; the reference page is made from it.

/// A metric.
#[derive(Debug)]
pub struct Row {
    /// Name as exposed.
    pub name: &'static str,
    /// counter or gauge.
    pub kind: &'static str,
    /// What a 1 is.
    pub unit: &'static str,
    /// Labels with their values.
    pub labels: &'static str,
    /// What it says.
    pub help: &'static str,
}

const fn row(
    name: &'static str,
    kind: &'static str,
    unit: &'static str,
    labels: &'static str,
    help: &'static str,
) -> Row {
    Row { name, kind, unit, labels, help }
}

pub(super) const CERTIFY: &str = "mesh_controller_certify_total";
pub(super) const STREAMS: &str = "mesh_controller_streams";
pub(super) const SENT: &str = "mesh_controller_messages_sent_total";
pub(super) const NACKS: &str = "mesh_controller_snapshots_refused_total";
pub(super) const LOADS: &str = "mesh_controller_source_loads_total";
pub(super) const PROBLEMS: &str = "mesh_controller_source_problems";
pub(super) const LOADED: &str = "mesh_controller_source_loaded_timestamp_seconds";
pub(super) const CONNECTED: &str = "mesh_controller_source_connected";
pub(super) const LOST: &str = "mesh_controller_source_connections_lost_total";
pub(super) const KNOWN: &str = "mesh_controller_source_known_services";
pub(super) const FOLLOWED: &str = "mesh_controller_source_followed_services";
pub(super) const LISTS: &str = "mesh_controller_source_lists_total";
pub(super) const NOTES: &str = "mesh_controller_source_notes";
pub(super) const REGISTRATIONS: &str = "mesh_controller_registrations";
pub(super) const SERVICES: &str = "mesh_controller_services";
pub(super) const ENDPOINTS: &str = "mesh_controller_endpoints";
pub(super) const WORKLOADS: &str = "mesh_controller_workloads";
pub(super) const CHANGES: &str = "mesh_controller_changed_keys_total";
pub(super) const WAKES: &str = "mesh_controller_woken_streams_total";
pub(super) const WORLDS: &str = "mesh_controller_worlds_total";
pub(super) const WORLD_TIME: &str = "mesh_controller_world_seconds_total";
pub(super) const CONNECTIONS: &str = "mesh_controller_connections";
pub(super) const TLS_REFUSED: &str = "mesh_controller_tls_refused_total";
pub(super) const ISSUER_END: &str = "mesh_controller_issuer_not_after_timestamp_seconds";
pub(super) const GUARD_BREACHES: &str = "mesh_controller_lane_guard_breaches_total";
pub(super) const EVENTS: &str = "mesh_controller_events_total";
pub(super) const AUTHORITY_LOADS: &str = "mesh_controller_authority_loads_total";

/// Every metric.
pub const METRICS: &[Row] = &[
    row(
        CERTIFY,
        "counter",
        "requests",
        "result: issued, token_refused, wrong_identity, request_refused, failed",
        "Requests for certificates by what became of them",
    ),
    row(
        STREAMS,
        "gauge",
        "streams",
        "service: destination, profile, outbound, inbound, mesh, health",
        "Open streams to proxies",
    ),
    row(SENT, "counter", "messages", "service: as above", "Messages sent on streams to proxies"),
    row(NACKS, "counter", "snapshots", "", "Snapshots that a proxy refused"),
    row(
        LOADS,
        "counter",
        "loads",
        "source: file, nacos/<server>/<group of policies>; result: loaded, refused",
        "Loads of a source; a refused one leaves the last good state in force",
    ),
    row(
        PROBLEMS,
        "gauge",
        "problems",
        "source: file, nacos/<server>/<group of policies>",
        "Problems of the last load of a source; 0 when it was loaded",
    ),
    row(
        LOADED,
        "gauge",
        "seconds since 1970",
        "source: file, nacos/<server>/<group of policies>",
        "When a source was last loaded",
    ),
    row(
        CONNECTED,
        "gauge",
        "connections",
        "source: nacos/<server>/<namespace, or group of policies>",
        "Connection of a source to its server: 1 while there is one, 0 while what was known stays in force",
    ),
    row(
        LOST,
        "counter",
        "connections",
        "source: as above",
        "Connections of a source that ended, and attempts to make one that failed",
    ),
    row(KNOWN, "gauge", "services", "source: nacos/<server>/<namespace>", "Services that a registry names"),
    row(
        FOLLOWED,
        "gauge",
        "services",
        "source: as above",
        "Services of a registry that are followed, since somebody calls them",
    ),
    row(
        LISTS,
        "counter",
        "lists",
        "source: as above; result: believed, held, old",
        "Lists of instances that a registry sent; held = without some that are kept until they are known to be gone, \
         old = made before the last one, and dropped",
    ),
    row(
        NOTES,
        "gauge",
        "notes",
        "source: as above",
        "What is wrong at a registry without refusing anything, e.g. an unknown namespace",
    ),
    row(
        REGISTRATIONS,
        "gauge",
        "instances",
        "source: as above; state: registered, waiting, failed, left_out",
        "Instances that rules select to be registered with a registry, by how they stand",
    ),
    row(SERVICES, "gauge", "services", "", "Services known"),
    row(ENDPOINTS, "gauge", "instances", "", "Instances known"),
    row(WORKLOADS, "gauge", "workloads", "", "Workloads known"),
    row(CHANGES, "counter", "keys", "", "Things that changed: services, addresses, workloads, mesh-wide policy"),
    row(
        WAKES,
        "counter",
        "streams",
        "",
        "Streams woken by changes; follows what proxies use, not the size of the mesh",
    ),
    row(
        WORLDS,
        "counter",
        "worlds",
        "",
        "Worlds made of what all sources say; news that comes meanwhile is in the next",
    ),
    row(WORLD_TIME, "counter", "seconds", "", "Time that making worlds took"),
    row(CONNECTIONS, "gauge", "connections", "", "Open connections of proxies"),
    row(
        TLS_REFUSED,
        "counter",
        "handshakes",
        "reason: handshake, timeout, identity",
        "Connections refused before any request",
    ),
    row(ISSUER_END, "gauge", "seconds since 1970", "", "End of the certificate that signs workloads"),
    row(
        GUARD_BREACHES,
        "counter",
        "lanes",
        "reason: errors, latency",
        "Lanes that were drained by their guard; log and history say which",
    ),
    row(
        EVENTS,
        "counter",
        "events",
        "kind: registered, deregistered, not_ready, ready, drain_ordered, draining, drained, left, lost, ejected, failing_health, recovered, warm_up_started, warm_up_ended",
        "What happened to instances, as `mesh-ctl events` lists it; what callers observe counts once for each",
    ),
    row(
        AUTHORITY_LOADS,
        "counter",
        "loads",
        "result: loaded, refused",
        "Loads of issuer and trust bundle after a change of their files",
    ),
];
