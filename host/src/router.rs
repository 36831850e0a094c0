//! The route table: which rule answers a request, and what its path captures.
//!
//! Owns the matching and the order of preference. Pure data without I/O: it must not know upstreams, plugins,
//! configuration files or sockets.
//!
//! A rule with several hosts and paths gives one entry for each pair of them. Entries are sorted once, by
//! specificity; the place of an entry is its rank, and of all entries that match a request the lowest rank wins.

use http::{HeaderMap, HeaderName, Method};

mod explain;
mod hash;
mod host;
mod params;
mod path;
mod pattern;
mod predicate;
mod specificity;
#[cfg(test)]
mod tests;
mod tree;

pub use explain::{Candidate, Standing};
pub use host::HostPattern;
pub use params::Params;
pub use path::PathPattern;
pub use pattern::PatternError;
pub use predicate::{ValueMatch, query_value};
pub use specificity::Conflict;

use host::Hosts;
use tree::{NO_RANK, Rank, Tree};

/// What a request must look like. Every field that is not empty must hold; inside `listeners`, `hosts`, `paths` and
/// `methods` one of the values is enough, of `headers` and `query` all are required.
#[derive(Debug, Clone)]
pub struct Rule {
    pub name: Box<str>,
    /// The higher goes first, before any specificity.
    pub priority: i32,
    pub listeners: Vec<u16>,
    pub hosts: Vec<HostPattern>,
    /// Empty means `/*`.
    pub paths: Vec<PathPattern>,
    /// `GET` also stands for `HEAD`, and no less than a rule that names `HEAD`.
    pub methods: Vec<Method>,
    /// A field of several lines holds if one of its lines does.
    pub headers: Vec<(HeaderName, ValueMatch)>,
    /// Names and values are compared after percent-decoding, with `+` as a space; the first value of a name counts.
    pub query: Vec<(String, ValueMatch)>,
}

/// The parts of a request that rules look at.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    pub listener: u16,
    pub method: &'a Method,
    /// The authority as received: case, port and one trailing dot do not matter.
    pub host: &'a str,
    /// Compared byte by byte, so it is to be normalised before. `//` has an empty segment, which is one like others.
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
}

/// The rule that answers, by its index in what [`Table::build`] was given.
#[derive(Debug)]
pub struct Match<'a> {
    pub rule: usize,
    pub params: Params<'a>,
}

/// All rules of a gateway, ready to be asked. Immutable.
#[derive(Debug, Default)]
pub struct Table {
    rules: Vec<Rule>,
    /// By rank.
    entries: Vec<Entry>,
    hosts: Hosts,
    /// One for each host pattern, found through `hosts`.
    trees: Vec<Tree>,
}

/// One host pattern and one path pattern of a rule.
#[derive(Debug)]
struct Entry {
    rule: usize,
    path: usize,
    tree: usize,
}

impl Table {
    /// Fails if two rules match the same requests with the same preference, so that only the order of declaration would
    /// tell them apart.
    pub fn build(mut rules: Vec<Rule>) -> Result<Self, Vec<Conflict>> {
        rules.iter_mut().for_each(Rule::fill_defaults);
        let conflicts = specificity::conflicts(&rules);
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
        let (mut hosts, mut trees, mut entries) = (Hosts::default(), Vec::new(), Vec::new());
        for (rank, key) in specificity::sorted(&rules).into_iter().enumerate() {
            let (rule, path) = (key.rule, key.path);
            let tree = hosts.insert(&rules[rule].hosts[key.host], trees.len());
            if tree == trees.len() {
                trees.push(Tree::starting_at(rank));
            }
            trees[tree].insert(&rules[rule].paths[path], rank);
            entries.push(Entry { rule, path, tree });
        }
        Ok(Self { rules, entries, hosts, trees })
    }

    /// The preferred rule among those that match, in this order: `priority`; host (exact, longest wildcard, any); path
    /// (exact; parameters, more literal segments first; longest prefix; regular expressions as declared); number of
    /// header predicates; number of query predicates; listeners given; methods given; declaration.
    pub fn find<'a>(&'a self, query: &Query<'a>) -> Option<Match<'a>> {
        let host = host::fold(query.host);
        let best = self.hosts.trees(&host).fold(NO_RANK, |best, tree| {
            self.trees[tree].visit(query.path, best, &mut |rank| self.rule(rank).failure(query).is_none())
        });
        let entry = self.entries.get(best)?;
        let pattern = &self.rules[entry.rule].paths[entry.path];
        Some(Match { rule: entry.rule, params: Params::new(pattern, query.path) })
    }

    fn rule(&self, rank: Rank) -> &Rule {
        &self.rules[self.entries[rank].rule]
    }
}

impl Rule {
    fn fill_defaults(&mut self) {
        if self.hosts.is_empty() {
            self.hosts.push(HostPattern::Any);
        }
        if self.paths.is_empty() {
            self.paths.push(PathPattern::any());
        }
    }
}
