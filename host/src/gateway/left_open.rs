//! Plugins that let requests go on which they refuse, for another one behind them to decide: which do and which decide, their
//! schemas say. Where nobody decides, everybody gets in.

use serde_json::Value;

/// On a key of a plugin's config, in its schema: where the key is true, what is named here is left open.
const OPENS: &str = "x-leaves-open";
/// On the whole schema: what the plugin closes.
const CLOSES: &str = "x-closes";

/// The places and keys of what a chain of schemas and configs leaves open.
pub fn find<'a>(chain: impl Iterator<Item = (&'a Value, Option<&'a Value>)>) -> Vec<(usize, &'a str)> {
    let mut open: Vec<(usize, &str, &Value)> = Vec::new();
    for (place, (schema, config)) in chain.enumerate() {
        if let Some(closes) = schema.get(CLOSES) {
            open.retain(|(_, _, what)| *what != closes);
        }
        let keys = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let is_true = |key: &str| config.and_then(|config| config.get(key)) == Some(&Value::Bool(true));
        let opens = keys.filter_map(|(key, schema)| Some((key, schema.get(OPENS)?)));
        open.extend(opens.filter(|(key, _)| is_true(key)).map(|(key, what)| (place, key.as_str(), what)));
    }
    open.into_iter().map(|(place, key, _)| (place, key)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_nobody_closes_is_open() {
        let opens = json!({"properties": {"any": {"x-leaves-open": "a"}, "other": {}}});
        let closes = json!({"x-closes": "a"});
        let elsewhere = json!({"x-closes": "b"});
        let on = json!({"any": true, "other": true});
        let off = json!({"any": false});
        for (chain, expected) in [
            (&[(&opens, Some(&on)), (&closes, None)][..], &[][..]),
            (&[(&opens, Some(&on)), (&opens, Some(&on)), (&closes, Some(&off))], &[]),
            (&[(&opens, Some(&off)), (&opens, None)], &[]),
            (&[(&Value::Bool(true), Some(&on))], &[]),
            (&[(&opens, Some(&on))], &[(0, "any")]),
            (&[(&opens, Some(&on)), (&elsewhere, None)], &[(0, "any")]),
            (&[(&opens, Some(&on)), (&closes, None), (&opens, Some(&on))], &[(2, "any")]),
        ] {
            assert_eq!(find(chain.iter().copied()), expected);
        }
    }
}
