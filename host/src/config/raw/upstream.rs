//! Upstreams as they are written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DurationText, Section, SizeText, UpstreamTls};
use crate::config::{BalanceMethod, CheckKind, HashTable, Initial, Protocol, SameSite};

/// A service that requests go to.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Upstream {
    /// Where it runs, at least one: "HOST:PORT", "unix:PATH" or a table. A name stands for all of its addresses, and is
    /// asked for again whenever its records expire.
    #[schemars(length(min = 1))]
    pub endpoints: Vec<Section<EndpointEntry>>,
    /// The Host it is sent: "preserve" (the client's), "upstream" (the endpoint's name or address), or a literal name.
    #[serde(default = "preserve")]
    #[schemars(length(min = 1), extend("examples" = ["preserve"]))]
    pub host: String,
    /// Default: it is spoken to in the clear.
    pub tls: Option<UpstreamTls>,
    /// "http/1.1"; "h2" (HTTP/2, in the clear by prior knowledge: what gRPC needs); or "auto" (what it chooses by ALPN within
    /// TLS, and HTTP/1.1 in the clear).
    #[serde(default)]
    pub protocol: Protocol,
    /// How long it may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Connections that are kept between requests.
    #[serde(default)]
    pub keep_alive: KeepAlive,
    /// Which endpoint gets a request.
    #[serde(default)]
    pub balance: Balance,
    /// Asks every endpoint now and then how it does. Default: nobody asks.
    pub health: Option<Health>,
    /// Takes endpoints out by what became of requests.
    #[serde(default)]
    pub outliers: Outliers,
    /// How much it gets at the same time. More: 503 with `X-Gateway-Overloaded`.
    #[serde(default)]
    pub limits: UpstreamLimits,
    /// Keeps all requests from an upstream that fails: 503 with Retry-After. Default: none.
    pub breaker: Option<CircuitBreaker>,
    /// What is tried again.
    #[serde(default)]
    pub retry: Retry,
    /// Answers all of its requests while it is being worked on. Default: it answers itself.
    pub maintenance: Option<Maintenance>,
}

/// An address with the weight 1, or a table.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum EndpointEntry {
    Address(#[schemars(extend("examples" = ["127.0.0.1:9001"]))] String),
    Endpoint(Endpoint),
}

/// Where an upstream runs. Exactly one of `address`, `service` and `file`.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Endpoint {
    /// Host name or IP address, and port; or "unix:" and the path of a socket.
    #[schemars(extend("examples" = ["127.0.0.1:9001"]))]
    pub address: Option<String>,
    /// A name with SRV records (RFC 2782), which tell hosts, ports, priorities and weights.
    #[schemars(length(min = 1), extend("examples" = ["_http._tcp.users.internal"]))]
    pub service: Option<String>,
    /// A TOML file with a key `endpoints` like the one of an upstream, but without files. Relative to this file; a change
    /// of it is noticed like one of this file.
    #[schemars(length(min = 1), extend("examples" = ["users.toml"]))]
    pub file: Option<String>,
    /// Its share of the requests, in proportion to the weights of the others; 0 is no share: what it is at is finished.
    pub weight: Option<u16>,
    /// Endpoints with a higher number get requests only as those with lower ones fail. Default: 0.
    pub priority: Option<u8>,
    /// Where it is; those in the zone of the gateway (`server.zone`) come before others of the same priority.
    #[schemars(length(min = 1))]
    pub zone: Option<String>,
}

/// How long an upstream may take. Longer: 504.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Timeouts {
    /// To accept a connection.
    pub connect: DurationText,
    /// Between two pieces of what it sends, and before the first. Before it answers, every piece that it takes of the
    /// request's body starts this anew, and while the client has to send more it does not run: that is `body_time`.
    pub read: DurationText,
    /// From sending the request to the end of the response, retries included. Default: no limit.
    pub total: Option<DurationText>,
    /// Between two pieces in either direction, once a connection goes on in another protocol (WebSocket). Longer: it is
    /// closed.
    pub tunnel: DurationText,
}

/// Connections to an upstream that are kept between requests.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct KeepAlive {
    /// Idle ones, per endpoint and worker; 0 keeps none.
    #[schemars(range(max = 65_535))]
    pub connections: usize,
    /// How long an idle one is kept.
    pub idle: DurationText,
}

