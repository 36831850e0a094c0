//! Clusters, which become upstreams.
//!
//! Envoy's routes choose timeout, Host, retries and what is hashed, here the upstream does: a cluster becomes as many
//! upstreams as its routes want of it.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;

use super::{
    dns::Lookup,
    endpoint::{self, Endpoints},
    names::{Names, plain},
    output::{self, Endpoint, Keys, Upstream},
    policy::Affinity,
    resilience,
    tree::{Notes, Table},
};
use crate::config::KeyPath;

/// Stands where endpoints are not known. Nobody listens there.
const UNREACHABLE: &str = "127.0.0.1:1";

/// What a route wants of an upstream.
#[derive(Clone, Default, PartialEq)]
pub struct Want {
    pub host: Option<String>,
    /// None: all the time it takes.
    pub total: Option<Duration>,
    pub retry: Keys,
    /// Of no meaning to a cluster that is not balanced by hash.
    pub affinity: Option<Affinity>,
}

pub struct Upstreams {
    clusters: Vec<Cluster>,
    names: Names,
}

struct Cluster {
    name: String,
    place: KeyPath,
    upstream: Upstream,
    /// Keys of `balance` for routes that say what is hashed; None where nothing is.
    hash: Option<Keys>,
    lookup: Option<Lookup>,
    /// What the first that is wanted is called.
    plain_name: String,
    wanted: Vec<(String, Want)>,
}

impl Upstreams {
    pub fn read(tables: Vec<Table>) -> Self {
        let mut upstreams = Upstreams { clusters: Vec::new(), names: Names::default() };
        for mut table in tables {
            match table.text("name") {
                Some(name) if !upstreams.knows(&name) => {
                    let plain_name = upstreams.names.unique(&plain(&name));
                    upstreams.clusters.push(Cluster::read(table, name, plain_name));
                }
                Some(_) => table.leave("there is a cluster of this name before it"),
                None => table.leave("a cluster without a name"),
            }
        }
        upstreams
    }

    pub fn knows(&self, cluster: &str) -> bool {
        self.clusters.iter().any(|known| known.name == cluster)
    }

    /// Whether any of them is balanced by hash.
    pub fn hashes<'c>(&self, mut clusters: impl Iterator<Item = &'c String>) -> bool {
        clusters.any(|name| self.clusters.iter().any(|known| known.name == *name && known.hash.is_some()))
    }

    /// The upstream for requests to a cluster. One that is not known becomes an upstream without real endpoints.
    pub fn name_of(&mut self, cluster: &str, mut want: Want, place: &KeyPath, notes: &Notes) -> String {
        if !self.knows(cluster) {
            let why = format!("cluster {cluster:?} is not in the file; its upstream has no real endpoint");
            notes.left(place, &why);
            let plain_name = self.names.unique(&plain(cluster));
            self.clusters.push(Cluster::unknown(cluster.to_owned(), place.clone(), plain_name));
        }
        let place = self.clusters.iter().position(|known| known.name == cluster).unwrap_or_default();
        let Cluster { plain_name, wanted, hash, .. } = &mut self.clusters[place];
        want.affinity = want.affinity.filter(|_| hash.is_some());
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

    /// How names are looked up, for all of them.
    pub fn dns(&self, notes: &Notes) -> Keys {
        Lookup::of_all(self.clusters.iter().filter_map(|cluster| cluster.lookup.as_ref()), notes)
    }

    /// All of them, also those that no route uses: plugins may call them.
    pub fn all(self, notes: &Notes) -> Vec<(String, Upstream)> {
        self.clusters.into_iter().flat_map(|cluster| cluster.upstreams(notes)).collect()
    }
}

impl Cluster {
    fn unknown(name: String, place: KeyPath, plain_name: String) -> Self {
        let endpoints = vec![Endpoint::Address(UNREACHABLE.to_owned())];
        let upstream = Upstream { endpoints, ..Upstream::default() };
        Cluster { name, place, upstream, hash: None, lookup: None, plain_name, wanted: Vec::new() }
    }

