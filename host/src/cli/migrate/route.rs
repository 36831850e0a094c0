//! Virtual hosts and their routes.

use std::collections::BTreeSet;

use super::{
    action,
    cluster::Upstreams,
    header::{self, Changes},
    matching,
    names::Names,
    output::{Match, Route, Use},
    policy::Policies,
    tree::Table,
    upgrade::Upgrades,
};
use crate::{config::KeyPath, router::HostPattern};

/// The routes that Envoy asks for certain hosts, in its order.
pub struct VirtualHost {
    pub place: KeyPath,
    pub listener: String,
    /// `*` stands for every host.
    pub hosts: Vec<String>,
    pub routes: Vec<Route>,
}

/// What the routes of one listener share.
pub struct Scope<'a> {
    pub listener: &'a str,
    /// The listener's filters.
    pub filters: &'a [Use],
    pub upgrades: &'a Upgrades,
    pub upstreams: &'a mut Upstreams,
    pub names: &'a mut Names,
}

/// What a route has from above.
struct Above<'a> {
    hosts: &'a [String],
    /// The virtual host's and those of all routes.
    changes: [&'a Changes; 2],
    closest_wins: bool,
    policies: &'a Policies,
}

/// A `route_config`.
pub fn read(mut table: Table, scope: &mut Scope) -> Vec<VirtualHost> {
    // Ports of hosts are never compared.
    table.skip(&["name", "validate_clusters", "ignore_port_in_host_matching"]);
    let closest_wins = table.flag("most_specific_header_mutations_wins").unwrap_or(false);
    let changes = Changes::take(&mut table);
    let policies = Policies::take(&mut table);
    let (mut virtual_hosts, mut taken) = (Vec::new(), BTreeSet::new());
    for mut host in table.tables("virtual_hosts") {
        host.skip_if("require_tls", &["NONE"]);
        let name = host.text("name").unwrap_or_default();
        let hosts = domains(&mut host, &mut taken);
        if hosts.is_empty() {
            host.leave("a virtual host without a domain that could be carried over");
            continue;
        }
        let own = Changes::take(&mut host);
        let policies = Policies::take(&mut host).or(&policies);
        let above = Above { hosts: &hosts, changes: [&own, &changes], closest_wins, policies: &policies };
        let tables = host.tables("routes");
        let is_only = tables.len() == 1;
        let routes = tables.into_iter().enumerate().filter_map(|(i, table)| {
            let name = if is_only { name.clone() } else { format!("{name}-{}", i + 1) };
            route(table, name, &above, scope)
        });
        let routes = routes.collect();
        let place = host.path().clone();
        virtual_hosts.push(VirtualHost { place, listener: scope.listener.to_owned(), hosts, routes });
    }
    virtual_hosts
}

/// The hosts of a virtual host as the config has them. `taken` are those of the virtual hosts before.
fn domains(table: &mut Table, taken: &mut BTreeSet<String>) -> Vec<String> {
    let notes = table.notes();
    let mut hosts = Vec::new();
    for (path, domain) in table.texts("domains") {
        let (name, has_port) = match domain.rsplit_once(':') {
            Some((name, port)) if port == "*" || port.parse::<u16>().is_ok() => (name, true),
            _ => (domain.as_str(), false),
        };
        let host = match name.parse::<HostPattern>() {
            Ok(host) => host.to_string(),
            Err(error) => {
                notes.left(&path, error.problem());
                continue;
            }
        };
        if hosts.contains(&host) {
            continue;
        }
        if !taken.insert(host.clone()) {
            notes.left(&path, "another virtual host has this host, and ports of hosts are not compared");
            continue;
        }
        if has_port {
            notes.caution(&path, "ports of hosts are not compared: this takes the host with any port");
        }
        hosts.push(host);
    }
    hosts
}

fn route(mut table: Table, name: String, above: &Above, scope: &mut Scope) -> Option<Route> {
    let name = table.text("name").filter(|name| !name.is_empty()).unwrap_or(name);
    let place = table.path().clone();
    let asked = table.table("match");
    let asked_at = asked.as_ref().map_or_else(|| place.clone(), |asked| asked.at("prefix"));
    let Some((path, matches)) = asked.and_then(matching::read) else {
        table.leave("no route of wasmgate can match like this; its requests go to the routes that are left");
        return None;
    };
    let Some(action) = action::take(&mut table, &path, above.policies, scope.upstreams) else {
        table.leave("no route of wasmgate can do this; its requests go to the routes that are left");
        return None;
    };
    if action.pattern.is_none()
        && let Some(difference) = path.difference()
    {
        table.notes().caution(&asked_at, &difference);
    }
    let own = Changes::take(&mut table);
    let mut levels = vec![&action.changes, &own, above.changes[0], above.changes[1]];
    if above.closest_wins {
        levels.reverse();
    }
    let mut plugins = scope.filters.to_vec();
    plugins.extend(header::uses(&levels));
    plugins.extend(action.respond);
    let every_host = above.hosts.len() == 1 && above.hosts[0] == "*";
    Some(Route {
        name: scope.names.unique(if name.is_empty() { "route" } else { &name }),
        place,
        matches: Match {
            listener: Some(scope.listener.to_owned()),
            host: if every_host { Vec::new() } else { above.hosts.to_vec() },
            path: action.pattern.or(matches.path),
            ..matches
        },
        upstream: action.upstream,
        split: action.split,
        mirror: action.mirror,
        strip_prefix: action.strip_prefix,
        rewrite: action.rewrite,
        plugins,
        upgrades: action.upgrades.and_then(|own| own.or(scope.upgrades).allowed()),
    })
}
