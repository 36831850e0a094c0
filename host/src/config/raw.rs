//! The config file as it is written. The comments on the types are the reference: they become the descriptions in
//! the JSON Schema. Only `check` may know these types; everything else sees [`Config`](super::Config).
//!
//! Unknown keys are refused by the schema alone, so that what stands beside them is still checked. `Serialize` and
//! `Default` are there for the schema, which tells the defaults.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod consumers;
mod redis;
mod route;
mod schema;
mod section;
mod tls;
mod upstream;

use super::{
    AccessLogFormat, Decisions, FailurePolicy, Family, Field, Isolation, LogLevel, Node, OnError,
    OnLoadError, OtlpProtocol, Service,
};

pub use consumers::*;
pub use redis::*;
pub use route::*;
pub use schema::{consumer_file_schema, schema};
pub use section::Section;
pub use tls::*;
pub use upstream::*;

/// A wasmgate configuration.
///
/// Durations are strings with a unit, such as "250ms", "5s", "1m" or "1h"; sizes too, such as "512B", "64KiB" or
/// "10MB". In every string `${env:NAME}` stands for an environment variable and `${file:PATH}` for the content of
/// a file (PATH is relative to this file, one newline at the end is cut); other
/// `${...}` are left to the plugins' templates, and `$${` is a literal `${`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(
    title = "wasmgate configuration",
    deny_unknown_fields,
    extend("required" = ["listener", "route"])
)]
pub struct File {
    /// The process as a whole.
    pub server: Section<Server>,
    /// Where the gateway accepts connections: at least one `[[listener]]` with an `address`.
    #[schemars(length(min = 1))]
    pub listener: Section<Vec<Section<Listener>>>,
    /// When the files are read again.
    pub reload: Section<Reload>,
    /// The admin interface: health, metrics, the configuration in use. Without this table there is none.
    pub admin: Option<Section<Admin>>,
    /// The gateway's own log, on standard error.
    pub log: Section<Log>,
    /// One line per request. Without this table none is written.
    pub access_log: Option<Section<AccessLog>>,
    /// One line per decision about who may pass, and per change by the admin interface. Without this table none is written.
    pub audit: Option<Section<Audit>>,
    /// How metrics are measured.
    pub metrics: Section<Metrics>,
    /// The traces of requests (W3C Trace Context). Without this table `traceparent` and `tracestate` are headers like
    /// any other: they reach the upstream as the client sent them.
    pub traces: Option<Section<Traces>>,
    /// What clients may send.
    pub limits: Section<Limits>,
    /// Who the client is, and what upstreams are told about it.
    pub forwarded: Section<Forwarded>,
    /// How names of endpoints are looked up.
    pub dns: Section<Dns>,
    /// Redis servers that plugins may keep things in, and consumers are kept in, by name.
    pub redis: Section<BTreeMap<String, Section<Redis>>>,
    /// Texts that plugins are granted by name, such as keys and passwords: best as `${env:NAME}` or `${file:PATH}`. They are
    /// never shown.
    #[schemars(extend("writeOnly" = true))]
    pub secrets: Section<BTreeMap<String, String>>,
    /// Sets of addresses and networks, by name, for plugins that may ask them (`networks` of `[plugin.NAME]`).
    pub networks: Section<BTreeMap<String, Section<Networks>>>,
    /// What holds for all plugins.
    pub plugins: Section<Plugins>,
    /// Single plugins, by name. A plugin without a table of its own is NAME.wasm in the plugin directory.
    pub plugin: Section<BTreeMap<String, Section<Plugin>>>,
    /// Services that requests go to, by name.
    pub upstream: Section<BTreeMap<String, Section<Upstream>>>,
    /// What consumers may do, by name.
    pub plan: Section<BTreeMap<String, Section<Plan>>>,
    /// Where consumers are besides this file.
    pub consumers: Section<Consumers>,
    /// Whose requests are known by credentials, by name: from 1 to 255 bytes without control characters.
    pub consumer: Section<BTreeMap<String, Section<Consumer>>>,
    /// What happens to which requests: at least one `[[route]]`. The most specific one that matches wins, wherever
    /// it stands in the file.
    #[schemars(length(min = 1))]
    pub route: Section<Vec<Section<Route>>>,
}

