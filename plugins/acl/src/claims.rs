//! What a token says, and whether it is what a rule wants.

use wasmgate_sdk::{auth::Claims, serde_json::Value};

/// Claims that are lists of words with spaces between them (RFC 8693, section 4.2).
const SCOPES: [&str; 2] = ["scope", "scp"];

/// Whether the claim of this path is one of those that are wanted, or a list that holds one.
pub fn fit(claims: &Claims, path: &str, wanted: &Value) -> bool {
    let is_wanted = |value: &Value| match wanted {
        Value::Array(any) => any.contains(value),
        one => one == value,
    };
    match claims.get(path) {
        None | Some(Value::Null) => false,
        Some(value) if *wanted == Value::Bool(true) => *value != Value::Bool(false),
        Some(Value::Array(list)) => list.iter().any(is_wanted),
        Some(Value::String(scopes)) if SCOPES.contains(&path) => {
            scopes.split_ascii_whitespace().any(|scope| is_wanted(&scope.into()))
        }
        Some(one) => is_wanted(one),
    }
}

/// Whether a claim can be that at all.
pub fn can_fit(wanted: &Value) -> bool {
    match wanted {
        Value::Array(list) => {
            !list.is_empty() && list.iter().all(|value| !value.is_array() && can_fit(value))
        }
        Value::Null | Value::Object(_) => false,
        _ => true,
    }
}