/// Which endpoint gets a request.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Balance {
    /// "round-robin" (in turn, as often as the weight says), "least-request" (the one with the fewest requests under way,
    /// of some that chance chooses), "random", or "hash" (the same key goes to the same endpoint).
    pub method: BalanceMethod,
    /// For "least-request": how many are compared.
    #[schemars(range(min = 2, max = 32))]
    pub choices: u8,
    /// For "hash": what the key is: "ip", "header:NAME", "cookie:NAME", "query:NAME", "path", or "consumer" (of an
    /// authentication plugin). Requests without it go by chance.
    #[schemars(extend("examples" = ["header:x-user"]))]
    pub key: Option<String>,
    /// For "hash": "maglev" (even shares), or "ring" (as other proxies have it; less even).
    pub table: HashTable,
    /// For "hash": no endpoint has more requests under way than so many times the average; what is above goes to
    /// another, for one key always the same. Default: no bound.
    #[schemars(range(min = 1.0, max = 100.0), extend("examples" = [1.25]))]
    pub bound: Option<f64>,
    /// Endpoints that are new, or healthy again, get to their share step by step within this time. Default: at once.
    pub slow_start: Option<DurationText>,
    /// Where less than this percentage of the endpoints is healthy, health counts no more: all get requests, rather
    /// than a few of them too many. 0: never.
    #[schemars(range(max = 100))]
    pub panic: u8,
    /// Keeps a client at its endpoint by a cookie of the gateway's.
    pub sticky: Option<Sticky>,
}

/// A cookie that names the endpoint, though not its address. Where the endpoint is gone or ill the client gets another.
#[derive(Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Sticky {
    /// Its name.
    #[schemars(length(min = 1), extend("examples" = ["route"]))]
    pub cookie: String,
    /// Paths that it is for.
    #[serde(default = "root")]
    pub path: String,
    /// How long the client keeps it. Default: until it ends.
    pub max_age: Option<DurationText>,
    /// Only over TLS.
    #[serde(default)]
    pub secure: bool,
    /// With requests from other sites: "lax", "strict" or "none" (which needs `secure`).
    #[serde(default)]
    pub same_site: SameSite,
}

/// Asks every endpoint how it does; one that does not is left out. One prober for the whole process.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Health {
    /// "http" (a request has the status and the body that it should), "grpc" (grpc.health.v1 says SERVING), or "tcp" (a
    /// connection is accepted).
    pub kind: CheckKind,
    /// For "http".
    pub method: String,
    /// For "http": path and query.
    pub path: String,
    /// For "http" and "grpc": Host. Default: the endpoint's name or address.
    pub host: Option<String>,
    /// For "http": header fields by name.
    pub headers: BTreeMap<String, String>,
    /// For "http": what is healthy, "200" or "200-299".
    #[schemars(length(min = 1))]
    pub status: Vec<String>,
    /// For "http": what has to stand in the first 64 KiB of the body. Default: anything.
    #[schemars(length(min = 1))]
    pub body: Option<String>,
    /// For "grpc": the service that is asked for; "" is the server as a whole.
    pub service: String,
    /// Another port than that of requests.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// From one check to the next, give or take `jitter`.
    pub interval: DurationText,
    /// The same for endpoints that are not healthy. Default: `interval`.
    pub unhealthy_interval: Option<DurationText>,
    /// Percentage by which chance changes the interval.
    #[schemars(range(max = 100))]
    pub jitter: u8,
    /// How long a check may take.
    pub timeout: DurationText,
    /// Checks in a row that make an endpoint healthy again; the first check of all counts alone.
    #[schemars(range(min = 1))]
    pub successes: u32,
    /// Failed checks in a row that take it out.
    #[schemars(range(min = 1))]
    pub failures: u32,
    /// What an endpoint is before its first check: "healthy" or "unhealthy".
    pub initial: Initial,
}

