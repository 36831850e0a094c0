//! The configuration: from a TOML file to plain, checked types. Nothing outside knows the file's shape, and
//! nothing in here knows what is done with the values. A file is read as a whole: all of its faults are reported.

use std::{
    collections::BTreeMap,
    fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, Method, uri::PathAndQuery};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    bucket::Rate,
    pace::Pace,
    router::{Table, ValueMatch},
    tls::{Acceptor, Identity},
};

mod check;
mod conform;
mod consumers;
mod credential;
mod effective;
mod expand;
mod files;
mod key_path;
mod line;
mod networks;
mod overlay;
mod problem;
mod raw;
mod redis;
mod source;
mod template;
mod unit;
mod upstream;

pub use conform::check_value;
pub use consumers::*;
pub use credential::*;
pub use effective::effective;
pub use expand::escape;
pub use files::{Files, Stamp};
pub use key_path::{KeyPath, Step};
pub use line::{Field, LineFormat, Piece};
pub use networks::Networks;
pub use overlay::Overlay;
pub use problem::{Problem, Problems};
pub use raw::schema;
pub use redis::*;
pub use source::Source;
pub use template::Template;
pub use unit::duration;
pub use upstream::*;

/// Reads, expands and checks a file.
pub fn load(path: &Path) -> Result<Config, Problems> {
    load_with(path, Overlay::default(), &[])
}

/// The same with changes that the file does not have. Sets of networks that are `known` are not read again where they are the
/// same.
pub fn load_with(path: &Path, overlay: Overlay, known: &[Networks]) -> Result<Config, Problems> {
    without_faults(read(path, overlay, known)?)
}

/// What a file says and what is wrong with it, to look for further faults in the rest. An error where nothing can be
/// read from it.
pub fn survey(path: &Path) -> Result<(Config, Problems), Problems> {
    read(path, Overlay::default(), &[])
}

fn read(path: &Path, overlay: Overlay, known: &[Networks]) -> Result<(Config, Problems), Problems> {
    let name = path.display().to_string();
    let own = Files::from_iter([path.to_owned()]);
    let text = fs::read_to_string(path).map_err(|error| {
        let problem = Problem::new(KeyPath::root(), None, format!("cannot be read: {error}"));
        Problems::of_text(&name, "", vec![problem]).with_files(&own)
    })?;
    let base = path.parent().unwrap_or(Path::new(""));
    let parsed = parse_with(&text, &name, base, overlay, known);
    let (mut config, problems) = parsed.map_err(|problems| problems.with_files(&own))?;
    config.files.extend(&own);
    Ok((config, problems.with_files(&own)))
}

fn without_faults((config, problems): (Config, Problems)) -> Result<Config, Problems> {
    if problems.list().is_empty() { Ok(config) } else { Err(problems) }
}

/// The same for a text. `name` is what messages call it; paths in it are relative to `base`.
pub fn parse(text: &str, name: &str, base: &Path) -> Result<Config, Problems> {
    without_faults(parse_with(text, name, base, Overlay::default(), &[])?)
}

fn parse_with(
    text: &str,
    name: &str,
    base: &Path,
    mut overlay: Overlay,
    known: &[Networks],
) -> Result<(Config, Problems), Problems> {
    let (mut source, problems) = Source::parse(text, name, base);
    overlay.apply(source.value_mut());
    let (mut config, problems) = check::config(source, problems, base, known)?;
    config.overlay = overlay;
    Ok((config, problems))
}

/// A configuration; one without faults, unless [`survey`] has it.
pub struct Config {
    pub server: Server,
    /// Rules name listeners by their index here.
    pub listeners: Vec<Listener>,
    pub reload: Reload,
    pub admin: Option<Admin>,
    pub log: LogLevel,
    pub access_log: Option<AccessLog>,
    pub audit: Option<Audit>,
    pub metrics: Metrics,
    pub traces: Option<Traces>,
    pub limits: Limits,
    pub forwarded: Forwarded,
    pub dns: Dns,
    pub networks: Vec<Networks>,
    /// Where compiled plugins are kept, if the file says so.
    pub cache: Option<PathBuf>,
    /// Those with a table of their own and those that routes use.
    pub plugins: Vec<Plugin>,
    pub upstreams: Vec<Upstream>,
    pub redis: Vec<Redis>,
    /// By name.
    pub secrets: BTreeMap<String, Secret>,
    pub consumers: Consumers,
    /// A [`Match::rule`](crate::router::Match::rule) is an index here.
    pub routes: Vec<Route>,
    pub table: Arc<Table>,
    /// To locate what later stages find wrong, such as a plugin's config.
    pub source: Source,
    /// Changes that the file does not have, those that still hold.
    pub overlay: Overlay,
    files: Files,
}

impl Config {
    /// The text of a secret.
    pub fn secret(&self, name: &str) -> Option<String> {
        self.secrets.get(name)?.0.as_str().map(str::to_owned)
    }

    /// Every file that the configuration is made of: its own, those it takes values from, and the plugins.
    pub fn files(&self) -> &Files {
        &self.files
    }
}

