//! What a route does with a request: it forwards it, or answers.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    cluster::{Upstreams, Want},
    header::Changes,
    output::{Branch, Keys, Split, Use},
    path::{Path, Rewritten},
    policy::{self, Affinity, Policies},
    resilience::literal_host,
    split::Shares,
    tree::Table,
    upgrade::Upgrades,
};

/// Envoy's own.
const TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Default)]
pub struct Action {
    pub upstream: Option<String>,
    /// In place of the upstream.
    pub split: Option<Split>,
    pub mirror: Keys,
    pub strip_prefix: Option<String>,
    pub rewrite: Option<String>,
    /// The path pattern that the new path needs, where it is not that of the match.
    pub pattern: Option<String>,
    /// Those that are closest to the action.
    pub changes: Changes,
    pub respond: Option<Use>,
    /// Of what is forwarded.
    pub upgrades: Option<Upgrades>,
}

/// None where nothing of wasmgate does the same.
pub fn take(table: &mut Table, path: &Path, above: &Policies, upstreams: &mut Upstreams) -> Option<Action> {
    if let Some(route) = table.table("route") {
        return forward(route, path, above, upstreams);
    }
    if let Some(answer) = table.table("redirect") {
        return redirect(answer, path);
    }
    table.table("direct_response").and_then(direct_response)
}

fn forward(mut table: Table, path: &Path, above: &Policies, upstreams: &mut Upstreams) -> Option<Action> {
    skip_empty(&mut table, &["cluster", "host_rewrite_literal", "prefix_rewrite"]);
    let shares = Shares::take(&mut table)?;
    let policies = Policies::take(&mut table).or(above);
    let host = table.take("host_rewrite_literal", |host| literal_host(host.as_str()?));
    let own_host = table.flag("auto_host_rewrite").unwrap_or(false).then(|| "upstream".to_owned());
    let total = Some(table.duration("timeout").unwrap_or(TIMEOUT)).filter(|timeout| !timeout.is_zero());
    let (affinity, sticky) = hashed(&mut table, &shares, upstreams);
    let want = Want { host: host.clone().or(own_host), total, retry: policies.retry(), affinity };
    let mut upstream = |cluster: &str, want| upstreams.name_of(cluster, want, table.path(), table.notes());
    let branches = shares.all.into_iter().map(|share| {
        let want = Want { host: share.host.or_else(|| want.host.clone()), ..want.clone() };
        Branch { upstream: upstream(&share.cluster, want), weight: share.weight }
    });
    let mut branches: Vec<_> = branches.collect();
    let mirror = policies.mirror.flatten().map(|mirror| {
        let want = Want { host: mirror.host.clone().or(host), total, ..Want::default() };
        mirror.keys(upstream(&mirror.cluster, want))
    });
    let only = if branches.len() == 1 { branches.pop() } else { None };
    let mut action = Action {
        upstream: only.map(|only| only.upstream),
        split: (!branches.is_empty()).then_some(Split { sticky, branches }),
        mirror: mirror.unwrap_or_default(),
        changes: shares.changes,
        upgrades: Some(Upgrades::take(&mut table)),
        ..Action::default()
    };
    action.rewrite(&mut table, path);
    Some(action)
}

/// What keeps requests at an endpoint, and what keeps them at a cluster.
fn hashed(table: &mut Table, shares: &Shares, upstreams: &Upstreams) -> (Option<Affinity>, Option<String>) {
    if !shares.by_hash && !upstreams.hashes(shares.clusters()) {
        return (None, None);
    }
    let affinity = policy::affinity(table);
    let sticky = match &affinity {
        Some(Affinity::Key(key)) if shares.by_hash => Some(key.clone()),
        _ => None,
    };
    if shares.by_hash && sticky.is_none() {
        let why = "shares by hash, for which the request has to bring a key; they go by chance";
        table.notes().left(&table.at("weighted_clusters").key("use_hash_policy"), why);
    }
    (affinity, sticky)
}

/// An empty string of protobuf is one that is not given.
fn skip_empty(table: &mut Table, names: &[&str]) {
    names.iter().for_each(|name| table.skip_if(name, &[""]));
}

