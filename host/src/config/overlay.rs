//! What an operator changed of plugins while the gateway runs. It is gone with the next start, and as soon
//! as the file says something else of the plugin.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// By plugin.
#[derive(Clone, Debug, Default)]
pub struct Overlay(BTreeMap<String, Change>);

#[derive(Clone, Debug)]
struct Change {
    /// The plugin's table in the file when the change was made; none until the file is read for it.
    said: Option<Value>,
    /// Keys of the table; null takes one away.
    keys: Map<String, Value>,
}

impl Overlay {
    /// Another change takes the place of the one before.
    pub fn change(&mut self, plugin: &str, keys: Map<String, Value>) {
        let said = self.0.remove(plugin).and_then(|before| before.said);
        self.0.insert(plugin.to_owned(), Change { said, keys });
    }

    /// Names of the plugins that are not as the file says.
    pub fn plugins(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Makes the changes in the document, and forgets those that it has overtaken.
    pub fn apply(&mut self, document: &mut Value) {
        self.0.retain(|plugin, change| {
            let table = document.get("plugin").and_then(|plugins| plugins.get(plugin)).cloned();
            let table = table.unwrap_or_else(|| Value::Object(Map::new()));
            if *change.said.get_or_insert_with(|| table.clone()) != table {
                return false;
            }
            let (Some(document), Value::Object(mut table)) = (document.as_object_mut(), table) else {
                return true;
            };
            for (key, value) in &change.keys {
                match value {
                    Value::Null => _ = table.remove(key),
                    value => _ = table.insert(key.clone(), value.clone()),
                }
            }
            let plugins = document.entry("plugin").or_insert_with(|| Value::Object(Map::new()));
            if let Some(plugins) = plugins.as_object_mut() {
                plugins.insert(plugin.clone(), Value::Object(table));
            }
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keys(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn a_change_holds_until_the_file_says_something_else() {
        let mut overlay = Overlay::default();
        overlay.change("a", keys(json!({ "rollout": { "to": "b" } })));
        let file = json!({ "plugin": { "a": { "file": "x" } } });
        let mut document = file.clone();
        overlay.apply(&mut document);
        assert_eq!(document, json!({ "plugin": { "a": { "file": "x", "rollout": { "to": "b" } } } }));
        overlay.change("a", keys(json!({ "file": "b", "sha256": null })));
        document = file.clone();
        overlay.apply(&mut document);
        assert_eq!(document, json!({ "plugin": { "a": { "file": "b" } } }));
        document = json!({ "plugin": { "a": { "file": "y" } } });
        overlay.apply(&mut document);
        assert_eq!(document, json!({ "plugin": { "a": { "file": "y" } } }));
        assert_eq!(overlay.plugins().count(), 0);
    }

    #[test]
    fn a_plugin_without_a_table_gets_one() {
        let mut overlay = Overlay::default();
        overlay.change("a", keys(json!({ "file": "b" })));
        let mut document = json!({});
        overlay.apply(&mut document);
        assert_eq!(document, json!({ "plugin": { "a": { "file": "b" } } }));
    }
}
