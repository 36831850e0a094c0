//! Paths: what a route takes, and what it sends instead.

use regex::Regex;

use super::tree::Table;
use crate::router::PathPattern;

/// How Envoy matches a path.
pub enum Path {
    Exact(String),
    /// By characters, not by segments.
    Prefix(String),
    /// By segments.
    Separated(String),
    Regex(String),
}

/// A pattern of a route, with parameters, and a path made of these: `{name}` stands for one.
pub struct Rewritten {
    pub pattern: Option<String>,
    pub path: String,
}

impl Path {
    /// Takes it out of a route's `match`.
    pub fn take(table: &mut Table) -> Option<Self> {
        let texts = [
            table.text("path").map(Path::Exact),
            table.text("prefix").map(Path::Prefix),
            table.text("path_separated_prefix").map(Path::Separated),
            table.table("safe_regex").and_then(expression_of).map(Path::Regex),
        ];
        texts.into_iter().flatten().next()
    }

    /// The pattern of the config; none where every path is taken.
    pub fn pattern(&self) -> Option<String> {
        let pattern = match self {
            Path::Exact(path) => literal(path).unwrap_or_else(|| format!("~ {}", regex::escape(path))),
            Path::Prefix(prefix) if matches!(prefix.as_str(), "" | "/") => return None,
            Path::Prefix(prefix) => {
                let segments = literal(without_slash(prefix));
                segments.map_or_else(|| format!("~ {}.*", regex::escape(prefix)), |path| format!("{path}/*"))
            }
            Path::Separated(prefix) => literal(prefix)
                .map_or_else(|| format!("~ {}(/.*)?", regex::escape(prefix)), |path| format!("{path}/*")),
            Path::Regex(expression) => format!("~ {expression}"),
        };
        Some(pattern)
    }

    /// What Envoy's prefix takes and the pattern does not, or the other way about.
    pub fn difference(&self) -> Option<String> {
        let Path::Prefix(prefix) = self else { return None };
        let pattern = self.pattern().filter(|pattern| !pattern.starts_with('~'))?;
        Some(match prefix.strip_suffix('/') {
            Some(path) => format!("{pattern:?} takes {path} too"),
            None => format!(
                "{pattern:?} goes by whole segments: it does not take {prefix}x, as Envoy does; {:?} would",
                format!("~ {}.*", regex::escape(prefix))
            ),
        })
    }

    /// What `strip_prefix` would be for this rewrite.
    pub fn stripped(&self, to: &str) -> Option<String> {
        let (Path::Prefix(prefix) | Path::Separated(prefix)) = self else { return None };
        literal(without_slash(prefix)).filter(|prefix| to == "/" && !prefix.ends_with('/'))
    }

    /// `prefix_rewrite`: what was matched becomes `to`.
    pub fn with_prefix(&self, to: &str) -> Option<Rewritten> {
        let (pattern, path) = match self {
            Path::Exact(_) | Path::Regex(_) => (self.pattern(), to.to_owned()),
            Path::Prefix(prefix) => {
                (Some(format!("~ {}(?<rest>.*)", regex::escape(prefix))), format!("{to}{{rest}}"))
            }
            Path::Separated(prefix) => {
                (Some(format!("~ {}(?<rest>(?:/.*)?)", regex::escape(prefix))), format!("{to}{{rest}}"))
            }
        };
        let fits = to.starts_with('/') && !to.contains(|c: char| " ?#{}$".contains(c) || c.is_control());
        fits.then_some(Rewritten { pattern, path })
    }

    /// `regex_rewrite`, where its expression is what the route matches: then its groups are parameters.
    pub fn with_regex(&self, expression: &str, substitution: &str) -> Option<Rewritten> {
        let bare = |text: &str| text.trim_start_matches('^').trim_end_matches('$').to_owned();
        let expression = bare(expression);
        let own = match self {
            Path::Regex(own) if bare(own) == expression => expression,
            Path::Prefix(prefix) => {
                let own = format!("{}(.*)", regex::escape(prefix));
                // Many write a dot for itself.
                let is_own = expression == own || expression == format!("{prefix}(.*)");
                is_own.then_some(own)?
            }
            _ => return None,
        };
        let (pattern, groups) = named_groups(&own)?;
        let path = filled(substitution, groups)?;
        let fits = path.starts_with('/') && !path.contains([' ', '?', '#']);
        fits.then(|| Rewritten { pattern: Some(format!("~ {pattern}")), path })
    }
}

/// The expression of a `RegexMatcher`.
pub fn expression_of(mut table: Table) -> Option<String> {
    table.skip(&["google_re2"]);
    table.text("regex")
}

pub fn is_pattern(text: &str) -> bool {
    text.parse::<PathPattern>().is_ok()
}

/// The path if the config would read it as it is.
fn literal(path: &str) -> Option<String> {
    let plain = path.starts_with('/') && !path.contains(['*', '{', '}']) && is_pattern(path);
    plain.then(|| path.to_owned())
}

fn without_slash(prefix: &str) -> &str {
    prefix.strip_suffix('/').unwrap_or(prefix)
}

/// The expression with its groups named g1, g2 and so on, and how many they are.
fn named_groups(expression: &str) -> Option<(String, usize)> {
    let (mut named, mut groups, mut in_class) = (String::new(), 0, false);
    let mut rest = expression.chars().peekable();
    while let Some(c) = rest.next() {
        named.push(c);
        match c {
            '\\' => named.extend(rest.next()),
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class && rest.peek() != Some(&'?') => {
                groups += 1;
                named += &format!("?<g{groups}>");
            }
            _ => {}
        }
    }
    // Fails where the groups were not counted as they are.
    let counted = Regex::new(&named).is_ok_and(|regex| regex.captures_len() == groups + 1);
    counted.then_some((named, groups))
}

/// RE2's substitution with its `\1` as parameters.
fn filled(substitution: &str, groups: usize) -> Option<String> {
    let mut path = String::new();
    let mut rest = substitution.chars();
    while let Some(c) = rest.next() {
        match c {
            '{' | '}' => return None,
            '\\' => match rest.next()? {
                '\\' => path.push('\\'),
                digit => {
                    let group =
                        digit.to_digit(10).filter(|group| (1..=groups).contains(&(*group as usize)))?;
                    path += &format!("{{g{group}}}");
                }
            },
            c => path.push(c),
        }
    }
    Some(path)
}