/// Takes endpoints out for some time by what becomes of requests. The last one is never taken out.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Outliers {
    /// Failures in a row: no connection, no answer, an answer that breaks off, 502, 503, 504. 0: this does not count.
    pub failures: u32,
    /// Failures in a row with every other 5xx among them. 0: this does not count.
    pub errors: u32,
    /// Much less success than the others. Default: this does not count.
    pub success_rate: Option<SuccessRate>,
    /// Too large a share of failures and 5xx. Default: this does not count.
    pub failure_rate: Option<FailureRate>,
    /// How often the rates are looked at, and who may come back.
    pub interval: DurationText,
    /// How long one is out, times how often it was in a row.
    pub ejection: DurationText,
    /// How long at most.
    pub max_ejection: DurationText,
    /// Percentage of the endpoints that may be out at once; with less than 100 one always stays.
    #[schemars(range(max = 100))]
    pub max_ejected: u8,
}

/// Out is who succeeds less often than the average less `factor` standard deviations.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct SuccessRate {
    /// Endpoints with enough requests that it takes.
    #[schemars(range(min = 2))]
    pub endpoints: usize,
    /// Requests of an endpoint in the interval that it takes.
    #[schemars(range(min = 1))]
    pub requests: u64,
    #[schemars(range(min = 0.0))]
    pub factor: f64,
}

/// Out is who fails more often than that.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct FailureRate {
    /// Percentage of failures and 5xx.
    #[schemars(range(min = 1, max = 100))]
    pub percent: u8,
    /// Requests of an endpoint in the interval that it takes.
    #[schemars(range(min = 1))]
    pub requests: u64,
}

/// How much an upstream gets at the same time, from all workers together.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct UpstreamLimits {
    /// Open connections; a worker that has none may always open one. Default: no limit.
    #[schemars(range(min = 1))]
    pub connections: Option<u32>,
    /// Requests that wait for a connection, each for `timeouts.connect` at most. Default: no limit.
    pub pending: Option<u32>,
    /// Requests under way, those that wait among them. Default: no limit.
    #[schemars(range(min = 1))]
    pub requests: Option<u32>,
    /// Requests that are being tried again. Default: no limit but the budget.
    pub retries: Option<u32>,
    /// Finds out by itself how many requests are good, from how long they take. Default: it does not.
    pub adaptive: Option<Adaptive>,
}

/// Requests under way on one worker, held to what the upstream answers without a growing queue.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Adaptive {
    /// Never less.
    #[schemars(range(min = 1))]
    pub min: u32,
    /// Never more.
    #[schemars(range(min = 1))]
    pub max: u32,
}

/// Keeps requests from an upstream that fails, and tries after a while whether it works again. A failure is no answer in
/// time, or a 5xx.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct CircuitBreaker {
    /// Failures in a row that open it; 0: these do not count.
    pub failures: u32,
    /// Percentage of failures in `window` that opens it; 0: this does not count.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub failure_rate: f64,
    /// Requests in the window below which the rate says nothing.
    #[schemars(range(min = 1))]
    pub requests: u64,
    /// The time that is looked at.
    pub window: DurationText,
    /// How long it is open the first time; doubles when the trials fail.
    pub open: DurationText,
    /// How long it is open at most.
    pub max_open: DurationText,
    /// Requests that may try at the same time whether it works again.
    #[schemars(range(min = 1))]
    pub trials: u32,
    /// Trials that have to succeed before it is closed; one that fails opens it again.
    #[schemars(range(min = 1))]
    pub successes: u32,
}

/// What is tried again, at another endpoint where there is one, as long as nothing of an answer went to the client. Only
/// requests whose method is idempotent (RFC 9110, 9.2.2) or that have an Idempotency-Key; but where there was no
/// connection, nothing was sent, and every request is tried again.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Retry {
    /// Attempts in all; 1 tries nothing again.
    #[schemars(range(min = 1, max = 20))]
    pub attempts: u32,
    /// After what: "connect-failure", "reset" (the connection ended before the answer), "timeout" (of `per_try`), "5xx",
    /// "gateway-error" (502, 503, 504), "retriable-4xx" (409), or a status such as "429".
    pub on: Vec<String>,
    /// Header fields of an answer after which there is another attempt.
    pub headers: Vec<String>,
    /// Try requests again that may not be idempotent.
    pub non_idempotent: bool,
    /// How long one attempt may take to the head of its answer. As with `timeouts.read`, it does not run while the client has
    /// to send more. Default: `timeouts.read` alone.
    pub per_try: Option<DurationText>,
    /// The pause before the second attempt is up to this, before the third up to twice as much, and so on; chance says
    /// how much of it.
    pub back_off: DurationText,
    /// The longest pause.
    pub max_back_off: DurationText,
    /// Wait as long as the answer's Retry-After says, but not longer than this; where it says more, the answer is the
    /// client's. Default: it is not looked at.
    pub retry_after: Option<DurationText>,
    /// The longest body that is kept to be sent again; requests with longer ones are not.
    pub body: SizeText,
    /// How many further attempts there may be, so that they cannot bring an upstream down.
    pub budget: Budget,
    /// Without an answer for so long, another endpoint is asked as well, and the first answer counts. Default: never.
    pub hedge: Option<DurationText>,
}

