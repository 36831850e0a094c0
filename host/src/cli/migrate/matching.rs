//! The `match` of a route.

use http::HeaderName;

use super::{
    output::{Match, ValueTest},
    path::{self, Path},
    tree::Table,
};
use crate::router::ValueMatch;

/// None where it asks for something that no route of wasmgate can ask for. What that is has been noted.
pub fn read(mut table: Table) -> Option<(Path, Match)> {
    table.skip_if("case_sensitive", &["true"]);
    let path = Path::take(&mut table);
    let mut matches = Match::default();
    let mut whole = true;
    for header in table.tables("headers") {
        whole &= read_header(header, &mut matches).is_some();
    }
    for parameter in table.tables("query_parameters") {
        whole &= read_parameter(parameter, &mut matches).is_some();
    }
    let path = path.filter(|path| path.pattern().is_none_or(|pattern| path::is_pattern(&pattern)))?;
    matches.path = path.pattern();
    (whole && table.is_empty()).then_some((path, matches))
}

fn read_header(mut table: Table, matches: &mut Match) -> Option<()> {
    let name = table.text("name")?.to_ascii_lowercase();
    let test = header_test(&mut table)?;
    if !table.is_empty() {
        return None;
    }
    if name == ":method" && matches.methods.is_empty() {
        matches.methods = methods(&test).or_else(|| refuse(table, "it names no methods"))?;
        return Some(());
    }
    let known = HeaderName::from_bytes(name.as_bytes()).is_ok();
    if !known || matches.headers.insert(name, test).is_some() {
        return refuse(table, "a header can be asked for once, by its name; hosts are asked for with `host`");
    }
    Some(())
}

fn read_parameter(mut table: Table, matches: &mut Match) -> Option<()> {
    let name = table.text("name")?;
    let test = match table.table("string_match") {
        Some(inner) => string_test(inner)?,
        None => ValueTest::Present(table.flag("present_match").unwrap_or(true)),
    };
    if !table.is_empty() {
        return None;
    }
    match matches.query.insert(name, test) {
        Some(_) => refuse(table, "a parameter can be asked for once"),
        None => Some(()),
    }
}

fn refuse<T>(table: Table, why: &str) -> Option<T> {
    table.leave(why);
    None
}

fn header_test(table: &mut Table) -> Option<ValueTest> {
    table.skip_if("invert_match", &["false"]);
    let present = table.flag("present_match");
    let test = if let Some(inner) = table.table("string_match") {
        string_test(inner)?
    } else if let Some(inner) = table.table("safe_regex_match") {
        expression(path::expression_of(inner)?)?
    } else {
        let texts = ["exact", "prefix", "suffix", "contains"].map(|kind| {
            let text = table.text(&format!("{kind}_match"))?;
            Some(text_test(kind, text))
        });
        match texts.into_iter().flatten().next() {
            Some(test) => test,
            None => {
                let inverted = table.has("invert_match");
                table.skip_if("invert_match", &["true"]);
                ValueTest::Present(present.unwrap_or(true) != inverted)
            }
        }
    };
    Some(test)
}

/// A `StringMatcher`.
fn string_test(mut table: Table) -> Option<ValueTest> {
    let any_case = table.flag("ignore_case").unwrap_or(false);
    let test = match table.table("safe_regex") {
        Some(inner) => expression(path::expression_of(inner)?)?,
        None => {
            let texts = ["exact", "prefix", "suffix", "contains"].map(|kind| Some((kind, table.text(kind)?)));
            let (kind, text) = texts.into_iter().flatten().next()?;
            if any_case { any_case_test(kind, &text) } else { text_test(kind, text) }
        }
    };
    table.is_empty().then_some(test)
}

fn text_test(kind: &str, text: String) -> ValueTest {
    match kind {
        "prefix" => ValueTest::Prefix(text),
        "suffix" => ValueTest::Suffix(text),
        "contains" => ValueTest::Contains(text),
        _ => ValueTest::Exact(text),
    }
}

fn any_case_test(kind: &str, text: &str) -> ValueTest {
    let text = regex::escape(text);
    ValueTest::Regex(match kind {
        "prefix" => format!("(?i){text}.*"),
        "suffix" => format!("(?i).*{text}"),
        "contains" => format!("(?i).*{text}.*"),
        _ => format!("(?i){text}"),
    })
}

fn expression(text: String) -> Option<ValueTest> {
    ValueMatch::regex(&text).is_ok().then_some(ValueTest::Regex(text))
}

/// The methods of a test of `:method`: one, or an expression such as `GET|POST`.
fn methods(test: &ValueTest) -> Option<Vec<String>> {
    let (ValueTest::Exact(text) | ValueTest::Regex(text)) = test else { return None };
    let text = text.trim_start_matches(['^', '(']).trim_end_matches(['$', ')']);
    let mut methods: Vec<String> = text.split('|').map(str::to_owned).collect();
    let is_method = |text: &String| !text.is_empty() && text.chars().all(|c| c.is_ascii_uppercase());
    if !methods.iter().all(is_method) {
        return None;
    }
    methods.sort();
    methods.dedup();
    if methods.iter().any(|method| method == "GET") {
        methods.retain(|method| method != "HEAD");
    }
    Some(methods)
}
