//! Clusters, which become upstreams.
//!
//! Envoy's routes choose timeout and Host, here the upstream does: a cluster becomes as many upstreams as its routes
//! want of it.

use std::{collections::BTreeMap, net::Ipv6Addr, time::Duration};

use super::{
    names::{Names, plain},
    output::{Endpoint, Upstream},
    tree::Table,
};

/// Stands where endpoints are not known. Nobody listens there.
const UNREACHABLE: &str = "127.0.0.1:1";

/// What a route wants of an upstream.
#[derive(PartialEq)]
pub struct Want {
    pub host: Option<String>,
    /// None: all the time it takes.
    pub total: Option<Duration>,
}

pub struct Upstreams {
    clusters: Vec<Cluster>,
    names: Names,
}

struct Cluster {
    name: String,
    upstream: Upstream,
    /// What the first that is wanted is called.
    plain_name: String,
    wanted: Vec<(String, Want)>,
}

impl Upstreams {
    pub fn read(tables: Vec<Table>) -> Self {
        let mut upstreams = Upstreams { clusters: Vec::new(), names: Names::default() };
        for mut table in tables {
            match table.text("name") {
                Some(name) if !upstreams.knows(&name) => upstreams.add(name, upstream(table)),
                Some(_) => table.leave("there is a cluster of this name before it"),
                None => table.leave("a cluster without a name"),
            }
        }
        upstreams
    }

    pub fn knows(&self, cluster: &str) -> bool {
        self.clusters.iter().any(|known| known.name == cluster)
    }

    fn add(&mut self, name: String, upstream: Upstream) {
        let plain_name = self.names.unique(&plain(&name));
        self.clusters.push(Cluster { name, upstream, plain_name, wanted: Vec::new() });
    }

    /// The upstream for requests to a cluster. One that is not known becomes an upstream without real endpoints.
    pub fn name_of(&mut self, cluster: &str, want: Want) -> String {
        if !self.knows(cluster) {
            self.add(cluster.to_owned(), unreachable());
        }
        let place = self.clusters.iter().position(|known| known.name == cluster).unwrap_or_default();
        let Cluster { plain_name, wanted, .. } = &mut self.clusters[place];
        if let Some((name, _)) = wanted.iter().find(|(_, other)| *other == want) {
            return name.clone();
        }
        let name = if wanted.is_empty() { plain_name.clone() } else { self.names.unique(plain_name) };
        wanted.push((name.clone(), want));
        name
    }

    /// What the upstreams of clusters are called that are not called as the cluster is.
    pub fn renamed(&self) -> BTreeMap<String, String> {
        let renamed = self.clusters.iter().filter(|cluster| cluster.name != cluster.plain_name);
        renamed.map(|cluster| (cluster.name.clone(), cluster.plain_name.clone())).collect()
    }

    /// All of them, also those that no route uses: plugins may call them.
    pub fn all(self) -> Vec<(String, Upstream)> {
        let all = self.clusters.into_iter().flat_map(|cluster| {
            if cluster.wanted.is_empty() {
                return vec![(cluster.plain_name, cluster.upstream)];
            }
            let wanted = cluster.wanted.into_iter();
            wanted.map(|(name, want)| (name, wanting(&cluster.upstream, want))).collect()
        });
        all.collect()
    }
}

fn wanting(upstream: &Upstream, want: Want) -> Upstream {
    // Envoy's own limit on silence; the default here would end a long answer that Envoy waits for.
    let (default, longest) = (Duration::from_secs(60), Duration::from_secs(300));
    let read = want.total.unwrap_or(longest).min(longest);
    let mut upstream = Upstream { host: want.host, ..upstream.clone() };
    if read > default {
        upstream.timeouts.insert("read", written(read));
    }
    if let Some(total) = want.total {
        upstream.timeouts.insert("total", written(total));
    }
    upstream
}

