//! Path patterns: what they are and how they are read. Knows no tree, which matches them, and no rules.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use regex::bytes::Regex;

use super::PatternError;
use super::pattern::anchored;

/// Which paths a rule takes.
///
/// | Pattern             | Matches |
/// |---------------------|---------|
/// | `/users`            | exactly this |
/// | `/users/*`          | `/users`, `/users/` and all below, not `/usersx` |
/// | `/users/{id}/posts` | one segment in place of `{id}`, which may be empty |
/// | `/files/{rest*}`    | at least one character in place of `{rest*}`, slashes included |
/// | `~ ^/v[0-9]+/(?<id>.*)` | a regular expression of the whole path; named groups are parameters |
///
/// A path without a leading slash, the `*` of `OPTIONS *` (RFC 9112, 3.2.4), is matched by `/*` and by regular
/// expressions only.
#[derive(Debug, Clone)]
pub struct PathPattern {
    source: Box<str>,
    pub(super) form: Form,
}

#[derive(Debug, Clone)]
pub(super) enum Form {
    Template(Template),
    Regex(Regex),
}

/// Segments, and what may follow them.
#[derive(Debug, Clone)]
pub(super) struct Template {
    pub(super) segments: Vec<Segment>,
    pub(super) end: End,
}

#[derive(Debug, Clone)]
pub(super) enum Segment {
    Literal(Box<str>),
    Parameter(Box<str>),
}

#[derive(Debug, Clone)]
pub(super) enum End {
    Exact,
    Prefix,
    Tail(Box<str>),
}

/// Bounds the depth of the tree, and with it the recursion of a request through it.
const MAX_SEGMENTS: usize = 256;

impl PathPattern {
    /// `/*`, which matches every path.
    pub(super) fn any() -> Self {
        Self {
            source: "/*".into(),
            form: Form::Template(Template { segments: Vec::new(), end: End::Prefix }),
        }
    }

    /// The pattern with the names of parameters taken out: patterns of one shape match the same paths.
    pub(super) fn shape(&self) -> String {
        match &self.form {
            Form::Template(template) => template.shape(),
            Form::Regex(regex) => format!("~{regex}"),
        }
    }
}

impl FromStr for PathPattern {
    type Err = PatternError;

    fn from_str(source: &str) -> Result<Self, PatternError> {
        let form = match source.strip_prefix('~') {
            Some(expression) => Form::Regex(anchored(source, expression.trim_start())?),
            None => Form::Template(Template::parse(source)?),
        };
        Ok(Self { source: source.into(), form })
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl Template {
    fn parse(source: &str) -> Result<Self, PatternError> {
        if !source.starts_with('/') {
            return Err(PatternError::new(
                source,
                0,
                "a path starts with `/`, or with `~` for a regular expression",
            ));
        }
        let (body, end) = split_end(source)?;
        let (mut segments, mut at) = (Vec::new(), 1);
        for piece in split(body) {
            segments.push(Segment::parse(source, piece, at)?);
            at += piece.len() + 1;
        }
        if segments.len() > MAX_SEGMENTS {
            return Err(PatternError::new(
                source,
                0,
                format!("a path pattern has at most {MAX_SEGMENTS} segments"),
            ));
        }
        Self { segments, end }.with_unique_names(source)
    }

    fn with_unique_names(self, source: &str) -> Result<Self, PatternError> {
        let mut seen = HashSet::new();
        let mut names = self.segments.iter().filter_map(Segment::parameter).chain(self.end.name());
        match names.find(|name| !seen.insert(*name)) {
            Some(name) => {
                let place = |text: String| source.rfind(&text);
                let tail = place(format!("{{{name}*}}"));
                let at = tail.or_else(|| place(format!("{{{name}}}"))).unwrap_or(0);
                Err(PatternError::new(source, at, format!("the parameter {name} is named twice")))
            }
            None => Ok(self),
        }
    }

    fn shape(&self) -> String {
        let mut shape = String::new();
        for segment in &self.segments {
            shape.push('/');
            shape.push_str(segment.literal().unwrap_or("{}"));
        }
        shape.push_str(match self.end {
            End::Exact => "",
            End::Prefix => "/*",
            End::Tail(_) => "/{*}",
        });
        shape
    }
}

/// The last segment apart, if it stands for more than a segment.
fn split_end(source: &str) -> Result<(&str, End), PatternError> {
    let Some((body, last)) = source.rsplit_once('/') else {
        return Ok((source, End::Exact));
    };
    if last == "*" {
        return Ok((body, End::Prefix));
    }
    match last.strip_prefix('{').and_then(|last| last.strip_suffix("*}")) {
        Some(name) => {
            check_name(source, name, body.len() + 2)?;
            Ok((body, End::Tail(name.into())))
        }
        None => Ok((source, End::Exact)),
    }
}

impl Segment {
    fn parse(source: &str, piece: &str, at: usize) -> Result<Self, PatternError> {
        let Some(name) = piece.strip_prefix('{').and_then(|piece| piece.strip_suffix('}')) else {
            return match piece.char_indices().find_map(|(offset, c)| Some((offset, problem_of(c)?))) {
                Some((offset, problem)) => Err(PatternError::new(source, at + offset, problem)),
                None => Ok(Self::Literal(piece.into())),
            };
        };
        if name.ends_with('*') {
            return Err(PatternError::new(
                source,
                at,
                format!("{piece} takes the rest of the path, so it must be last"),
            ));
        }
        check_name(source, name, at + 1)?;
        Ok(Self::Parameter(name.into()))
    }

    pub(super) fn literal(&self) -> Option<&str> {
        match self {
            Self::Literal(text) => Some(text),
            Self::Parameter(_) => None,
        }
    }

    pub(super) fn parameter(&self) -> Option<&str> {
        match self {
            Self::Literal(_) => None,
            Self::Parameter(name) => Some(name),
        }
    }
}

impl End {
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Tail(name) => Some(name),
            Self::Exact | Self::Prefix => None,
        }
    }
}