/// Further attempts, as a share of the requests of the last ten seconds.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Budget {
    /// Percentage of the requests.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub percent: f64,
    /// So many a second besides, for upstreams with few requests.
    #[schemars(range(min = 0.0))]
    pub per_second: f64,
}

/// An answer in place of the upstream's.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Maintenance {
    #[schemars(range(min = 200, max = 599))]
    pub status: u16,
    /// What Retry-After says. Default: nothing.
    pub retry_after: Option<DurationText>,
    /// Default: an error in the form that the client accepts, with the code `maintenance`.
    pub body: Option<String>,
    /// The media type of `body`.
    pub content_type: String,
    /// Addresses and networks of clients that get through to the upstream, such as "10.0.0.0/8".
    pub allow: Vec<String>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { connect: "5s".into(), read: "60s".into(), total: None, tunnel: "1h".into() }
    }
}

impl Default for KeepAlive {
    fn default() -> Self {
        KeepAlive { connections: 256, idle: "60s".into() }
    }
}

impl Default for Balance {
    fn default() -> Self {
        Balance {
            method: BalanceMethod::default(),
            choices: 2,
            key: None,
            table: HashTable::default(),
            bound: None,
            slow_start: None,
            panic: 50,
            sticky: None,
        }
    }
}

impl Default for Health {
    fn default() -> Self {
        Health {
            kind: CheckKind::default(),
            method: "GET".to_owned(),
            path: root(),
            host: None,
            headers: BTreeMap::new(),
            status: vec!["200-299".to_owned()],
            body: None,
            service: String::new(),
            port: None,
            interval: "10s".into(),
            unhealthy_interval: None,
            jitter: 10,
            timeout: "1s".into(),
            successes: 2,
            failures: 3,
            initial: Initial::default(),
        }
    }
}

impl Default for Outliers {
    fn default() -> Self {
        Outliers {
            failures: 5,
            errors: 0,
            success_rate: None,
            failure_rate: None,
            interval: "10s".into(),
            ejection: "30s".into(),
            max_ejection: "5m".into(),
            max_ejected: 50,
        }
    }
}

impl Default for SuccessRate {
    fn default() -> Self {
        SuccessRate { endpoints: 5, requests: 100, factor: 1.9 }
    }
}

impl Default for FailureRate {
    fn default() -> Self {
        FailureRate { percent: 85, requests: 50 }
    }
}

impl Default for Adaptive {
    fn default() -> Self {
        Adaptive { min: 3, max: 1000 }
    }
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        CircuitBreaker {
            failures: 5,
            failure_rate: 50.0,
            requests: 20,
            window: "10s".into(),
            open: "10s".into(),
            max_open: "60s".into(),
            trials: 1,
            successes: 3,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            attempts: 3,
            on: vec!["connect-failure".to_owned()],
            headers: Vec::new(),
            non_idempotent: false,
            per_try: None,
            back_off: "25ms".into(),
            max_back_off: "250ms".into(),
            retry_after: None,
            body: "64KiB".into(),
            budget: Budget::default(),
            hedge: None,
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Budget { percent: 20.0, per_second: 3.0 }
    }
}

impl Default for Maintenance {
    fn default() -> Self {
        Maintenance {
            status: 503,
            retry_after: None,
            body: None,
            content_type: "text/plain; charset=utf-8".to_owned(),
            allow: Vec::new(),
        }
    }
}

fn preserve() -> String {
    "preserve".to_owned()
}

fn root() -> String {
    "/".to_owned()
}