/// Leaves the values out: some are secrets.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("source", &self.source).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub workers: usize,
    pub drain_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Reload {
    pub watch: bool,
    pub debounce: Duration,
}

#[derive(Clone, PartialEq)]
pub struct Admin {
    pub address: SocketAddr,
    pub token: Option<String>,
}

/// Leaves the token out.
impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Of a socket that connections are made to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    Ip(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    pub name: String,
    pub address: Address,
    /// Of the file of a Unix socket.
    pub mode: Option<u32>,
    /// Proxies whose connections begin with a header of the PROXY protocol.
    pub proxy_protocol: Vec<IpNet>,
    pub limits: ListenerLimits,
    pub tls: Option<ListenerTls>,
    pub http2: bool,
    pub half_close: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ListenerTls {
    pub identities: Vec<Identity>,
    /// Made of these, and of what clients have to show.
    pub acceptor: Acceptor,
    /// Clients have to ask for a name that a certificate has.
    pub strict_sni: bool,
    /// The upstream is told whom a client's certificate is for.
    pub header: bool,
}

/// What a listener lets in, on all workers together. A client is an IPv4 address or an IPv6 network of 64 bits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListenerLimits {
    /// Open ones.
    pub connections: Option<usize>,
    pub connections_per_client: Option<usize>,
    pub requests: Option<Rate>,
    pub requests_per_client: Option<Rate>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    pub format: LineFormat,
    /// None is standard output.
    pub file: Option<PathBuf>,
    pub queue: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    pub decisions: Decisions,
    /// None is standard output.
    pub file: Option<PathBuf>,
    pub queue: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// Bounds of the histograms of requests, ascending.
    pub buckets: Vec<Duration>,
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = raw::Metrics::default().buckets;
        Metrics { buckets: seconds.into_iter().map(Duration::from_secs_f64).collect() }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Traces {
    pub sample: f64,
    pub trust_parent: bool,
    pub service: String,
    pub otlp: Option<Export>,
}

/// The way to a collector.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    /// A URL with a path.
    pub endpoint: String,
    pub protocol: OtlpProtocol,
    pub headers: HeaderMap,
    pub timeout: Duration,
    pub queue: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OtlpProtocol {
    /// Protobuf over HTTP.
    #[default]
    Http,
    Grpc,
}

/// What clients may send. Sizes in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    pub header_bytes: usize,
    pub header_count: usize,
    pub uri: usize,
    pub body: u64,
    pub header_time: Duration,
    pub idle_time: Duration,
    /// Requests at a time on one connection of HTTP/2.
    pub streams: u32,
    /// The pace at which the body of a request has to come.
    pub receive: Pace,
    /// The pace at which a response has to be taken.
    pub send: Pace,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Forwarded {
    pub trusted_proxies: Vec<IpNet>,
    pub x_forwarded: bool,
    pub forwarded: bool,
    /// None sends no Via.
    pub via: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    pub name: String,
    pub file: PathBuf,
    /// What the file's SHA-256 has to be, in hexadecimal.
    pub sha256: Option<String>,
    pub on_load_error: OnLoadError,
    pub smoke: Option<Smoke>,
    pub rollout: Option<Rollout>,
    pub failure_policy: FailurePolicy,
    pub isolation: Isolation,
    pub limits: PluginLimits,
    pub breaker: Breaker,
    /// Upstreams that it may choose, as indexes of [`Config::upstreams`].
    pub upstreams: Vec<usize>,
    /// Whether these are named, or all that there are.
    pub names_upstreams: bool,
    /// None is the memory of the process.
    pub store: Option<Store>,
    /// Names of [`Config::secrets`] that it may read.
    pub secrets: Vec<Arc<str>>,
    /// Names of sets of networks that it may ask.
    pub networks: Vec<Arc<str>>,
    /// The kinds of credentials for whose consumers it may ask; none where it may ask for no consumers at all.
    pub consumers: Option<Vec<CredentialKind>>,
    /// Of uses that have none of their own.
    pub config: Option<Secret>,
    pub service: Option<Service>,
    /// Where the file says anything that only proxy-wasm filters have.
    pub proxy_wasm: Option<ProxyWasm>,
    pub node: Arc<Node>,
    /// Its table, or else the first route that uses it.
    pub path: KeyPath,
}

/// How a proxy-wasm filter is run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProxyWasm {
    pub root_id: String,
    pub vm_id: String,
    pub vm_config: Option<Secret>,
    pub env: BTreeMap<String, String>,
    /// Names of Envoy clusters, each with the name of an upstream.
    pub clusters: Vec<(String, String)>,
    pub reroute: bool,
    pub vms_per_worker: Option<usize>,
}

/// Who this gateway is: the properties `xds.node.id`, `xds.node.cluster` and `xds.node.metadata.KEY` of proxy-wasm
/// filters.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Node {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Values of any kind.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schemars(extend("examples" = [{ "REGION": "eu" }]))]
    pub metadata: Map<String, Value>,
}

