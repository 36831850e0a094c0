//! Envoy's bootstrap: its listeners, each with the routes behind its HTTP connection manager.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{
    cluster::Upstreams,
    endpoint::{address, socket, socket_address, socket_file},
    filter::Plugins,
    names::Names,
    order,
    output::{Admin, Keys, Listener, Output},
    route::{self, Scope, VirtualHost},
    tls,
    tree::{Notes, Table},
    upgrade::Upgrades,
};
use crate::config::{KeyPath, Node};

/// The error is the reason why there is no config.
pub fn config(tree: Value, notes: &Notes) -> Result<Output, &'static str> {
    let Value::Object(entries) = tree else { return Err("this is no config of Envoy") };
    let mut root = Table::new(KeyPath::root(), entries, notes);
    let mut identity = root.table("node");
    let server = server(&mut root, identity.as_mut());
    let node = identity.and_then(node);
    let admin = root.table("admin").and_then(admin);
    let mut resources = root.table("static_resources").ok_or(NO_LISTENER)?;
    let mut migration = Migration {
        listeners: Vec::new(),
        upstreams: Upstreams::read(resources.tables("clusters")),
        plugins: Plugins::new(),
        hosts: Vec::new(),
        listener_names: Names::default(),
        route_names: Names::default(),
    };
    for listener in resources.tables("listeners") {
        migration.listener(listener);
    }
    for extension in root.tables("bootstrap_extensions") {
        migration.plugins.service(extension);
    }
    let output = migration.output(node, admin, notes)?;
    Ok(Output { server, ..output })
}

const NO_LISTENER: &str = "it holds no static listener for HTTP";

struct Migration {
    listeners: Vec<Listener>,
    upstreams: Upstreams,
    plugins: Plugins,
    hosts: Vec<VirtualHost>,
    listener_names: Names,
    route_names: Names,
}

impl Migration {
    fn listener(&mut self, mut table: Table) {
        let name = table.text("name").filter(|name| !name.is_empty());
        let Some((address, mode)) = bound(&mut table) else {
            return table.leave("a listener on something else than an IP address and port of TCP, or a file");
        };
        let Some((mut manager, mut tls)) = connection_manager(&mut table) else {
            return table
                .leave("a listener without an HTTP connection manager: wasmgate passes on HTTP only");
        };
        let name = self.listener_names.unique(name.as_ref().unwrap_or(&address));
        told_of_clients(&mut manager, &mut tls);
        self.connection_manager(manager, &name);
        let proxy_protocol = proxies(&mut table);
        self.listeners.push(Listener { name, address, mode, proxy_protocol, tls });
    }

    fn connection_manager(&mut self, mut table: Table, listener: &str) {
        table.skip(&["@type", "stat_prefix", "strip_any_host_port", "strip_matching_host_port"]);
        table.skip_if("codec_type", &["AUTO", "HTTP1"]);
        table.skip_if("normalize_path", &["true"]);
        table.skip_if("use_remote_address", &["true"]);
        let filters = self.plugins.uses(table.tables("http_filters"));
        let upgrades = Upgrades::take(&mut table);
        if let Some(routes) = table.table("route_config") {
            let (upstreams, names) = (&mut self.upstreams, &mut self.route_names);
            let mut scope = Scope { listener, filters: &filters, upgrades: &upgrades, upstreams, names };
            let hosts = route::read(routes, &mut scope);
            if hosts.iter().map(|host| host.routes.len()).sum::<usize>() > 1 {
                self.plugins.reroute(&filters);
            }
            self.hosts.extend(hosts);
        }
    }

    fn output(self, node: Option<Node>, admin: Option<Admin>, notes: &Notes) -> Result<Output, &'static str> {
        if self.listeners.is_empty() {
            return Err(NO_LISTENER);
        }
        let mut routes = order::keep(self.hosts, notes);
        if routes.is_empty() {
            return Err("it holds no static route that could be carried over");
        }
        if self.listeners.len() == 1 {
            routes.iter_mut().for_each(|route| route.matches.listener = None);
        }
        let plugins = self.plugins.all(&self.upstreams.renamed());
        let dns = self.upstreams.dns(notes);
        let upstreams = self.upstreams.all(notes);
        let node = node.filter(|node| !plugins.is_empty() && *node != Node::default());
        let (server, listeners) = (Keys::new(), self.listeners);
        Ok(Output { server, listeners, admin, node, plugins, dns, upstreams, routes })
    }
}

/// The address of a listener, and the mode of a Unix socket's file.
fn bound(table: &mut Table) -> Option<(String, Option<String>)> {
    let mut at = table.table("address")?;
    if let Some(mut pipe) = at.table("pipe") {
        pipe.skip_if("mode", &["0"]);
        let mode = pipe.number_in("mode", 1..=0o777).map(|mode| format!("{mode:04o}"));
        return Some((socket_file(&mut pipe)?, mode));
    }
    let (host, port) = socket_address(&mut at)?;
    host.parse::<IpAddr>().is_ok().then(|| (address(&host, port), None))
}

