//! The path patterns of one host as a tree of segments. Knows ranks, and nothing of the rules behind them.

use regex::bytes::Regex;

use super::PathPattern;
use super::hash::TextMap;
use super::path::{End, Form, Segment};

/// The place of an entry in the order of selection: the lower is preferred.
pub(super) type Rank = usize;

pub(super) const NO_RANK: Rank = Rank::MAX;

#[derive(Debug)]
pub(super) struct Tree {
    root: Node,
    /// Tried one by one, by rank.
    regexes: Vec<(Rank, Regex)>,
}

/// What patterns say after the same first segments.
#[derive(Debug)]
struct Node {
    /// The lowest rank here and below.
    best: Rank,
    literals: TextMap<Node>,
    parameter: Option<Box<Node>>,
    /// The patterns that end here, by rank.
    exact: Vec<Rank>,
    tail: Vec<Rank>,
    prefix: Vec<Rank>,
}

impl Tree {
    /// Patterns are inserted by rank, so the first rank is the lowest.
    pub(super) fn starting_at(rank: Rank) -> Self {
        Self { root: Node::new(rank), regexes: Vec::new() }
    }

    pub(super) fn insert(&mut self, pattern: &PathPattern, rank: Rank) {
        let template = match &pattern.form {
            Form::Template(template) => template,
            Form::Regex(regex) => return self.regexes.push((rank, regex.clone())),
        };
        let node = template.segments.iter().fold(&mut self.root, |node, segment| node.child(segment, rank));
        match template.end {
            End::Exact => node.exact.push(rank),
            End::Prefix => node.prefix.push(rank),
            End::Tail(_) => node.tail.push(rank),
        }
    }

    /// Offers ranks below `bound` whose pattern matches the path. One that is taken is the new bound, so that what
    /// comes back is the lowest rank taken, or `bound`.
    pub(super) fn visit(&self, path: &str, bound: Rank, offer: &mut impl FnMut(Rank) -> bool) -> Rank {
        let bound = self.root.visit(path.strip_prefix('/'), bound, offer);
        let mut regexes = self.regexes.iter().take_while(|(rank, _)| *rank < bound);
        let taken = regexes.find(|(rank, regex)| regex.is_match(path.as_bytes()) && offer(*rank));
        taken.map_or(bound, |(rank, _)| *rank)
    }
}

impl Node {
    fn new(best: Rank) -> Self {
        Self {
            best,
            literals: TextMap::default(),
            parameter: None,
            exact: Vec::new(),
            tail: Vec::new(),
            prefix: Vec::new(),
        }
    }

    fn child(&mut self, segment: &Segment, rank: Rank) -> &mut Self {
        match segment {
            Segment::Literal(text) => self.literals.entry(text.clone()).or_insert_with(|| Self::new(rank)),
            Segment::Parameter(_) => self.parameter.get_or_insert_with(|| Box::new(Self::new(rank))),
        }
    }

    /// `rest` is what follows the slash after the segments so far; none if the path ends without one. Each node is
    /// reached in one way only, so a request never visits more nodes than there are.
    fn visit(&self, rest: Option<&str>, bound: Rank, offer: &mut impl FnMut(Rank) -> bool) -> Rank {
        if self.best >= bound {
            return bound;
        }
        let bound = match rest {
            None => lowest(&self.exact, bound, offer),
            Some(rest) => self.visit_below(rest, bound, offer),
        };
        lowest(&self.prefix, bound, offer)
    }

    fn visit_below(&self, rest: &str, mut bound: Rank, offer: &mut impl FnMut(Rank) -> bool) -> Rank {
        let (segment, after) = split_first(rest);
        if let Some(child) = self.literals.get(segment) {
            bound = child.visit(after, bound, offer);
        }
        if let Some(child) = &self.parameter {
            bound = child.visit(after, bound, offer);
        }
        if rest.is_empty() { bound } else { lowest(&self.tail, bound, offer) }
    }
}

fn lowest(ranks: &[Rank], bound: Rank, offer: &mut impl FnMut(Rank) -> bool) -> Rank {
    ranks.iter().copied().take_while(|rank| *rank < bound).find(|rank| offer(*rank)).unwrap_or(bound)
}

fn split_first(rest: &str) -> (&str, Option<&str>) {
    match rest.bytes().position(|byte| byte == b'/') {
        Some(slash) => (&rest[..slash], Some(&rest[slash + 1..])),
        None => (rest, None),
    }
}
