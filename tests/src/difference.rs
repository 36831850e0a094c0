//! Differences between recordings, and the table of those that are meant.

use std::{collections::BTreeSet, fmt};

use crate::recording::Recording;

/// Lines of two gateways that differ; one of them may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `LISTENER/CASE`.
    pub case: String,
    /// `answer`, `upstream` or `log`.
    pub part: &'static str,
    pub envoy: String,
    pub wasmgate: String,
}

/// The table: why which lines differ, as patterns in which `*` stands for anything.
pub struct Accepted(Vec<Reason>);

struct Reason {
    text: String,
    cases: Vec<String>,
    lines: Vec<[String; 3]>,
    /// Not every run needs it.
    sometimes: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.told("envoy", "wasmgate"))
    }
}

/// What differs between Envoy's recording of a case and wasmgate's.
pub fn differences(case: &str, envoy: &Recording, wasmgate: &Recording) -> Vec<Difference> {
    let parts = [
        ("answer", &envoy.answer, &wasmgate.answer),
        ("upstream", &envoy.upstream, &wasmgate.upstream),
        ("log", &envoy.log, &wasmgate.log),
    ];
    let mut all = Vec::new();
    for (part, envoy, wasmgate) in parts {
        for (envoy, wasmgate) in unequal(envoy, wasmgate) {
            all.push(Difference { case: case.to_owned(), part, envoy, wasmgate });
        }
    }
    all
}

/// Pairs of lines that differ, in the order of the lines.
fn unequal(left: &[String], right: &[String]) -> Vec<(String, String)> {
    // Lengths of the longest common subsequences of what is left of both.
    let mut common = vec![vec![0_u32; right.len() + 1]; left.len() + 1];
    for l in (0..left.len()).rev() {
        for r in (0..right.len()).rev() {
            common[l][r] = match left[l] == right[r] {
                true => common[l + 1][r + 1] + 1,
                false => common[l + 1][r].max(common[l][r + 1]),
            };
        }
    }
    let (mut l, mut r) = (0, 0);
    let mut pairs = Vec::new();
    let (mut gone, mut new) = (Vec::new(), Vec::new());
    while l < left.len() || r < right.len() {
        if l < left.len() && r < right.len() && left[l] == right[r] {
            pairs.extend(paired(&mut gone, &mut new));
            (l, r) = (l + 1, r + 1);
        } else if r == right.len() || l < left.len() && common[l + 1][r] >= common[l][r + 1] {
            gone.push(left[l].clone());
            l += 1;
        } else {
            new.push(right[r].clone());
            r += 1;
        }
    }
    pairs.extend(paired(&mut gone, &mut new));
    pairs
}

/// Lines about the same are shown side by side.
fn paired(gone: &mut Vec<String>, new: &mut Vec<String>) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for left in gone.drain(..) {
        let partner = new.iter().position(|right| about(right) == about(&left));
        pairs.push((left, partner.map(|at| new.remove(at)).unwrap_or_default()));
    }
    pairs.extend(new.drain(..).map(|right| (String::new(), right)));
    pairs
}

/// What a line is about: a call, a callback, a header, a body.
fn about(line: &str) -> &str {
    match line {
        _ if line.len() == 3 && line.bytes().all(|byte| byte.is_ascii_digit()) => "status",
        _ if line.starts_with("body ") => "body",
        _ => {
            let end = line.find(" = ").or_else(|| line.find(": ")).or_else(|| line.find('('));
            end.map_or(line, |end| &line[..end])
        }
    }
}

