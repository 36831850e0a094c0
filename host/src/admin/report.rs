//! What the admin listener tells, as JSON. The comments become the descriptions of the OpenAPI document.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{FailurePolicy, LogLevel};

/// The gateway as a whole.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    /// "running" or "draining".
    pub state: &'static str,
    /// When the process started (RFC 3339), as all times here.
    pub started: String,
    pub workers: usize,
    /// Open listeners with the address that they have, also where the config asks for port 0.
    pub listeners: BTreeMap<String, String>,
    pub config: ConfigStatus,
    /// None before the first reload.
    pub last_reload: Option<ReloadStatus>,
}

/// The config that runs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ConfigStatus {
    pub file: String,
    /// When it was put in force.
    pub since: String,
    pub routes: usize,
    pub plugins: usize,
    pub upstreams: usize,
    /// Faults of plugins that disable routes.
    pub disabling: Vec<String>,
}

/// The last attempt to put the files in force.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReloadStatus {
    pub at: String,
    /// "signal", "files" or "admin".
    pub trigger: String,
    pub took_ms: f64,
    /// Whether it was put in force; if not, what ran before runs on.
    pub applied: bool,
    /// Why it was not, each fault with file, line and column.
    pub faults: Vec<String>,
}

/// A reload that succeeded, or would have.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Reloaded {
    /// False for a dry run.
    pub applied: bool,
    pub took_ms: f64,
    pub routes: usize,
    /// Faults of plugins that disable routes.
    pub disabling: Vec<String>,
}

/// A route in the order of the config.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RouteReport {
    pub name: String,
    /// As the config has it.
    pub r#match: Value,
    pub upstream: Option<String>,
    /// In place of one upstream.
    pub branches: Vec<BranchReport>,
    /// The upstream that gets what the others cannot answer.
    pub fallback: Option<String>,
    /// The upstream that gets copies.
    pub mirror: Option<String>,
    /// In the order in which they see a request.
    pub plugins: Vec<UseReport>,
    /// One of its plugins could not be loaded: it answers 503.
    pub disabled: bool,
    pub requests: u64,
    pub in_flight: u64,
}

/// A branch of a route's traffic.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BranchReport {
    pub upstream: String,
    /// The percentage of the traffic that it gets now, beside what its match decides.
    pub percent: f64,
}

/// A plugin in a route.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UseReport {
    pub name: String,
    pub failure_policy: FailurePolicy,
}

/// A loaded plugin.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PluginReport {
    pub name: String,
    pub file: String,
    /// SHA-256 of the file that runs.
    pub sha256: String,
    /// "native": a component for package wasmgate:plugin.
    pub kind: &'static str,
    /// Phases that it has.
    pub phases: Vec<&'static str>,
    /// Configs that it runs with; each has instances of its own.
    pub configs: usize,
    /// Routes that use it.
    pub routes: Vec<String>,
    /// Live ones, of all workers.
    pub instances: u64,
    /// Linear memory of these.
    pub memory_bytes: u64,
    pub calls: u64,
    /// Of all calls, as the timed ones let expect.
    pub time_seconds: f64,
    pub host_calls: u64,
    /// By reason.
    pub failures: BTreeMap<&'static str, u64>,
    /// Workers on which the breaker keeps it out.
    pub breakers_open: u64,
    pub last_failure: Option<FailureReport>,
    /// Whether the file or the roll-out is what an operator set at runtime, and not what the config says.
    pub changed: bool,
    pub rollout: Option<RolloutReport>,
}

/// Another version of a plugin that gets a part of its traffic.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RolloutReport {
    pub file: String,
    pub sha256: String,
    pub percent: f64,
    /// It only sees copies.
    pub shadow: bool,
    /// "running" or "rolled-back".
    pub state: &'static str,
    /// Why it was rolled back.
    pub reason: Option<String>,
    pub old: VersionReport,
    pub new: VersionReport,
}

/// What a version did since the roll-out began.
#[derive(Debug, Serialize, JsonSchema)]
pub struct VersionReport {
    pub calls: u64,
    /// Traps and exceeded limits.
    pub failures: u64,
    /// Returned errors, and answers with a status of 400 or more.
    pub errors: u64,
    /// What 99 of 100 calls took at most, rounded up to the next bound of the histogram.
    pub p99_ms: f64,
}

/// A failure of a plugin.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FailureReport {
    pub at: String,
    pub text: String,
}

/// An upstream.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UpstreamReport {
    pub name: String,
    pub endpoints: Vec<EndpointReport>,
    /// Attempts, in all.
    pub requests: u64,
    /// Attempts without a response.
    pub failures: u64,
    pub in_flight: u64,
    /// Further attempts, and those that the budget or the limit did not allow.
    pub retries: u64,
    pub retries_refused: u64,
    /// Requests that were not sent because of a limit.
    pub overloaded: u64,
    /// Open connections.
    pub connections: u32,
    /// Requests that wait for one.
    pub pending: u32,
    /// None where it has none.
    pub breaker: Option<BreakerReport>,
}

/// An upstream's breaker.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BreakerReport {
    /// "closed", "open" or "half-open".
    pub state: &'static str,
    /// Requests that were not sent because of it.
    pub refused: u64,
}

/// One place where an upstream runs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EndpointReport {
    pub address: String,
    /// What Host calls it.
    pub name: String,
    pub weight: u16,
    pub priority: u8,
    /// "in service", "unhealthy" (failed its checks), "ejected" (taken out for what became of requests) or "drained" (by
    /// an operator).
    pub state: &'static str,
    /// Since when it is in service or not.
    pub since: String,
    /// What was wrong last.
    pub trouble: Option<String>,
    /// How long it is still taken out for what became of requests.
    pub ejected_seconds: Option<u64>,
    pub requests: u64,
    pub in_flight: u64,
    /// Requests without a response.
    pub failures: u64,
    /// Responses with a status of 500 or more.
    pub errors: u64,
}

/// An endpoint of an upstream.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointName {
    /// Its address, as /upstreams has it.
    pub endpoint: String,
}

/// What an operator wants of a breaker.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakerOrder {
    /// Null leaves it to itself, closed at first.
    pub force: Option<ForcedState>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ForcedState {
    Open,
    Closed,
}

/// The gateway's own log.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogReport {
    /// Until the next change of it in the config, or the next start.
    pub level: LogLevel,
}
