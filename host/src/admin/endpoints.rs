//! The table of all endpoints: what requests are held against, and what the OpenAPI document is made of.

use http::Method;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    answer::Problem,
    consumers::{ConsumerOrder, ConsumerReport, EndOrder, IssuedKey, KeyOrder, KeyReport, RotationOrder},
    credentials::{CredentialOrder, CredentialReport, SetCredential},
    report::{
        BreakerOrder, EndpointName, LogReport, PluginReport, Reloaded, RouteReport, Status, UpstreamReport,
    },
};

pub struct Endpoint {
    pub method: Method,
    pub path: &'static str,
    pub action: Action,
    summary: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Health,
    Ready,
    Metrics,
    OpenApi,
    Status,
    Config,
    Routes,
    Plugins,
    Upstreams,
    DrainEndpoint,
    RestoreEndpoint,
    ForceBreaker,
    Log,
    SetLog,
    Reload,
    RollOut,
    Promote,
    RollBack,
    Drain,
    Consumers,
    Consumer,
    SetConsumer,
    RemoveConsumer,
    Keys,
    IssueKey,
    RotateKey,
    SetKeyEnd,
    RevokeKey,
    Credentials,
    SetCredential,
    RevokeCredential,
}

pub fn all() -> &'static [Endpoint] {
    const fn get(path: &'static str, action: Action, summary: &'static str) -> Endpoint {
        Endpoint { method: Method::GET, path, action, summary }
    }
    const ALL: &[Endpoint] = &[
        get("/healthz", Action::Health, "Whether the process answers"),
        get(
            "/readyz",
            Action::Ready,
            "Whether it takes requests; 503 before the first config is in force, and while it drains",
        ),
        get(
            "/metrics",
            Action::Metrics,
            "Metrics in the Prometheus text format, or in that of OpenMetrics where it is asked for",
        ),
        get("/openapi.json", Action::OpenApi, "This document"),
        get("/status", Action::Status, "The gateway as a whole, and the last reload"),
        get("/config", Action::Config, "The config that runs, with defaults and without secrets"),
        get("/routes", Action::Routes, "Routes"),
        get("/plugins", Action::Plugins, "Plugins: versions, instances, what they cost and how they failed"),
        get("/upstreams", Action::Upstreams, "Upstreams and their endpoints"),
        Endpoint {
            method: Method::POST,
            path: "/upstreams/{name}/drain",
            action: Action::DrainEndpoint,
            summary: "Take an endpoint out of service; what it is at, it finishes. Lasts until it is restored, or gone from the upstream",
        },
        Endpoint {
            method: Method::POST,
            path: "/upstreams/{name}/restore",
            action: Action::RestoreEndpoint,
            summary: "Let a drained endpoint get requests again",
        },
        Endpoint {
            method: Method::PUT,
            path: "/upstreams/{name}/breaker",
            action: Action::ForceBreaker,
            summary: "Hold an upstream's breaker open or closed, or leave it to itself",
        },
        get("/log", Action::Log, "The level of the gateway's own log"),
        Endpoint {
            method: Method::PUT,
            path: "/log",
            action: Action::SetLog,
            summary: "Set the level of the gateway's own log",
        },
        Endpoint {
            method: Method::POST,
            path: "/reload",
            action: Action::Reload,
            summary: "Put the files in force, all of them or nothing; with ?dry-run see whether they could be",
        },
        Endpoint {
            method: Method::POST,
            path: "/plugins/{name}/rollout",
            action: Action::RollOut,
            summary: "Give a part of a plugin's traffic to another version, until the next start or a change of the plugin in the config",
        },
        Endpoint {
            method: Method::POST,
            path: "/plugins/{name}/promote",
            action: Action::Promote,
            summary: "Give all of a plugin's traffic to the version that it is rolled out to; for good it has to be written into the config",
        },
        Endpoint {
            method: Method::POST,
            path: "/plugins/{name}/rollback",
            action: Action::RollBack,
            summary: "Give all of a plugin's traffic back to the version before",
        },
        Endpoint {
            method: Method::POST,
            path: "/drain",
            action: Action::Drain,
            summary: "End as SIGTERM does: no new connections, requests in flight finish",
        },
        get("/consumers", Action::Consumers, "Consumers of the config and of the store"),
        get("/consumers/{name}", Action::Consumer, "One consumer"),
        Endpoint {
            method: Method::PUT,
            path: "/consumers/{name}",
            action: Action::SetConsumer,
            summary: "Set a consumer of the store, all of it",
        },
        Endpoint {
            method: Method::DELETE,
            path: "/consumers/{name}",
            action: Action::RemoveConsumer,
            summary: "Remove a consumer of the store with its keys, which are no good from then on",
        },
        get("/consumers/{name}/keys", Action::Keys, "A consumer's API keys, without what is secret"),
        Endpoint {
            method: Method::POST,
            path: "/consumers/{name}/keys",
            action: Action::IssueKey,
            summary: "Make an API key for a consumer; the key is shown this once",
        },
        Endpoint {
            method: Method::POST,
            path: "/consumers/{name}/keys/{id}/rotate",
            action: Action::RotateKey,
            summary: "Make an API key in the place of another one, which is good for a while yet",
        },
        Endpoint {
            method: Method::PATCH,
            path: "/consumers/{name}/keys/{id}",
            action: Action::SetKeyEnd,
            summary: "Set when an API key of the store ends, in the place of the end that it had; none that has ended already",
        },
        Endpoint {
            method: Method::DELETE,
            path: "/consumers/{name}/keys/{id}",
            action: Action::RevokeKey,
            summary: "Revoke an API key of the store; it is no good from then on",
        },
        get(
            "/consumers/{name}/credentials",
            Action::Credentials,
            "What a consumer is known by besides API keys, without what is secret",
        ),
        Endpoint {
            method: Method::POST,
            path: "/consumers/{name}/credentials",
            action: Action::SetCredential,
            summary: "Set a password, a secret that signs or a certificate of a consumer",
        },
        Endpoint {
            method: Method::DELETE,
            path: "/consumers/{name}/credentials/{kind}/{id}",
            action: Action::RevokeCredential,
            summary: "Revoke a password, a secret or a certificate of the store; it is no good from then on",
        },
    ];
    ALL
}