/// The process as a whole.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Server {
    /// Worker threads. Default: the number of cores.
    #[schemars(range(min = 1, max = 1024))]
    pub workers: Option<usize>,
    /// Where this gateway is: endpoints in the same zone come first. Default: nowhere.
    #[schemars(length(min = 1))]
    pub zone: Option<String>,
    /// How long requests in flight, and then access log and traces, may take to end after the gateway was told to
    /// stop, and for how long after a reload requests keep warm instances of plugins that are gone. "0s" does not wait.
    pub drain_timeout: DurationText,
}

/// When the files are read again: what the gateway is made of then changes as a whole, or not at all. SIGHUP and
/// POST /reload of the admin interface do so as well.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Reload {
    /// Whenever this file changes or one that it names: plugins, and what stands in `${file:...}`.
    pub watch: bool,
    /// How long no file may change before they are read: writing one takes more than a moment.
    pub debounce: DurationText,
}

/// A socket on which the gateway accepts connections. Who comes over a Unix socket has the address 127.0.0.1. Its file is
/// removed when nobody listens on it any more; one on which nobody listens is replaced.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Listener {
    /// What routes call it. Default: its address as written.
    #[schemars(length(min = 1))]
    pub name: Option<String>,
    /// IP address and port, or "unix:" and an absolute path. Without an IP address (":8080") it is every IPv4 address;
    /// port 0 takes a free port.
    #[schemars(extend("examples" = ["127.0.0.1:8080", "unix:/run/wasmgate/inner.sock"]))]
    pub address: String,
    /// Who may connect to a Unix socket: the mode of its file, for which writing counts. Default: what the process's umask
    /// leaves.
    #[schemars(extend("examples" = ["0660"]))]
    pub mode: Option<String>,
    /// Proxies that tell with HAProxy's PROXY protocol, version 1 or 2, whom their connections are from: IP addresses and
    /// networks. Each of their connections has to begin with its header, before TLS and within `limits.header_time`; without
    /// one it is closed. Whom the header names is the client, for all purposes; where it names nobody (LOCAL, UNKNOWN), the
    /// proxy is. All others are served as themselves: what they claim is no request. Default: nobody.
    #[serde(default)]
    #[schemars(extend("examples" = [["10.0.0.0/8"]]))]
    pub proxy_protocol: Vec<String>,
    /// What it lets in.
    #[serde(default)]
    pub limits: ListenerLimits,
    /// Default: it speaks in the clear.
    pub tls: Option<ListenerTls>,
    /// Speaks HTTP/2 (RFC 9113) with clients that want to, and HTTP/1.1 with the others. Within TLS it is agreed by ALPN;
    /// in the clear HTTP/2 is known by its first bytes (prior knowledge, h2c).
    #[serde(default = "tls::yes")]
    pub http2: bool,
    /// Answers clients of HTTP/1.1 that have closed their side of the connection behind a request. Without it they count as
    /// gone: what they asked for is cancelled.
    #[serde(default)]
    pub half_close: bool,
}

/// What a listener lets in, on all workers together. A client is an IPv4 address or an IPv6 network of 64 bits.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct ListenerLimits {
    /// Open connections. Further ones are answered with 503 and closed. Default: no limit.
    #[schemars(range(min = 1))]
    pub connections: Option<usize>,
    /// Open connections of one client, trusted proxies apart. Further ones are answered with 503 and closed. Default: no
    /// limit.
    #[schemars(range(min = 1))]
    pub connections_per_client: Option<usize>,
    /// Requests of all clients together. More: 503. Default: no limit.
    pub requests: Option<RequestRate>,
    /// Requests of one client, behind trusted proxies too. More: 429. Default: no limit.
    pub requests_per_client: Option<RequestRate>,
}

