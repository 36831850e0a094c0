//! Config texts with placeholders.

use std::fmt::Display;

/// Puts values in the place of `{name}`. A name that does not occur is a mistake of the test.
pub fn fill(text: &str, values: &[(&str, &dyn Display)]) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| {
        let place = format!("{{{name}}}");
        assert!(text.contains(&place), "the config has no {place}");
        text.replace(&place, &value.to_string())
    })
}

/// Listener, admin, access log, plugins and one upstream `app`; and a route to it, unless the rest has routes.
pub fn before(upstream: &dyn Display, rest: &str) -> String {
    before_all(&[upstream], rest)
}

/// The same with several endpoints: addresses, or tables as the config has them.
pub fn before_all(endpoints: &[&dyn Display], rest: &str) -> String {
    let quoted = |endpoint: &&dyn Display| match endpoint.to_string() {
        table if table.starts_with('{') => table,
        address => format!("\"{address}\""),
    };
    let endpoints = endpoints.iter().map(quoted).collect::<Vec<_>>().join(", ");
    let route = match rest.contains("[[route]]") {
        true => "",
        false => "\n[[route]]\nname = \"all\"\nupstream = \"app\"\n",
    };
    format!("{}{rest}{route}", fill(FRONT, &[("endpoints", &endpoints)]))
}

const FRONT: &str = r#"
access_log = { file = "access.log" }
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[upstream.app]
endpoints = [{endpoints}]
"#;
