//! Consumers, their credentials and plans, as they are written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DurationText, Section};
use crate::config::CredentialKind;

/// What consumers may do.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Plan {
    /// So many requests in a time, and all of these hold: plugins keep them, such as rate-limit. Default: no limits.
    #[schemars(extend("examples" = [[{ "rate": 60, "per": "1m" }, { "rate": 1000, "per": "24h" }]]))]
    pub limits: Vec<Quota>,
}

/// So many requests in a time.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Quota {
    #[schemars(range(min = 1))]
    pub rate: u32,
    pub per: DurationText,
}

/// Where consumers are besides this file.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Consumers {
    /// A TOML file with further tables `[consumer.NAME]`; relative to this file. A change of it is noticed like one of this
    /// file. Default: none.
    #[schemars(length(min = 1), extend("examples" = ["consumers.toml"]))]
    pub file: Option<String>,
    /// The file of the store that the admin interface keeps consumers and keys in; relative to this file. It is made
    /// where there is none. A consumer of this file with the same name comes before one of the store. Default: there is no
    /// store, and the admin interface changes no consumers.
    #[schemars(length(min = 1), extend("examples" = ["consumers.redb"]))]
    pub store: Option<String>,
    /// In place of `store`: the store is in this Redis, a table `[redis.NAME]`, and all gateways with it and the same prefix
    /// have the same consumers and keys. Each keeps all of them in memory and learns of changes within a second. The Redis
    /// has to keep its data (`appendonly yes`, and no eviction): what it loses is no good any more. Default: none.
    #[schemars(length(min = 1), extend("examples" = ["shared"]))]
    pub redis: Option<String>,
    /// With `redis`: how long what is known of consumers is good while the Redis gives no answer. After that they are unknown,
    /// and plugins answer 503, until it answers again. Default: "1m".
    pub stale: Option<DurationText>,
    /// What secrets that sign are sealed with in the store: keys of 32 random bytes in Base64, of which the first one seals and all
    /// of them open. They have to come from "${env:NAME}" or "${file:PATH}". Default: none, and the store takes no such secrets.
    #[schemars(length(min = 1, max = 16), extend("writeOnly" = true, "examples" = [["${file:seal.key}"]]))]
    pub seal_keys: Option<Vec<String>>,
    /// How long a key of the store is still good when another one takes its place, unless the order says how long. "0s" ends
    /// it at once.
    pub grace: DurationText,
}

/// Whose requests are known by credentials.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Consumer {
    /// What it is called elsewhere, such as the `sub` of its tokens; no other consumer is called so. Default: nothing.
    #[schemars(length(min = 1))]
    pub custom_id: Option<String>,
    /// Groups that it is in, without commas.
    pub groups: Vec<String>,
    /// Its plan: a table `[plan.NAME]`. Default: none.
    pub plan: Option<String>,
    /// Anything else that plugins may want to know, by name.
    pub metadata: BTreeMap<String, String>,
    /// What it is known by.
    pub credential: Vec<Section<Credential>>,
}

/// What a consumer is known by. Each kind has keys of its own.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Credential {
    /// Of which kind it is: "key" (an API key), "password", "hmac" (a secret that signs) or "certificate" (of a TLS client).
    pub kind: CredentialKind,
    /// The API key. Has to come from "${env:NAME}" or "${file:PATH}"; only its SHA-256 is kept.
    pub key: Option<String>,
    /// For an API key, in place of `key`: its SHA-256, "sha256:" and 64 hexadecimal digits. For a password: its hash, of bcrypt,
    /// Argon2, {SHA} or $apr1$.
    #[schemars(extend("writeOnly" = true))]
    pub hash: Option<String>,
    /// Of an API key or a secret: its name, no secret. Signatures name their secret so. Default, for an API key: the id in a key
    /// of the gateway's form, or else the first 12 digits of the SHA-256.
    #[schemars(length(min = 1))]
    pub id: Option<String>,
    /// The user whose password it is.
    #[schemars(length(min = 1))]
    pub username: Option<String>,
    /// The secret that signs: a text, or "base64:" and its bytes; at least 16 bytes. Has to come from "${env:NAME}" or
    /// "${file:PATH}".
    #[schemars(extend("writeOnly" = true))]
    pub secret: Option<String>,
    /// SHA-256 of the certificate, 64 hexadecimal digits with or without colons.
    pub fingerprint: Option<String>,
    /// A URI among the certificate's names, such as a SPIFFE ID.
    pub san_uri: Option<String>,
    /// A DNS name among its names.
    pub san_dns: Option<String>,
    /// An e-mail address among its names.
    pub san_email: Option<String>,
    /// The common name of its subject.
    pub subject_cn: Option<String>,
    /// Its whole subject (RFC 4514), such as "CN=alice,O=Acme".
    pub subject: Option<String>,
    /// From when on it is no longer good (RFC 3339, UTC). Default: it stays good.
    #[schemars(extend("examples" = ["2027-01-01T00:00:00Z"]))]
    pub expires: Option<String>,
    /// From when on it is good (RFC 3339, UTC). Default: it is.
    #[schemars(extend("examples" = ["2026-12-01T09:00:00Z"]))]
    pub not_before: Option<String>,
    /// Whether it is good at all.
    #[serde(default = "super::tls::yes")]
    pub enabled: bool,
}

/// Whether a plugin may ask for consumers, or for those of which credentials.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum ConsumerGrant {
    All(bool),
    Kinds(Vec<CredentialKind>),
}

/// A file of consumers.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ConsumerFile {
    /// Consumers by name.
    #[serde(default)]
    pub consumer: Section<BTreeMap<String, Section<Consumer>>>,
}

impl Default for ConsumerGrant {
    fn default() -> Self {
        ConsumerGrant::All(false)
    }
}

impl Default for Consumers {
    fn default() -> Self {
        Consumers { file: None, store: None, redis: None, stale: None, seal_keys: None, grace: "24h".into() }
    }
}
