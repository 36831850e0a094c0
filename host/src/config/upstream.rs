//! Upstreams, checked.

use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, uri::PathAndQuery};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tls::Connector;

#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    pub name: Arc<str>,
    /// At least one, of which at least one has a weight above 0.
    pub endpoints: Vec<Endpoint>,
    pub host: HostHeader,
    pub tls: Option<Connector>,
    pub protocol: Protocol,
    pub timeouts: Timeouts,
    pub keep_alive: KeepAlive,
    pub balance: Balance,
    pub health: Option<Health>,
    pub outliers: Outliers,
    pub limits: UpstreamLimits,
    pub breaker: Option<CircuitBreaker>,
    pub retry: Retry,
    pub maintenance: Option<Maintenance>,
}

/// What an upstream is spoken to by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(inline)]
pub enum Protocol {
    #[default]
    #[serde(rename = "http/1.1")]
    Http1,
    #[serde(rename = "h2")]
    Http2,
    #[serde(rename = "auto")]
    Auto,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub target: Target,
    /// None is 1, or what the records of a service say.
    pub weight: Option<u16>,
    pub priority: u8,
    /// In the gateway's own zone.
    pub local: bool,
}

/// Where an endpoint is, or where that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Address(SocketAddr),
    Unix(PathBuf),
    /// A name and a port.
    Name(String, u16),
    /// A name with SRV records.
    Service(String),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Address(address) => write!(f, "{address}"),
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
            Target::Name(name, port) => write!(f, "{name}:{port}"),
            Target::Service(name) => f.write_str(name),
        }
    }
}

/// The Host that an upstream is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum HostHeader {
    /// The client's.
    Preserve,
    /// The endpoint's host and port.
    Upstream,
    Literal(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Timeouts {
    pub connect: Duration,
    pub read: Duration,
    pub total: Option<Duration>,
    pub tunnel: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeepAlive {
    /// Idle ones, per endpoint and worker.
    pub connections: usize,
    pub idle: Duration,
}

/// What requests of one client, or of one kind, have in common.
#[derive(Clone, Debug, PartialEq)]
pub enum Key {
    Ip,
    Header(HeaderName),
    Cookie(String),
    Query(String),
    Path,
    Consumer,
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Balance {
    pub choice: Choice,
    pub slow_start: Option<Duration>,
    /// Percentage of healthy endpoints below which health does not count.
    pub panic: u8,
    pub sticky: Option<Sticky>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    RoundRobin,
    LeastRequest {
        choices: u8,
    },
    Random,
    Hash {
        key: Key,
        table: HashTable,
        /// Most requests of an endpoint, in averages.
        bound: Option<f64>,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BalanceMethod {
    #[default]
    RoundRobin,
    LeastRequest,
    Random,
    Hash,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HashTable {
    #[default]
    Maglev,
    Ring,
}

/// A cookie that the gateway sets.
#[derive(Clone, Debug, PartialEq)]
pub struct Sticky {
    pub cookie: String,
    /// What follows name and value in Set-Cookie.
    pub attributes: String,
}

impl Sticky {
    /// Set-Cookie with a value of letters and digits.
    pub fn header(&self, value: &str) -> Option<HeaderValue> {
        HeaderValue::try_from(format!("{}={value}{}", self.cookie, self.attributes)).ok()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SameSite {
    #[default]
    Lax,
    Strict,
    None,
}

/// Active checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    pub probe: Probe,
    pub port: Option<u16>,
    pub interval: Duration,
    pub unhealthy_interval: Duration,
    /// Share of the interval.
    pub jitter: f64,
    pub timeout: Duration,
    pub successes: u32,
    pub failures: u32,
    pub initial: Initial,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    Http {
        method: Method,
        target: PathAndQuery,
        host: Option<String>,
        headers: HeaderMap,
        status: Vec<RangeInclusive<u16>>,
        body: Option<String>,
    },
    Grpc {
        service: String,
        host: Option<String>,
    },
    Tcp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckKind {
    #[default]
    Http,
    Grpc,
    Tcp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Initial {
    #[default]
    Healthy,
    Unhealthy,
}

/// Passive checks. A number of 0 does not count.
#[derive(Clone, Debug, PartialEq)]
pub struct Outliers {
    pub failures: u32,
    pub errors: u32,
    pub success_rate: Option<SuccessRate>,
    pub failure_rate: Option<FailureRate>,
    pub interval: Duration,
    pub ejection: Duration,
    pub max_ejection: Duration,
    /// Percentage.
    pub max_ejected: u8,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SuccessRate {
    pub endpoints: usize,
    pub requests: u64,
    pub factor: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct FailureRate {
    /// Percentage.
    pub percent: u8,
    pub requests: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpstreamLimits {
    pub connections: Option<u32>,
    pub pending: Option<u32>,
    pub requests: Option<u32>,
    pub retries: Option<u32>,
    pub adaptive: Option<Adaptive>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Adaptive {
    pub min: u32,
    pub max: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CircuitBreaker {
    /// 0 does not count.
    pub failures: u32,
    /// Share of the requests; 0 does not count.
    pub failure_rate: f64,
    pub requests: u64,
    pub window: Duration,
    pub open: Duration,
    pub max_open: Duration,
    pub trials: u32,
    pub successes: u32,
}

/// When requests are tried again.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// In all; 1 is none but the first.
    pub attempts: u32,
    /// What makes an attempt worth another one; any of these.
    pub on: Vec<RetryOn>,
    /// Whether a request may be tried again that the upstream may have begun to act on, and that might act twice.
    pub non_idempotent: bool,
    /// How long one attempt may take until its answer's head.
    pub per_try: Option<Duration>,
    pub back_off: BackOff,
    /// The longest wait that an answer's Retry-After may ask for; without it the field is not looked at.
    pub retry_after: Option<Duration>,
    /// The longest body that is kept, in bytes.
    pub body: usize,
    pub budget: Budget,
    pub hedge: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RetryOn {
    ConnectFailure,
    /// The connection was lost before the answer's head.
    Reset,
    /// The attempt took longer than [`Retry::per_try`].
    Timeout,
    /// An answer of 500 to 599.
    ServerError,
    /// An answer of 502, 503 or 504.
    GatewayError,
    /// An answer of 409, the one client error that may pass by itself.
    RetriableClientError,
    Status(StatusCode),
    /// An answer with this field.
    Header(HeaderName),
}

/// The wait before the next attempt: up to the base at first, up to twice as much each time, up to the maximum.
#[derive(Clone, Debug, PartialEq)]
pub struct BackOff {
    pub base: Duration,
    pub max: Duration,
}

/// Further attempts, of one worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// Share of the requests.
    pub share: f64,
    pub per_second: f64,
}

/// What is answered in place of an upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct Maintenance {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub body: Option<String>,
    pub content_type: String,
    pub allow: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Dns {
    /// Without any those of the system.
    pub servers: Vec<SocketAddr>,
    pub family: Family,
    pub min_ttl: Duration,
    pub max_ttl: Duration,
    pub timeout: Duration,
}

/// Which addresses of a name count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// IPv6 where there is no IPv4.
    #[default]
    V4Preferred,
    V6Preferred,
    V4,
    V6,
    Both,
}
