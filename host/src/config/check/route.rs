//! Routes: what they match, and what is sent upstream.

use std::{collections::BTreeMap, time::SystemTime};

use http::{HeaderName, Method};
use regex::Regex;

use super::{
    Check, KeyPath, Problem, Section, Table, one_line,
    plugin::Defaults,
    raw,
    upstream::{KEY, key},
};
use crate::{
    config::{Branch, Key, Limits, Mirror, Ramp, Rewrite, Route, Split, Template},
    router::{HostPattern, PathPattern, Rule, ValueMatch},
};

impl Check<'_> {
    /// The routes, and their rules in the same order.
    pub(super) fn routes(
        &mut self,
        section: Section<Vec<Section<raw::Route>>>,
        limits: &Limits,
        defaults: &Defaults,
    ) -> (Vec<Route>, Vec<Rule>) {
        let path = KeyPath::root().key("route");
        let sections = self.or_default(&path, section);
        let (mut routes, mut rules, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for (i, section) in sections.into_iter().enumerate() {
            let path = path.index(i);
            let Some(mut raw) = self.section(&path, section) else {
                continue;
            };
            let place = path.key("match");
            let predicates = self.or_default(&place, std::mem::take(&mut raw.r#match));
            let paths = each(&place.key("path"), &predicates.path);
            names.push((path.key("name"), raw.name.clone()));
            let rule = self.rule(&place, &raw.name, predicates);
            // Without a part that is at fault a rule would seem to equal others.
            rules.extend((!self.has_problem_within(&place)).then_some(rule));
            routes.push(self.route(&path, raw, &paths, limits, defaults));
        }
        self.distinct("name of a route", names.into_iter());
        (routes, rules)
    }

    fn upgrades(&mut self, path: &KeyPath, names: Vec<String>) -> Vec<String> {
        for (place, name) in names.iter().enumerate() {
            let path = path.key("upgrades").index(place);
            let token = |part: &str| Method::from_bytes(part.as_bytes()).is_ok();
            if !name.splitn(2, '/').all(token) {
                self.fault(
                    &path,
                    format!("expected the name of a protocol, such as \"websocket\", found {name:?}"),
                );
            } else if name.eq_ignore_ascii_case("h2c") {
                self.fault(&path, "HTTP/2 is not come to in this way: it is known by its first bytes");
            }
        }
        names
    }

    /// Reports routes that match the same requests.
    pub(super) fn table(&mut self, rules: Vec<Rule>) -> Option<Table> {
        let conflicts = Table::build(rules).map_err(|conflicts| {
            for conflict in conflicts {
                let (Some(first), Some(second)) = (self.named(&conflict.first), self.named(&conflict.second))
                else {
                    continue;
                };
                let name = self.shown(&first.key("name"), &conflict.first);
                let message = format!("matches the same requests as route {name}, with the same priority");
                let problem = Problem::at_value(&self.source, &second.key("match"), message);
                let also = self.source.value_span(&first.key("match"));
                let help = "make one of them more specific or give it a `priority`";
                self.report(problem.also(also, "the other route").help(help));
            }
        });
        conflicts.ok()
    }

    fn named(&self, name: &str) -> Option<KeyPath> {
        let routes = self.source.value().get("route")?.as_array()?;
        let named = |route: &serde_json::Value| route.get("name").is_some_and(|value| value == name);
        Some(KeyPath::root().key("route").index(routes.iter().position(named)?))
    }

    /// `paths` are its path patterns and their places.
    fn route(
        &mut self,
        path: &KeyPath,
        raw: raw::Route,
        paths: &[(KeyPath, String)],
        limits: &Limits,
        defaults: &Defaults,
    ) -> Route {
        // With a fault in it, such as an unknown key, it may well be meant to have them.
        if raw.upstream.is_none()
            && raw.split.is_none()
            && raw.plugins.is_empty()
            && !self.has_problem_within(path)
        {
            self.fault(path, "a route without an upstream and without plugins answers nothing");
        }
        let upstream = raw.upstream.as_ref().map(|name| self.upstream_named(&path.key("upstream"), name));
        let split = raw.split.and_then(|raw| self.split(&path.key("split"), raw));
        if upstream.is_some() && split.is_some() {
            self.fault(&path.key("upstream"), "`upstream` and `split` exclude each other");
        }
        let fallback_path = path.key("fallback");
        let fallback = raw.fallback.as_ref().map(|name| self.upstream_named(&fallback_path, name));
        if fallback.is_some() && raw.fallback == raw.upstream && !self.has_problem_within(&fallback_path) {
            self.fault(&fallback_path, "this is the upstream that it is to stand in for");
        }
        let mirror = raw.mirror.and_then(|raw| self.mirror(&path.key("mirror"), raw));
        let rewrite = self.rewrite(path, (&raw.strip_prefix, &raw.rewrite), paths);
        let body = raw
            .limits
            .body
            .as_ref()
            .map_or(limits.body, |body| self.size(&path.key("limits"), "body", body, 0..=u64::MAX));
        let plugins = self.plugin_uses(&path.key("plugins"), raw.plugins, defaults);
        let upgrades = self.upgrades(path, raw.upgrades);
        let early_hints = raw.early_hints;
        Route {
            name: raw.name,
            upstream,
            split,
            fallback,
            mirror,
            rewrite,
            plugins,
            upgrades,
            early_hints,
            body,
        }
    }

    fn upstream_named(&mut self, path: &KeyPath, name: &str) -> usize {
        let upstreams = self.upstreams.clone();
        self.reference("upstream", &upstreams, path, name)
    }

    fn split(&mut self, path: &KeyPath, section: Section<raw::Split>) -> Option<Split> {
        let raw = self.section(path, section)?;
        let sticky = raw.sticky.map(|text| self.parsed(&path.key("sticky"), &text, KEY, key));
        let cookie = raw.cookie.map(|raw| self.sticky_cookie(&path.key("cookie"), raw));
        if sticky.is_some() && cookie.is_some() {
            self.fault(&path.key("cookie"), "`cookie` and `sticky` exclude each other");
        }
        let place = path.key("branches");
        let mut branches = Vec::new();
        for (i, section) in raw.branches.into_iter().enumerate() {
            let path = place.index(i);
            if let Some(raw) = self.section(&path, section) {
                branches.push(self.branch(&path, raw));
            }
        }
        if branches.iter().all(|branch| branch.weight == 0) && !self.has_problem_within(&place) {
            let reason = "every branch has the weight 0: requests that no `match` decides would go nowhere";
            self.fault(&place, reason);
        }
        Some(Split { sticky: sticky.flatten(), cookie, branches })
    }

    fn branch(&mut self, path: &KeyPath, raw: raw::Branch) -> Branch {
        let place = path.key("match");
        let headers = self.headers(&place.key("headers"), raw.r#match.headers);
        let cookies = self.query(&place.key("cookies"), raw.r#match.cookies);
        let query = self.query(&place.key("query"), raw.r#match.query);
        let headers = headers.into_iter().map(|(name, test)| (Key::Header(name), test));
        let cookies = cookies.into_iter().map(|(name, test)| (Key::Cookie(name), test));
        let query = query.into_iter().map(|(name, test)| (Key::Query(name), test));
        Branch {
            upstream: self.upstream_named(&path.key("upstream"), &raw.upstream),
            weight: raw.weight,
            matches: headers.chain(cookies).chain(query).collect(),
            ramp: raw.ramp.map(|raw| self.ramp(&path.key("ramp"), &raw)),
        }
    }

    fn ramp(&mut self, path: &KeyPath, raw: &raw::Ramp) -> Ramp {
        let start = self.parsed(&path.key("start"), &raw.start, TIME, |text| {
            humantime::parse_rfc3339(text).map_err(|_| format!("expected {TIME}, found {text:?}"))
        });
        Ramp {
            start: start.unwrap_or(SystemTime::UNIX_EPOCH),
            over: self.duration(path, "over", &raw.over),
            from: raw.from / 100.0,
            steps: raw.steps,
        }
    }

    fn mirror(&mut self, path: &KeyPath, section: Section<raw::Mirror>) -> Option<Mirror> {
        let raw = self.section(path, section)?;
        Some(Mirror {
            upstream: self.upstream_named(&path.key("upstream"), &raw.upstream),
            share: raw.percent / 100.0,
            methods: self.each(&path.key("methods"), &raw.methods, METHOD, method),
            body: self.bytes(path, "body", &raw.body, 0..=1 << 30),
            in_flight: raw.in_flight,
            credentials: raw.credentials,
        })
    }

    fn rule(&mut self, path: &KeyPath, name: &str, raw: raw::Match) -> Rule {
        let (mut listeners, mut hosts, mut paths) = (Vec::new(), Vec::new(), Vec::new());
        let known = self.listeners.clone();
        for (path, name) in each(&path.key("listener"), &raw.listener) {
            let index = self.reference("listener", &known, &path, &name);
            listeners.extend(u16::try_from(index));
        }
        for (path, text) in each(&path.key("host"), &raw.host) {
            hosts.extend(self.parsed(&path, &text, "a host pattern", |text| {
                text.parse::<HostPattern>().map_err(|error| error.to_string())
            }));
        }
        for (path, text) in each(&path.key("path"), &raw.path) {
            paths.extend(self.parsed(&path, &text, "a path pattern", |text| {
                text.parse::<PathPattern>().map_err(|error| one_line(&error.to_string()))
            }));
        }
        let methods = self.each(&path.key("methods"), &raw.methods, METHOD, method);
        Rule {
            name: name.into(),
            priority: raw.priority,
            listeners,
            hosts,
            paths,
            methods,
            headers: self.headers(&path.key("headers"), raw.headers),
            query: self.query(&path.key("query"), raw.query),
        }
    }

    fn headers(&mut self, path: &KeyPath, tests: ValueTests) -> Vec<(HeaderName, ValueMatch)> {
        let mut headers = Vec::new();
        for (name, entry) in tests {
            let path = path.key(&name);
            let expected = self.section(&path, entry).and_then(|entry| self.value_match(&path, entry));
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => headers.extend(expected.map(|expected| (name, expected))),
                Err(_) => {
                    let message = format!("`{name}` is no name of a header field");
                    self.report(Problem::at_key(&self.source, &path, message));
                }
            }
        }
        headers
    }

    fn query(&mut self, path: &KeyPath, tests: ValueTests) -> Vec<(String, ValueMatch)> {
        let tests = tests.into_iter().filter_map(|(name, entry)| {
            let path = path.key(&name);
            let entry = self.section(&path, entry)?;
            Some((name, self.value_match(&path, entry)?))
        });
        tests.collect()
    }

    fn value_match(&mut self, path: &KeyPath, entry: raw::ValueEntry) -> Option<ValueMatch> {
        let test = match entry {
            raw::ValueEntry::Exact(text) => return Some(ValueMatch::Exact(text)),
            raw::ValueEntry::Test(test) => test,
        };
        let regex = test.regex.as_ref().map(|text| {
            self.parsed(&path.key("regex"), text, "a regular expression", |text| {
                ValueMatch::regex(text).map_err(|error| one_line(&error.to_string()))
            })
        });
        let present = test.present.map(|present| match present {
            true => ValueMatch::Present,
            false => ValueMatch::Absent,
        });
        let given = [
            regex,
            test.prefix.map(|text| Some(ValueMatch::Prefix(text))),
            test.suffix.map(|text| Some(ValueMatch::Suffix(text))),
            test.contains.map(|text| Some(ValueMatch::Contains(text))),
            present.map(Some),
        ];
        let mut given: Vec<_> = given.into_iter().flatten().collect();
        if given.len() != 1 && !self.has_problem_within(path) {
            let keys = "`regex`, `prefix`, `suffix`, `contains`, `present`";
            self.fault(path, format!("expected exactly one of {keys}, found {}", given.len()));
        }
        given.pop().flatten()
    }

    fn rewrite(
        &mut self,
        path: &KeyPath,
        (strip, template): (&Option<String>, &Option<String>),
        paths: &[(KeyPath, String)],
    ) -> Rewrite {
        let rewrite = match (strip, template) {
            (None, None) => None,
            (Some(prefix), None) => self
                .fitting(&path.key("strip_prefix"), prefix, "a path such as \"/api\"", paths, stripped)
                .map(Rewrite::StripPrefix),
            (None, Some(template)) => self
                .fitting(&path.key("rewrite"), template, "a path such as \"/v2/{id}\"", paths, filled)
                .map(Rewrite::Template),
            (Some(_), Some(_)) => {
                self.fault(&path.key("rewrite"), "`rewrite` and `strip_prefix` exclude each other");
                None
            }
        };
        rewrite.unwrap_or(Rewrite::Keep)
    }

    /// A text that has to fit the paths of its route.
    fn fitting<T>(
        &mut self,
        place: &KeyPath,
        text: &str,
        expected: &str,
        paths: &[(KeyPath, String)],
        fit: fn(&str, &[&str]) -> Result<T, String>,
    ) -> Option<T> {
        let hidden = paths.iter().any(|(path, _)| self.source.is_hidden(path));
        let paths: Vec<&str> = paths.iter().map(|(_, path)| path.as_str()).collect();
        self.parsed(place, text, expected, |text| {
            fit(text, &paths).map_err(|reason| match hidden {
                true => "does not fit a path of the route, which is hidden".to_owned(),
                false => reason,
            })
        })
    }
}

type ValueTests = BTreeMap<String, Section<raw::ValueEntry>>;

const TIME: &str = "a time such as \"2026-12-01T09:00:00Z\"";
pub(super) const METHOD: &str = "a method in upper case such as \"GET\"";

/// One or many strings, each with its place.
fn each(path: &KeyPath, given: &Option<raw::OneOrMany>) -> Vec<(KeyPath, String)> {
    match given {
        None => Vec::new(),
        Some(raw::OneOrMany::One(text)) => vec![(path.clone(), text.clone())],
        Some(raw::OneOrMany::Many(texts)) => {
            let texts = texts.iter().enumerate();
            texts.map(|(i, text)| (path.index(i), text.clone())).collect()
        }
    }
}

/// Methods are case-sensitive (RFC 9110, 9.1): `get` would never match.
pub(super) fn method(text: &str) -> Result<Method, String> {
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if !text.contains(|c: char| c.is_ascii_lowercase()) => Ok(method),
        _ => Err(format!("expected {METHOD}, found {text:?}")),
    }
}

/// A prefix that every one of the path patterns begins with, by whole segments.
fn stripped(prefix: &str, paths: &[&str]) -> Result<String, String> {
    let segments =
        prefix.strip_prefix('/').filter(|segments| !segments.is_empty() && !segments.ends_with('/'));
    let Some(segments) = segments else {
        return Err(format!(
            "expected a path that begins with `/` and does not end with it, found {prefix:?}"
        ));
    };
    if paths.is_empty() {
        return Err(format!("`{prefix}` cannot be stripped: the route has no `path` that begins with it"));
    }
    let begins = |path: &&&str| {
        let mut own = path.strip_prefix('/').unwrap_or_default().split('/');
        segments.split('/').all(|segment| own.next() == Some(segment))
    };
    match paths.iter().find(|path| !begins(path)) {
        Some(path) => Err(format!("`{prefix}` cannot be stripped: the path `{path}` does not begin with it")),
        None => Ok(prefix.to_owned()),
    }
}

/// A template whose parameters every one of the path patterns has.
fn filled(template: &str, paths: &[&str]) -> Result<Template, String> {
    let template = Template::parse(template)?;
    let known: Vec<_> = paths.iter().map(|path| (path, parameters(path))).collect();
    for name in template.parameters() {
        if paths.is_empty() {
            return Err(format!("unknown parameter `{name}`: the route has no `path`"));
        }
        if let Some((path, known)) = known.iter().find(|(_, known)| !known.iter().any(|known| known == name))
        {
            let near = super::nearest(name, known.iter().map(String::as_str));
            let near = near.map_or(String::new(), |near| format!(", did you mean `{near}`?"));
            return Err(format!("the path `{path}` has no parameter `{name}`{near}"));
        }
    }
    Ok(template)
}

/// Names of the parameters of a path pattern.
fn parameters(pattern: &str) -> Vec<String> {
    match pattern.strip_prefix('~') {
        Some(expression) => {
            let regex = Regex::new(expression.trim_start());
            regex.iter().flat_map(Regex::capture_names).flatten().map(str::to_owned).collect()
        }
        None => {
            let named = |segment: &str| {
                let name = segment.strip_prefix('{')?.strip_suffix('}')?;
                Some(name.trim_end_matches('*').to_owned())
            };
            pattern.split('/').filter_map(named).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{filled, method, parameters, stripped};

    #[test]
    fn parameters_of_patterns() {
        assert_eq!(parameters("/a/{id}/{rest*}"), ["id", "rest"]);
        assert_eq!(parameters("~ ^/v(?<version>[0-9]+)/(x)(?<id>.*)"), ["version", "id"]);
        assert!(parameters("~ [").is_empty() && parameters("/a/*").is_empty());
    }

    #[test]
    fn prefixes_are_stripped_by_segments() {
        assert_eq!(stripped("/api", &["/api", "/api/*", "/api/{id}"]), Ok("/api".to_owned()));
        for (prefix, paths) in [
            ("/api", vec!["/api/*", "/apix/*"]),
            ("/api/v1", vec!["/api/*"]),
            ("/api", vec!["/{api}/*"]),
            ("/api", vec!["~ ^/api/.*"]),
            ("/api", vec![]),
            ("/api/", vec!["/api/*"]),
            ("/", vec!["/*"]),
            ("api", vec!["/api"]),
        ] {
            assert!(stripped(prefix, &paths).is_err(), "{prefix} {paths:?}");
        }
    }

    #[test]
    fn templates_know_their_parameters() {
        assert!(filled("/v2/{id}", &["/v1/{id}", "/v0/{id}/*"]).is_ok());
        assert!(filled("/v2", &[]).is_ok());
        for paths in [vec!["/v1/{id}", "/v1/*"], vec!["/v1/{ID}"], vec![]] {
            assert!(filled("/v2/{id}", &paths).is_err(), "{paths:?}");
        }
    }

    #[test]
    fn methods_are_upper_case() {
        assert!(method("GET").is_ok() && method("PURGE").is_ok());
        assert!(method("get").is_err() && method("").is_err() && method("A B").is_err());
    }
}
