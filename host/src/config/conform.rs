//! Holds a part of a document against a JSON Schema and words what does not fit. It knows no key of the
//! config, so that the configs of plugins are held against the plugins' own schemas in the same way.

use jsonschema::{
    JsonType, ValidationError,
    error::{TypeKind, ValidationErrorKind as Kind},
    paths::{Location, LocationSegment},
};
use serde_json::{Map, Value};

use super::{
    key_path::KeyPath,
    problem::{Problem, nearest},
    source::Source,
};

/// Longer strings are cut in messages.
const SHOWN: usize = 40;

/// Checks the value at `path`; what the document lacks there counts as an empty table.
pub fn check_value(source: &Source, path: &KeyPath, schema: &Value) -> Vec<Problem> {
    let validator = match jsonschema::validator_for(schema) {
        Ok(validator) => validator,
        Err(error) => {
            let message = format!("the schema for this value is not valid: {}", error.masked());
            return vec![Problem::at_value(source, path, message)];
        }
    };
    let empty = Value::Object(Map::new());
    let value = source.get(path).unwrap_or(&empty);
    let mut wording = Wording { source, base: path, schema, problems: Vec::new() };
    for error in validator.iter_errors(value) {
        wording.fault(&error);
    }
    wording.problems
}

struct Wording<'a> {
    source: &'a Source,
    base: &'a KeyPath,
    schema: &'a Value,
    problems: Vec<Problem>,
}

