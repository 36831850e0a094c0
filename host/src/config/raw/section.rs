//! A part of the file that is read on its own, so that a malformed one does not keep the others from being checked.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

/// The part, or the reason why it is malformed.
pub struct Section<T>(pub Result<T, String>);

impl<T: Default> Default for Section<T> {
    fn default() -> Self {
        Section(Ok(T::default()))
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Section<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(Section(serde_json::from_value(value).map_err(|error| error.to_string())))
    }
}

impl<T: JsonSchema> JsonSchema for Section<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}
