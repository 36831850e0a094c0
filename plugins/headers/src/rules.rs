//! The rules as an operator writes them, and the changes that they come to.

use std::collections::BTreeMap;

use wasmgate_sdk::{Error, HeaderName, HostError, Result, config};

use crate::message::Message;
use crate::template::Template;

/// The operations in the order in which they are carried out; within one of them the names go in
/// alphabetical order. Each sees what the ones before it did.
#[config]
#[serde(default)]
#[derive(Default)]
pub struct Rules {
    /// Takes all values away.
    remove: Vec<HeaderName>,
    /// Moves all values to another name, whose own values are lost.
    rename: BTreeMap<HeaderName, HeaderName>,
    /// Puts the value in place of all others, only where there are some.
    replace: BTreeMap<HeaderName, Template>,
    /// Puts the value, only where there is none.
    add: BTreeMap<HeaderName, Template>,
    /// Puts the value after the others.
    append: BTreeMap<HeaderName, Template>,
    /// Puts the value in place of all others.
    set: BTreeMap<HeaderName, Template>,
}

/// One operation on one name.
pub enum Change {
    Remove(HeaderName),
    Rename(HeaderName, HeaderName),
    Replace(HeaderName, Template),
    Add(HeaderName, Template),
    Append(HeaderName, Template),
    Set(HeaderName, Template),
}

impl Rules {
    pub fn check(&self, key: &str, is_request: bool) -> Result<()> {
        if let Some((old, _)) = self.rename.iter().find(|(old, new)| old == new) {
            return Err(Error::msg(format_args!("{key}.rename.{old}: is its own new name")));
        }
        let operations =
            [("replace", &self.replace), ("add", &self.add), ("append", &self.append), ("set", &self.set)];
        for (operation, values) in operations {
            if let Some((name, _)) = values.iter().find(|(_, value)| is_request && value.reads_status()) {
                return Err(Error::msg(format_args!(
                    "{key}.{operation}.{name}: `${{status}}` is known in `response` only"
                )));
            }
        }
        Ok(())
    }

    pub fn changes(self) -> Vec<Change> {
        fn each<T>(values: BTreeMap<HeaderName, T>, change: fn(HeaderName, T) -> Change) -> Vec<Change> {
            values.into_iter().map(|(name, value)| change(name, value)).collect()
        }
        [
            self.remove.into_iter().map(Change::Remove).collect(),
            each(self.rename, Change::Rename),
            each(self.replace, Change::Replace),
            each(self.add, Change::Add),
            each(self.append, Change::Append),
            each(self.set, Change::Set),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl Change {
    pub fn apply(&self, message: &Message) -> Result<(), HostError> {
        let changed = match self {
            Change::Remove(name) => message.remove(name),
            Change::Rename(old, new) => message.rename(old, new),
            Change::Replace(name, _) if !message.has(name) => return Ok(()),
            Change::Add(name, _) if message.has(name) => return Ok(()),
            Change::Append(name, template) => match template.render(message) {
                Some(value) => message.append(name, &value),
                None => return Ok(()),
            },
            Change::Replace(name, template) | Change::Add(name, template) | Change::Set(name, template) => {
                match template.render(message) {
                    Some(value) => message.set(name, &value),
                    None => return Ok(()),
                }
            }
        };
        message.settle(changed)
    }
}
