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
    let route = match rest.contains("[[route]]") {
        true => "",
        false => "\n[[route]]\nname = \"all\"\nupstream = \"app\"\n",
    };
    format!("{}{rest}{route}", fill(FRONT, &[("upstream", upstream)]))
}

const FRONT: &str = r#"
access_log = { file = "access.log" }
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[upstream.app]
endpoints = ["{upstream}"]
"#;
