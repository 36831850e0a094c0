//! A rule: whose requests, and which of them.

use std::collections::BTreeMap;

use wasmgate_sdk::{Error, Result, auth::Claims, config, serde_json::Value};

use crate::{
    claims,
    path::{Path, Pattern},
};

/// Requests that all parts fit which are given; a list fits where one of its members does.
#[config]
pub struct Rule {
    /// Whose they are.
    consumers: Option<Vec<String>>,
    /// Groups of the consumer.
    groups: Option<Vec<String>>,
    /// Plans of the consumer.
    plans: Option<Vec<String>>,
    /// What a token says, by the claims' paths: a value, a list of which one has to be there, or true for any but
    /// false.
    #[serde(default)]
    claims: BTreeMap<String, Value>,
    /// Methods; GET stands for HEAD, too.
    methods: Option<Vec<String>>,
    /// Paths; with /* at the end those below, too.
    paths: Option<Vec<Pattern>>,
}

/// Whose a request is, and what it is.
pub struct Asker {
    pub consumer: String,
    pub groups: Vec<String>,
    pub plan: Option<String>,
    pub claims: Claims,
    pub method: String,
    pub path: Path,
}

impl Rule {
    /// The error begins with the key in the rule.
    pub fn check(&self) -> Result<()> {
        let Rule { consumers, groups, plans, claims, methods, paths } = self;
        for (key, names) in
            [("consumers", consumers), ("groups", groups), ("plans", plans), ("methods", methods)]
        {
            let Some(names) = names else { continue };
            check_list(key, names.len())?;
            if let Some(place) = names.iter().position(|name| name.trim() != name || name.is_empty()) {
                return Err(Error::msg(format_args!(".{key}[{place}]: is empty, or has spaces around it")));
            }
        }
        paths.as_ref().map_or(Ok(()), |paths| check_list("paths", paths.len()))?;
        let comma = groups.iter().flatten().position(|group| group.contains(','));
        if let Some(place) = comma {
            return Err(Error::msg(format_args!(".groups[{place}]: holds a comma, which no group does")));
        }
        let lower = methods.iter().flatten().position(|method| *method != method.to_ascii_uppercase());
        if let Some(place) = lower {
            return Err(Error::msg(format_args!(".methods[{place}]: is not in upper case")));
        }
        if let Some((path, _)) = claims.iter().find(|(_, wanted)| !claims::can_fit(wanted)) {
            return Err(Error::msg(format_args!(
                ".claims.{path}: expected a text, a number, a boolean or a list of such"
            )));
        }
        let is_empty = consumers.is_none() && groups.is_none() && plans.is_none() && claims.is_empty();
        match is_empty && methods.is_none() && paths.is_none() {
            true => Err(Error::msg(": is empty, which every request fits")),
            false => Ok(()),
        }
    }

    pub fn reads_claims(&self) -> bool {
        !self.claims.is_empty()
    }

    /// Whether it is surely meant.
    pub fn allows(&self, asker: &Asker) -> bool {
        self.fits(asker)
            && self.paths.as_ref().is_none_or(|paths| paths.iter().any(|path| path.fits(&asker.path)))
    }

    /// Whether it may be meant: some servers take paths for the same that others do not.
    pub fn denies(&self, asker: &Asker) -> bool {
        let may_fit = |path: &Pattern| path.may_fit(&asker.path);
        self.fits(asker) && self.paths.as_ref().is_none_or(|paths| paths.iter().any(may_fit))
    }

    /// Paths apart.
    fn fits(&self, asker: &Asker) -> bool {
        let has = |names: &Option<Vec<String>>, name: &str| {
            names.as_ref().is_none_or(|names| names.iter().any(|known| known == name))
        };
        let in_groups =
            self.groups.as_ref().is_none_or(|groups| groups.iter().any(|group| asker.groups.contains(group)));
        let has_method =
            has(&self.methods, &asker.method) || (asker.method == "HEAD" && has(&self.methods, "GET"));
        let has_plan = self.plans.is_none() || asker.plan.as_ref().is_some_and(|plan| has(&self.plans, plan));
        let has_claims = || self.claims.iter().all(|(path, wanted)| claims::fit(&asker.claims, path, wanted));
        has(&self.consumers, &asker.consumer) && in_groups && has_plan && has_method && has_claims()
    }
}

fn check_list(key: &str, len: usize) -> Result<()> {
    match len {
        0 => Err(Error::msg(format_args!(".{key}: is empty, which no request fits"))),
        _ => Ok(()),
    }
}