/// A token bucket.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RequestRate {
    /// Requests in the time `per`.
    #[schemars(range(min = 1))]
    pub rate: u32,
    /// The time in which `rate` requests may come.
    #[serde(default = "one_second")]
    pub per: DurationText,
    /// Requests that may come at once. Default: `rate`.
    #[schemars(range(min = 1))]
    pub burst: Option<u32>,
}

/// The admin interface.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Admin {
    /// IP address and port. Whoever reaches it sees all but secrets; outside of this machine it needs a token, and for a
    /// request whose Host is neither an IP address nor `localhost`, as those of web pages elsewhere.
    #[serde(default = "admin_address")]
    pub address: String,
    /// What `Authorization: Bearer` has to carry for everything that changes something, and for everything at all where
    /// the address can be reached from other machines. Has to come from "${env:NAME}" or "${file:PATH}". Default:
    /// none; then nothing can be changed.
    #[schemars(length(min = 16), extend("examples" = ["${env:WASMGATE_TOKEN}"]))]
    pub token: Option<String>,
}

/// The gateway's own log.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Log {
    /// What is logged: this level and the graver ones.
    pub level: LogLevel,
}

/// One line per request.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct AccessLog {
    /// The form of a line.
    pub format: AccessLogFormat,
    /// What a JSON line tells, in this order. Default: everything.
    #[schemars(length(min = 1))]
    pub fields: Option<Vec<Field>>,
    /// A line of format "text", with fields in braces: `{client} "{method} {path}" {status} {duration_ms}`; `{{` and
    /// `}}` are braces, what is not known is `-`. Default: the combined format.
    #[schemars(extend("examples" = ["{time} {client} {status} {duration_ms}"]))]
    pub template: Option<String>,
    /// Appended to; relative to this file. Default: standard output.
    #[schemars(length(min = 1), extend("examples" = ["access.log"]))]
    pub file: Option<String>,
    /// Lines that wait to be written. Further ones are dropped and counted: logging never slows a request down.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub queue: usize,
}

/// Who was refused, by what and why, and what was changed by the admin interface: a JSON line each, without secrets.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Audit {
    /// Which decisions are written.
    pub decisions: Decisions,
    /// Appended to; relative to this file; another one than that of the access log. Default: standard output.
    #[schemars(length(min = 1), extend("examples" = ["audit.log"]))]
    pub file: Option<String>,
    /// Lines that wait to be written. Further ones are lost, which the log and the metrics tell, and the next line: no request
    /// waits for them.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub queue: usize,
}

/// How metrics are measured. They are read at /metrics of the admin interface.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Metrics {
    /// Upper bounds of the histograms of requests, in seconds, ascending. Takes effect with the next start.
    #[schemars(length(min = 1, max = 50))]
    pub buckets: Vec<f64>,
}

/// The traces of requests. Each request has a span, and below it one for every call of a plugin and every attempt at an
/// upstream; `traceparent` names the request's to plugins, and the attempt's to the upstream. `tracestate` and
/// `baggage` pass as they are.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Traces {
    /// Share of the requests that are recorded, 0 to 1, where the client does not say whether its trace is.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample: f64,
    /// Go on with the trace that a client names in `traceparent`, and record what it records. Otherwise every request
    /// begins a trace of its own.
    pub trust_parent: bool,
    /// What the gateway is called in traces (service.name).
    #[schemars(length(min = 1))]
    pub service: String,
    /// Where recorded requests are sent. Without this table nothing is sent, and traces are only passed on.
    pub otlp: Option<Otlp>,
}

/// A collector that takes OTLP.
#[derive(Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Otlp {
    /// URL. Without a path it is /v1/traces, for protocol "http".
    #[schemars(extend("examples" = ["http://127.0.0.1:4318"]))]
    pub endpoint: String,
    /// How spans are sent: "http" (protobuf) or "grpc".
    #[serde(default)]
    pub protocol: OtlpProtocol,
    /// Sent along, such as what the collector wants to know its clients by.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How long the collector may take, tries again included. What it has not taken by then is lost and counted.
    #[serde(default = "five_seconds")]
    pub timeout: DurationText,
    /// Recorded requests that wait to be sent. Further ones are dropped and counted: tracing never slows a request down.
    #[serde(default = "otlp_queue")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub queue: usize,
}

