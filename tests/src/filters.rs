//! Listeners with proxy-wasm filters, written down once, as a config of Envoy and as one of wasmgate that mean the
//! same. Behind each listener are the same routes and upstreams.

use std::{net::SocketAddr, path::PathBuf};

use serde_json::{Value, json};

use crate::build;

/// How long an upstream may take to answer: long enough for those of tests on a busy machine.
pub const TIMEOUT_MS: u32 = 1500;

/// A use of a filter. Its root id is the name of the filter in the module `filters`.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The plugin's name, which is also its VM id: filters that trap take their VM with them.
    pub name: String,
    pub root_id: String,
    pub file: PathBuf,
    pub config: &'static str,
    pub vm_config: &'static str,
    pub variables: &'static [(&'static str, &'static str)],
    pub fails_open: bool,
}

/// A listener of the same name as its first filter, unless it is given another.
#[derive(Clone, Debug)]
pub struct FilterListener {
    pub name: String,
    pub filters: Vec<Filter>,
    /// It hands on bytes: Envoy's filters of connections.
    pub tcp: bool,
}

/// Where requests and calls go, by the names of clusters or upstreams.
pub struct Destinations {
    /// What routes lead to, with and without being changed by a filter.
    pub app: SocketAddr,
    pub other: SocketAddr,
    /// What filters call.
    pub call: SocketAddr,
    pub grpc: SocketAddr,
    /// Nobody listens there.
    pub refused: SocketAddr,
}

impl Filter {
    pub fn new(root_id: &str) -> Filter {
        Filter {
            name: root_id.to_owned(),
            root_id: root_id.to_owned(),
            file: build::module("wasmgate-test-filters"),
            config: "",
            vm_config: "",
            variables: &[],
            fails_open: false,
        }
    }

    pub fn named(self, name: &str) -> Filter {
        Filter { name: name.to_owned(), ..self }
    }

    pub fn file(self, file: PathBuf) -> Filter {
        Filter { file, ..self }
    }

    pub fn config(self, config: &'static str) -> Filter {
        Filter { config, ..self }
    }

    pub fn vm_config(self, vm_config: &'static str) -> Filter {
        Filter { vm_config, ..self }
    }

    pub fn variables(self, variables: &'static [(&'static str, &'static str)]) -> Filter {
        Filter { variables, ..self }
    }

    pub fn failing_open(self) -> Filter {
        Filter { fails_open: true, ..self }
    }
}

impl From<Filter> for FilterListener {
    fn from(filter: Filter) -> FilterListener {
        FilterListener { name: filter.name.clone(), filters: vec![filter], tcp: false }
    }
}

impl FilterListener {
    pub fn chain(name: &str, filters: Vec<Filter>) -> FilterListener {
        FilterListener { name: name.to_owned(), filters, tcp: false }
    }

    /// Names of its filters.
    pub fn plugins(&self) -> Vec<&str> {
        self.filters.iter().map(|filter| filter.name.as_str()).collect()
    }

    pub fn tcp(filter: Filter) -> FilterListener {
        FilterListener { tcp: true, ..filter.into() }
    }
}

/// Envoy's bootstrap. It adds nothing of its own to requests, as far as it can be told not to.
pub fn envoy_config(listeners: &[FilterListener], to: &Destinations) -> Value {
    let listeners: Vec<_> = listeners.iter().map(envoy_listener).collect();
    let clusters = to.named().map(|(name, address)| envoy_cluster(name, address));
    json!({
        "stats_flush_on_admin": true,
        "node": { "id": "the-node", "cluster": "the-cluster", "metadata": { "NAME": "the-name" } },
        "static_resources": { "listeners": listeners, "clusters": clusters },
    })
}

fn envoy_listener(listener: &FilterListener) -> Value {
    let wasm: Vec<_> = listener.filters.iter().map(|filter| envoy_filter(filter, listener.tcp)).collect();
    let filters = match listener.tcp {
        true => {
            let proxy =
                extension("network.tcp_proxy.v3.TcpProxy", json!({ "stat_prefix": "tcp", "cluster": "app" }));
            [wasm, vec![json!({ "name": "proxy", "typed_config": proxy })]].concat()
        }
        false => vec![json!({ "name": "http", "typed_config": envoy_http(&listener.name, wasm) })],
    };
    json!({
        "name": listener.name,
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
        "filter_chains": [{ "filters": filters }],
    })
}

fn envoy_http(name: &str, wasm: Vec<Value>) -> Value {
    let route = |kind: &str, condition: Value, cluster: &str| {
        let timeout = format!("{}s", f64::from(TIMEOUT_MS) / 1000.0);
        json!({ "name": format!("{name}-{kind}"), "match": condition, "route": { "cluster": cluster, "timeout": timeout } })
    };
    let by_header = json!({
        "prefix": "/",
        "headers": [{ "name": "x-route", "string_match": { "exact": "other" } }],
    });
    let everything = json!({ "prefix": "/" });
    let router = extension("http.router.v3.Router", json!({ "suppress_envoy_headers": true }));
    let last = json!({ "name": "router", "typed_config": router });
    let filters = [wasm, vec![last]].concat();
    extension(
        "network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": name,
            "generate_request_id": false,
            "delayed_close_timeout": "0.05s",
            "http_protocol_options": { "enable_trailers": true },
            "http_filters": filters,
            "route_config": { "virtual_hosts": [
                { "name": "other", "domains": ["other.test"], "routes": [route("host", everything.clone(), "other")] },
                { "name": "all", "domains": ["a.test", "b.test"], "routes": [
                    route("refused", json!({ "prefix": "/refused" }), "refused"),
                    route("path", json!({ "prefix": "/other" }), "other"),
                    route("header", by_header, "other"),
                    route("all", everything, "app"),
                ] },
            ] },
        }),
    )
}