impl Action {
    fn rewrite(&mut self, table: &mut Table, path: &Path) {
        let prefix = table.take("prefix_rewrite", |prefix| {
            let prefix = prefix.as_str()?;
            match path.stripped(prefix) {
                Some(stripped) => self.strip_prefix = Some(stripped),
                None => self.set_path(path.with_prefix(prefix)?),
            }
            Some(())
        });
        if prefix.is_none()
            && let Some(rewritten) = regex_rewrite(table, path)
        {
            self.set_path(rewritten);
        }
    }

    fn set_path(&mut self, rewritten: Rewritten) {
        self.pattern = rewritten.pattern;
        self.rewrite = Some(rewritten.path);
    }
}

/// Takes it only if it can be carried over.
fn regex_rewrite(table: &mut Table, path: &Path) -> Option<Rewritten> {
    table.take("regex_rewrite", |rewrite| {
        let expression = rewrite.get("pattern")?.get("regex")?.as_str()?;
        path.with_regex(expression, rewrite.get("substitution")?.as_str()?)
    })
}

fn respond(config: Map<String, Value>) -> Option<Use> {
    Some(Use::Configured { name: "respond", config: config.into() })
}

fn direct_response(mut table: Table) -> Option<Action> {
    let status =
        table.take("status", |status| status.as_u64().filter(|status| (200..=599).contains(status)))?;
    let mut config = Map::from_iter([("status".to_owned(), json!(status))]);
    let text = table.table("body").and_then(|mut body| body.text("inline_string"));
    // An answer with one of these has no body.
    if let Some(text) = text.filter(|_| !matches!(status, 204 | 205 | 304)) {
        config.insert("body".to_owned(), json!(text));
    }
    Some(Action { respond: respond(config), ..Action::default() })
}

fn redirect(mut table: Table, path: &Path) -> Option<Action> {
    skip_empty(&mut table, &["scheme_redirect", "host_redirect", "path_redirect", "prefix_rewrite"]);
    let status = table.take("response_code", |code| match code.as_str()? {
        "MOVED_PERMANENTLY" => Some(301),
        "FOUND" => Some(302),
        "SEE_OTHER" => Some(303),
        "TEMPORARY_REDIRECT" => Some(307),
        "PERMANENT_REDIRECT" => Some(308),
        _ => None,
    });
    let scheme = match table.flag("https_redirect") {
        Some(true) => Some("https".to_owned()),
        _ => table.text("scheme_redirect"),
    };
    let host = table.text("host_redirect");
    // The host of the request comes with its own port.
    let port = host.as_ref().and_then(|_| table.number("port_redirect"));
    let target = new_location(&mut table, path);
    if table.flag("strip_query") != Some(true) && !target.path.contains('?') {
        table.notes().left(table.path(), "the query of the request, which the new location goes without");
    }
    let location = format!(
        "{}://{}{}{}",
        scheme.map_or("${request.scheme}".to_owned(), literal),
        host.map_or("${request.host}".to_owned(), literal),
        port.map_or(String::new(), |port| format!(":{port}")),
        target.path
    );
    let mut config = Map::from_iter([("status".to_owned(), json!(status.unwrap_or(301)))]);
    let mut changes = Changes::default();
    if location.contains("${") {
        changes = Changes::setting_response("location", location);
    } else {
        config.insert("headers".to_owned(), json!({ "location": location }));
    }
    Some(Action { respond: respond(config), changes, pattern: target.pattern, ..Action::default() })
}

/// The new path, as a template of the plugin `headers`.
fn new_location(table: &mut Table, path: &Path) -> Rewritten {
    if let Some(target) = table.text("path_redirect") {
        return Rewritten { pattern: None, path: literal(target) };
    }
    let prefix = table.take("prefix_rewrite", |prefix| path.with_prefix(prefix.as_str()?));
    match prefix.or_else(|| regex_rewrite(table, path)) {
        Some(new) => Rewritten { path: new.path.replace('{', "${path."), ..new },
        None => Rewritten { pattern: None, path: "${request.path}".to_owned() },
    }
}

/// Without a meaning to the plugin's templates.
fn literal(text: String) -> String {
    text.replace("${", "$${")
}