impl Wording<'_> {
    fn fault(&mut self, error: &ValidationError<'_>) {
        match error.kind() {
            Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
                unexpected.iter().for_each(|key| self.unknown_key(error, key));
            }
            Kind::Required { property } => self.missing_key(error, property),
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
                self.alternatives(error, context);
            }
            Kind::PropertyNames { error: inner } => {
                let key = inner.instance().as_str().unwrap_or_default();
                let path = self.path(error).key(key);
                let message = format!("`{key}` is not a name that is allowed here");
                self.problems.push(Problem::at_key(self.source, &path, message));
            }
            _ => self.value_fault(error),
        }
    }

    fn unknown_key(&mut self, error: &ValidationError<'_>, key: &str) {
        let path = self.path(error).key(key);
        let object = self.facts(error).schema;
        let known: Vec<&str> = keys(object.and_then(|schema| schema.get("properties"))).collect();
        let mut message = format!("unknown key `{key}`");
        let near = nearest(key, known.iter().copied());
        if let Some(near) = near {
            message += &format!(", did you mean `{near}`?");
        }
        let problem = Problem::at_key(self.source, &path, message);
        self.problems.push(match near.is_some() || known.is_empty() {
            true => problem,
            false => problem.help(format!("known keys: {}", quoted(known))),
        });
    }

    fn missing_key(&mut self, error: &ValidationError<'_>, property: &Value) {
        let key = property.as_str().unwrap_or_default();
        let message = format!("missing key `{key}`");
        let problem = Problem::at_value(self.source, &self.path(error), message);
        let object = self.facts(error).schema;
        let property = object.and_then(|schema| schema.get("properties")?.get(key));
        let help = property.and_then(|schema| schema.get("description")?.as_str());
        self.problems.push(match help {
            Some(text) => problem.help(format!("{key}: {}", first_paragraph(text))),
            None => problem,
        });
    }

    /// A value that none of several forms fits: the form of its own type tells the real fault.
    fn alternatives(&mut self, error: &ValidationError<'_>, branches: &[Vec<ValidationError<'static>>]) {
        let here = error.instance_path();
        let of_other_type =
            |e: &ValidationError<'_>| matches!(e.kind(), Kind::Type { .. }) && e.instance_path() == here;
        let fitting: Vec<_> = branches.iter().filter(|errors| !errors.iter().any(of_other_type)).collect();
        let choices: Vec<&Value> = branches.iter().flatten().flat_map(|e| choices(e, here)).collect();
        let only_choices = fitting.iter().all(|errors| errors.iter().any(|e| !choices_of(e).is_empty()));
        if !choices.is_empty() && only_choices {
            return self.expected(error, &one_of(&choices), near_choice(error, &choices));
        }
        if let Some(keys) = alternative_keys(&fitting, here) {
            let message = format!("missing key: one of {}", quoted(keys));
            self.problems.push(Problem::at_value(self.source, &self.path(error), message));
            return;
        }
        // A branch whose tag differs is further off than any number of faults under the right tag.
        let distance = |errors: &&&Vec<ValidationError<'static>>| {
            (errors.iter().any(|e| !choices_of(e).is_empty()), errors.len())
        };
        match fitting.iter().min_by_key(distance) {
            Some(errors) => errors.iter().for_each(|error| self.fault(error)),
            None => {
                let mut wanted: Vec<String> = Vec::new();
                for error in branches.iter().flatten().filter(|e| of_other_type(e)) {
                    let form = self.form(error);
                    if !wanted.contains(&form) {
                        wanted.push(form);
                    }
                }
                self.expected(error, &wanted.join(" or "), None);
            }
        }
    }

    /// Faults whose message is "expected this, found that".
    fn value_fault(&mut self, error: &ValidationError<'_>) {
        let expected = match error.kind() {
            Kind::Type { .. } | Kind::Pattern { .. } => self.form(error),
            Kind::Enum { .. } | Kind::Constant { .. } => {
                let choices = choices_of(error);
                return self.expected(error, &one_of(&choices), near_choice(error, &choices));
            }
            Kind::Minimum { limit } => format!("a number of at least {limit}"),
            Kind::Maximum { limit } => format!("a number of at most {limit}"),
            Kind::ExclusiveMinimum { limit } => format!("a number above {limit}"),
            Kind::ExclusiveMaximum { limit } => format!("a number below {limit}"),
            Kind::MultipleOf { multiple_of } => format!("a multiple of {multiple_of}"),
            Kind::MinLength { limit } => {
                format!("a string of at least {}", count(*limit, "character"))
            }
            Kind::MaxLength { limit } => {
                format!("a string of at most {}", count(*limit, "character"))
            }
            Kind::MinItems { limit } => format!("at least {}", count(*limit, "entry")),
            Kind::MaxItems { limit } => format!("at most {}", count(*limit, "entry")),
            Kind::MinProperties { limit } => format!("at least {}", count(*limit, "key")),
            Kind::MaxProperties { limit } => format!("at most {}", count(*limit, "key")),
            Kind::UniqueItems => "entries that differ from each other".to_owned(),
            Kind::Format { format } => format!("a string in the format `{format}`"),
            _ => {
                let message = error.masked_with("this value").to_string();
                let problem = Problem::at_value(self.source, &self.path(error), message);
                return self.problems.push(problem);
            }
        };
        self.expected(error, &expected, None);
    }

    fn expected(&mut self, error: &ValidationError<'_>, expected: &str, near: Option<String>) {
        let path = self.path(error);
        let found = found(error.instance(), self.source.is_hidden(&path));
        let mut message = format!("expected {expected}, found {found}");
        // A near name would give a hidden value away.
        if let Some(near) = near.filter(|_| !self.source.is_hidden(&path)) {
            message += &format!(", did you mean {near}?");
        }
        let problem = Problem::at_value(self.source, &path, message);
        self.problems.push(match self.facts(error).description {
            Some(text) => problem.help(first_paragraph(text)),
            None => problem,
        });
    }

    /// The form that the failed part of the schema asks for, with an example where the schema has one.
    fn form(&self, error: &ValidationError<'_>) -> String {
        let facts = self.facts(error);
        let kind = match error.kind() {
            Kind::Type { kind: TypeKind::Single(kind) } => type_name(*kind).to_owned(),
            Kind::Type { kind: TypeKind::Multiple(kinds) } => {
                kinds.iter().map(type_name).collect::<Vec<_>>().join(" or ")
            }
            Kind::Pattern { pattern } if facts.example.is_none() => {
                return format!("a string that matches `{pattern}`");
            }
            _ => "a string".to_owned(),
        };
        match facts.example {
            Some(example) => format!("{kind} such as {example}"),
            None => kind,
        }
    }

    fn path(&self, error: &ValidationError<'_>) -> KeyPath {
        error.instance_path().segments().fold(self.base.clone(), |path, segment| match segment {
            LocationSegment::Property(key) => path.key(&key),
            LocationSegment::Index(index) => path.index(index),
        })
    }

    /// What the schema says about the value at fault, gathered along the way to the failed keyword.
    fn facts(&self, error: &ValidationError<'_>) -> Facts<'_> {
        let mut facts = Facts { schema: Some(self.schema), ..Facts::default() };
        let way = error.evaluation_path();
        let steps = way.segments().count().saturating_sub(1);
        let mut in_properties = false;
        for segment in way.segments().take(steps) {
            let keyword = segment.to_string();
            facts.schema = facts.schema.and_then(|node| match keyword.as_str() {
                "$ref" => self.schema.pointer(node.get("$ref")?.as_str()?.strip_prefix('#')?),
                _ => node.get(&keyword).or_else(|| node.get(keyword.parse::<usize>().ok()?)),
            });
            if in_properties || matches!(keyword.as_str(), "items" | "additionalProperties") {
                (facts.description, facts.example) = (None, None);
            }
            in_properties = !in_properties && keyword == "properties";
            if !in_properties && let Some(node) = facts.schema {
                facts.gather(node);
            }
        }
        facts
    }
}