fn problem_of(c: char) -> Option<String> {
    match c {
        '*' => Some("`*` is a whole segment, the last: /users/* takes /users and all below it".into()),
        '{' | '}' => Some("a parameter is a whole segment: /users/{id}".into()),
        '?' | '#' => Some("a path pattern ends before the query: use the query predicate".into()),
        c if !c.is_ascii_graphic() => Some(format!("{c:?} never occurs in a path: write it percent-encoded")),
        _ => None,
    }
}

fn check_name(source: &str, name: &str, at: usize) -> Result<(), PatternError> {
    if name.is_empty() {
        return Err(PatternError::new(source, at, "the parameter has no name"));
    }
    match name.char_indices().find(|(_, c)| !(c.is_ascii_alphanumeric() || *c == '_')) {
        Some((offset, c)) => {
            Err(PatternError::new(source, at + offset, format!("{c:?} cannot be part of a parameter's name")))
        }
        None => Ok(()),
    }
}

/// The segments of a path: `/` has one, which is empty.
pub(super) fn split(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').into_iter().flat_map(|path| path.split('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_patterns_and_says_where() {
        let deep = "/a".repeat(MAX_SEGMENTS + 1);
        for (source, at, problem) in [
            ("", 0, "starts with `/`"),
            ("*", 0, "starts with `/`"),
            ("users", 0, "starts with `/`"),
            ("/users*", 6, "whole segment"),
            ("/a/*/b", 3, "whole segment"),
            ("/a/{id}.json", 3, "whole segment"),
            ("/a/x}", 4, "whole segment"),
            ("/{a*}/b", 1, "must be last"),
            ("/{}", 2, "no name"),
            ("/x/{*}", 4, "no name"),
            ("/{a-b}", 3, "'-' cannot be"),
            ("/{é*}", 2, "'é' cannot be"),
            ("/{a}/b/{a}", 7, "twice"),
            ("/{a}/{a*}", 5, "twice"),
            ("/{a}/{a}/{ab}", 5, "twice"),
            ("/a?b=c", 2, "query"),
            ("/a b", 2, "percent-encoded"),
            ("/é", 1, "percent-encoded"),
            ("~  /(", 3, "unclosed group"),
            ("~a)|(b", 1, "unopened group"),
            (&deep, 0, "at most 256 segments"),
        ] {
            let error = source.parse::<PathPattern>().unwrap_err();
            assert_eq!(error.at(), at, "{error}");
            assert!(error.problem().contains(problem), "{error}");
        }
    }
}
