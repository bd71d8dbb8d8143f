//! A good model route and what breaks it, for the tests of everything that reads resources.

/// A file with a model route, and what it refers to.
pub(crate) const MODELS: &str = include_str!("good.yaml");

/// What is replaced by what in [`MODELS`], the field that is named, and a part of what is said.
pub(crate) type Broken = (&'static str, &'static str, &'static str, &'static str);

const GPT: &str = "{url: \"https://api.openai.com:8443/eu\", roots: /etc/roots.pem, proxy: \"proxy.internal:3128\"}";
const TWO: &str =
    "    - name: any-two\n      provider: openai-compatible\n      endpoint: \"http://[::1]:8081/base\"\n";
const REDIS: &str = "\"redis://mesh@redis.ai:6379/2\"";
const ANY: &str = "  - name: \"*\"\n";

/// Each is refused with this field named.
#[rustfmt::skip]
pub(crate) const BROKEN: &[Broken] = &[
    // Fields.
    ("hosts: [models.internal, llm.ai]", "hosts: []", "spec.hosts", "at least one element"),
    ("llm.ai]", "\"llm.ai:80\"]", "spec.hosts[1]", "no host name"),
    ("llm.ai]", "10.0.0.1]", "spec.hosts[1]", "is an address"),
    ("llm.ai]", "LLM_ai]", "spec.hosts[1]", "no name"),
    ("llm.ai]", "models.internal]", "spec.hosts[1]", "twice"),
    ("[shop/tester, ", "[tester, ", "spec.drill.allow[0]", "names no caller"),
    ("[shop/tester, ", "[Shop/tester, ", "spec.drill.allow[0]", "names no caller"),
    ("{allow: [shop/tester, \"ops/*\", \"spiffe://cluster.local/ns/ai/sa/chaos\"]}", "{}", "spec.drill.allow", "missing"),
    ("{allow: [shop/tester, ", "{forbid: [], allow: [shop/tester, ", "spec.drill.forbid", "unknown field"),
    ("bodyLimit: 2Mi", "bodyLimit: 2Gi", "spec.bodyLimit", "no length up to 64Mi"),
    ("bodyLimit: 2Mi", "bodyLimit: 65Mi", "spec.bodyLimit", "no length up to 64Mi"),
    ("bodyLimit: 2Mi", "bodyLimit: -1", "spec.bodyLimit", "from 0 to 67108864"),
    ("  tokens:\n", "  guard: {}\n  tokens:\n", "spec.guard", "not supported yet"),
    ("  tokens:\n", "  template: {name: x}\n  tokens:\n", "spec.template", "not supported yet"),
    ("name: chat-large", "name: \"chat*large\"", "spec.models[0].name", "at its end only"),
    (ANY, "  - name: chat-large\n", "spec.models[1].name", "a model of this route already"),
    ("contextWindow: 32768", "contextwindow: 32768", "spec.models[0].targets[0].contextwindow", "did you mean \"contextWindow\""),
    ("provider: anthropic", "provider: antropic", "spec.models[0].targets[2].provider", "did you mean \"anthropic\""),
    ("name: any-two", "name: any-one", "spec.models[1].targets[1].name", "a target of this route already"),
    ("priority: 2", "priority: -1", "spec.models[0].targets[2].priority", "from 0 to 1000"),
    ("weight: 90", "weight: 20000", "spec.models[0].targets[0].weight", "from 0 to 10000"),
    ("model: gpt-4o", "model: \"gpt 4o\"", "spec.models[0].targets[3].model", "no name of a model"),
    ("capabilities: {prefill: true, ", "capabilities: {usage: continuous, prefill: true, ", "spec.models[0].targets[2].capabilities.usage", "continuous is vLLM's"),
    // Endpoints and keys.
    (GPT, "api.openai.com", "spec.models[0].targets[3].endpoint", "no URL"),
    (GPT, "\"https://user:pw@api.openai.com\"", "spec.models[0].targets[3].endpoint", "no user or password"),
    (GPT, "\"https://api.openai.com:0\"", "spec.models[0].targets[3].endpoint", "no host and port"),
    (GPT, "\"https://api.openai.com/v1?x=y\"", "spec.models[0].targets[3].endpoint", "neither query nor fragment"),
    (GPT, "{url: \"http://api.openai.com\", roots: /x}", "spec.models[0].targets[3].endpoint.roots", "no meaning for http://"),
    (GPT, "{url: \"https://api.openai.com\", service: \"small:8000\"}", "spec.models[0].targets[3].endpoint", "exactly one"),
    (GPT, "{url: \"https://api.openai.com\", proxy: somewhere}", "spec.models[0].targets[3].endpoint.proxy", "host:port"),
    ("{service: \"small.ai:8000\"}", "{service: small.ai}", "spec.models[0].targets[1].endpoint.service", "name.namespace:port"),
    ("      credential: {file: /etc/keys/openai}\n", "", "spec.models[0].targets[3].credential", "missing: openai"),
    ("{file: /etc/keys/openai}", "sk-secret", "spec.models[0].targets[3].credential", "a key itself never"),
    ("{file: /etc/keys/openai}", "{file: keys/openai}", "spec.models[0].targets[3].credential.file", "begins with /"),
    ("key: anthropic}", "key: ../token}", "spec.models[0].targets[2].credential.secret.key", "no key of a secret"),
    // What can never work.
    (TWO, "", "spec.models[1].targets", "could never fall back"),
    (ANY, "  - name: \"*\"\n    retry: {attempts: 1}\n", "spec.models[1].retry.attempts", "with one attempt"),
    ("\"http://[::1]:8081/base\"", "\"http://127.0.0.1:8080\"", "spec.models[1].targets[1]", "falling back to it helps nobody"),
    ("name: any-two\n", "name: any-two\n      weight: 0\n", "spec.models[1].targets", "could never fall back"),
    ("name: any-two\n", "name: any-two\n      lane: demo/canary\n", "spec.models[1].targets", "could never fall back"),
    ("capabilities: {prefill: true, ", "capabilities: {", "spec.models[0].midStream", "capabilities.prefill"),
    ("apis: [chatCompletions, messages]", "apis: [embeddings]", "spec.models[0].midStream", "for chatCompletions and messages"),
    (ANY, "  - name: \"*\"\n    midStream: continue\n", "spec.models[1].midStream", "capabilities.prefill"),
    ("apis: [chatCompletions, messages]", "apis: [responses]", "spec.models[0].targets[2].provider", "does not serve responses"),
    ("apis: [chatCompletions, messages]", "apis: [generateContent]", "spec.models[0].targets[0].provider", "no translation"),
    ("apis: [chatCompletions, messages]", "apis: [chat]", "spec.models[0].apis[0]", "not known"),
    // Times.
    ("firstToken: 4s", "firstToken: 10m", "spec.models[0].timers.firstToken", "more than total"),
    ("connect: 500ms", "connect: 0s", "spec.models[0].timers.connect", "may not be 0"),
    ("minRemaining: 2s", "minRemaining: 5m", "spec.models[0].timers.minRemaining", "no second target"),
    ("onlyWithin: 12s", "onlyWithin: 3s", "spec.models[0].retry.onlyWithin", "no other is tried"),
    (ANY, "  - name: \"*\"\n    timers: {firstToken: 30s, headers: 30s}\n", "spec.models[1].timers.firstToken", "no other is tried"),
    ("attempts: 4", "attempts: 11", "spec.models[0].retry.attempts", "from 1 to 10"),
    ("budget: 30%", "budget: 130%", "spec.models[0].retry.budget", "no share"),
    ("on: [rate, ", "on: [rates, ", "spec.models[0].retry.on[0]", "did you mean \"rate\""),
    ("hedge: after p95", "hedge: p95", "spec.models[0].hedge", "after p95"),
    ("hedge: after p95", "hedge: after 4s", "spec.models[0].hedge", "given up before"),
    ("onExhausted: 503", "onExhausted: 500", "spec.models[0].onExhausted", "503"),
    ("midStream: continue", "midStream: resume", "spec.models[0].midStream", "not known"),
    ("{type: string}", "{type: strings}", "spec.models[0].escalate.schema.properties.answer.type", "expected null, boolean"),
    ("{type: string}", "{pattern: x}", "spec.models[0].escalate.schema.properties.answer.pattern", "is not checked"),
    (ANY, "  - name: \"*\"\n    escalate: {schema: true}\n", "spec.models[1].escalate.schema", "expected a mapping"),
    // What may be used.
    ("amount: 20}", "amount: 20, window: 1m}", "spec.models[0].targets[2].limits[0].window", "no meaning"),
    ("amount: 1000000, window: 1h", "amount: 0, window: 1h", "spec.tokens.limits[0].amount", "from 1"),
    ("window: 1h", "window: 2h", "spec.tokens.limits[0].window", "allowed: 1s, 1m, 1h, 1d"),
    ("{of: total, amount: 1000000, window: 1h}", "{of: total, amount: 1000000}", "spec.tokens.limits[0].window", "missing"),
    ("\"header:X-Tenant\"", "tenant", "spec.tokens.key[1]", "header:<name>"),
    ("model: \"claude-*\"", "model: \"claude-opus*\"", "spec.models[0].targets[2].model", "no entry of tokens.prices fits claude-sonnet-4"),
    ("{of: total, amount: 1000000, window: 1h}", "{of: money, amount: 5, window: 1d}", "spec.models[1].targets[0].model", "no entry of tokens.prices fits *"),
    (REDIS, "\"redis://:secret@redis.ai:6379\"", "spec.tokens.store.redis.url", "no password may stand in it"),
    (REDIS, "\"redis.ai:6379\"", "spec.tokens.store.redis.url", "no address of Redis"),
    (REDIS, "\"redis://redis.ai\"", "spec.tokens.store.redis.url", "no address of Redis"),
    ("    store: {redis", "    store: redis\n    # {redis", "spec.tokens.store", "expected local"),
    ("    store: {redis", "    store: local\n    # {redis", "spec.tokens.onStoreDown", "has no meaning"),
    // Against the rest.
    ("small.ai:8000", "other.ai:8000", "spec.models[0].targets[1].endpoint.service", "there is no service other.ai"),
    ("small.ai:8000", "small.ai:8001", "spec.models[0].targets[1].endpoint.service", "has no port 8001; it has 8000, 9000"),
    ("small.ai:8000", "small.ai:9000", "spec.models[0].targets[1].endpoint.service", "carries bytes"),
    ("demo/canary", "demo/other", "spec.models[0].targets[1].lane", "there is no lane demo/other"),
    ("llm.ai]", "small.ai]", "spec.models[0].targets[0].endpoint.service", "is itself a host of ModelRoute ai/chat"),
    ("\"http://127.0.0.1:8080\"", "\"http://models.internal\"", "spec.models[1].targets[0].endpoint", "is itself a host of ModelRoute ai/chat"),
];
