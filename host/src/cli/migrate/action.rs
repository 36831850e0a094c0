//! What a route does with a request: it forwards it, or answers.

use std::time::Duration;

use http::uri::Authority;
use serde_json::{Map, Value, json};

use super::{
    cluster::{Upstreams, Want},
    header::Changes,
    output::Use,
    path::{Path, Rewritten},
    tree::Table,
};

/// Envoy's own.
const TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Default)]
pub struct Action {
    pub upstream: Option<String>,
    pub strip_prefix: Option<String>,
    pub rewrite: Option<String>,
    /// The path pattern that the new path needs, where it is not that of the match.
    pub pattern: Option<String>,
    /// Those that are closest to the action.
    pub changes: Changes,
    pub respond: Option<Use>,
}

/// None where nothing of wasmgate does the same.
pub fn take(table: &mut Table, path: &Path, upstreams: &mut Upstreams) -> Option<Action> {
    if let Some(route) = table.table("route") {
        return forward(route, path, upstreams);
    }
    if let Some(answer) = table.table("redirect") {
        return redirect(answer, path);
    }
    table.table("direct_response").and_then(direct_response)
}

fn forward(mut table: Table, path: &Path, upstreams: &mut Upstreams) -> Option<Action> {
    skip_empty(&mut table, &["cluster", "host_rewrite_literal", "prefix_rewrite"]);
    let (cluster, changes) = match table.text("cluster") {
        Some(cluster) => (cluster, Changes::default()),
        None => heaviest(&mut table)?,
    };
    let host = table.take("host_rewrite_literal", |host| {
        // The words have a meaning of their own there.
        let host =
            host.as_str().filter(|host| !host.contains('@') && !["preserve", "upstream"].contains(host))?;
        host.parse::<Authority>().is_ok().then(|| host.to_owned())
    });
    let own_host = table.flag("auto_host_rewrite").unwrap_or(false).then(|| "upstream".to_owned());
    let total = Some(table.duration("timeout").unwrap_or(TIMEOUT)).filter(|timeout| !timeout.is_zero());
    if !upstreams.knows(&cluster) {
        let why = format!("cluster {cluster:?} is not in the file; its upstream has no real endpoint");
        table.notes().left(table.path(), &why);
    }
    let mut action = Action {
        upstream: Some(upstreams.name_of(&cluster, Want { host: host.or(own_host), total })),
        changes,
        ..Action::default()
    };
    let prefix = table.take("prefix_rewrite", |prefix| {
        let prefix = prefix.as_str()?;
        match path.stripped(prefix) {
            Some(stripped) => action.strip_prefix = Some(stripped),
            None => action.set_path(path.with_prefix(prefix)?),
        }
        Some(())
    });
    if prefix.is_none()
        && let Some(rewritten) = regex_rewrite(&mut table, path)
    {
        action.set_path(rewritten);
    }
    Some(action)
}

/// An empty string of protobuf is one that is not given.
fn skip_empty(table: &mut Table, names: &[&str]) {
    names.iter().for_each(|name| table.skip_if(name, &[""]));
}

impl Action {
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

/// The cluster with most of the requests, for the upstream of a route is one.
fn heaviest(table: &mut Table) -> Option<(String, Changes)> {
    let mut weighted = table.table("weighted_clusters")?;
    weighted.skip(&["total_weight", "runtime_key_prefix"]);
    let clusters = weighted.tables("clusters").into_iter();
    let mut clusters: Vec<_> =
        clusters.map(|mut cluster| (cluster.number("weight").unwrap_or(0), cluster)).collect();
    // The first of equals.
    let (place, _) = clusters.iter().enumerate().rev().max_by_key(|(_, (weight, _))| *weight)?;
    let (_, mut chosen) = clusters.remove(place);
    let name = chosen.text("name")?;
    for (weight, other) in clusters {
        other.leave(&format!(
            "its weight of {weight} goes to {name:?}, the heaviest: a route has one upstream"
        ));
    }
    Some((name, Changes::take(&mut chosen)))
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