/// What clients may send. Whoever exceeds a limit is answered with an error.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Limits {
    /// All header fields of a request with its request line, at least "8KiB". More: 431.
    pub header_bytes: SizeText,
    /// Header fields of a request. More: 431.
    #[schemars(range(min = 1, max = 10_000))]
    pub header_count: usize,
    /// The request target, at most "65534B". Longer: 414.
    pub uri: SizeText,
    /// The body of a request; a route may set its own. Longer: 413.
    pub body: SizeText,
    /// From the first byte of a request, and of a new connection from its beginning, to the end of the header fields.
    /// Longer: 408.
    pub header_time: DurationText,
    /// A connection between two requests. Longer: it is closed.
    pub idle_time: DurationText,
    /// Requests that a client may have at a time on one connection of HTTP/2. More: they are refused without being looked
    /// at, and clients know better.
    #[schemars(range(min = 1, max = 10_000))]
    pub streams: u32,
    /// The pause between two pieces of a request's body. Longer: 408.
    pub body_time: DurationText,
    /// Bytes per second below which a body is too slow: all of its pauses together may take `body_time` and the time
    /// that what came takes at this rate. Longer: 408. "0B" is no such limit.
    pub body_rate: SizeText,
    /// How long a client may take nothing of a response that waits for it. Longer: its connection is cut off.
    pub send_time: DurationText,
    /// Bytes per second below which a client takes a response too slowly: all waits for it together may take
    /// `send_time` and the time that what it took takes at this rate. Longer: its connection is cut off. "0B" is no such
    /// limit.
    pub send_rate: SizeText,
}

/// Who the client is, and what upstreams are told about it.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Forwarded {
    /// Addresses and networks of proxies in front of the gateway, whose X-Forwarded-For is believed; without one, their
    /// Forwarded. Default: nobody.
    ///
    /// Of two that name different clients only the first goes upstream. What others say is removed.
    pub trusted_proxies: Vec<String>,
    /// Send X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host upstream.
    pub x_forwarded: bool,
    /// Send Forwarded upstream (RFC 7239).
    pub forwarded: bool,
    /// The gateway's name in Via (RFC 9110, 7.6.3); "" sends none.
    pub via: String,
}

/// A set of addresses and networks, IPv4 and IPv6, given here, in a file, or both. IPv4-mapped IPv6 is IPv4. Bits behind the
/// length, as in "10.0.0.1/8", mean nothing: the gateway warns.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Networks {
    /// IP addresses and networks.
    #[schemars(extend("examples" = [["192.0.2.1", "10.0.0.0/8", "2001:db8::/32"]]))]
    pub entries: Option<Vec<String>>,
    /// A file with one in each line; relative to this file. What follows the entry after a space is left alone, and so are
    /// comments, which begin with `#` or `;`. A change of it is noticed like one of this file.
    #[schemars(length(min = 1), extend("examples" = ["blocked.txt"]))]
    pub file: Option<String>,
}

/// What holds for all plugins.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Plugins {
    /// Where plugin NAME is looked for as NAME.wasm; relative to this file.
    #[schemars(length(min = 1))]
    pub directory: String,
    /// Where compiled plugins are kept; relative to this file. Default: the gateway chooses.
    #[schemars(length(min = 1), extend("examples" = ["/var/cache/wasmgate"]))]
    pub cache: Option<String>,
    /// Limits of plugins that do not set their own.
    pub limits: PluginLimits,
    /// Failure policy of plugins that do not set their own.
    pub failure_policy: FailurePolicy,
    /// What becomes of plugins that cannot be loaded and do not set their own.
    pub on_load_error: OnLoadError,
    /// What proxy-wasm filters get to know as the node that they run on.
    pub node: Node,
}