impl Endpoint {
    /// What stands in the place of each name in braces, in their order, where the path is this one.
    pub fn matches<'p>(&self, path: &'p str) -> Option<Vec<&'p str>> {
        let (mut own, mut given) = (self.path.split('/'), path.split('/'));
        let mut names = Vec::new();
        loop {
            match (own.next(), given.next()) {
                (None, None) => return Some(names),
                (Some(segment), Some(name)) if segment.starts_with('{') && !name.is_empty() => {
                    names.push(name)
                }
                (Some(segment), Some(given)) if segment == given => {}
                _ => return None,
            }
        }
    }

    /// The names in braces.
    fn parameters(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
    }

    pub fn changes(&self) -> bool {
        self.method != Method::GET
    }

    /// Probes of orchestrators have no token, and learn nothing.
    pub fn is_probe(&self) -> bool {
        matches!(self.action, Action::Health | Action::Ready)
    }
}

/// The document that describes the admin listener (OpenAPI 3.1).
pub fn openapi() -> Value {
    let mut schemas = Schemas(
        SchemaSettings::draft2020_12()
            .with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
            .into_generator(),
    );
    let mut paths = Map::new();
    for endpoint in all() {
        let operation = schemas.operation(endpoint);
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method.as_str().to_ascii_lowercase()] = operation;
    }
    let definitions = schemas.0.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "wasmgate admin",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What changes something needs `admin.token` of the config; everything but /healthz and /readyz does where the listener's address is not loopback, or where Host is neither an IP address nor localhost.",
        },
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

struct Schemas(schemars::SchemaGenerator);