/// A value from the file that may hold secrets, and so is not shown.
#[derive(Clone, PartialEq)]
pub struct Secret(pub Value);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Where a plugin runs without a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// On one worker.
    Singleton,
    /// On every worker.
    Worker,
}

/// A request that a plugin has to stand before it is used.
#[derive(Clone, Debug, PartialEq)]
pub struct Smoke {
    pub method: Method,
    pub target: PathAndQuery,
    pub headers: HeaderMap,
    pub status: Option<u16>,
}

/// Another version of a plugin that gets a part of the traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    pub to: RolloutTo,
    pub percent: f64,
    pub sticky: Option<Key>,
    pub shadow: bool,
    pub rollback: Rollback,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RolloutTo {
    File(PathBuf),
    /// The SHA-256 of a file in this directory, in hexadecimal.
    Digest(String, PathBuf),
}

/// When the new version is given up: after so many calls in the window, for so many times the old one's rates.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollback {
    pub window: Duration,
    pub calls: u64,
    pub failures: f64,
    pub errors: f64,
    pub p99: f64,
}

/// What a plugin may use. Sizes in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginLimits {
    pub memory: usize,
    pub time: Duration,
    /// Per worker, as `running` is.
    pub instances: u32,
    /// On all workers together.
    pub total_instances: Option<u32>,
    pub running: u32,
    pub wait: Duration,
    pub body: usize,
    pub host_bytes: usize,
    /// Lines per second.
    pub log_rate: u32,
}

impl Default for PluginLimits {
    fn default() -> Self {
        PluginLimits {
            memory: 16 << 20,
            time: Duration::from_millis(20),
            instances: 256,
            total_instances: None,
            running: 2,
            wait: Duration::from_secs(1),
            body: 1 << 20,
            host_bytes: 16 << 20,
            log_rate: 100,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Breaker {
    pub failures: u32,
    pub backoff: Duration,
    pub max_backoff: Duration,
}

#[derive(Clone, Debug)]
pub struct Route {
    pub name: String,
    /// An index of [`Config::upstreams`], as all upstreams here.
    pub upstream: Option<usize>,
    pub split: Option<Split>,
    pub fallback: Option<usize>,
    pub mirror: Option<Mirror>,
    pub rewrite: Rewrite,
    pub plugins: Vec<PluginUse>,
    /// Protocols that a request may go on in.
    pub upgrades: Vec<String>,
    /// Clients get answers before the last one.
    pub early_hints: bool,
    /// The body of a request, in bytes.
    pub body: u64,
}

/// Several upstreams of one route.
#[derive(Clone, Debug)]
pub struct Split {
    pub sticky: Option<Key>,
    pub cookie: Option<Sticky>,
    pub branches: Vec<Branch>,
}

#[derive(Clone, Debug)]
pub struct Branch {
    pub upstream: usize,
    pub weight: u32,
    /// All have to hold; without any it is the weights that count.
    pub matches: Vec<(Key, ValueMatch)>,
    pub ramp: Option<Ramp>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Ramp {
    pub start: SystemTime,
    pub over: Duration,
    /// Share of the weight.
    pub from: f64,
    pub steps: u32,
}

/// Copies for another upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    pub upstream: usize,
    /// Share of the requests.
    pub share: f64,
    pub methods: Vec<Method>,
    /// Bytes.
    pub body: usize,
    /// Per worker.
    pub in_flight: u32,
    pub credentials: bool,
}

/// The path that is sent upstream.
#[derive(Clone, Debug, PartialEq)]
pub enum Rewrite {
    Keep,
    /// This is taken off; every path of the route begins with it. What is left may be empty, which means `/`.
    StripPrefix(String),
    Template(Template),
}

#[derive(Clone, Debug, PartialEq)]
pub struct PluginUse {
    /// An index of [`Config::plugins`].
    pub plugin: usize,
    /// Not yet held against the plugin's schema: see [`check_value`].
    pub config: Option<Secret>,
    pub failure_policy: FailurePolicy,
    /// Where the file has the config, or would have it.
    pub path: KeyPath,
}

/// What a request gets when a plugin fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FailurePolicy {
    /// An error, 500.
    #[default]
    Closed,
    /// The plugin is skipped.
    Open,
}

/// What happens when a plugin cannot be loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnLoadError {
    /// The whole config is refused: no start, or no reload.
    #[default]
    Refuse,
    /// Routes that use it answer 503 until it can be loaded.
    DisableRoute,
}

/// How long an instance of a plugin lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// From request to request, as long as it does not fail.
    #[default]
    Pool,
    /// For one request.
    Request,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// The form of a line of the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogFormat {
    /// One JSON object.
    #[default]
    Json,
    /// Combined log format, or that of `template`.
    Text,
}

/// Which decisions about requests are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decisions {
    /// Refusals.
    #[default]
    Refused,
    /// Also who was let in, by each plugin that has said whose a request is.
    All,
}

#[cfg(test)]
mod tests;
