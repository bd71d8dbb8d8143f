//! Every field of a traffic policy, for the reference page (`docs/reference/traffic-policy.md`). A test holds this table to
//! what the reader takes, and its defaults to what the reader makes of nothing.

/// A field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Path below `spec`; `[]` stands for each element of a list, `<…>` for a name that one chooses.
    pub path: &'static str,
    /// What may be written, with unit and range.
    pub value: &'static str,
    /// What holds where it is absent.
    pub absent: Absent,
    /// What it means.
    pub meaning: &'static str,
}

/// What holds where a field is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It must be there.
    Required,
    /// As if this were written.
    Default(&'static str),
    /// This, which cannot be written.
    Means(&'static str),
}

use Absent::{Default, Means, Required};

const fn field(path: &'static str, value: &'static str, absent: Absent, meaning: &'static str) -> Field {
    Field { path, value, absent, meaning }
}

/// All fields, parts one after the other.
pub const FIELDS: &[&[Field]] = &[HEAD, BALANCING, OUTLIER, HEALTH, ZONES, TIMES, RATES];

const HEAD: &[Field] = &[
    field(
        "service",
        "name, or name.namespace",
        Required,
        "Service whose calls are meant; one policy for each service.",
    ),
    field(
        "panicThreshold",
        "percent, 0 to 100",
        Default("50"),
        "With fewer usable instances than this on the last level, all of them are used, usable or not; 0 = never. Not \
         for the level of a lane that can be left.",
    ),
];

const BALANCING: &[Field] = &[
    field(
        "loadBalancing.algorithm",
        "peakEwma, leastRequest, roundRobin, random, ringHash, maglev",
        Means("required in loadBalancing; without that: peakEwma"),
        "How an instance is chosen among the usable ones of a level and zone. All heed weights.",
    ),
    field(
        "loadBalancing.hashOn",
        "list, 1 to 8",
        Means("required with ringHash and maglev, refused with others"),
        "Where the key of a request is looked for, in order: `header:<name>`, `cookie:<name>`, `query:<name>`, `sourceIP`, \
         or a cookie that is set where it is missing. A request without a key goes anywhere.",
    ),
    field("loadBalancing.hashOn[].cookie", "name", Required, "Cookie that holds the key."),
    field(
        "loadBalancing.hashOn[].ttl",
        "duration, up to 9600h",
        Means("no cookie is set"),
        "A request without the cookie is answered with one that lives so long; 0s: as long as the browser's session.",
    ),
    field(
        "warmUp.duration",
        "duration, up to 24h; 0s = none",
        Default("120s"),
        "An instance that has just come has its whole share after this time. `warmUp: off` means none.",
    ),
    field(
        "warmUp.curve",
        "number, 1 to 10",
        Default("2"),
        "Its weight is multiplied by max(floor, (t / duration) ^ curve): 1 is a straight line, more is slower at first.",
    ),
    field("warmUp.floor", "percent, 1 to 100", Default("2"), "Least part of its weight."),
    field(
        "warmUp.afterRecovery",
        "true, false",
        Default("false"),
        "An instance that was unhealthy warms up again when it is healthy again.",
    ),
];

const OUTLIER: &[Field] = &[
    field(
        "outlierDetection.consecutiveGatewayFailures",
        "0 to 1000; 0 = never",
        Default("5"),
        "So many answers 502, 503, 504 or gRPC UNAVAILABLE in a row eject an instance.",
    ),
    field(
        "outlierDetection.consecutiveLocalOriginFailures",
        "0 to 1000; 0 = never",
        Default("5"),
        "So many calls without an answer in a row (not connected, reset, timed out) eject it.",
    ),
    field(
        "outlierDetection.baseEjectionTime",
        "duration, more than 0",
        Default("30s"),
        "It stays out for so long, times how often it was ejected lately.",
    ),
    field(
        "outlierDetection.maxEjectionTime",
        "duration, not less than baseEjectionTime",
        Default("300s"),
        "Longest time out.",
    ),
    field(
        "outlierDetection.maxEjectionPercent",
        "percent, 0 to 100",
        Default("50"),
        "Greatest share of a level that may be out; one may always be, where another stays. Does not bind a lane that \
         can be left.",
    ),
    field(
        "outlierDetection.honourRetryAfter",
        "true, false",
        Default("true"),
        "An answer 429 or 503 with `retry-after` keeps calls away from the instance for so long, up to maxEjectionTime.",
    ),
    field(
        "outlierDetection.successRate.minimumHosts",
        "1 to 1000000",
        Default("5"),
        "Instances that succeed clearly less often than the others are ejected, where so many had calls enough. Without \
         successRate none are for that.",
    ),
    field(
        "outlierDetection.successRate.requestVolume",
        "1 to 1000000",
        Default("100"),
        "Calls enough, in the last 10 s.",
    ),
    field(
        "outlierDetection.successRate.standardDeviationFactor",
        "number, 0.1 to 10",
        Default("1.9"),
        "Clearly less: below the mean of all less so many standard deviations.",
    ),
];

const HEALTH: &[Field] = &[
    field(
        "healthCheck.http.path",
        "path with query",
        Default("/"),
        "A request over HTTP/1.1. Exactly one of http, tcp and grpc says what is asked; without healthCheck nothing is.",
    ),
    field("healthCheck.http.host", "host", Means("the service's short name"), "`Host` of the request."),
    field("healthCheck.http.method", "GET, HEAD, OPTIONS, POST, PUT", Default("GET"), "Its method; it has no body."),
    field(
        "healthCheck.http.headers",
        "names with texts, up to 16",
        Means("none"),
        "Further headers. Those that the sidecar sets itself are refused.",
    ),
    field(
        "healthCheck.http.expectedStatuses",
        "list of statuses and ranges, 100 to 599",
        Default("[200-299]"),
        "Answers that are a success.",
    ),
    field(
        "healthCheck.tcp.send",
        "text, or {hex: …}, up to 1024 bytes",
        Means("nothing"),
        "A connection; this is sent over it.",
    ),
    field("healthCheck.tcp.send.hex", "two digits for each byte", Required, "Bytes that are no text."),
    field(
        "healthCheck.tcp.receive",
        "text, or {hex: …}, up to 1024 bytes",
        Means("nothing is waited for"),
        "What must stand somewhere in the answer.",
    ),
    field("healthCheck.tcp.receive.hex", "two digits for each byte", Required, "Bytes that are no text."),
    field(
        "healthCheck.grpc.service",
        "name",
        Means("the server as a whole"),
        "gRPC health checking, version 1; SERVING is a success.",
    ),
    field(
        "healthCheck.interval",
        "duration, at least 100ms",
        Default("10s"),
        "Time between two probes of an instance.",
    ),
    field("healthCheck.timeout", "duration, more than 0", Default("1s"), "A probe that takes longer has failed."),
    field(
        "healthCheck.jitter",
        "percent, 0 to 100",
        Default("10"),
        "Each interval is longer by chance, up to so much.",
    ),
    field(
        "healthCheck.unhealthyThreshold",
        "1 to 1000",
        Default("3"),
        "So many failed probes in a row make an instance unhealthy; the first does where none has succeeded yet.",
    ),
    field(
        "healthCheck.healthyThreshold",
        "1 to 1000",
        Default("2"),
        "So many successful ones in a row make it healthy again; at the start one is enough.",
    ),
    field(
        "healthCheck.unhealthyInterval",
        "duration, at least 100ms",
        Means("interval"),
        "Interval while it is unhealthy.",
    ),
    field(
        "healthCheck.unhealthyEdgeInterval",
        "duration, at least 100ms",
        Means("unhealthyInterval"),
        "Interval after a healthy one has failed a probe, until it is unhealthy or succeeds.",
    ),
    field(
        "healthCheck.healthyEdgeInterval",
        "duration, at least 100ms",
        Means("interval"),
        "Interval after an unhealthy one has passed a probe, until it is healthy or fails.",
    ),
    field(
        "healthCheck.noTrafficInterval",
        "duration, at least 100ms",
        Default("60s"),
        "Interval while nobody has called the service for so long.",
    ),
    field(
        "healthCheck.sharedBy",
        "0 to 100; 0 = all",
        Default("3"),
        "So many callers probe each instance and tell the others through the controller. Without a controller everyone \
         probes for himself.",
    ),
];

const ZONES: &[Field] = &[
    field(
        "zones.preferSame",
        "true, false",
        Default("false"),
        "Instances of the caller's own zone are preferred. Excludes distribute.",
    ),
    field(
        "zones.threshold",
        "percent, 1 to 100",
        Default("70"),
        "The own zone takes everything while it has at least this of its share of the usable capacity; below, what it lacks \
         spills over. Below 67, instances may get more than 1.5 times a fair share. Only with preferSame.",
    ),
    field(
        "zones.failover",
        "list, up to 64",
        Means("to all other zones"),
        "Where it spills to; several entries for one zone are tried in order. Only with preferSame.",
    ),
    field("zones.failover[].from", "zone", Required, "Zone of the caller."),
    field("zones.failover[].to", "zone", Required, "Zone that helps out."),
    field("zones.distribute", "list, up to 64", Means("none"), "Fixed shares of the zones. Excludes preferSame."),
    field("zones.distribute[].from", "zone", Required, "Zone of the caller."),
    field("zones.distribute[].to", "zones with percent, 100 together", Required, "Share of each zone."),
    field(
        "zones.matches",
        "list, up to 64",
        Means("none"),
        "Zones of certain requests, before everything else; the first entry that matches counts.",
    ),
    field("zones.matches[].path", "as in HTTPRoute", Means("any"), "Path; of the conditions at least one is there."),
    field("zones.matches[].method", "as in HTTPRoute", Means("any"), "Method."),
    field("zones.matches[].headers", "as in HTTPRoute", Means("any"), "Headers, all of them."),
    field("zones.matches[].queryParams", "as in HTTPRoute", Means("any"), "Query parameters, all of them."),
    field("zones.matches[].zone", "zone", Required, "Zone whose instances take the request, while one is usable."),
];

const TIMES: &[Field] = &[
    field("timeouts.connect", "duration, more than 0", Default("1s"), "TCP connect and TLS handshake, each."),
    field("timeouts.request", "duration; 0s = unlimited", Default("0s"), "Whole exchange."),
    field(
        "timeouts.perTry",
        "duration, not more than request; 0s = unlimited",
        Default("0s"),
        "One attempt, until the response's headers.",
    ),
    field("timeouts.responseHeaders", "duration; 0s = unlimited", Default("0s"), "Until the response's headers."),
    field("timeouts.idle", "duration, more than 0", Default("1h"), "No byte in either direction."),
    field("retries.attempts", "1 to 10", Default("3"), "Most attempts, the first included; 1 = no retry."),
    field(
        "retries.on",
        "list of connect-failure, refused-stream, reset, 5xx, gateway-error, retriable-4xx, statuses 400 to 599, codes of \
         gRPC",
        Default("[connect-failure, refused-stream, reset]"),
        "Failures that are repeated.",
    ),
    field(
        "retries.methods",
        "list of methods, e.g. [POST]",
        Means("none"),
        "Methods that may be repeated although they are not idempotent. What provably reached nobody is repeated whatever \
         the method, and so are calls of gRPC that fail with a code named in `on`.",
    ),
    field(
        "retries.budget.percent",
        "percent, 0 to 100",
        Default("20"),
        "Repeats as a share of requests, for each proxy …",
    ),
    field("retries.budget.minPerSecond", "0 to 100000", Default("10"), "… and so many in a second anyway."),
    field(
        "retries.backoff.base",
        "duration, more than 0, up to 60s",
        Default("25ms"),
        "Longest pause before the first repeat; twice as much before each further one.",
    ),
    field("retries.backoff.max", "duration, base to 60s", Default("250ms"), "Longest pause before any."),
    field(
        "retries.bodyLimit",
        "bytes, or 64KiB, 1MiB; up to 1MiB",
        Default("64KiB"),
        "Largest request body that is kept for a repeat.",
    ),
    field("limits.connections", "1 to 1000000", Default("1024"), "Open connections to an instance, per worker."),
    field(
        "limits.pending",
        "1 to 1000000",
        Default("1024"),
        "Exchanges that wait for one of them, each no longer than `timeouts.connect`, per worker.",
    ),
    field("limits.requests", "1 to 1000000", Default("4096"), "Exchanges at the same time, per worker."),
];

const RATES: &[Field] = &[
    field(
        "rateLimits",
        "list, up to 32",
        Means("none"),
        "Requests that the service takes, counted by the sidecars of its instances. Each limit counts on its own; the \
         first that is used up refuses, and the request counts for none.",
    ),
    field("rateLimits[].name", "name, unique", Required, "For metrics, logs and those who are refused."),
    field(
        "rateLimits[].matches",
        "list, as in HTTPRoute",
        Means("all requests"),
        "Requests that count, by any of these.",
    ),
    field("rateLimits[].matches[].path", "as in HTTPRoute", Means("any"), "Path."),
    field("rateLimits[].matches[].method", "as in HTTPRoute", Means("any"), "Method."),
    field("rateLimits[].matches[].headers", "as in HTTPRoute", Means("any"), "Headers, all of them."),
    field("rateLimits[].matches[].queryParams", "as in HTTPRoute", Means("any"), "Query parameters, all of them."),
    field(
        "rateLimits[].key",
        "list of identity, namespace, route, lane, `header:<name>`",
        Means("all callers together"),
        "What tells callers apart; each has the whole limit. identity and namespace are those that a mesh peer proved; \
         route is which of matches the request meets. Who lacks a part shares a limit with all who lack it.",
    ),
    field("rateLimits[].requests", "1 to 1000000000", Required, "So many requests …"),
    field("rateLimits[].per", "1s, 1m, 1h", Required, "… in this time."),
    field(
        "rateLimits[].burst",
        "1 to 1000000000",
        Means("as requests"),
        "So many at once after a quiet time. With Redis never more than requests in a second, minute or hour of the clock, \
         and where burst is less, each sidecar keeps to it by itself.",
    ),
    field(
        "rateLimits[].store",
        "local, or {redis: …}",
        Default("local"),
        "Where it is counted: in each sidecar for itself, or in Redis for all of the service together.",
    ),
    field("rateLimits[].store.redis.url", "redis://[user@]host:port[/database]", Required, "Redis."),
    field("rateLimits[].store.redis.password", "{file: …} or {secret: {name, key}}", Means("none"), "Its password."),
    field("rateLimits[].store.redis.password.file", "path in the sidecar", Means("a secret"), "File that holds it."),
    field("rateLimits[].store.redis.password.secret.name", "name", Required, "Secret that holds it."),
    field("rateLimits[].store.redis.password.secret.key", "key", Required, "Its key."),
    field(
        "rateLimits[].onStoreDown",
        "local, open, closed",
        Default("local"),
        "While Redis cannot be reached: each sidecar keeps to its fair share, nothing is refused, or everything is. Only with \
         Redis.",
    ),
    field(
        "rateLimits[].mode",
        "enforce, shadow",
        Default("enforce"),
        "Whether it refuses, or only counts what it would refuse.",
    ),
];