impl Accepted {
    /// The table from its file.
    pub fn parse(text: &str) -> Accepted {
        let table: toml::Table = text.parse().expect("the table is TOML");
        let strings = |value: &toml::Value| -> Vec<String> {
            let all = value.as_array().expect("an array").iter();
            all.map(|value| value.as_str().expect("a string").to_owned()).collect()
        };
        let reasons = table["difference"].as_array().expect("tables").iter().map(|reason| Reason {
            text: reason["reason"].as_str().expect("a reason").to_owned(),
            cases: strings(&reason["cases"]),
            sometimes: reason.get("sometimes").and_then(toml::Value::as_bool).unwrap_or_default(),
            lines: reason["lines"]
                .as_array()
                .expect("lines")
                .iter()
                .map(|line| strings(line).try_into().expect("part, line of Envoy, line of wasmgate"))
                .collect(),
        });
        Accepted(reasons.collect())
    }

    /// Differences that no line of the table explains, and what in the table no difference needs.
    pub fn judge(&self, found: &[Difference]) -> Vec<String> {
        let mut faults = Vec::new();
        let mut used = BTreeSet::new();
        for difference in found {
            let mut explained = false;
            for (number, reason) in self.0.iter().enumerate() {
                for case in reason.cases.iter().filter(|case| matches(case, &difference.case)) {
                    for line in reason.lines.iter().filter(|line| difference.fits(line)) {
                        explained = true;
                        used.insert((number, case.clone()));
                        used.insert((number, line.join("|")));
                    }
                }
            }
            if !explained {
                faults.push(difference.to_string());
            }
        }
        for (number, reason) in self.0.iter().enumerate().filter(|(_, reason)| !reason.sometimes) {
            let lines = reason.lines.iter().map(|line| line.join("|"));
            for part in reason.cases.iter().cloned().chain(lines) {
                if !used.contains(&(number, part.clone())) {
                    faults.push(format!("no difference any more: {part:?} of {:?}", reason.text));
                }
            }
        }
        faults
    }
}

impl Difference {
    /// As a line, with these names for both sides.
    pub fn told(&self, left: &str, right: &str) -> String {
        let shown = |line: &str| if line.is_empty() { "nothing".to_owned() } else { format!("{line:?}") };
        let (envoy, wasmgate) = (shown(&self.envoy), shown(&self.wasmgate));
        format!("{} / {}: {left} {envoy}, {right} {wasmgate}", self.case, self.part)
    }

    fn fits(&self, [part, envoy, wasmgate]: &[String; 3]) -> bool {
        part == self.part && matches(envoy, &self.envoy) && matches(wasmgate, &self.wasmgate)
    }
}

/// Whether the text is the pattern, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((front, rest)) => text.strip_prefix(front).is_some_and(|text| {
            (0..=text.len()).filter(|at| text.is_char_boundary(*at)).any(|at| matches(rest, &text[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split('|').map(str::to_owned).collect()
    }

    #[test]
    fn pairs_lines_about_the_same() {
        let found = unequal(&lines("a|x = 1|b|c: 1"), &lines("a|x = 2|new|b"));
        let pair = |l: &str, r: &str| (l.to_owned(), r.to_owned());
        assert_eq!(found, [pair("x = 1", "x = 2"), pair("", "new"), pair("c: 1", "")]);
    }

    #[test]
    fn patterns_have_stars() {
        assert!(matches("a*c", "abc") && matches("*", "") && matches("a*b*", "a-b") && matches("a", "a"));
        assert!(!matches("a*c", "abd") && !matches("", "a") && !matches("a", "ab"));
    }

    #[test]
    fn judges_both_what_is_new_and_what_is_gone() {
        let table = Accepted::parse(
            "[[difference]]\nreason = \"why\"\ncases = [\"f/*\", \"g/one\"]\nlines = [[\"log\", \"a*\", \"\"]]",
        );
        let difference = |case: &str, envoy: &str| Difference {
            case: case.to_owned(),
            part: "log",
            envoy: envoy.to_owned(),
            wasmgate: String::new(),
        };
        let faults = table.judge(&[difference("f/x", "abc"), difference("f/x", "new")]);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].contains("new") && faults[1].contains("g/one"), "{faults:?}");
    }
}