fn envoy_filter(filter: &Filter, tcp: bool) -> Value {
    let text =
        |value: &str| json!({ "@type": "type.googleapis.com/google.protobuf.StringValue", "value": value });
    let variables: serde_json::Map<_, _> =
        filter.variables.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let config = json!({
        "name": filter.name,
        "root_id": filter.root_id,
        "configuration": text(filter.config),
        "failure_policy": if filter.fails_open { "FAIL_OPEN" } else { "FAIL_CLOSED" },
        "vm_config": {
            "vm_id": filter.name,
            "runtime": "envoy.wasm.runtime.v8",
            "code": { "local": { "filename": filter.file } },
            "configuration": text(filter.vm_config),
            "environment_variables": { "key_values": variables },
        },
    });
    let kind = if tcp { "network.wasm.v3.Wasm" } else { "http.wasm.v3.Wasm" };
    json!({ "name": filter.name, "typed_config": extension(kind, json!({ "config": config })) })
}

fn envoy_cluster(name: &str, address: SocketAddr) -> Value {
    let options = match name {
        "grpc" => json!({ "http2_protocol_options": {} }),
        _ => json!({ "http_protocol_options": { "enable_trailers": true } }),
    };
    let mut protocol = json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": options,
    });
    if name == "app" {
        // What a filter breaks on a connection must not meet the next request.
        protocol["common_http_protocol_options"] = json!({ "max_requests_per_connection": 1 });
    }
    let endpoint = json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } });
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": endpoint } }] }],
        },
    })
}

/// A config with the type that it has among Envoy's filters.
fn extension(kind: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("type.googleapis.com/envoy.extensions.filters.{kind}"));
    config
}

/// wasmgate's config, with an admin listener.
pub fn gateway_config(listeners: &[FilterListener], to: &Destinations) -> String {
    let mut config = String::from(GATEWAY);
    for (name, address) in to.named() {
        // Envoy tries once where nobody says otherwise.
        let settings = format!("timeouts = {{ total = \"{TIMEOUT_MS}ms\" }}\nretry = {{ attempts = 1 }}");
        config += &format!("[upstream.{name}]\nendpoints = [\"{address}\"]\n{settings}\n");
    }
    for listener in listeners.iter().filter(|listener| !listener.tcp) {
        config += &gateway_listener(listener);
    }
    config
}

const GATEWAY: &str = r#"
[server]
workers = 1
[admin]
address = "127.0.0.1:0"
[log]
level = "trace"
[limits]
body = "64MiB"
header_count = 10000
[forwarded]
trusted_proxies = ["127.0.0.0/8"]
x_forwarded = false
via = ""
[plugins]
node = { id = "the-node", cluster = "the-cluster", metadata = { NAME = "the-name" } }
[plugins.limits]
memory = "64MiB"
time = "2s"
log_rate = 1000000
"#;

fn gateway_listener(listener: &FilterListener) -> String {
    let name = &listener.name;
    let mut config = format!("[[listener]]\nname = \"{name}\"\naddress = \"127.0.0.1:0\"\n");
    let mut plugins = Vec::new();
    for filter in &listener.filters {
        let policy = if filter.fails_open { "open" } else { "closed" };
        let variables: Vec<_> =
            filter.variables.iter().map(|(name, value)| format!("{name} = {value:?}")).collect();
        config += &format!(
            "[plugin.{plugin}]\nfile = {:?}\nroot_id = {:?}\nvm_id = {plugin:?}\nvm_config = {:?}\nconfig = {:?}\n\
             env = {{ {} }}\nfailure_policy = {policy:?}\nclusters = {{ httpbin = \"call\" }}\nreroute = true\n",
            filter.file,
            filter.root_id,
            filter.vm_config,
            filter.config,
            variables.join(", "),
            plugin = filter.name,
        );
        plugins.push(format!("{:?}", filter.name));
    }
    let plugins = plugins.join(", ");
    let mut route = |kind: &str, priority: u32, condition: &str, upstream: &str| {
        config += &format!(
            "[[route]]\nname = \"{name}-{kind}\"\nupstream = {upstream:?}\nplugins = [{plugins}]\n\
             match = {{ listener = {name:?}, priority = {priority}{condition} }}\n"
        );
    };
    let here = ", host = [\"a.test\", \"b.test\"]";
    route("host", 4, ", host = \"other.test\"", "other");
    route("refused", 3, &format!("{here}, path = [\"/refused\", \"/refused/*\"]"), "refused");
    route("path", 2, &format!("{here}, path = [\"/other\", \"/other/*\"]"), "other");
    route("header", 1, &format!("{here}, headers = {{ x-route = \"other\" }}"), "other");
    route("all", 0, here, "app");
    config
}

impl Destinations {
    /// `httpbin` is what examples call.
    fn named(&self) -> [(&'static str, SocketAddr); 6] {
        [
            ("app", self.app),
            ("other", self.other),
            ("call", self.call),
            ("httpbin", self.call),
            ("grpc", self.grpc),
            ("refused", self.refused),
        ]
    }
}
