use std::{
    fs,
    path::{Path, PathBuf},
};

use http::{HeaderMap, Method};

use super::{migrated, tree::Notes};
use crate::{
    config::{self, Config, KeyPath},
    router::Query,
    tests::{assert_golden, files, repository},
};

fn golden() -> PathBuf {
    repository().join("tests/golden/migrate")
}

fn cases() -> Vec<PathBuf> {
    let cases = files(&golden(), "yaml");
    assert!(cases.len() >= 8, "{cases:?}");
    cases
}

/// The config or what stands in its place, and the notes.
fn migrate(text: &str) -> (Result<String, String>, Vec<String>) {
    let notes = Notes::default();
    let result = migrated(Path::new("envoy.yaml"), text, &notes);
    (result, notes.lines())
}

#[test]
fn configs_become_what_the_golden_files_say() {
    for case in cases() {
        let text = fs::read_to_string(&case).expect("readable");
        match migrate(&text) {
            (Ok(config), notes) => {
                for note in notes {
                    assert!(config.contains(&format!("# {note}\n")), "{note}");
                }
                assert_golden(&case.with_extension("toml"), &config);
            }
            (Err(reason), notes) => {
                let notes: String = notes.iter().map(|note| format!("{note}\n")).collect();
                assert_golden(&case.with_extension("txt"), &format!("{notes}{reason}\n"));
            }
        }
    }
}

/// Checks a config in a folder that has the plugins it names.
fn parsed(text: &str) -> Config {
    let certificates = wasmgate_tests::certificates();
    let text = &text.replace("/etc/wasmgate/tls", &certificates.path().display().to_string());
    let mut table: toml::Table = text.parse().expect("TOML");
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("plugins")).expect("a folder");
    for name in ["headers", "respond"] {
        fs::write(folder.path().join("plugins").join(format!("{name}.wasm")), "").expect("written");
    }
    let plugins = table.get_mut("plugin").and_then(toml::Value::as_table_mut);
    for (name, plugin) in plugins.into_iter().flatten() {
        let file = folder.path().join(format!("{name}.wasm"));
        fs::write(&file, "").expect("written");
        plugin["file"] = file.display().to_string().into();
    }
    match config::parse(&table.to_string(), "migrated.toml", folder.path()) {
        Ok(config) => config,
        Err(problems) => panic!("{problems}\n{text}"),
    }
}

#[test]
fn printed_configs_are_without_faults() {
    for case in cases() {
        if let (Ok(config), _) = migrate(&fs::read_to_string(&case).expect("readable")) {
            parsed(&config);
        }
    }
}

/// The name of the route that takes a request.
fn taken(config: &Config, host: &str, path: &str) -> String {
    let headers = HeaderMap::new();
    let query = Query { listener: 0, method: &Method::GET, host, path, query: None, headers: &headers };
    config.table.find(&query).map_or("none".to_owned(), |found| config.routes[found.rule].name.clone())
}

#[test]
fn requests_take_the_routes_that_envoy_would_choose() {
    let text = fs::read_to_string(golden().join("order.yaml")).expect("readable");
    let config = parsed(&migrate(&text).0.expect("a config"));
    for (host, path, route) in [
        ("api.example.com", "/only", "narrow"),
        ("www.example.com", "/api/v1/x", "wild-1"),
        ("www.example.com", "/api/x", "wild-2"),
        ("www.example.com", "/a/b", "wild-3"),
        ("other", "/a/b", "exact before prefix is as it should be"),
        ("other", "/a/c", "prefix before exact"),
        ("other", "/b/c", "elsewhere"),
        ("other", "/y/1", "regex that is tried first"),
        ("other", "/y/x", "all-15"),
        ("other", "/z/1", "regex of nothing else"),
        ("other", "/h/x", "any header"),
        ("other", "/", "all-16"),
    ] {
        assert_eq!(taken(&config, host, path), route, "{host}{path}");
    }
}

/// A config with one route.
fn with_route(route: &str) -> String {
    format!(
        "static_resources:
  listeners:
    - address: {{socket_address: {{address: 127.0.0.1, port_value: 80}}}}
      filter_chains:
        - filters:
            - typed_config:
                '@type': x.HttpConnectionManager
                route_config: {{virtual_hosts: [{{name: all, domains: ['*'], routes: [{route}]}}]}}
"
    )
}

#[test]
fn every_key_that_is_not_understood_is_named() {
    let text = with_route(
        "{match: {prefix: /, foo: 1}, route: {cluster: a}}, {match: {prefix: /}, route: {cluster: a, bar: [2]}}",
    );
    let (config, notes) = migrate(&text);
    assert!(config.is_ok(), "{config:?}");
    let routes = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes";
    for place in
        [format!("{routes}[0].match.foo: "), format!("{routes}[0]: "), format!("{routes}[1].route.bar: ")]
    {
        let note = format!("not carried over: {place}");
        assert!(notes.iter().any(|line| line.starts_with(&note)), "{note}\n{notes:#?}");
    }
}

#[test]
fn no_name_breaks_out_of_a_comment() {
    let text = with_route("{match: {prefix: /}, route: {cluster: \"a\\n[[route]]\"}}");
    let (config, notes) = migrate(&text);
    assert_eq!(parsed(&config.expect("a config")).routes.len(), 1);
    assert!(!notes.is_empty() && notes.iter().all(|note| !note.contains('\n')), "{notes:#?}");
    let text = with_route("{match: {prefix: /}, route: {cluster: a, \"x\\n[[route]]\": 1}}");
    parsed(&migrate(&text).0.expect("a config"));
}

#[test]
fn what_is_no_config_is_refused() {
    for (text, reason) in [
        ("", "no config"),
        ("[]", "no config"),
        ("a: [", "line"),
        ("a: 1\na: 2", "duplicate"),
        ("{}", "no static listener"),
        ("static_resources: {}", "no static listener"),
        ("static_resources: {listeners: {}}", "no static listener"),
        ("static_resources: {listeners: [1, null, {}]}", "no static listener"),
    ] {
        let error = migrate(text).0.expect_err(text);
        assert!(error.starts_with("envoy.yaml: ") && error.contains(reason), "{text:?}: {error}");
    }
}

#[test]
fn paths_are_told_as_users_write_them() {
    let notes = Notes::default();
    notes.left(&KeyPath::root().key("b").index(10), "x");
    notes.left(&KeyPath::root().key("b").index(9), "x");
    notes.caution(&KeyPath::root().key("a"), "y");
    assert_eq!(notes.lines(), ["caution: a: y", "not carried over: b[9]: x", "not carried over: b[10]: x"]);
}