#[derive(Default)]
struct Facts<'a> {
    /// The schema that holds the failed keyword.
    schema: Option<&'a Value>,
    description: Option<&'a str>,
    example: Option<&'a Value>,
}

impl<'a> Facts<'a> {
    /// The deeper a schema, the closer what it says.
    fn gather(&mut self, node: &'a Value) {
        let description = node.get("description").and_then(Value::as_str);
        let example = node.get("examples").and_then(|examples| examples.get(0));
        self.description = description.or(self.description);
        self.example = example.or(self.example);
    }
}

/// The keys of which each branch lacks another one, where they lack nothing else.
fn alternative_keys<'e>(
    branches: &[&'e Vec<ValidationError<'static>>],
    here: &Location,
) -> Option<Vec<&'e str>> {
    let lacking = |errors: &&'e Vec<ValidationError<'static>>| match &errors[..] {
        [error] if error.instance_path() == here => match error.kind() {
            Kind::Required { property } => property.as_str(),
            _ => None,
        },
        _ => None,
    };
    let mut keys = branches.iter().map(lacking).collect::<Option<Vec<_>>>()?;
    keys.dedup();
    (keys.len() > 1).then_some(keys)
}

/// The values that an enumeration or constant at `here` would have accepted.
fn choices<'e>(error: &'e ValidationError<'_>, here: &Location) -> Vec<&'e Value> {
    match error.kind() {
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
            context.iter().flatten().flat_map(|inner| choices(inner, here)).collect()
        }
        _ if error.instance_path() == here => choices_of(error),
        _ => Vec::new(),
    }
}

fn choices_of<'e>(error: &'e ValidationError<'_>) -> Vec<&'e Value> {
    match error.kind() {
        Kind::Enum { options } => options.as_array().into_iter().flatten().collect(),
        Kind::Constant { expected_value } => vec![&**expected_value],
        _ => Vec::new(),
    }
}

fn near_choice(error: &ValidationError<'_>, choices: &[&Value]) -> Option<String> {
    let candidates = choices.iter().filter_map(|choice| choice.as_str());
    nearest(error.instance().as_str()?, candidates).map(|near| format!("`{near}`"))
}

fn one_of(choices: &[&Value]) -> String {
    let shown = choices.iter().map(|choice| match choice {
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    });
    match choices {
        [_] => shown.collect(),
        _ => format!("one of {}", shown.collect::<Vec<_>>().join(", ")),
    }
}

fn quoted(words: Vec<&str>) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn keys(properties: Option<&Value>) -> impl Iterator<Item = &str> {
    properties.and_then(Value::as_object).into_iter().flat_map(Map::keys).map(String::as_str)
}

fn count(number: u64, thing: &str) -> String {
    match (number, thing) {
        (1, _) => format!("1 {thing}"),
        (_, "entry") => format!("{number} entries"),
        _ => format!("{number} {thing}s"),
    }
}

fn type_name(kind: JsonType) -> &'static str {
    match kind {
        JsonType::Array => "an array",
        JsonType::Boolean => "`true` or `false`",
        JsonType::Integer => "an integer",
        JsonType::Null => "nothing",
        JsonType::Number => "a number",
        JsonType::Object => "a table",
        JsonType::String => "a string",
    }
}

fn found(value: &Value, hidden: bool) -> String {
    match value {
        Value::String(_) if hidden => "a hidden string".to_owned(),
        Value::String(text) if text.chars().count() > SHOWN => {
            format!("{:?}...", text.chars().take(SHOWN).collect::<String>())
        }
        Value::String(text) => format!("{text:?}"),
        Value::Number(number) if number.is_f64() => format!("the number {number}"),
        Value::Number(number) => format!("the integer {number}"),
        Value::Bool(value) => format!("`{value}`"),
        Value::Array(entries) if entries.is_empty() => "an empty array".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "a table".to_owned(),
        Value::Null => "nothing".to_owned(),
    }
}