/// One plugin.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Plugin {
    /// Its WebAssembly file; relative to this file. Default: NAME.wasm in the plugin directory.
    #[schemars(length(min = 1), extend("examples" = ["filters/cache.wasm"]))]
    pub file: Option<String>,
    /// The SHA-256 of the file, in hexadecimal; another file is refused. Default: any file is taken.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub sha256: Option<String>,
    /// What happens when it cannot be loaded. Default: that of `[plugins]`.
    pub on_load_error: Option<OnLoadError>,
    /// A request that it has to stand before it gets others. Default: none.
    pub smoke: Option<Smoke>,
    /// Another version that gets a part of the traffic. Default: none.
    pub rollout: Option<Rollout>,
    /// What a request gets when the plugin fails. Default: that of `[plugins]`.
    pub failure_policy: Option<FailurePolicy>,
    /// How long an instance of the plugin lives.
    pub isolation: Isolation,
    /// What it may use. Default, key by key: the limits of `[plugins]`.
    pub limits: PluginLimits,
    /// Takes the plugin out while it keeps failing.
    pub breaker: Breaker,
    /// Upstreams that it may choose for a request, and call. Default: it may choose all; a proxy-wasm filter may call all as well,
    /// a native plugin none.
    pub upstreams: Option<Vec<String>>,
    /// The Redis that its counters, values and rate limits are in, by its name: all gateways with that Redis share them.
    /// Default: the memory of this gateway.
    #[schemars(length(min = 1))]
    pub store: Option<String>,
    /// What holds while the `store` gives no answer: "local" (the memory of this gateway), "allow" (nothing is there, nothing
    /// is kept, and no limit is reached) or "deny" (503 `store_unavailable`, whatever the plugin decides). Default: "local".
    pub on_error: Option<OnError>,
    /// Texts of `[secrets]` that it may read. Default: none.
    pub secrets: Option<Vec<String>>,
    /// Sets of `[networks.NAME]` that it may ask whether an address is in them; for native plugins. Default: none.
    pub networks: Vec<String>,
    /// It may ask for consumers and plans, and whose a credential of these kinds is: "key", "password" (it is given the hash),
    /// "hmac" (it is given the secret), "certificate". `true` is those without anything secret, `["key", "certificate"]`.
    pub consumers: ConsumerGrant,
    /// The configuration of uses that have none of their own. Default: none.
    pub config: Option<Payload>,
    /// It runs without a route as well, with `config`: for timers, queues and calls of its own. Default: only where
    /// a route uses it.
    pub service: Option<Service>,
    /// Of a proxy-wasm filter: which of the module's root contexts it is.
    pub root_id: Option<String>,
    /// Of a proxy-wasm filter: filters with the same `vm_id` share values and queues, and with the same file,
    /// `vm_config`, `env` and limits their VMs too.
    pub vm_id: Option<String>,
    /// Of a proxy-wasm filter: what its VM is started with.
    pub vm_config: Option<Payload>,
    /// Of a proxy-wasm filter: its environment variables.
    pub env: Option<BTreeMap<String, String>>,
    /// Of a proxy-wasm filter: upstreams by the names of Envoy clusters by which it calls them. Default: upstreams
    /// have one name.
    #[schemars(extend("examples" = [{ "outbound|80||auth": "auth" }]))]
    pub clusters: Option<BTreeMap<String, String>>,
    /// Of a proxy-wasm filter: when it changes the request's head, the route is looked up again, as in Envoy, for its
    /// upstream and its path; the plugins stay those of the first route, so this is for routes with the same ones.
    pub reroute: Option<bool>,
    /// Of a proxy-wasm filter: its VMs on each worker. A crash ends the requests in one of them. Default: 1.
    #[schemars(range(min = 1, max = 64))]
    pub vms_per_worker: Option<usize>,
}

/// A table, which a native plugin's own schema describes and a proxy-wasm filter gets as JSON; or, for a proxy-wasm
/// filter, a string as it is.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("type" = ["object", "string"]))]
pub struct Payload(pub Value);

