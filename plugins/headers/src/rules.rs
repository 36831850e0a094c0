//! The rules as an operator writes them, and the changes that they come to.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use wasmgate_sdk::{
    Error, HeaderName, HostError, Result, config,
    serde::{
        Deserialize, Deserializer,
        de::{Error as _, MapAccess, Visitor},
    },
};

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
    #[serde(deserialize_with = "distinct")]
    rename: BTreeMap<HeaderName, HeaderName>,
    /// Puts the value in place of all others, only where there are some.
    #[serde(deserialize_with = "distinct")]
    replace: BTreeMap<HeaderName, Template>,
    /// Puts the value, only where there is none.
    #[serde(deserialize_with = "distinct")]
    add: BTreeMap<HeaderName, Template>,
    /// Puts the value after the others.
    #[serde(deserialize_with = "distinct")]
    append: BTreeMap<HeaderName, Template>,
    /// Puts the value in place of all others.
    #[serde(deserialize_with = "distinct")]
    set: BTreeMap<HeaderName, Template>,
}

/// A name twice, in two cases, is a mistake: only one of its values would count.
fn distinct<'de, D, T>(deserializer: D) -> Result<BTreeMap<HeaderName, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Names<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Names<T> {
        type Value = BTreeMap<HeaderName, T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table of header names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut values = BTreeMap::new();
            while let Some((name, value)) = entries.next_entry::<HeaderName, T>()? {
                if values.contains_key(&name) {
                    return Err(A::Error::custom(format_args!("`{name}` is given twice")));
                }
                values.insert(name, value);
            }
            Ok(values)
        }
    }

    deserializer.deserialize_map(Names(PhantomData))
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
