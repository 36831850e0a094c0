//! Names that are given once.

use std::collections::BTreeSet;

#[derive(Default)]
pub struct Names(BTreeSet<String>);

impl Names {
    pub fn reserving(names: &[&str]) -> Self {
        Names(names.iter().map(|name| (*name).to_owned()).collect())
    }

    /// The name itself, or with a number where it is taken.
    pub fn unique(&mut self, wanted: &str) -> String {
        let numbered = (2..).map(|number| format!("{wanted}-{number}"));
        let free = [wanted.to_owned()].into_iter().chain(numbered).find(|name| !self.0.contains(name));
        let name = free.unwrap_or_default();
        self.0.insert(name.clone());
        name
    }
}

/// A name of letters, digits, `-`, `_` and `.`, as near to the text as can be.
pub fn plain(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let words: Vec<_> = text.split(|c| !allowed(c)).filter(|word| !word.is_empty()).collect();
    match words.join("-") {
        name if name.is_empty() => "unnamed".to_owned(),
        name => name,
    }
}