/// Another version of a plugin beside the one in `file`, under the same name, configs and limits. A request stays with
/// one version in all phases.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Rollout {
    /// Its file, relative to this one; or "sha256:" and the digest of a file in the plugin directory.
    #[schemars(length(min = 1), extend("examples" = ["filters/cache-2.wasm"]))]
    pub to: String,
    /// Its share of the requests.
    #[serde(default = "ten")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub percent: f64,
    /// What a client is told by, so that it stays with one version: "ip", "header:NAME", "cookie:NAME", "query:NAME",
    /// "path" or "consumer" (of an authentication plugin before this one). Requests without it, and all without this key, get theirs by chance.
    #[schemars(extend("examples" = ["ip"]))]
    pub sticky: Option<String>,
    /// The new version only sees copies of its share of the requests and responses (not of bodies), after the old
    /// one. Differences in what it decides and edits are counted and, one of each kind a second, logged; nothing else
    /// comes of it.
    /// Its counters and stored values are its own.
    #[serde(default)]
    pub shadow: bool,
    /// When the old version gets all the traffic again. This lasts until the roll-out is changed.
    #[serde(default)]
    pub rollback: Rollback,
}

/// When a new version is given up, by what both did in the same time. Rates up to 1 % and calls up to 0.2 ms never
/// count as worse.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Rollback {
    /// The time that is looked at.
    pub window: DurationText,
    /// Calls of the new version in it below which nothing is decided.
    #[schemars(range(min = 1))]
    pub calls: u64,
    /// How many times the old version's rate of traps and exceeded limits is too much.
    #[schemars(range(min = 1.0))]
    pub failures: f64,
    /// The same for errors that it returns and answers with a status of 400 or more.
    #[schemars(range(min = 1.0))]
    pub errors: f64,
    /// The same for the time that 99 of 100 calls keep.
    #[schemars(range(min = 1.0))]
    pub p99: f64,
}

/// A request that a newly loaded plugin is given, through its request and its response phase, under each of its
/// configs. One that fails is not loaded. What it does to counters and stored values is real.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Smoke {
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Header fields by name.
    pub headers: BTreeMap<String, String>,
    /// The status that has to come out. An upstream would have answered 200. Default: any.
    #[schemars(range(min = 200, max = 599))]
    pub status: Option<u16>,
}

/// How names of endpoints are looked up, also those in /etc/hosts. A name is asked for again when its records expire;
/// while that fails, what was known last stands.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Dns {
    /// Name servers with IP address and port. Default: those of /etc/resolv.conf.
    #[schemars(extend("examples" = [["127.0.0.1:53"]]))]
    pub servers: Vec<String>,
    /// Which addresses count: "v4-preferred" (IPv6 where there is no IPv4), "v6-preferred", "v4", "v6" or "both".
    pub family: Family,
    /// Records that expire sooner are used for so long.
    pub min_ttl: DurationText,
    /// Records that expire later are used for so long.
    pub max_ttl: DurationText,
    /// How long a name server may take before it, or the next one, is asked again.
    pub timeout: DurationText,
}

/// What a plugin may use. Exceeding a limit is a failure, which the failure policy handles.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct PluginLimits {
    /// Linear memory of one instance, at least "64KiB". Default: "16MiB".
    pub memory: Option<SizeText>,
    /// Processor time of one call; waiting, for the host or for a processor, does not count. Default: "20ms".
    pub time: Option<DurationText>,
    /// Instances per worker. Default: 256.
    #[schemars(range(min = 1, max = 65_535))]
    pub instances: Option<u32>,
    /// Instances on all workers together; a warm one is given up where another worker waits for its place. Default:
    /// no bound but that per worker.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub total_instances: Option<u32>,
    /// Instances that run at the same time per worker; those that wait for the host do not count. Default: 2.
    #[schemars(range(min = 1, max = 65_535))]
    pub running: Option<u32>,
    /// How long a request waits for an instance. Default: "1s".
    pub wait: Option<DurationText>,
    /// A request's or response's body that the plugin may have buffered. Default: "1MiB".
    pub body: Option<SizeText>,
    /// What it may hand to the host in one call, all host functions together. Default: "16MiB".
    pub host_bytes: Option<SizeText>,
    /// Log lines per second; further ones are dropped and counted. Default: 100.
    pub log_rate: Option<u32>,
}