/// The first paragraph of a description, in one line.
fn first_paragraph(text: &str) -> String {
    text.split("\n\n").next().unwrap_or_default().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::{KeyPath, Source, check_value};

    /// Messages for `text` held against a schema, as a plugin's config would be.
    fn messages(text: &str, schema: Value) -> Vec<String> {
        let (source, problems) = Source::parse(text, "test.toml", Path::new("."));
        assert_eq!(problems, []);
        let problems = check_value(&source, &KeyPath::root(), &schema);
        problems.into_iter().map(|p| format!("{}: {}", p.path, p.message)).collect()
    }

    #[test]
    fn the_branch_of_the_same_type_tells_the_fault() {
        let entry = json!({ "anyOf": [
            { "type": "string" },
            { "type": "object", "properties": { "hash": { "type": "string" } }, "additionalProperties": false }
        ] });
        let schema = json!({ "properties": { "key": entry } });
        for (text, expected) in [
            ("key = 1", "key: expected a string or a table, found the integer 1"),
            ("key = { hash = 2 }", "key.hash: expected a string, found the integer 2"),
            ("key = { has = \"x\" }", "key.has: unknown key `has`, did you mean `hash`?"),
        ] {
            assert_eq!(messages(text, schema.clone()), [expected]);
        }
        assert!(messages("key = \"x\"", schema).is_empty());
    }

    #[test]
    fn a_tag_chooses_the_branch() {
        let branch = |tag: &str, key: &str| {
            json!({ "type": "object", "required": ["by", key], "additionalProperties": false,
                "properties": { "by": { "const": tag }, key: { "type": "string" } } })
        };
        let schema = json!({ "oneOf": [branch("header", "name"), branch("cookie", "jar")] });
        let found = messages("by = \"cookie\"\njr = \"x\"", schema.clone());
        assert_eq!(found, [": missing key `jar`", "jr: unknown key `jr`, did you mean `jar`?"]);
    }

    #[test]
    fn one_of_several_keys_is_missing() {
        let branch = |key: &str| json!({ "type": "object", "required": [key], "properties": { key: {} } });
        let schema = json!({ "properties": { "a": { "oneOf": [branch("header"), branch("query")] } } });
        assert_eq!(messages("a = {}", schema), ["a: missing key: one of `header`, `query`"]);
    }

    #[test]
    fn enumerations_of_any_shape() {
        let plain = json!({ "enum": ["open", "closed"] });
        let documented = json!({ "oneOf": [{ "const": "open" }, { "const": "closed" }] });
        let optional = json!({ "anyOf": [documented.clone(), { "type": "boolean" }] });
        let expected = "a: expected one of `open`, `closed`, found \"opne\", did you mean `open`?";
        for schema in [plain, documented, optional] {
            assert_eq!(messages("a = \"opne\"", json!({ "properties": { "a": schema } })), [expected]);
        }
    }

    #[test]
    fn a_hidden_value_is_never_shown() {
        let name = std::env::var("CARGO_PKG_NAME").expect("cargo sets it");
        let near = format!("{name}x");
        let schemas = [
            json!({ "type": "integer" }),
            json!({ "pattern": "^[0-9]$" }),
            json!({ "enum": [near, "y"] }),
            json!({ "const": 1 }),
            json!({ "maxLength": 1 }),
            json!({ "not": { "type": "string" } }),
            json!({ "format": "ipv4", "type": "array" }),
            json!({ "anyOf": [{ "type": "integer" }, { "maxLength": 1 }] }),
        ];
        for schema in schemas {
            let schema = json!({ "properties": { "a": schema } });
            let found = messages("a = \"${env:CARGO_PKG_NAME}\"", schema.clone());
            assert_eq!(found.len(), 1, "{schema}");
            let leaked = found[0].replace(&near, "").contains(&name);
            assert!(!leaked, "{}", found[0]);
        }
    }

    #[test]
    fn a_schema_that_is_none_is_a_problem_of_the_plugin() {
        let found = messages("a = 1", json!({ "type": 5 }));
        assert!(found[0].contains("the schema for this value is not valid"), "{found:?}");
    }

    #[test]
    fn a_missing_config_is_an_empty_table() {
        let (source, _) = Source::parse("a = 1", "test.toml", Path::new("."));
        let schema = json!({ "required": ["keys"], "properties": { "keys": {} } });
        let problems = check_value(&source, &KeyPath::root().key("config"), &schema);
        assert_eq!(problems[0].message, "missing key `keys`");
    }
}
