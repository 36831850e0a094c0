//! A plugin's config: from the gateway's JSON to the plugin's type, and that type's JSON Schema.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, Result};

/// Reads a config. Errors carry the path of the key: "limits[0].rate: invalid type ...".
pub(crate) fn read<C: DeserializeOwned>(text: &str) -> Result<C> {
    let value = match serde_json::from_str(text)? {
        Value::Null => Value::Object(Default::default()),
        value => value,
    };
    // None is an empty one, which `()` is read from in the form of null.
    let is_none = value.as_object().is_some_and(|map| map.is_empty());
    from_value(value).or_else(|error| match is_none {
        true => from_value(Value::Null).map_err(|_| error),
        false => Err(error),
    })
}

fn from_value<C: DeserializeOwned>(value: Value) -> Result<C> {
    serde_path_to_error::deserialize(value).map_err(|error| match error.path().iter().next() {
        None => Error::msg(error.inner()),
        Some(_) => Error::msg(format_args!("{}: {}", error.path(), error.inner())),
    })
}

/// JSON Schema (2020-12) of a config.
#[cfg(any(test, target_family = "wasm"))]
pub(crate) fn schema<C: schemars::JsonSchema>() -> String {
    let schema = schemars::schema_for!(C);
    if schema.get("type").is_some_and(|kind| kind == "null") {
        // `()`: no keys.
        return r#"{"type":"object","additionalProperties":false}"#.to_string();
    }
    schema.as_value().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[crate::config]
    #[expect(dead_code, reason = "only read and described here")]
    struct Config {
        /// How many.
        limit: u32,
        #[serde(default)]
        names: Vec<String>,
    }

    #[test]
    fn errors_name_the_key() {
        let message = |text| read::<Config>(text).err().unwrap().to_string();
        assert_eq!(message("null"), "missing field `limit`");
        assert_eq!(message(r#"{"limit": "x"}"#), "limit: invalid type: string \"x\", expected u32");
        assert_eq!(
            message(r#"{"limit": 1, "names": ["a", 2]}"#),
            "names[1]: invalid type: integer `2`, expected a string"
        );
        assert!(message(r#"{"limit": 1, "nmaes": []}"#).contains("unknown field `nmaes`"));
    }

    #[test]
    fn no_config_is_an_empty_one() {
        #[crate::config]
        #[serde(default)]
        #[derive(Default)]
        struct Lenient {
            limit: u32,
        }
        assert_eq!(read::<Lenient>("null").unwrap().limit, 0);
        read::<()>("null").unwrap();
        read::<()>("{}").unwrap();
        assert!(read::<()>(r#"{"limit": 1}"#).is_err());
        let schema: Value = serde_json::from_str(&schema::<()>()).unwrap();
        assert_eq!((&schema["type"], &schema["additionalProperties"]), (&"object".into(), &false.into()));
    }

    #[test]
    fn the_schema_tells_what_the_docs_say() {
        let schema: Value = serde_json::from_str(&schema::<Config>()).unwrap();
        assert_eq!(schema["properties"]["limit"]["description"], "How many.");
        assert_eq!(schema["required"], serde_json::json!(["limit"]));
        assert_eq!(schema["additionalProperties"], false);
    }
}