/// Takes a plugin out while it keeps failing; its failure policy answers meanwhile.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Breaker {
    /// Failures in a row that take it out.
    #[schemars(range(min = 1))]
    pub failures: u32,
    /// How long it stays out the first time. Doubles with each further failure.
    pub backoff: DurationText,
    /// How long it stays out at most.
    pub max_backoff: DurationText,
}

/// A whole number and a unit: "ms", "s", "m" or "h".
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("pattern" = "^[0-9]+(ms|s|m|h)$", "examples" = ["5s"]))]
pub struct DurationText(pub String);

/// A whole number and a unit: "B", "KB", "MB", "GB" (powers of 1000), "KiB", "MiB" or "GiB" (powers of 1024).
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("pattern" = "^[0-9]+([KMG]i?)?B$", "examples" = ["64KiB"]))]
pub struct SizeText(pub String);

impl Default for Server {
    fn default() -> Self {
        Server { workers: None, zone: None, drain_timeout: "30s".into() }
    }
}

impl Default for Reload {
    fn default() -> Self {
        Reload { watch: true, debounce: "20ms".into() }
    }
}

impl Default for Smoke {
    fn default() -> Self {
        Smoke { method: "GET".to_owned(), path: "/".to_owned(), headers: BTreeMap::new(), status: None }
    }
}

impl Default for Dns {
    fn default() -> Self {
        Dns {
            servers: Vec::new(),
            family: Family::default(),
            min_ttl: "5s".into(),
            max_ttl: "1h".into(),
            timeout: "2s".into(),
        }
    }
}

impl Default for Rollback {
    fn default() -> Self {
        Rollback { window: "1m".into(), calls: 50, failures: 2.0, errors: 2.0, p99: 3.0 }
    }
}

impl Default for AccessLog {
    fn default() -> Self {
        AccessLog {
            format: AccessLogFormat::default(),
            fields: None,
            template: None,
            file: None,
            queue: 8192,
        }
    }
}

impl Default for Audit {
    fn default() -> Self {
        Audit { decisions: Decisions::default(), file: None, queue: 16_384 }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        Metrics { buckets }
    }
}

impl Default for Traces {
    fn default() -> Self {
        Traces { sample: 1.0, trust_parent: true, service: "wasmgate".to_owned(), otlp: None }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            header_bytes: "64KiB".into(),
            header_count: 100,
            uri: "8KiB".into(),
            body: "10MiB".into(),
            header_time: "10s".into(),
            idle_time: "75s".into(),
            streams: 100,
            body_time: "30s".into(),
            body_rate: "500B".into(),
            send_time: "30s".into(),
            send_rate: "1KB".into(),
        }
    }
}

impl Default for Forwarded {
    fn default() -> Self {
        let via = "wasmgate".to_owned();
        Forwarded { trusted_proxies: Vec::new(), x_forwarded: true, forwarded: false, via }
    }
}

impl Default for Plugins {
    fn default() -> Self {
        Plugins {
            directory: "plugins".to_owned(),
            cache: None,
            limits: PluginLimits::default(),
            failure_policy: FailurePolicy::default(),
            on_load_error: OnLoadError::default(),
            node: Node::default(),
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker { failures: 5, backoff: "1s".into(), max_backoff: "60s".into() }
    }
}

fn admin_address() -> String {
    "127.0.0.1:9901".to_owned()
}

fn one_second() -> DurationText {
    "1s".into()
}

fn five_seconds() -> DurationText {
    "5s".into()
}

fn otlp_queue() -> usize {
    2048
}

fn ten() -> f64 {
    10.0
}

impl From<&str> for DurationText {
    fn from(text: &str) -> Self {
        DurationText(text.to_owned())
    }
}

impl From<&str> for SizeText {
    fn from(text: &str) -> Self {
        SizeText(text.to_owned())
    }
}
