//! Routes as they are written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DurationText, Payload, Section, SizeText, upstream::Sticky};
use crate::config::FailurePolicy;

/// What happens to which requests.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Route {
    /// What logs, metrics and messages call it. Every route has its own.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Requests that it takes. Default: all.
    #[serde(default)]
    pub r#match: Section<Match>,
    /// The upstream that answers, unless a plugin does. Default: none; then a plugin has to answer.
    pub upstream: Option<String>,
    /// Several upstreams in its place.
    pub split: Option<Section<Split>>,
    /// The upstream for requests that the one they should go to does not take: no endpoint is there or healthy, its
    /// breaker is open, it is at its limits, or no attempt got an answer. Default: they are answered with an error.
    pub fallback: Option<String>,
    /// An upstream that gets copies; what it answers is thrown away.
    pub mirror: Option<Section<Mirror>>,
    /// Taken off the front of the path, by whole segments. Every path of the route has to begin with it.
    #[schemars(extend("examples" = ["/api"]))]
    pub strip_prefix: Option<String>,
    /// The path to send instead, with parameters of the route's paths in braces. Not together with `strip_prefix`.
    #[schemars(extend("examples" = ["/v2/{id}"]))]
    pub rewrite: Option<String>,
    /// Plugins in the order in which they see a request; they see the response in reverse.
    #[serde(default)]
    pub plugins: Vec<Section<PluginEntry>>,
    /// Protocols that a request may go on in (RFC 9110, section 7.8): "websocket", by HTTP/2 too (RFC 8441), or others
    /// as they stand in Upgrade. Plugins see the request and the answer, and not what flows then. Asking for any that is not
    /// here has no effect.
    #[serde(default = "websocket")]
    #[schemars(inner(length(min = 1)))]
    pub upgrades: Vec<String>,
    /// Passes on what the upstream answers before its last answer: 103 (RFC 8297) and other statuses from 102 to 199.
    /// Clients of HTTP/1.0 get none; some of HTTP/1.1 take it for the last one.
    #[serde(default)]
    pub early_hints: bool,
    /// Limits of this route.
    #[serde(default)]
    pub limits: RouteLimits,
}

fn websocket() -> Vec<String> {
    vec!["websocket".to_owned()]
}

/// Requests that a route takes. All keys have to hold; of several hosts, paths or methods one is enough.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Match {
    /// Names of listeners. Default: all.
    pub listener: Option<OneOrMany>,
    /// "api.example.com", "*.example.com" (one or more labels in place of the star) or "*". Default: every host.
    pub host: Option<OneOrMany>,
    /// "/users" (this path), "/users/*" (it and all below), "/users/{id}" (a segment), "/files/{rest*}" (the rest)
    /// or "~ REGEX" (anchored; named groups are parameters). Default: every path.
    pub path: Option<OneOrMany>,
    /// "GET" also stands for "HEAD". Default: every method.
    pub methods: Vec<String>,
    /// Header fields by name: the exact value, or a table. All have to hold.
    pub headers: BTreeMap<String, Section<ValueEntry>>,
    /// Query parameters by name: the exact value, or a table. All have to hold; the first of a name counts.
    pub query: BTreeMap<String, Section<ValueEntry>>,
    /// Routes of higher priority are tried first, before any that are more specific.
    pub priority: i32,
}

/// Several upstreams of one route. The first branch whose `match` holds gets the request; the others share what is left
/// by their weights.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Split {
    /// What keeps a client with one branch: "ip", "header:NAME", "cookie:NAME", "query:NAME" or "consumer" (of an
    /// authentication plugin). As the share of the last branch grows, who had it keeps it. Requests without it, and
    /// all without this key, go by chance.
    #[schemars(extend("examples" = ["header:x-user"]))]
    pub sticky: Option<String>,
    /// The same by a cookie that the gateway sets. Not together with `sticky`.
    pub cookie: Option<Sticky>,
    /// At least one. A new version stands last.
    #[schemars(length(min = 1))]
    pub branches: Vec<Section<Branch>>,
}

/// One of the upstreams of a split.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Branch {
    pub upstream: String,
    /// Its share of the requests that no `match` decides, in proportion to the weights of the others.
    #[serde(default)]
    pub weight: u32,
    /// Requests that it gets whatever the weights are. All keys have to hold. Default: none.
    #[serde(default)]
    pub r#match: BranchMatch,
    /// Gets to its weight step by step. Default: at once.
    pub ramp: Option<Ramp>,
}

/// Requests by what they have; the exact value, or a table.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct BranchMatch {
    pub headers: BTreeMap<String, Section<ValueEntry>>,
    pub cookies: BTreeMap<String, Section<ValueEntry>>,
    pub query: BTreeMap<String, Section<ValueEntry>>,
}

/// A weight that grows in equal steps. What the branch does not get yet is the others'.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Ramp {
    /// When it begins (RFC 3339).
    #[schemars(extend("examples" = ["2026-12-01T09:00:00Z"]))]
    pub start: String,
    /// How long it takes.
    pub over: DurationText,
    /// Percentage of the weight before and at the beginning.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub from: f64,
    /// How many steps.
    #[serde(default = "ten")]
    #[schemars(range(min = 1))]
    pub steps: u32,
}

/// Copies of requests for another upstream. They never slow the request down: what the other is too slow for is dropped.
#[derive(Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Mirror {
    pub upstream: String,
    /// Percentage of the requests.
    #[serde(default = "hundred")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub percent: f64,
    /// Methods that are copied.
    #[serde(default = "safe")]
    pub methods: Vec<String>,
    /// The longest body; requests with longer ones are not copied, or not to their end.
    #[serde(default = "mirror_body")]
    pub body: SizeText,
    /// Copies under way on each worker; further ones are dropped and counted.
    #[serde(default = "hundred_copies")]
    #[schemars(range(min = 1))]
    pub in_flight: u32,
    /// Send Authorization and Cookie along.
    #[serde(default)]
    pub credentials: bool,
}

/// A string or an array of strings.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum OneOrMany {
    One(String),
    Many(#[schemars(length(min = 1))] Vec<String>),
}

/// The exact value, or a table.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum ValueEntry {
    Exact(String),
    Test(ValueTest),
}

/// What a value must be. Exactly one key.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ValueTest {
    /// A regular expression of the whole value.
    pub regex: Option<String>,
    /// The value begins with this.
    pub prefix: Option<String>,
    /// The value ends with this.
    pub suffix: Option<String>,
    /// The value has this in it.
    pub contains: Option<String>,
    /// Whether there is a value at all.
    pub present: Option<bool>,
}

/// A plugin by its name alone, or a table.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum PluginEntry {
    Name(#[schemars(extend("examples" = ["request-id"]))] String),
    Use(PluginUse),
}

/// A plugin in a route.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PluginUse {
    /// The plugin.
    pub name: String,
    /// Its configuration. Default: that of `[plugin.NAME]`, or {}.
    pub config: Option<Payload>,
    /// What a request gets when the plugin fails. Default: that of the plugin.
    pub failure_policy: Option<FailurePolicy>,
}

/// Limits of one route.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct RouteLimits {
    /// The body of a request. Default: that of `[limits]`.
    pub body: Option<SizeText>,
}

fn ten() -> u32 {
    10
}

fn hundred() -> f64 {
    100.0
}

fn hundred_copies() -> u32 {
    100
}

fn safe() -> Vec<String> {
    ["GET", "HEAD", "OPTIONS"].map(str::to_owned).into()
}

fn mirror_body() -> SizeText {
    "1MiB".into()
}