    fn read(mut table: Table, name: String, plain_name: String) -> Self {
        let mut cluster = Cluster::unknown(name, table.path().clone(), plain_name);
        table.skip(&["alt_stat_name", "observability_name"]);
        let lookup = Lookup::take(&mut table);
        let upstream = &mut cluster.upstream;
        let connect = table.time("connect_timeout").map(output::duration);
        upstream.timeouts.extend(connect.map(|connect| ("connect", connect)));
        let mut is_secured = false;
        if let Some(mut socket) = table.table("transport_socket") {
            is_secured = matches!(socket.kind(), "UpstreamTlsContext" | "tls");
            match socket.kind() {
                "RawBuffer" => socket.skip(&["name", "typed_config"]),
                _ => socket.leave("TLS; write `tls` of the upstream, to which requests go in the clear now"),
            }
        }
        // Without a choice it is HTTP/1.1, also here.
        upstream.protocol = table.table("http2_protocol_options").map(|_| "h2");
        if let Some(options) = table.table("typed_extension_protocol_options") {
            protocol_options(options, is_secured, upstream);
        }
        let endpoints = table.table("load_assignment").map(endpoint::read).unwrap_or_default();
        cluster.lookup = lookup.filter(|_| endpoints.have_names());
        let Endpoints { all, health_port } = endpoints;
        if all.is_empty() {
            let why = format!("no endpoint of it is known; {UNREACHABLE} holds their place");
            table.notes().left(table.path(), &why);
        } else {
            upstream.endpoints = all;
        }
        (upstream.balance, cluster.hash) = resilience::balance(&mut table);
        upstream.health = resilience::health(&mut table, &cluster.name, health_port);
        upstream.outliers = resilience::outliers(&mut table);
        (upstream.limits, upstream.retry) = resilience::limits(&mut table);
        cluster
    }

    fn upstreams(self, notes: &Notes) -> Vec<(String, Upstream)> {
        let count = self.wanted.len();
        if count == 0 {
            return vec![(self.plain_name, self.upstream)];
        }
        let Upstream { health, outliers, limits, .. } = &self.upstream;
        if count > 1 && [health, outliers, limits].iter().any(|keys| !keys.is_empty()) {
            let what = format!(
                "it becomes {count} upstreams, as its routes want; each checks and counts for itself"
            );
            notes.caution(&self.place, &what);
        }
        let (upstream, hash) = (self.upstream, self.hash);
        let wanted = self.wanted.into_iter();
        wanted.map(|(name, want)| (name, wanting(upstream.clone(), hash.as_ref(), want))).collect()
    }
}

fn wanting(mut upstream: Upstream, hash: Option<&Keys>, want: Want) -> Upstream {
    // Envoy's own limit on silence; the default here would end a long answer that Envoy waits for.
    let (default, longest) = (Duration::from_secs(60), Duration::from_secs(300));
    let read = want.total.unwrap_or(longest).min(longest);
    upstream.host = want.host;
    if read > default {
        upstream.timeouts.insert("read", output::duration(read));
    }
    upstream.timeouts.extend(want.total.map(|total| ("total", output::duration(total))));
    upstream.retry.extend(want.retry);
    match want.affinity.zip(hash) {
        Some((Affinity::Key(key), hash)) => {
            upstream.balance.extend([("method", json!("hash")), ("key", json!(key))]);
            upstream.balance.extend(hash.clone());
        }
        Some((Affinity::Cookie(cookie), _)) => {
            upstream.balance.insert("sticky", json!(cookie));
        }
        None => {}
    }
    upstream
}

/// What is spoken to it, and how long idle connections are kept.
fn protocol_options(mut options: Table, is_secured: bool, upstream: &mut Upstream) {
    let Some(mut options) = options.table("envoy.extensions.upstreams.http.v3.HttpProtocolOptions") else {
        return;
    };
    options.skip(&["@type"]);
    upstream.protocol = protocol(&mut options, is_secured);
    let common = options.table("common_http_protocol_options");
    let idle = common.and_then(|mut common| common.time("idle_timeout")).map(output::duration);
    upstream.keep_alive.extend(idle.map(|idle| ("idle", idle)));
}

fn protocol(options: &mut Table, is_secured: bool) -> Option<&'static str> {
    if let Some(mut explicit) = options.table("explicit_http_config") {
        explicit.skip_if("http_protocol_options", &["{}"]);
        return explicit.table("http2_protocol_options").map(|_| "h2");
    }
    // In the clear there is nothing by which it could be agreed.
    if !is_secured {
        return None;
    }
    let mut chosen = options.table("auto_config");
    if chosen.is_none() {
        chosen = options.table("use_downstream_protocol_config");
        if let Some(chosen) = &chosen {
            chosen
                .notes()
                .caution(chosen.path(), "it is what the upstream chooses, whatever the client speaks");
        }
    }
    let mut chosen = chosen?;
    for version in ["http_protocol_options", "http2_protocol_options"] {
        chosen.skip_if(version, &["{}"]);
    }
    Some("auto")
}
