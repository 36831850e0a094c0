//! Points in time that configs hold.

use std::ops::Deref;
use std::time::{Duration, SystemTime};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// A point in time as "2027-01-01T00:00:00Z" (RFC 3339, in UTC): what passes between 1970-01-01 UTC and then, as
/// [`clock::now`](crate::clock::now) has it.
///
/// ```
/// use wasmgate_sdk::{Time, serde_json};
///
/// let expires: Time = serde_json::from_str("\"2027-01-01T00:00:00Z\"")?;
/// assert_eq!(expires.as_secs(), 1_798_761_600);
/// assert!(serde_json::from_str::<Time>("\"2027-01-01\"").is_err());
/// # Ok::<(), wasmgate_sdk::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub Duration);

impl Deref for Time {
    type Target = Duration;

    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = humantime::parse_rfc3339(&text).ok();
        let since = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let wrong =
            || D::Error::custom(format_args!("{text:?} is not a time such as \"2027-01-01T00:00:00Z\""));
        since.map(Time).ok_or_else(wrong)
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?Z$",
            "description": "A time such as \"2027-01-01T00:00:00Z\" (RFC 3339, in UTC).",
        })
    }
}