fn upstream(mut table: Table) -> Upstream {
    table.skip(&["alt_stat_name", "observability_name"]);
    table.skip_if("lb_policy", &["ROUND_ROBIN"]);
    table.skip_if("type", &["STATIC", "STRICT_DNS", "LOGICAL_DNS"]);
    let mut upstream = unreachable();
    if let Some(connect) = table.duration("connect_timeout").filter(|connect| !connect.is_zero()) {
        upstream.timeouts.insert("connect", written(connect));
    }
    if let Some(mut socket) = table.table("transport_socket") {
        match socket.kind() {
            "RawBuffer" => socket.skip(&["name", "typed_config"]),
            _ => {
                socket.leave("TLS, which wasmgate does not speak: requests go to this upstream in the clear")
            }
        }
    }
    let options = table.table("typed_extension_protocol_options");
    if let Some(idle) = options.and_then(idle_timeout) {
        upstream.keep_alive.insert("idle", written(idle));
    }
    let endpoints = endpoints(&mut table);
    if endpoints.is_empty() {
        let why = format!("no endpoint of it is known; {UNREACHABLE} holds their place");
        table.notes().left(table.path(), &why);
    } else {
        upstream.endpoints = endpoints;
    }
    upstream
}

fn unreachable() -> Upstream {
    Upstream {
        endpoints: vec![Endpoint::Address(UNREACHABLE.to_owned())],
        host: None,
        timeouts: BTreeMap::new(),
        keep_alive: BTreeMap::new(),
    }
}

/// How long idle connections are kept. The default of the other options is HTTP/1.1, which is spoken here.
fn idle_timeout(mut options: Table) -> Option<Duration> {
    let mut options = options.table("envoy.extensions.upstreams.http.v3.HttpProtocolOptions")?;
    options.skip(&["@type"]);
    if let Some(mut explicit) = options.table("explicit_http_config") {
        explicit.skip_if("http_protocol_options", &["{}"]);
    }
    options.table("common_http_protocol_options")?.duration("idle_timeout").filter(|idle| !idle.is_zero())
}

fn endpoints(table: &mut Table) -> Vec<Endpoint> {
    let Some(mut assignment) = table.table("load_assignment") else { return Vec::new() };
    assignment.skip(&["cluster_name"]);
    let mut endpoints = Vec::new();
    for mut locality in assignment.tables("endpoints") {
        locality.skip_if("priority", &["0"]);
        if locality.has("priority") {
            locality.leave("endpoints for when the others are down; there is no such order here");
            continue;
        }
        locality
            .leave_entry("load_balancing_weight", "the weight of a locality; write it into its endpoints");
        endpoints.extend(locality.tables("lb_endpoints").into_iter().filter_map(endpoint));
    }
    endpoints
}

fn endpoint(mut table: Table) -> Option<Endpoint> {
    let weight = table.take("load_balancing_weight", |weight| u16::try_from(weight.as_u64()?).ok());
    let mut inner = table.table("endpoint")?;
    let Some((host, port)) = socket(&mut inner).filter(|(host, port)| *port != 0 && is_host(host)) else {
        inner.leave("its address is no host and port of TCP");
        return None;
    };
    inner.skip(&["hostname"]);
    let address = address(&host, port);
    Some(match weight {
        None | Some(1) => Endpoint::Address(address),
        Some(weight) => Endpoint::Weighted { address, weight },
    })
}

fn is_host(text: &str) -> bool {
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    text.parse::<Ipv6Addr>().is_ok() || (!text.is_empty() && text.chars().all(part_of_name))
}

/// The TCP address in a table with an `address`.
pub fn socket(table: &mut Table) -> Option<(String, u16)> {
    let mut socket = table.table("address")?.table("socket_address")?;
    socket.skip_if("protocol", &["TCP"]);
    if socket.has("protocol") {
        socket.leave("another protocol than TCP");
        return None;
    }
    let host = socket.text("address")?;
    let port = socket.take("port_value", |port| u16::try_from(port.as_u64()?).ok())?;
    Some((host, port))
}

pub fn address(host: &str, port: u16) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(host) => format!("[{host}]:{port}"),
        Err(_) => format!("{host}:{port}"),
    }
}

/// A duration as the config has it, at least a millisecond.
fn written(duration: Duration) -> String {
    match duration.as_millis().max(1) {
        millis if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        millis => format!("{millis}ms"),
    }
}