impl Schemas {
    fn operation(&mut self, endpoint: &Endpoint) -> Value {
        let (status, content) = match endpoint.action {
            Action::Health | Action::Ready => ("200", json!({ "text/plain": {} })),
            Action::Metrics => ("200", json!({ "text/plain": {}, "application/openmetrics-text": {} })),
            Action::OpenApi | Action::Config => ("200", json!({ "application/json": {} })),
            Action::Status => ("200", self.json::<Status>()),
            Action::Routes => ("200", self.json::<Vec<RouteReport>>()),
            Action::Plugins => ("200", self.json::<Vec<PluginReport>>()),
            Action::Upstreams | Action::DrainEndpoint | Action::RestoreEndpoint | Action::ForceBreaker => {
                ("200", self.json::<Vec<UpstreamReport>>())
            }
            Action::Log | Action::SetLog => ("200", self.json::<LogReport>()),
            Action::Reload | Action::RollOut | Action::Promote => ("200", self.json::<Reloaded>()),
            Action::RollBack => ("200", self.json::<Vec<PluginReport>>()),
            Action::Drain => ("202", self.json::<Status>()),
            Action::Consumers => ("200", self.json::<Vec<ConsumerReport>>()),
            Action::Consumer | Action::SetConsumer => ("200", self.json::<ConsumerReport>()),
            Action::Keys => ("200", self.json::<Vec<KeyReport>>()),
            Action::SetKeyEnd => ("200", self.json::<KeyReport>()),
            Action::IssueKey | Action::RotateKey => ("201", self.json::<IssuedKey>()),
            Action::Credentials => ("200", self.json::<Vec<CredentialReport>>()),
            Action::SetCredential => ("201", self.json::<SetCredential>()),
            Action::RemoveConsumer | Action::RevokeKey | Action::RevokeCredential => ("204", Value::Null),
        };
        let mut operation = json!({
            "summary": endpoint.summary,
            "responses": {
                status: match content {
                    Value::Null => json!({ "description": "Done" }),
                    content => json!({ "description": "Done", "content": content }),
                },
                "default": {
                    "description": "Problem details (RFC 9457)",
                    "content": { "application/problem+json": { "schema": self.0.subschema_for::<Problem>() } },
                },
            },
        });
        if endpoint.changes() {
            operation["security"] = json!([{ "token": [] }]);
        }
        let body = match endpoint.action {
            Action::SetLog => Some((true, self.json::<LogReport>())),
            Action::DrainEndpoint | Action::RestoreEndpoint => Some((true, self.json::<EndpointName>())),
            Action::ForceBreaker => Some((true, self.json::<BreakerOrder>())),
            Action::RollOut => {
                Some((true, json!({ "application/json": { "schema": { "type": "object" } } })))
            }
            Action::SetConsumer => Some((true, self.json::<ConsumerOrder>())),
            Action::SetCredential => Some((true, self.json::<CredentialOrder>())),
            Action::SetKeyEnd => Some((true, self.json::<EndOrder>())),
            Action::IssueKey => Some((false, self.json::<KeyOrder>())),
            Action::RotateKey => Some((false, self.json::<RotationOrder>())),
            _ => None,
        };
        if let Some((required, content)) = body {
            operation["requestBody"] = json!({ "required": required, "content": content });
        }
        if endpoint.action == Action::RollOut {
            let description = "As the table `plugin.NAME.rollout` of the config (see its JSON Schema); a file is relative to the config";
            operation["requestBody"]["description"] = description.into();
        }
        let parameters: Vec<_> = endpoint
            .parameters()
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
            .collect();
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if endpoint.action == Action::Reload {
            operation["parameters"] = json!([{
                "name": "dry-run",
                "in": "query",
                "description": "Load and check everything, but change nothing",
                "schema": { "type": "boolean" },
            }]);
        }
        operation
    }

    fn json<T: JsonSchema>(&mut self) -> Value {
        json!({ "application/json": { "schema": self.0.subschema_for::<T>() } })
    }
}
