//! Why each rule answers a request or does not, for people. Asks what finding asks: the same hosts, trees and predicates.

use std::fmt;

use super::predicate::list;
use super::tree::{NO_RANK, Rank};
use super::{Query, Rule, Table, host, specificity};

/// A rule as seen by one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its index in what [`Table::build`] was given.
    pub rule: usize,
    pub name: &'a str,
    pub standing: Standing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Wins,
    /// It matches, and why another one wins.
    Beaten(String),
    /// The first predicate that fails, in words.
    Fails(String),
}

impl fmt::Display for Candidate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.standing {
            Standing::Wins => write!(f, "{}: matches, and wins", self.name),
            Standing::Beaten(why) => write!(f, "{}: matches, but {why}", self.name),
            Standing::Fails(why) => write!(f, "{}: {why}", self.name),
        }
    }
}

/// What is asked first of an entry and not known to hold. The least came farthest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Predicates,
    Path,
    Host,
}

impl Table {
    /// Every rule, in the order of selection: the first one that matches wins. `listeners` are their names.
    pub fn explain(&self, query: &Query<'_>, listeners: &[&str]) -> Vec<Candidate<'_>> {
        let host = host::fold(query.host);
        let stages = self.rule_stages(&host, query.path).into_iter().enumerate();
        let mut ranked: Vec<_> = stages.map(|(rule, (stage, rank))| (rank, rule, stage)).collect();
        ranked.sort_unstable();
        let order = specificity::sorted(&self.rules);
        let mut winner: Option<(Rank, &str)> = None;
        let candidates = ranked.into_iter().map(|(rank, rule, stage)| {
            let name = &*self.rules[rule].name;
            let standing = match (self.rules[rule].words(stage, &host, query, listeners), winner) {
                (Some(failure), _) => Standing::Fails(failure),
                (None, Some((first, better))) => {
                    Standing::Beaten(format!("{better} {}", order[first].advantage(&order[rank])))
                }
                (None, None) => {
                    winner = Some((rank, name));
                    Standing::Wins
                }
            };
            Candidate { rule, name, standing }
        });
        candidates.collect()
    }

    /// For each rule, the entry that came farthest.
    fn rule_stages(&self, host: &str, path: &str) -> Vec<(Stage, Rank)> {
        let mut farthest = vec![(Stage::Host, NO_RANK); self.rules.len()];
        for (rank, stage) in self.entry_stages(host, path).into_iter().enumerate() {
            let known = &mut farthest[self.entries[rank].rule];
            *known = (stage, rank).min(*known);
        }
        farthest
    }

    fn entry_stages(&self, host: &str, path: &str) -> Vec<Stage> {
        let mut trees = vec![false; self.trees.len()];
        let mut paths = vec![false; self.entries.len()];
        for tree in self.hosts.trees(host) {
            trees[tree] = true;
            self.trees[tree].visit(path, NO_RANK, &mut |rank| {
                paths[rank] = true;
                false // nothing is taken, so all is offered
            });
        }
        let stages = self.entries.iter().zip(paths).map(|(entry, path)| match (trees[entry.tree], path) {
            (false, _) => Stage::Host,
            (true, false) => Stage::Path,
            (true, true) => Stage::Predicates,
        });
        stages.collect()
    }
}

impl Rule {
    fn words(&self, stage: Stage, host: &str, query: &Query<'_>, listeners: &[&str]) -> Option<String> {
        match stage {
            Stage::Host => Some(format!("host {host} is not one of {}", list(&self.hosts))),
            Stage::Path => Some(format!("path {} matches none of {}", query.path, list(&self.paths))),
            Stage::Predicates => self.failure(query).map(|failure| failure.words(listeners)),
        }
    }
}