/// Who tells whom connections are from. Envoy asks everybody.
fn proxies(listener: &mut Table) -> Vec<&'static str> {
    let mut proxies = Vec::new();
    for filter in listener.tables("listener_filters") {
        if expects_header(filter) {
            proxies = vec!["0.0.0.0/0", "::/0"];
        }
    }
    proxies
}

fn expects_header(mut filter: Table) -> bool {
    match filter.kind() {
        "ProxyProtocol" | "proxy_protocol" => {}
        "TlsInspector" | "tls_inspector" => {
            // The name that is asked for is read anyway.
            filter.skip(&["name", "typed_config"]);
            return false;
        }
        _ => {
            filter.leave("what is read from a connection before HTTP");
            return false;
        }
    }
    filter.skip(&["name"]);
    if let Some(mut config) = filter.table("typed_config") {
        config.skip(&["@type", "stat_prefix"]);
        config.skip_if("allow_requests_without_proxy_protocol", &["false"]);
        if config.has("allow_requests_without_proxy_protocol") {
            return false;
        }
    }
    let what = "whoever connects can say who he is; write the networks of your proxies in `proxy_protocol`";
    filter.notes().caution(filter.path(), what);
    true
}

/// What upstreams learn of clients' certificates. What these say themselves is never sent on.
fn told_of_clients(manager: &mut Table, tls: &mut Keys) {
    manager.skip_if("forward_client_cert_details", &["SANITIZE"]);
    if let Some(Value::Object(clients)) = tls.get_mut("clients") {
        let told = manager.take("forward_client_cert_details", |how| (how == "SANITIZE_SET").then_some(()));
        clients.extend(told.map(|()| ("header".to_owned(), json!(true))));
        if told.is_some() {
            manager.skip(&["set_current_client_cert_details"]);
        }
    }
}

/// The HTTP connection manager of the first filter chain that has one, and the keys of its TLS.
fn connection_manager<'n>(listener: &mut Table<'n>) -> Option<(Table<'n>, Keys)> {
    let mut chains = listener.tables("filter_chains");
    if chains.is_empty() {
        chains.extend(listener.table("default_filter_chain"));
    }
    let (mut found, mut tls) = (None, Keys::new());
    for mut chain in chains {
        if found.is_some() {
            chain.leave("a further filter chain; a listener of wasmgate has one");
            continue;
        }
        chain.skip(&["name"]);
        if let Some(socket) = chain.table("transport_socket") {
            tls = tls::listener(socket).unwrap_or_default();
        }
        for mut filter in chain.tables("filters") {
            if filter.kind() == "HttpConnectionManager" && found.is_none() {
                filter.skip(&["name"]);
                found = filter.table("typed_config");
            } else {
                filter.leave("a network filter; wasmgate has plugins for HTTP only");
            }
        }
    }
    Some((found?, tls))
}

/// The zone whose endpoints come first. Envoy has one where it knows which cluster it is of.
fn server(root: &mut Table, node: Option<&mut Table>) -> Keys {
    let manager = root.table("cluster_manager");
    let own = manager.and_then(|mut manager| manager.text("local_cluster_name"));
    let Some(mut place) = node.and_then(|node| node.table("locality")) else { return Keys::new() };
    if own.is_none() {
        place.leave_entry(
            "zone",
            "Envoy prefers no zone without `local_cluster_name`; `zone` of [server] does",
        );
    }
    let at = place.at("zone");
    let Some(zone) = place.text("zone").filter(|zone| !zone.is_empty()) else { return Keys::new() };
    let what = "endpoints of this zone get all requests that they can take; Envoy evens the zones out";
    place.notes().caution(&at, what);
    Keys::from([("zone", json!(zone))])
}

/// Who Envoy is, for the control plane and for filters.
fn node(mut table: Table) -> Option<Node> {
    let (id, cluster) = (table.text("id").unwrap_or_default(), table.text("cluster").unwrap_or_default());
    let metadata = table.take("metadata", |value| match without_nulls(value)? {
        Value::Object(map) => Some(map),
        _ => None,
    });
    Some(Node { id, cluster, metadata: metadata.unwrap_or_default() })
}

/// TOML has none.
fn without_nulls(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Null => return None,
        Value::Object(map) => {
            map.iter().filter_map(|(key, value)| Some((key.clone(), without_nulls(value)?))).collect()
        }
        Value::Array(values) => values.iter().filter_map(without_nulls).collect(),
        value => value.clone(),
    })
}

/// What can be reached from other machines needs a token, which Envoy's has not.
fn admin(mut table: Table) -> Option<Admin> {
    let place = table.at("address");
    let (host, port) = socket(&mut table)?;
    let reachable = !host.parse::<IpAddr>().is_ok_and(|host| host.is_loopback());
    if reachable {
        table
            .notes()
            .left(&place, &format!("{host}; for other machines than this one `admin` needs a `token`"));
    }
    Some(Admin { address: address(if reachable { "127.0.0.1" } else { &host }, port) })
}
