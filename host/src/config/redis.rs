//! Redis servers that plugins keep things in, and consumers are kept in, checked.

use std::{fmt, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Target;

/// How a Redis is reached.
#[derive(Clone, PartialEq)]
pub struct Redis {
    /// What the config calls it.
    pub name: String,
    pub kind: RedisKind,
    /// One, or several of which each knows the others.
    pub endpoints: Vec<Target>,
    pub login: Login,
    /// What Sentinels themselves want to be told.
    pub sentinel_login: Login,
    pub database: u16,
    pub tls: Option<RedisTls>,
    /// For one answer.
    pub timeout: Duration,
    /// For a connection.
    pub connect_timeout: Duration,
    /// In front of all keys.
    pub prefix: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RedisKind {
    Single,
    /// With the name of the master.
    Sentinel(String),
    Cluster,
}

#[derive(Clone, Default, PartialEq)]
pub struct Login {
    pub username: Option<String>,
    pub password: Option<String>,
}

/// Contents of PEM files.
#[derive(Clone, PartialEq)]
pub struct RedisTls {
    /// Default: the authorities that this system trusts.
    pub ca: Option<Vec<u8>>,
    /// Certificates and key that are shown.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// What holds where a plugin's Redis gives no answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// The memory of this gateway, until it answers again.
    #[default]
    Local,
    /// Nothing is there, nothing is kept, and no limit is reached.
    Allow,
    /// The request is answered with 503 `store_unavailable`, whatever the plugin decides.
    Deny,
}

/// Where a plugin keeps its counters and values.
#[derive(Clone, Debug, PartialEq)]
pub struct Store {
    /// An index of [`Config::redis`](super::Config::redis).
    pub redis: usize,
    pub on_error: OnError,
}

/// Without what is secret.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("name", &self.name)
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}
