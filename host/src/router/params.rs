//! What a path pattern captures, taken from the path only when somebody asks. Does not decide whether a path matches.

use regex::bytes::Regex;

use super::PathPattern;
use super::path::{Form, Template, split};

/// What a path pattern captured, as slices of the path: not percent-decoded.
#[derive(Debug)]
pub struct Params<'a> {
    template: Option<(&'a Template, &'a str)>,
    groups: Vec<(&'a str, &'a str)>,
}

impl<'a> Params<'a> {
    /// For a path that the pattern matches.
    pub(super) fn new(pattern: &'a PathPattern, path: &'a str) -> Self {
        match &pattern.form {
            Form::Template(template) => Self { template: Some((template, path)), groups: Vec::new() },
            Form::Regex(regex) => Self { template: None, groups: groups(regex, path) },
        }
    }

    /// Names and values in the order of the pattern.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let named = self.template.into_iter().flat_map(|(template, path)| named(template, path));
        named.chain(self.groups.iter().copied())
    }

    /// The value of a parameter; none too for a group of a regular expression that took no part in the match.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.iter().find_map(|(known, value)| (known == name).then_some(value))
    }
}

fn named<'a>(template: &'a Template, path: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let segments = template.segments.iter().zip(split(path));
    let segments = segments.filter_map(|(segment, value)| Some((segment.parameter()?, value)));
    let tail = template.end.name().and_then(|name| Some((name, after(path, template.segments.len())?)));
    segments.chain(tail)
}

/// What follows the first `count` segments and a slash.
fn after(path: &str, count: usize) -> Option<&str> {
    path.strip_prefix('/')?.splitn(count + 1, '/').nth(count)
}

fn groups<'a>(regex: &'a Regex, path: &'a str) -> Vec<(&'a str, &'a str)> {
    let names = || regex.capture_names().flatten();
    if names().next().is_none() {
        return Vec::new();
    }
    let Some(captures) = regex.captures(path.as_bytes()) else {
        return Vec::new();
    };
    names().filter_map(|name| Some((name, path.get(captures.name(name)?.range())?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pattern: &str, path: &str) -> String {
        let pattern: PathPattern = pattern.parse().unwrap();
        let params = Params::new(&pattern, path);
        params.iter().map(|(name, value)| format!("{name}={value};")).collect()
    }

    #[test]
    fn takes_parameters_as_written() {
        for (pattern, path, expected) in [
            ("/users/*", "/users/7", ""),
            ("/{a}", "/", "a=;"),
            ("/users/{id}/posts/{post}", "/users/7/posts/%41", "id=7;post=%41;"),
            ("/users/{id}/*", "/users/7", "id=7;"),
            ("/{a}/{rest*}", "/x//y/", "a=x;rest=/y/;"),
            ("/{rest*}", "/x/y", "rest=x/y;"),
            ("~/v(?<version>[0-9]+)/(?<id>.*?)(?<end>!)?", "/v12/a/b", "version=12;id=a/b;"),
            ("~ /.*", "/v12/a/b", ""),
        ] {
            assert_eq!(params(pattern, path), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn gets_a_parameter_by_name() {
        let pattern: PathPattern = "/{a}/{b*}".parse().unwrap();
        let params = Params::new(&pattern, "/1/2/3");
        assert_eq!((params.get("a"), params.get("b"), params.get("c")), (Some("1"), Some("2/3"), None));
    }
}
