//! The order of preference among entries, and the rules it cannot tell apart. Looks at rules only, never at a request.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;

use http::Method;

use super::path::{End, Form, Segment, Template};
use super::{HostPattern, PathPattern, Rule};

/// The least is preferred. `rule`, `host` and `path` are indices: what is declared first goes first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Specificity {
    priority: Reverse<i32>,
    host_form: HostForm,
    path_form: PathForm,
    headers: Reverse<usize>,
    query: Reverse<usize>,
    listeners_given: Reverse<bool>,
    methods_given: Reverse<bool>,
    pub(super) rule: usize,
    pub(super) host: usize,
    pub(super) path: usize,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum HostForm {
    Exact,
    Wildcard { length: Reverse<usize> },
    Any,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PathForm {
    Exact,
    Parameters {
        literals: Reverse<usize>,
    },
    /// A prefix or a tail. Of the same length, a tail goes first: it does not take the prefix itself.
    Prefix {
        segments: Reverse<usize>,
        literals: Reverse<usize>,
        tail: Reverse<bool>,
    },
    /// The first rule with this expression: rules with the same one differ by their other predicates.
    Regex {
        declared: usize,
    },
}

/// The key of every entry, the preferred first.
pub(super) fn sorted(rules: &[Rule]) -> Vec<Specificity> {
    let (mut keys, mut regexes) = (Vec::new(), HashMap::new());
    for (index, rule) in rules.iter().enumerate() {
        for (path, pattern) in rule.paths.iter().enumerate() {
            let hosts = 0..rule.hosts.len();
            keys.extend(hosts.map(|host| Specificity::of(rule, pattern, (index, host, path), &mut regexes)));
        }
    }
    keys.sort_unstable();
    keys
}

impl Specificity {
    fn of<'a>(
        rule: &Rule,
        pattern: &'a PathPattern,
        (index, host, path): (usize, usize, usize),
        regexes: &mut HashMap<&'a str, usize>,
    ) -> Self {
        Self {
            priority: Reverse(rule.priority),
            host_form: HostForm::of(&rule.hosts[host]),
            path_form: match &pattern.form {
                Form::Template(template) => PathForm::of(template),
                Form::Regex(regex) => {
                    PathForm::Regex { declared: *regexes.entry(regex.as_str()).or_insert(index) }
                }
            },
            headers: Reverse(rule.headers.len()),
            query: Reverse(rule.query.len()),
            listeners_given: Reverse(!rule.listeners.is_empty()),
            methods_given: Reverse(!rule.methods.is_empty()),
            rule: index,
            host,
            path,
        }
    }
}

impl Specificity {
    /// What puts this one before another, as a predicate of its rule.
    pub(super) fn advantage(&self, other: &Self) -> &'static str {
        let first = "stands earlier in the file";
        let path = match (&self.path_form, &other.path_form) {
            (PathForm::Prefix { segments, .. }, PathForm::Prefix { segments: others, .. })
                if segments != others =>
            {
                "has a longer path"
            }
            (PathForm::Regex { .. }, PathForm::Regex { .. }) => first,
            _ => "has a more specific path",
        };
        let criteria = [
            (self.priority != other.priority, "has a higher priority"),
            (self.host_form != other.host_form, "has a more specific host"),
            (self.path_form != other.path_form, path),
            (self.headers != other.headers, "has more header predicates"),
            (self.query != other.query, "has more query predicates"),
            (self.listeners_given != other.listeners_given, "names a listener"),
            (self.methods_given != other.methods_given, "names methods"),
        ];
        criteria.into_iter().find_map(|(differs, words)| differs.then_some(words)).unwrap_or(first)
    }
}

impl HostForm {
    fn of(pattern: &HostPattern) -> Self {
        match pattern {
            HostPattern::Exact(_) => Self::Exact,
            HostPattern::Wildcard(suffix) => Self::Wildcard { length: Reverse(suffix.len()) },
            HostPattern::Any => Self::Any,
        }
    }
}

impl PathForm {
    fn of(template: &Template) -> Self {
        let segments = template.segments.len();
        let literals = template.segments.iter().filter_map(Segment::literal).count();
        match template.end {
            End::Exact if literals == segments => Self::Exact,
            End::Exact => Self::Parameters { literals: Reverse(literals) },
            End::Prefix | End::Tail(_) => Self::Prefix {
                segments: Reverse(segments),
                literals: Reverse(literals),
                tail: Reverse(matches!(template.end, End::Tail(_))),
            },
        }
    }
}

/// Two rules that match the same requests with the same preference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The names of the rules, as declared.
    pub first: Box<str>,
    pub second: Box<str>,
    /// The patterns they share, as the second writes them.
    pub host: String,
    pub path: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, second, host, path } = self;
        write!(
            f,
            "{first} and {second} match the same requests (host {host}, path {path}) with the same priority"
        )
    }
}

impl std::error::Error for Conflict {}

pub(super) fn conflicts(rules: &[Rule]) -> Vec<Conflict> {
    let (mut known, mut conflicts) = (HashMap::new(), Vec::new());
    for (index, rule) in rules.iter().enumerate() {
        let conditions = conditions(rule);
        for (host, path) in rule.hosts.iter().flat_map(|host| rule.paths.iter().map(move |path| (host, path)))
        {
            let first =
                *known.entry((rule.priority, host, path.shape(), conditions.clone())).or_insert(index);
            if first != index {
                conflicts.push(Conflict {
                    first: rules[first].name.clone(),
                    second: rule.name.clone(),
                    host: host.to_string(),
                    path: path.to_string(),
                });
            }
        }
    }
    conflicts
}

/// All a rule asks for beside host and path, in one order whatever order it was written in.
fn conditions(rule: &Rule) -> String {
    let listeners = rule.listeners.iter().map(|listener| format!("listener {listener}"));
    let methods = rule.methods.iter().map(|method| format!("method {method}"));
    let head = rule.methods.contains(&Method::GET).then(|| format!("method {}", Method::HEAD));
    let headers = rule.headers.iter().map(|(name, expected)| format!("header {name} {expected:?}"));
    let query = rule.query.iter().map(|(name, expected)| format!("query {name:?} {expected:?}"));
    let mut all: Vec<String> = listeners.chain(methods).chain(head).chain(headers).chain(query).collect();
    all.sort_unstable();
    all.dedup();
    all.join("\n")
}
