//! What patterns have in common: why a text was refused, and regular expressions. Knows neither hosts nor paths.

use std::fmt;

use regex::bytes::Regex;

/// A pattern that cannot be read, and where reading stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternError {
    pattern: Box<str>,
    at: usize,
    problem: String,
}

impl PatternError {
    pub(super) fn new(pattern: &str, at: usize, problem: impl Into<String>) -> Self {
        Self { pattern: pattern.into(), at, problem: problem.into() }
    }

    /// What is wrong, without the pattern and the place.
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// The byte of the pattern where the problem starts, counted from 0.
    pub fn at(&self) -> usize {
        self.at
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.pattern.char_indices().take_while(|(at, _)| *at < self.at).count();
        write!(f, "pattern {:?}, character {}: {}", self.pattern, before + 1, self.problem)
    }
}

impl std::error::Error for PatternError {}

/// An expression that must match from start to end. `expression` is the end of `pattern`.
pub(super) fn anchored(pattern: &str, expression: &str) -> Result<Regex, PatternError> {
    // Alone first: errors then show the expression as written, and `a)|(b` cannot climb out of the group.
    Regex::new(expression)
        .and_then(|_| Regex::new(&format!(r"\A(?:{expression})\z")))
        .map_err(|error| PatternError::new(pattern, pattern.len() - expression.len(), error.to_string()))
}
