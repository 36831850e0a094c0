//! `request_headers_to_add` and its like, which become uses of the plugin `headers`.

use http::HeaderName;
use serde_json::{Map, Value, json};

use super::{output::Use, tree::Table};
use crate::plugin::headers::is_forbidden;

/// The changes of one level: a route, a virtual host, the whole of the routes.
#[derive(Default)]
pub struct Changes {
    request: Vec<Change>,
    response: Vec<Change>,
}

struct Change {
    operation: Operation,
    name: String,
    value: String,
}

/// In the order in which the plugin carries them out.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Operation {
    Remove,
    Replace,
    Add,
    Append,
    Set,
}

impl Changes {
    pub fn take(table: &mut Table) -> Self {
        Changes { request: take(table, "request"), response: take(table, "response") }
    }

    /// The response gets this header, whatever else it has.
    pub fn setting_response(name: &str, value: String) -> Self {
        let change = Change { operation: Operation::Set, name: name.to_owned(), value };
        Changes { request: Vec::new(), response: vec![change] }
    }
}

/// The uses that make these changes, those of the first level first. A use has its operations in a fixed order, so what has to
/// happen to one header in another order takes further uses; responses pass them in reverse.
pub fn uses(levels: &[&Changes]) -> Vec<Use> {
    let requests = rules(levels.iter().flat_map(|changes| &changes.request));
    let mut responses = rules(levels.iter().flat_map(|changes| &changes.response));
    responses.reverse();
    let count = requests.len().max(responses.len());
    let used = (0..count).map(|i| {
        let mut config = Map::new();
        let both = [("request", requests.get(i)), ("response", responses.get(i))];
        for (message, rules) in both {
            config.extend(rules.map(|rules| (message.to_owned(), rules.clone())));
        }
        Use::Configured { name: "headers", config: config.into() }
    });
    used.collect()
}

/// Changes of the same header have to come in the order of their operations.
fn rules<'c>(changes: impl Iterator<Item = &'c Change>) -> Vec<Value> {
    let mut blocks = Vec::<Vec<&Change>>::new();
    for change in changes {
        let after = |other: &&Change| other.name != change.name || other.operation < change.operation;
        match blocks.last_mut().filter(|block| block.iter().all(after)) {
            Some(block) => block.push(change),
            None => blocks.push(vec![change]),
        }
    }
    blocks.into_iter().map(|block| Value::Object(block_rules(&block))).collect()
}

fn block_rules(block: &[&Change]) -> Map<String, Value> {
    let mut rules = Map::new();
    let values = [
        (Operation::Replace, "replace"),
        (Operation::Add, "add"),
        (Operation::Append, "append"),
        (Operation::Set, "set"),
    ];
    let of = |operation| block.iter().filter(move |change| change.operation == operation);
    let removed: Vec<_> = of(Operation::Remove).map(|change| &change.name).collect();
    if !removed.is_empty() {
        rules.insert("remove".to_owned(), json!(removed));
    }
    for (operation, key) in values {
        let named: Map<_, _> =
            of(operation).map(|change| (change.name.clone(), json!(change.value))).collect();
        if !named.is_empty() {
            rules.insert(key.to_owned(), named.into());
        }
    }
    rules
}

/// Envoy removes first, then overwrites, then adds.
fn take(table: &mut Table, message: &str) -> Vec<Change> {
    let notes = table.notes();
    let mut changes = Vec::new();
    for (path, name) in table.texts(&format!("{message}_headers_to_remove")) {
        match header_name(&name) {
            Some(name) => changes.push(Change { operation: Operation::Remove, name, value: String::new() }),
            None => notes.left(&path, NOT_CHANGED),
        }
    }
    let added = table.tables(&format!("{message}_headers_to_add"));
    let (overwriting, adding): (Vec<_>, Vec<_>) = added
        .into_iter()
        .filter_map(|option| added_header(option, message == "response"))
        .partition(|change| matches!(change.operation, Operation::Set | Operation::Replace));
    changes.extend(overwriting);
    changes.extend(adding);
    changes
}

const NOT_CHANGED: &str =
    "the plugin headers does not change this header; for the Host see `host` of upstreams";

/// A `HeaderValueOption`.
fn added_header(mut table: Table, is_response: bool) -> Option<Change> {
    let operation = operation(&mut table)?;
    let keeps_empty = table.flag("keep_empty_value").unwrap_or(false);
    let mut header = table.table("header")?;
    let name = header.text("key")?;
    let value = header.text("value")?;
    if value.is_empty() && !keeps_empty {
        return None;
    }
    let Some(name) = header_name(&name) else {
        header.leave(NOT_CHANGED);
        return None;
    };
    let Some(value) = template(&value, is_response) else {
        header.leave(&format!("the plugin headers cannot make {value:?}"));
        return None;
    };
    Some(Change { operation, name, value })
}

fn operation(table: &mut Table) -> Option<Operation> {
    let action = table.take("append_action", |action| match action.as_str()? {
        "APPEND_IF_EXISTS_OR_ADD" => Some(Operation::Append),
        "ADD_IF_ABSENT" => Some(Operation::Add),
        "OVERWRITE_IF_EXISTS_OR_ADD" => Some(Operation::Set),
        "OVERWRITE_IF_EXISTS" => Some(Operation::Replace),
        _ => None,
    });
    match table.flag("append") {
        _ if table.has("append_action") => None,
        Some(false) => Some(Operation::Set),
        _ => Some(action.unwrap_or(Operation::Append)),
    }
}

/// A header that plugins may change: neither of the connection and framing, nor Host.
fn header_name(text: &str) -> Option<String> {
    let name = HeaderName::from_bytes(text.as_bytes()).ok()?;
    (!is_forbidden(&name)).then(|| name.as_str().to_owned())
}

/// A value with Envoy's `%COMMAND%` as one with `${...}`.
fn template(text: &str, is_response: bool) -> Option<String> {
    let text = text.replace("${", "$${");
    let (mut template, mut rest) = (String::new(), text.as_str());
    while let Some((literal, after)) = rest.split_once('%') {
        let (command, after) = after.split_once('%')?;
        template += literal;
        template += &source(command, is_response)?;
        rest = after;
    }
    template += rest;
    (!template.contains(char::is_control)).then_some(template)
}

fn source(command: &str, is_response: bool) -> Option<String> {
    let source = match command {
        "" => return Some("%".to_owned()),
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => "client.ip".to_owned(),
        "REQ(:METHOD)" => "request.method".to_owned(),
        "REQ(:AUTHORITY)" => "request.host".to_owned(),
        "REQ(:SCHEME)" | "SCHEME" => "request.scheme".to_owned(),
        "RESPONSE_CODE" if is_response => "status".to_owned(),
        _ => {
            let (of, name) = command.strip_suffix(')')?.split_once('(')?;
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            match of {
                "REQ" | "REQUEST_HEADER" => format!("request.header.{name}"),
                "RESP" | "RESPONSE_HEADER" if is_response => format!("header.{name}"),
                _ => return None,
            }
        }
    };
    Some(format!("${{{source}}}"))
}
