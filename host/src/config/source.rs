//! A parsed document that remembers where each value stands and which values are secrets. It knows TOML, and
//! nothing of what the keys mean.

use std::{collections::BTreeSet, fmt, ops::Range, path::Path};

use serde_json::{Map, Number, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Files,
    expand::expand,
    key_path::{KeyPath, Step},
    problem::Problem,
};

pub struct Source {
    name: String,
    text: String,
    value: Value,
    spans: Spans,
    hidden: BTreeSet<KeyPath>,
    files: Files,
}

/// Where a value stands, and where what is in it does.
#[derive(Default)]
struct Spans {
    /// None for entries of an array.
    key: Option<Range<usize>>,
    value: Range<usize>,
    inside: Vec<(Step, Spans)>,
}

impl Source {
    /// Parses and expands. `name` is what messages call the document; `${file:...}` is relative to `base`.
    /// The problems are those of syntax or, where there are none, of expansion. With broken syntax the value
    /// is null: guesses at what was meant would only mislead.
    pub fn parse(text: &str, name: &str, base: &Path) -> (Self, Vec<Problem>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let syntax = errors
            .iter()
            .map(|error| Problem::new(KeyPath::root(), error.span().or(Some(0..0)), error.message()));
        let mut reading = Reading {
            base,
            path: Vec::new(),
            problems: syntax.collect(),
            wrong: Vec::new(),
            source: Source {
                name: name.to_owned(),
                text: text.to_owned(),
                value: Value::Null,
                spans: Spans::default(),
                hidden: BTreeSet::new(),
                files: Files::default(),
            },
        };
        if reading.problems.is_empty() {
            let mut spans = Spans::default();
            reading.source.value = reading.table(table.get_ref(), &mut spans);
            reading.source.spans = spans;
        }
        let Reading { source, mut problems, wrong, .. } = reading;
        problems.extend(wrong.into_iter().map(|(path, reason)| Problem::at_value(&source, &path, reason)));
        (source, problems)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The whole document, expanded.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// To change it before it is checked. What is new is located at what is around it.
    pub fn value_mut(&mut self) -> &mut Value {
        &mut self.value
    }

    pub fn get(&self, path: &KeyPath) -> Option<&Value> {
        path.steps().iter().try_fold(&self.value, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        })
    }

    /// Whether the value, or one in it, came from outside the document, so that no message may show it.
    pub fn is_hidden(&self, path: &KeyPath) -> bool {
        self.hidden.iter().any(|hidden| hidden.is_within(path))
    }

    /// Whether some hidden value is this text.
    pub fn is_secret(&self, text: &str) -> bool {
        self.hidden.iter().any(|path| self.get(path).is_some_and(|value| value == text))
    }

    /// Files named by `${file:...}`.
    pub fn files(&self) -> &Files {
        &self.files
    }

    pub fn value_span(&self, path: &KeyPath) -> Range<usize> {
        self.nearest(path).value.clone()
    }

    pub fn key_span(&self, path: &KeyPath) -> Range<usize> {
        let spans = self.nearest(path);
        spans.key.clone().unwrap_or(spans.value.clone())
    }

    /// The spans of the value, or of the closest thing around it where the document lacks it.
    fn nearest(&self, path: &KeyPath) -> &Spans {
        let mut nearest = &self.spans;
        for step in path.steps() {
            let Some((_, spans)) = nearest.inside.iter().find(|(found, _)| found == step) else { break };
            nearest = spans;
        }
        nearest
    }
}

/// Leaves the values out: some are secrets.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The way from TOML's values to [`Source`].
struct Reading<'a> {
    base: &'a Path,
    /// To the value that is being read.
    path: Vec<Step>,
    source: Source,
    problems: Vec<Problem>,
    /// Values that mean nothing, and why: they can be located when all has been read.
    wrong: Vec<(KeyPath, String)>,
}

