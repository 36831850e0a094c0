//! Where a value sits in a document, such as `route[3].plugins[0].config.header`. It knows no document.

use std::fmt;

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Key(String),
    Index(usize),
}

impl KeyPath {
    pub fn root() -> Self {
        Self::default()
    }

    pub fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.to_owned()))
    }

    pub fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    pub fn then(&self, step: Step) -> Self {
        KeyPath(self.0.iter().cloned().chain([step]).collect())
    }

    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether this is `above` itself or a place inside it.
    pub fn is_within(&self, above: &KeyPath) -> bool {
        self.0.starts_with(&above.0)
    }
}

impl FromIterator<Step> for KeyPath {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Self {
        KeyPath(steps.into_iter().collect())
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    f.write_str(if i == 0 { "" } else { "." })?;
                    match is_bare(key) {
                        true => f.write_str(key)?,
                        false => write!(f, "{key:?}")?,
                    }
                }
            }
        }
        Ok(())
    }
}

/// TOML's bare keys (TOML 1.0, "Keys"); every other key is written in quotes.
fn is_bare(key: &str) -> bool {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !key.is_empty() && key.chars().all(bare)
}

#[cfg(test)]
mod tests {
    use super::KeyPath;

    #[test]
    fn prints_as_a_reader_would_write_it() {
        let plugin = KeyPath::root().key("route").index(3).key("plugins").index(0);
        assert_eq!(plugin.key("config").to_string(), "route[3].plugins[0].config");
        assert_eq!(KeyPath::root().key("plugin").key("a b").to_string(), "plugin.\"a b\"");
        assert_eq!(KeyPath::root().to_string(), "");
    }

    #[test]
    fn within() {
        let route = KeyPath::root().key("route").index(1);
        assert!(route.key("name").is_within(&route) && route.is_within(&route));
        assert!(!KeyPath::root().key("route").index(10).is_within(&route));
    }
}
