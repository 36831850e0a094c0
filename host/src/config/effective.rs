//! The configuration as it works: with the defaults that the schema tells, without secrets.

use serde_json::{Map, Value};

use super::{KeyPath, Source, schema};

/// Tables that mean something by being there; others have defaults where they are left out.
const MEANT: [&str; 9] =
    ["access_log", "admin", "audit", "requests", "requests_per_client", "smoke", "rollout", "traces", "otlp"];

/// What stands in place of a secret.
const MASKED: &str = "(hidden)";

pub fn effective(source: &Source) -> Value {
    let root = schema();
    let mut value = source.value().clone();
    mask(source, &KeyPath::root(), &mut value);
    complete(&root, &root, &mut value);
    value
}

fn mask(source: &Source, path: &KeyPath, value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.iter_mut().for_each(|(key, value)| mask(source, &path.key(key), value));
        }
        Value::Array(entries) => {
            entries.iter_mut().enumerate().for_each(|(i, entry)| mask(source, &path.index(i), entry));
        }
        value if source.is_hidden(path) => *value = Value::String(MASKED.to_owned()),
        _ => {}
    }
}

/// Hides all texts in it, for the schema calls them secret.
fn hide(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(hide),
        Value::String(text) => MASKED.clone_into(text),
        _ => {}
    }
}

/// Adds defaults to all tables that the schema describes. Where it has several forms, tables are of the
/// one that has properties.
fn complete(root: &Value, schema: &Value, value: &mut Value) {
    let schema = resolve(root, schema);
    match value {
        Value::Object(map) => {
            for (key, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let default = property.get("default").or_else(|| resolve(root, property).get("default"));
                let table = || property.get("$ref").filter(|_| !MEANT.contains(&key.as_str()));
                let table = || table().map(|_| Value::Object(Map::new()));
                let default = default.filter(|default| !default.is_null()).cloned().or_else(table);
                if let (Some(default), false) = (default, map.contains_key(key)) {
                    map.insert(key.clone(), default);
                }
                if let Some(value) = map.get_mut(key) {
                    complete(root, property, value);
                    if property.get("writeOnly").is_some() {
                        hide(value);
                    }
                }
            }
            let entries = schema.get("additionalProperties").filter(|schema| schema.is_object());
            if let Some(schema) = entries {
                map.values_mut().for_each(|value| complete(root, schema, value));
            }
        }
        Value::Array(entries) => {
            if let Some(schema) = schema.get("items") {
                entries.iter_mut().for_each(|entry| complete(root, schema, entry));
            }
        }
        _ => {}
    }
}

fn resolve<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let target = schema.get("$ref").and_then(Value::as_str);
    if let Some(found) = target.and_then(|target| root.pointer(target.strip_prefix('#')?)) {
        return resolve(root, found);
    }
    let forms = schema.get("anyOf").and_then(Value::as_array);
    let mut tables = forms.into_iter().flatten().map(|form| resolve(root, form));
    tables.find(|form| form.get("properties").is_some()).unwrap_or(schema)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_are_there_and_tables_that_mean_something_are_not() {
        let text = "[[listener]]\nlimits.requests.rate = 1\n[upstream.a]\nendpoints = [\"h:1\"]\n[[route]]\nname = \"r\"\nplugins = [\"x\", { name = \"y\" }]\n";
        let (source, _) = Source::parse(text, "t", Path::new("."));
        let value = effective(&source);
        assert_eq!(value["server"]["drain_timeout"], "30s");
        assert_eq!(value["upstream"]["a"]["keep_alive"]["connections"], 256);
        assert_eq!(value["route"][0]["match"]["priority"], 0);
        assert!(value.get("admin").is_none() && value.get("access_log").is_none(), "{value:#}");
        assert_eq!(value["route"][0]["plugins"][0], "x");
        assert_eq!(value["listener"][0]["limits"], json!({ "requests": { "rate": 1, "per": "1s" } }));
    }
}