impl Reading<'_> {
    fn table(&mut self, table: &DeTable<'_>, spans: &mut Spans) -> Value {
        let mut map = Map::new();
        for (key, value) in table {
            let step = Step::Key(key.get_ref().to_string());
            let value = self.inside(step, Some(key.span()), value, spans);
            map.insert(key.get_ref().to_string(), value);
        }
        Value::Object(map)
    }

    /// The value that a table or an array has there.
    fn inside(
        &mut self,
        step: Step,
        key: Option<Range<usize>>,
        value: &Spanned<DeValue<'_>>,
        around: &mut Spans,
    ) -> Value {
        let mut spans = Spans { key, value: value.span(), inside: Vec::new() };
        self.path.push(step);
        let value = self.value(value.get_ref(), &mut spans);
        around.inside.extend(self.path.pop().map(|step| (step, spans)));
        value
    }

    fn value(&mut self, value: &DeValue<'_>, spans: &mut Spans) -> Value {
        match value {
            DeValue::Table(table) => self.table(table, spans),
            DeValue::Array(entries) => {
                let entries = entries.iter().enumerate();
                entries.map(|(i, entry)| self.inside(Step::Index(i), None, entry, spans)).collect()
            }
            DeValue::String(text) => Value::String(self.string(text)),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(time) => Value::String(time.to_string()),
            DeValue::Integer(digits) => {
                let number = i64::from_str_radix(digits.as_str(), digits.radix());
                self.number(number.ok().map(Number::from), "a 64-bit integer")
            }
            DeValue::Float(digits) => {
                let number = digits.as_str().parse().ok().and_then(Number::from_f64);
                self.number(number, "a finite number")
            }
        }
    }

    fn string(&mut self, text: &str) -> String {
        match expand(text, self.base, &mut self.source.files) {
            Ok(expanded) => {
                if expanded.secret {
                    self.source.hidden.insert(self.here());
                }
                expanded.text
            }
            Err(reason) => {
                self.wrong.push((self.here(), reason));
                text.to_owned()
            }
        }
    }

    fn number(&mut self, number: Option<Number>, expected: &str) -> Value {
        let Some(number) = number else {
            self.wrong.push((self.here(), format!("expected {expected}")));
            return Value::Null;
        };
        Value::Number(number)
    }

    fn here(&self) -> KeyPath {
        self.path.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Files, KeyPath, Source};

    const TEXT: &str = r#"
[server]
workers = 2
[[route]]
name = "users"
plugins = ["a", { name = "b", config = { header = "x" } }]
[upstream.users]
endpoints = []
"#;

    fn source(text: &str) -> Source {
        let (source, problems) = Source::parse(text, "test.toml", Path::new("."));
        assert_eq!(problems, []);
        source
    }

    #[test]
    fn spans_of_keys_values_and_headers() {
        let source = source(TEXT);
        let route = KeyPath::root().key("route").index(0);
        let header = route.key("plugins").index(1).key("config").key("header");
        let value = |path: &KeyPath| &TEXT[source.value_span(path)];
        assert_eq!(&TEXT[source.key_span(&header)], "header");
        assert_eq!(value(&header), "\"x\"");
        assert_eq!(value(&route.key("plugins").index(0)), "\"a\"");
        assert_eq!(value(&route), "[[route]]");
        assert_eq!(value(&KeyPath::root().key("upstream").key("users")), "[upstream.users]");
    }

    #[test]
    fn what_is_missing_is_at_what_lacks_it() {
        let source = source(TEXT);
        let missing = KeyPath::root().key("server").key("drain_timeout").key("deeper");
        assert_eq!(&TEXT[source.value_span(&missing)], "[server]");
        assert_eq!(source.value_span(&KeyPath::root()), 0..0);
    }

    #[test]
    fn expanded_values_are_hidden_and_files_remembered() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("key"), "s3cret\n").expect("written");
        let text = "a = [\"${file:key}\", \"plain\"]";
        let (source, problems) = Source::parse(text, "test.toml", folder.path());
        assert_eq!(problems, []);
        let first = KeyPath::root().key("a").index(0);
        assert_eq!(source.get(&first), Some(&"s3cret".into()));
        assert!(source.is_hidden(&first) && !source.is_hidden(&KeyPath::root().key("a").index(1)));
        assert_eq!(source.files(), &Files::from_iter([folder.path().join("key")]));
        assert!(!format!("{source:?}").contains("s3cret"));
    }

    #[test]
    fn every_syntax_error_is_reported() {
        let (_, problems) = Source::parse("a = \nb = 1\nb = 2\n", "test.toml", Path::new("."));
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[test]
    fn numbers_that_json_cannot_hold() {
        let (_, problems) = Source::parse("a = 1e999\nb = nan\nc = 0x8000000000000000", "t", Path::new("."));
        let messages: Vec<_> = problems.iter().map(|p| p.message.as_str()).collect();
        assert_eq!(
            messages,
            ["expected a finite number", "expected a finite number", "expected a 64-bit integer"]
        );
    }
}
