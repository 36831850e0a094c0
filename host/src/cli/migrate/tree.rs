//! The YAML as a tree out of which is taken what is understood. What is still in a table when it goes out of scope is
//! noted by its path, so that nothing is lost in silence.

use std::{cell::RefCell, ops::RangeInclusive, time::Duration};

use serde_json::{Map, Value};

use super::reasons;
use crate::config::KeyPath;

/// What the operator has to know about the printed config.
#[derive(Default)]
pub struct Notes(RefCell<Vec<(KeyPath, String)>>);

impl Notes {
    pub fn left(&self, path: &KeyPath, why: &str) {
        self.0.borrow_mut().push((path.clone(), format!("not carried over: {path}: {why}")));
    }

    pub fn caution(&self, path: &KeyPath, what: &str) {
        self.0.borrow_mut().push((path.clone(), format!("caution: {path}: {what}")));
    }

    /// In the order of their paths. Each is one line, whatever the names in it hold.
    pub fn lines(&self) -> Vec<String> {
        let mut notes = self.0.borrow().clone();
        notes.sort();
        notes.into_iter().map(|(_, note)| note.replace(char::is_control, " ")).collect()
    }
}

/// A mapping and its place. Keys are asked for in snake case and may be written in camel case, as protobuf's JSON allows.
pub struct Table<'n> {
    path: KeyPath,
    entries: Map<String, Value>,
    notes: &'n Notes,
}

impl<'n> Table<'n> {
    /// What is null is not there.
    pub fn new(path: KeyPath, mut entries: Map<String, Value>, notes: &'n Notes) -> Self {
        entries.retain(|_, value| !value.is_null());
        Table { path, entries, notes }
    }

    pub fn path(&self) -> &KeyPath {
        &self.path
    }

    pub fn notes(&self) -> &'n Notes {
        self.notes
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn has(&self, name: &str) -> bool {
        self.key(name).is_some()
    }

    pub fn at(&self, name: &str) -> KeyPath {
        self.path.key(&self.key(name).unwrap_or_else(|| name.to_owned()))
    }

    fn key(&self, name: &str) -> Option<String> {
        self.entries.keys().find(|key| *key == name || snake_case(key) == name).cloned()
    }

    /// Takes what `read` understands. Anything else stays, and is noted.
    pub fn take<T>(&mut self, name: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let key = self.key(name)?;
        let value = read(self.entries.get(&key)?)?;
        self.entries.remove(&key);
        Some(value)
    }

    /// The last word of the type of a `typed_config`, or of what names it in place of a type.
    pub fn kind(&self) -> &str {
        let config = self.entries.get("typed_config").or(self.entries.get("typedConfig"));
        let name = config.and_then(|config| config.get("@type")).or(self.entries.get("name"));
        name.and_then(Value::as_str).and_then(|name| name.rsplit('.').next()).unwrap_or_default()
    }

    pub fn text(&mut self, name: &str) -> Option<String> {
        self.take(name, |value| value.as_str().map(str::to_owned))
    }

    pub fn flag(&mut self, name: &str) -> Option<bool> {
        self.take(name, Value::as_bool)
    }

    pub fn number(&mut self, name: &str) -> Option<u64> {
        self.take(name, Value::as_u64)
    }

    /// As the config has it: as a number of 32 bits.
    pub fn number_in(&mut self, name: &str, range: RangeInclusive<u32>) -> Option<u32> {
        self.take(name, |value| u32::try_from(value.as_u64()?).ok().filter(|number| range.contains(number)))
    }

    /// A `Percent`.
    pub fn percent(&mut self, name: &str) -> Option<f64> {
        self.take(name, |value| {
            let percent = value.get("value").map_or(Some(0.0), Value::as_f64);
            percent.filter(|percent| (0.0..=100.0).contains(percent))
        })
    }

    pub fn duration(&mut self, name: &str) -> Option<Duration> {
        self.take(name, |value| {
            let seconds = value.as_str()?.strip_suffix('s')?.parse().ok()?;
            // A century is as long as the config can say.
            Duration::try_from_secs_f64(seconds).ok().filter(|time| time.as_secs() < 100 * 365 * 24 * 3600)
        })
    }

    pub fn table(&mut self, name: &str) -> Option<Table<'n>> {
        let path = self.at(name);
        let entries = self.take(name, |value| value.as_object().cloned())?;
        Some(Table::new(path, entries, self.notes))
    }

    /// None as well where it is no time at all.
    pub fn time(&mut self, name: &str) -> Option<Duration> {
        self.duration(name).filter(|time| !time.is_zero())
    }

    /// The tables of a list.
    pub fn tables(&mut self, name: &str) -> Vec<Table<'n>> {
        let tables = self.list(name).into_iter().filter_map(|(path, value)| match value {
            Value::Object(entries) => Some(Table::new(path, entries, self.notes)),
            _ => {
                self.notes.left(&path, "a table was expected here");
                None
            }
        });
        tables.collect()
    }

    /// The strings of a list, with their places.
    pub fn texts(&mut self, name: &str) -> Vec<(KeyPath, String)> {
        let texts = self.list(name).into_iter().filter_map(|(path, value)| match value {
            Value::String(text) => Some((path, text)),
            _ => {
                self.notes.left(&path, "a string was expected here");
                None
            }
        });
        texts.collect()
    }

    fn list(&mut self, name: &str) -> Vec<(KeyPath, Value)> {
        let path = self.at(name);
        let list = self.take(name, |value| value.as_array().cloned());
        list.into_iter().flatten().enumerate().map(|(i, value)| (path.index(i), value)).collect()
    }

    /// Takes what has no meaning here.
    pub fn skip(&mut self, names: &[&str]) {
        for name in names {
            self.take(name, |_| Some(()));
        }
    }

    /// Takes what wasmgate does anyway.
    pub fn skip_if(&mut self, name: &str, usual: &[&str]) {
        self.take(name, |value| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            usual.contains(&text.as_str()).then_some(())
        });
    }

    /// Notes an entry, if it is there, with a reason of its own.
    pub fn leave_entry(&mut self, name: &str, why: &str) {
        let path = self.at(name);
        if self.take(name, |_| Some(())).is_some() {
            self.notes.left(&path, why);
        }
    }

    /// Notes the table as a whole, instead of what is still in it.
    pub fn leave(mut self, why: &str) {
        self.entries.clear();
        self.notes.left(&self.path, why);
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        for key in self.entries.keys() {
            self.notes.left(&self.path.key(key), reasons::of(&snake_case(key)));
        }
    }
}

fn snake_case(key: &str) -> String {
    key.chars().fold(String::new(), |mut snake, c| {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
        snake
    })
}
