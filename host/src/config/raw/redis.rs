//! Redis servers as they are written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Certificate, DurationText};

/// A Redis (6 or newer, or what speaks its protocol) in which plugins keep counters, values and rate limits, so that several
/// gateways share them; with `redis` of `[consumers]` it keeps consumers as well. Each worker has one connection to it; where
/// that is lost, it is tried again in the background.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Redis {
    /// Where it is: "HOST:PORT" or "unix:PATH". With `mode = "sentinel"`: the Sentinels; with "cluster": some of the nodes.
    #[schemars(length(min = 1), extend("examples" = [["127.0.0.1:6379"]]))]
    pub endpoints: Vec<String>,
    /// "single" (one server), "sentinel" (the master that Sentinels name) or "cluster".
    #[serde(default)]
    pub mode: RedisMode,
    /// With `mode = "sentinel"`: what the Sentinels call the master.
    #[schemars(length(min = 1), extend("examples" = ["mymaster"]))]
    pub master: Option<String>,
    /// Default: the default user.
    pub username: Option<String>,
    /// Default: none is sent.
    #[schemars(extend("writeOnly" = true, "examples" = ["${env:REDIS_PASSWORD}"]))]
    pub password: Option<String>,
    /// With `mode = "sentinel"`: the user that the Sentinels know. Default: the default user.
    pub sentinel_username: Option<String>,
    /// With `mode = "sentinel"`: what the Sentinels are sent. Default: none.
    #[schemars(extend("writeOnly" = true))]
    pub sentinel_password: Option<String>,
    /// Number of the database; a Cluster has only 0.
    #[serde(default)]
    pub database: u16,
    /// Default: it is spoken to in the clear.
    pub tls: Option<RedisTls>,
    /// How long a plugin waits for one answer.
    #[serde(default = "timeout")]
    pub timeout: DurationText,
    /// How long it may take to be connected.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: DurationText,
    /// What stands in front of all keys. Gateways with the same prefix share what is kept.
    #[serde(default = "prefix")]
    pub prefix: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum RedisMode {
    #[default]
    Single,
    Sentinel,
    Cluster,
}

/// Speaks TLS with a Redis; its certificate has to have the host of the endpoint, a name or an address. Files are PEM,
/// relative to this file; a change of them is noticed like one of this file.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RedisTls {
    /// Certificates of those who vouch for it. Default: the authorities that this system trusts.
    #[schemars(length(min = 1))]
    pub ca: Option<String>,
    /// What the gateway shows. Default: nothing.
    pub certificate: Option<Certificate>,
}

fn timeout() -> DurationText {
    DurationText::from("100ms")
}

fn connect_timeout() -> DurationText {
    DurationText::from("1s")
}

fn prefix() -> String {
    "wasmgate:".to_owned()
}
