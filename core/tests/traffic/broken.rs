//! What breaks `full.yaml`.

/// What is replaced by what, the field that is named, and a part of what is said.
pub(crate) type Broken = (&'static str, &'static str, &'static str, &'static str);

const HTTP: &str = "      path: /healthz?full=1\n";
const LIST: &str = "    - {from: a, to: b}\n    - {from: a, to: c}\n";
const REDIS: &str = "redis://mesh@redis.infra:6379/2";

/// Each is refused with this field named.
#[rustfmt::skip]
pub(crate) const BROKEN: &[Broken] = &[
    // The policy as a whole.
    ("  service: cart\n", "", "spec.service", "missing"),
    ("  service: cart\n", "  service: a.b.c\n", "spec.service", "names no service"),
    ("  service: cart\n", "  service: basket\n", "spec.service", "there is no service basket.shop"),
    ("panicThreshold", "panicTreshold", "spec.panicTreshold", "did you mean \"panicThreshold\"?"),
    ("panicThreshold: 30%", "panicThreshold: 101", "spec.panicThreshold", "from 0 to 100"),
    ("panicThreshold: 30%", "panicThreshold: 130%", "spec.panicThreshold", "no whole percentage from 0 to 100"),
    ("panicThreshold: 30%", "panicThreshold: half", "spec.panicThreshold", "no whole percentage"),
    // Times and limits.
    ("connect: 300ms", "connect: 0s", "spec.timeouts.connect", "may not be 0"),
    ("connect: 300ms", "connect: 300", "spec.timeouts.connect", "expected a duration"),
    ("idle: 10m", "idle: never", "spec.timeouts.idle", "is not a duration"),
    ("perTry: 2s", "perTry: 20s", "spec.timeouts.perTry", "is more than request (10s)"),
    ("perTry: 2s", "pertry: 2s", "spec.timeouts.pertry", "did you mean \"perTry\"?"),
    ("connections: 100", "connections: 0", "spec.limits.connections", "from 1 to 1000000"),
    ("pending: 50", "pending: -1", "spec.limits.pending", "from 1 to 1000000"),
    ("requests: 1000}\n  load", "requests: 1.5}\n  load", "spec.limits.requests", "a whole number"),
    // Retries.
    ("attempts: 4", "attempts: 11", "spec.retries.attempts", "from 1 to 10"),
    ("attempts: 4", "attempts: 1", "spec.retries.budget", "has no meaning with one attempt"),
    ("gateway-error", "gateway-errors", "spec.retries.on[1]", "is no failure that can be repeated"),
    ("gateway-error, 503", "503, 503", "spec.retries.on[2]", "twice"),
    ("503", "200", "spec.retries.on[2]", "from 400 to 599"),
    ("\"429\"", "\"700\"", "spec.retries.on[3]", "a status from 400 to 599"),
    ("[POST, LOCK]", "[post]", "spec.retries.methods[0]", "upper case"),
    ("[POST, LOCK]", "[GET]", "spec.retries.methods[0]", "is idempotent"),
    ("[POST, LOCK]", "[CONNECT]", "spec.retries.methods[0]", "a tunnel"),
    ("percent: 10%", "percent: 200", "spec.retries.budget.percent", "from 0 to 100"),
    ("minPerSecond: 5", "minPerSecond: 1000000", "spec.retries.budget.minPerSecond", "from 0 to 100000"),
    ("max: 1s", "max: 10ms", "spec.retries.backoff.max", "is less than base (50ms)"),
    ("max: 1s", "max: 2m", "spec.retries.backoff.max", "is more than 60s"),
    ("base: 50ms", "base: 0s", "spec.retries.backoff.base", "may not be 0"),
    ("256KiB", "2MiB", "spec.retries.bodyLimit", "from 0 to 1048576 bytes"),
    ("256KiB", "256KB", "spec.retries.bodyLimit", "no size"),
    ("256KiB", "1048577", "spec.retries.bodyLimit", "from 0 to 1048576"),
    // Balancing and warm-up.
    ("algorithm: ringHash", "algorithm: ringhash", "spec.loadBalancing.algorithm", "did you mean \"ringHash\"?"),
    ("algorithm: ringHash", "algorithm: random", "spec.loadBalancing.hashOn", "with ringHash and maglev only"),
    ("    algorithm: ringHash\n", "", "spec.loadBalancing.algorithm", "missing"),
    ("    hashOn:\n    - header:X-User-Id\n    - {cookie: session, ttl: 1h}\n    - cookie:legacy\n    - query:user\n    - sourceIP\n", "", "spec.loadBalancing.hashOn", "missing: where the key"),
    ("header:X-User-Id", "\"header:\"", "spec.loadBalancing.hashOn[0]", "is no key"),
    ("- sourceIP", "- sourceIp", "spec.loadBalancing.hashOn[4]", "is no key"),
    ("query:user", "cookie:legacy", "spec.loadBalancing.hashOn[3]", "twice"),
    ("cookie: session", "cookie: \"se ssion\"", "spec.loadBalancing.hashOn[1].cookie", "no name of a cookie"),
    ("ttl: 1h", "ttl: 10000h", "spec.loadBalancing.hashOn[1].ttl", "more than 400 days"),
    ("ttl: 1h", "path: /", "spec.loadBalancing.hashOn[1].path", "unknown field"),
    ("duration: 3m", "duration: 25h", "spec.warmUp.duration", "24h"),
    ("curve: 1.5", "curve: 0.5", "spec.warmUp.curve", "from 1 to 10"),
    ("floor: 5%", "floor: 0", "spec.warmUp.floor", "from 1 to 100"),
    ("afterRecovery: true", "afterRecovery: sometimes", "spec.warmUp.afterRecovery", "true or false"),
    ("warmUp: {", "warmUp: slow #", "spec.warmUp", "a mapping of fields"),
    // Outlier detection.
    ("baseEjectionTime: 10s", "baseEjectionTime: 200s", "spec.outlierDetection.maxEjectionTime", "is less than baseEjectionTime"),
    ("maxEjectionPercent: 40", "maxEjectionPercent: 101", "spec.outlierDetection.maxEjectionPercent", "from 0 to 100"),
    ("minimumHosts: 4", "minimumHosts: 0", "spec.outlierDetection.successRate.minimumHosts", "from 1"),
    ("standardDeviationFactor: 2.5", "standardDeviationFactor: 1900", "spec.outlierDetection.successRate.standardDeviationFactor", "from 0.1 to 10"),
    ("honourRetryAfter: false", "honourRetryAfter: \"no\"", "spec.outlierDetection.honourRetryAfter", "true or false"),
    ("honourRetryAfter", "honorRetryAfter", "spec.outlierDetection.honorRetryAfter", "did you mean"),
    // Health checks.
    ("    interval: 5s", "    tcp: {}\n    interval: 5s", "spec.healthCheck", "exactly one of http, tcp and grpc"),
    ("    interval: 5s", "    interval: 1ms", "spec.healthCheck.interval", "is less than 100ms"),
    ("timeout: 500ms", "timeout: 0s", "spec.healthCheck.timeout", "may not be 0"),
    ("jitter: 20", "jitter: 200", "spec.healthCheck.jitter", "from 0 to 100"),
    ("unhealthyThreshold: 4", "unhealthyThreshold: 0", "spec.healthCheck.unhealthyThreshold", "from 1 to 1000"),
    ("unhealthyEdgeInterval: 1s", "unhealthyEdgeInterval: 0s", "spec.healthCheck.unhealthyEdgeInterval", "is less than 100ms"),
    ("sharedBy: 0", "sharedBy: 101", "spec.healthCheck.sharedBy", "from 0 to 100"),
    ("path: /healthz?full=1", "path: healthz", "spec.healthCheck.http.path", "is no path"),
    ("host: cart.internal", "host: \"a b\"", "spec.healthCheck.http.host", "is no host"),
    ("method: HEAD", "method: DELETE", "spec.healthCheck.http.method", "is not known"),
    ("X-Probe: mesh", "Host: mesh", "spec.healthCheck.http.headers.Host", "a field of its own"),
    ("X-Probe: mesh", "\"X Probe\": mesh", "spec.healthCheck.http.headers.X Probe", "no header name"),
    ("X-Probe: mesh", "X-Probe: \"a\\nb\"", "spec.healthCheck.http.headers.X-Probe", "visible ASCII"),
    ("200-204", "204-200", "spec.healthCheck.http.expectedStatuses[0]", "no status or range"),
    (HTTP, "      body: x\n", "spec.healthCheck.http.body", "unknown field"),
    // Zones.
    ("preferSame: true", "preferSame: false", "spec.zones.failover", "without preferSame: true"),
    ("threshold: 80", "threshold: 0", "spec.zones.threshold", "from 1 to 100"),
    ("from: a, to: b", "from: a, to: a", "spec.zones.failover[0].to", "is the zone itself"),
    ("from: a, to: b", "from: a, to: c", "spec.zones.failover[1]", "twice"),
    ("from: a, to: b", "from: a, to: \"b c\"", "spec.zones.failover[0].to", "no name of a zone"),
    (LIST, "    - {from: a}\n", "spec.zones.failover[0].to", "missing"),
    ("    matches:\n    - path: {type: Exact", "    distribute: [{from: a, to: {a: 100}}]\n    matches:\n    - path: {type: Exact", "spec.zones.distribute", "exclude each other"),
    ("    matches:\n    - path: {type: Exact", "    distribute: [{from: a, to: {a: 60, b: 30}}]\n    matches:\n    - path: {type: Exact", "spec.zones.distribute[0].to", "add up to 90"),
    ("    matches:\n    - path: {type: Exact", "    distribute: [{from: a, to: {a: 100}}, {from: a, to: {b: 100}}]\n    matches:\n    - path: {type: Exact", "spec.zones.distribute[1].from", "has shares already"),
    ("      zone: c\n", "      zone: c\n    - {zone: b}\n", "spec.zones.matches[1]", "no condition"),
    ("value: /report", "value: report", "spec.zones.matches[0].path.value", "is no path"),
    ("      zone: c\n", "", "spec.zones.matches[0].zone", "missing"),
    // Rate limits.
    ("name: all", "name: each-caller", "spec.rateLimits[1]", "is there already"),
    ("name: all", "name: All", "spec.rateLimits[1].name", "is no name"),
    ("name: all, requests: 1000", "name: all", "spec.rateLimits[1].requests", "missing"),
    ("per: 1s", "per: 5s", "spec.rateLimits[1].per", "allowed: 1s, 1m, 1h"),
    ("burst: 20", "burst: 0", "spec.rateLimits[0].burst", "from 1"),
    ("route, lane", "path, lane", "spec.rateLimits[0].key[2]", "allowed: identity, namespace, route, lane, header:<name>"),
    ("route, lane", "lane, lane", "spec.rateLimits[0].key[3]", "twice"),
    ("all, requests: 1000", "all, key: [route], requests: 1000", "spec.rateLimits[1].key", "there are none"),
    (REDIS, "redis://redis.infra", "spec.rateLimits[0].store.redis.url", "no address of Redis"),
    ("onStoreDown: closed", "onStoreDown: refuse", "spec.rateLimits[0].onStoreDown", "allowed: local, open, closed"),
    ("per: 1s}", "per: 1s, onStoreDown: open}", "spec.rateLimits[1].onStoreDown", "has no meaning"),
    ("mode: shadow", "shadow: true", "spec.rateLimits[0].shadow", "unknown field"),
    ("value: /buy", "value: buy", "spec.rateLimits[0].matches[0].path.value", "is no path"),
];

/// Parts that stand in `full.yaml` in another form: the healthy probe of it is replaced by these.
#[rustfmt::skip]
pub(crate) const BROKEN_PROBES: &[Broken] = &[
    ("", "tcp: {send: \"\"}", "spec.healthCheck.tcp.send", "may not be empty"),
    ("", "tcp: {send: {hex: abc}}", "spec.healthCheck.tcp.send.hex", "not hexadecimal"),
    ("", "tcp: {receive: {hex: zz}}", "spec.healthCheck.tcp.receive.hex", "not hexadecimal"),
    ("", "tcp: {receive: {base64: zz}}", "spec.healthCheck.tcp.receive.base64", "unknown field"),
    ("", "tcp: {port: 1}", "spec.healthCheck.tcp.port", "unknown field"),
    ("", "grpc: {service: 1}", "spec.healthCheck.grpc.service", "expected a text"),
    ("", "interval: 1s", "spec.healthCheck", "here are 0"),
];
