use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::tests::{assert_golden, files, repository};

/// The plugins that shipped configs and golden files may use.
const PLUGINS: &[&str] = &[
    "acl",
    "auth-any",
    "basic-auth",
    "bot-detection",
    "forward-auth",
    "grpc-web",
    "headers",
    "hmac-auth",
    "ip-restriction",
    "jwt",
    "key-auth",
    "mtls-auth",
    "oauth2-introspection",
    "rate-limit",
    "request-id",
    "respond",
];

const SECRET: &str = "s3cret-value-of-the-tests";

/// A place for a config whose plugins are there, at least by name.
fn site() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let base = folder.path().join("config");
    for plugins in [base.join("plugins"), base.join("../target/plugins")] {
        fs::create_dir_all(base.join("examples")).expect("a folder");
        fs::create_dir_all(&plugins).expect("a folder");
        for name in PLUGINS {
            fs::write(plugins.join(format!("{name}.wasm")), "").expect("written");
        }
    }
    for file in ["secret", "examples/secret"] {
        fs::write(base.join(file), format!("{SECRET}\n")).expect("written");
    }
    (folder, base)
}

fn reference() -> String {
    without_environment(&repository().join("config/gateway.toml"))
}

/// Tests of one process share its environment, so they leave it alone.
fn without_environment(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("readable");
    let mut parts = text.split("${env:");
    let first = parts.next().expect("a text").to_owned();
    parts.fold(first, |text, part| {
        let (_, rest) = part.split_once('}').expect("it is closed");
        text + "${file:secret}" + rest
    })
}

#[test]
fn faults_read_as_the_golden_files_say() {
    let (_folder, base) = site();
    let cases = files(&repository().join("tests/golden/config"), "toml");
    assert!(!cases.is_empty());
    for case in cases {
        let name = case.file_name().expect("a file").to_string_lossy();
        let text = fs::read_to_string(&case).expect("readable");
        let problems = parse(&text, &name, &base).expect_err(&name);
        assert_golden(&case.with_extension("txt"), &format!("{problems}\n"));
    }
}

#[test]
fn shipped_configs_are_without_faults() {
    let (_folder, base) = site();
    let certificates = wasmgate_tests::certificates();
    for folder in ["config", "config/examples"] {
        for file in files(&repository().join(folder), "toml") {
            let text = without_environment(&file);
            let text = text.replace("/etc/wasmgate/tls", &certificates.path().display().to_string());
            let base = base.join("..").join(folder);
            if let Err(problems) = parse(&text, &file.display().to_string(), &base) {
                panic!("{problems}");
            }
        }
    }
}

#[test]
fn the_schema_is_the_committed_one() {
    let schema = serde_json::to_string_pretty(&schema()).expect("JSON");
    assert_golden(&repository().join("config/schema.json"), &format!("{schema}\n"));
}

/// The reference has every key of the schema, with its default where there is one.
/// The digest of a file that is built here, what excludes a key beside it, and what is not for native plugins.
const IN_COMMENTS: &[&str] = &[
    "tls",
    "cookie",
    "file",
    "reroute",
    "sha256",
    "template",
    "service",
    "root_id",
    "vm_id",
    "vm_config",
    "env",
    "clusters",
    "vms_per_worker",
    "master",
    "username",
    "password",
    "sentinel_username",
    "sentinel_password",
    "redis",
    "stale",
    "secrets",
    "fingerprint",
    "san_dns",
    "san_email",
    "subject_cn",
    "subject",
    "seal_keys",
];

#[test]
fn the_reference_is_complete() {
    let (_folder, base) = site();
    let (source, _) = Source::parse(&reference(), "gateway.toml", &base);
    let schema = schema();
    let mut tables = BTreeMap::from([("#".to_owned(), vec![source.value()])]);
    gather(&schema, &schema, &[source.value()], &mut tables);
    // What has no value stands within a key that is only in comments.
    for (table, values) in tables.into_iter().filter(|(_, values)| !values.is_empty()) {
        let properties = schema.pointer(&table[1..]).and_then(|table| table.get("properties"));
        for (key, property) in properties.and_then(Value::as_object).into_iter().flatten() {
            let values: Vec<_> = values.iter().filter_map(|value| value.get(key)).collect();
            if values.is_empty() && IN_COMMENTS.contains(&key.as_str()) {
                continue;
            }
            assert!(!values.is_empty(), "{table}: {key} is missing");
            // An empty array would show nothing, and the shipped configs find plugins where they are built.
            let shown = |default: &&Value| !default.is_array() && key != "directory";
            if let Some(default) = property.get("default").filter(shown) {
                assert!(values.contains(&default), "{table}: {key} is not {default}");
            }
        }
    }
}

/// Adds the values that each definition of the schema describes to `tables`.
fn gather<'v>(
    root: &Value,
    schema: &Value,
    values: &[&'v Value],
    tables: &mut BTreeMap<String, Vec<&'v Value>>,
) {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        tables.entry(target.to_owned()).or_default().extend(values);
        return gather(root, root.pointer(&target[1..]).expect("a definition"), values, tables);
    }
    for branch in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        gather(root, branch, values, tables);
    }
    for (key, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let values: Vec<_> = values.iter().filter_map(|value| value.get(key)).collect();
        gather(root, property, &values, tables);
    }
    let inner = values.iter().flat_map(|value| match value {
        Value::Array(entries) => entries.iter().collect::<Vec<_>>(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    });
    let inner: Vec<_> = inner.collect();
    for keyword in ["items", "additionalProperties"] {
        if let Some(schema) = schema.get(keyword) {
            gather(root, schema, &inner, tables);
        }
    }
}

/// Whatever string of a config is a secret, and whatever is wrong with it there, it is not shown.
#[test]
fn secrets_are_never_shown() {
    let (_folder, base) = site();
    let text = reference();
    let (source, _) = Source::parse(&text, "gateway.toml", &base);
    let places = strings(source.value(), &KeyPath::root());
    assert!(places.len() > 50);
    for path in places {
        let mut text = text.clone();
        text.replace_range(source.value_span(&path), "\"${file:secret}\"");
        let shown = match parse(&text, "gateway.toml", &base) {
            Ok(config) => {
                format!("{config:?} {:?}", config.routes.iter().map(|r| &r.plugins).collect::<Vec<_>>())
            }
            Err(problems) => format!("{problems} {:?}", problems.lines().collect::<Vec<_>>()),
        };
        assert!(!shown.contains(SECRET), "{path}: {shown}");
    }
}

fn strings(value: &Value, path: &KeyPath) -> Vec<KeyPath> {
    match value {
        Value::String(_) => vec![path.clone()],
        Value::Array(entries) => {
            let entries = entries.iter().enumerate();
            entries.flat_map(|(i, entry)| strings(entry, &path.index(i))).collect()
        }
        Value::Object(map) => map.iter().flat_map(|(key, value)| strings(value, &path.key(key))).collect(),
        _ => Vec::new(),
    }
}

const SMALL: &str = r#"
[[listener]]
address = ":0"
[[listener]]
name = "inner"
address = "[::1]:81"
[plugins]
limits = { memory = "1MiB", time = "5ms" }
failure_policy = "open"
[plugin.key-auth]
limits = { memory = "2MiB" }
upstreams = ["b"]
[upstream.a]
endpoints = ["a.internal:80"]
[upstream.b]
endpoints = [{ address = "[::1]:80", weight = 0 }, "b:81"]
host = "upstream"
[[route]]
name = "first"
match = { listener = "inner", path = "/x/{id}" }
upstream = "b"
rewrite = "/y/{id}"
limits = { body = "1KB" }
plugins = ["headers", { name = "key-auth", config = { key = "${file:secret}" }, failure_policy = "closed" }]
[[route]]
name = "second"
upstream = "a"
"#;

fn small() -> (TempDir, Config) {
    let (folder, base) = site();
    let config = parse(SMALL, "small.toml", &base).expect("no faults");
    (folder, config)
}

#[test]
fn names_become_indexes() {
    let (_folder, config) = small();
    assert_eq!(config.listeners[0].address.to_string(), "0.0.0.0:0");
    let names: Vec<_> = config.listeners.iter().map(|listener| listener.name.as_str()).collect();
    assert_eq!(names, [":0", "inner"]);
    let first = &config.routes[0];
    assert_eq!(&*config.upstreams[first.upstream.expect("given")].name, "b");
    let headers = http::HeaderMap::new();
    let query = |listener| crate::router::Query {
        listener,
        method: &http::Method::GET,
        host: "any",
        path: "/x/7",
        query: None,
        headers: &headers,
    };
    let found = |listener| config.table.find(&query(listener)).map(|found| found.rule);
    assert_eq!((found(0), found(1)), (Some(1), Some(0)));
}

#[test]
fn plugins_inherit_key_by_key() {
    let (_folder, config) = small();
    let plugin = |name: &str| config.plugins.iter().find(|plugin| plugin.name == name).expect("there");
    let (own, other) = (plugin("key-auth"), plugin("headers"));
    assert_eq!((own.limits.memory, other.limits.memory), (2 << 20, 1 << 20));
    assert_eq!(own.limits.time, Duration::from_millis(5));
    assert_eq!(own.limits.instances, PluginLimits::default().instances);
    assert_eq!((own.upstreams.as_slice(), other.upstreams.as_slice()), (&[1][..], &[0, 1][..]));
    let policies: Vec<_> = config.routes[0].plugins.iter().map(|used| used.failure_policy).collect();
    assert_eq!(policies, [FailurePolicy::Open, FailurePolicy::Closed]);
}

#[test]
fn the_rest_of_a_small_config() {
    let (_folder, config) = small();
    let used = &config.routes[0].plugins[1];
    assert_eq!(used.config.as_ref().unwrap().0["key"], SECRET);
    assert_eq!(used.path.to_string(), "route[0].plugins[1].config");
    assert_eq!((config.routes[0].body, config.routes[1].body), (1000, 10 << 20));
    let Rewrite::Template(template) = &config.routes[0].rewrite else { panic!("a template") };
    assert_eq!(template.fill(|_| Some("7")), "/y/7");
    let endpoint = &config.upstreams[1].endpoints[0];
    assert_eq!((endpoint.target.to_string().as_str(), endpoint.weight), ("[::1]:80", Some(0)));
    assert_eq!(config.upstreams[1].host, HostHeader::Upstream);
    assert_eq!(config.forwarded.via.as_deref(), Some("wasmgate"));
    assert_eq!((config.admin, config.access_log), (None, None));
}

#[test]
fn a_plugins_config_is_held_against_the_plugins_schema() {
    let (_folder, config) = small();
    let used = &config.routes[0].plugins[1];
    let schema = serde_json::json!({ "properties": { "key": { "type": "integer" } }, "required": ["realm"] });
    let problems = check_value(&config.source, &used.path, &schema);
    let mut lines: Vec<_> = Problems::new(&config.source, problems).lines().collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "small.toml:24:53: error: route[0].plugins[1].config: missing key `realm`",
            "small.toml:24:61: error: route[0].plugins[1].config.key: expected an integer, found a hidden string",
        ]
    );
}

#[test]
fn files_are_those_read_and_the_plugins() {
    let (folder, base) = site();
    let path = base.join("small.toml");
    fs::write(&path, SMALL).expect("written");
    let config = load(&path).expect("no faults");
    let wasm = |name: &str| base.join("plugins").join(name);
    let files = [path, base.join("secret"), wasm("key-auth.wasm"), wasm("headers.wasm")];
    assert_eq!(config.files(), &Files::from_iter(files));
    drop(folder);
}

#[test]
fn sets_of_networks_are_read_from_files_and_only_once() {
    let (folder, base) = site();
    let (path, list) = (base.join("small.toml"), base.join("blocked.txt"));
    fs::write(&path, format!("networks.blocked.file = \"blocked.txt\"\n{SMALL}")).expect("written");
    let problems = load(&path).expect_err("there is no list");
    assert!(problems.to_string().contains("blocked.txt cannot be read"), "{problems}");
    fs::write(&list, "10.0.0.1\n\n10.0.0.0/33\nx").expect("written");
    let problems = load(&path).expect_err("no list");
    let lines: Vec<_> = problems.lines().collect();
    let fault = format!(
        "networks.blocked.file: {}:3: expected an IP address or a network such as \"10.0.0.0/8\", found \
         \"10.0.0.0/33\"; 1 more lines are at fault",
        list.display()
    );
    assert_eq!(lines, [format!("{}:1:25: error: {fault}", path.display())]);
    assert!(problems.files().iter().any(|(file, _)| *file == list), "it is waited for");

    fs::write(&list, "10.0.0.0/8").expect("written");
    let fresh = load(&path).expect("no faults");
    let again = |known: &Config| load_with(&path, Overlay::default(), &known.networks).expect("no faults");
    assert!(!again(&fresh).networks[0].is(&fresh.networks[0]), "it had just been changed");
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    fs::File::options().write(true).open(&list).and_then(|list| list.set_modified(long_ago)).expect("set");
    let settled = again(&fresh);
    assert!(again(&settled).networks[0].is(&settled.networks[0]));
    fs::write(&list, "10.0.0.0/8\n::1").expect("written");
    assert_eq!(again(&settled).networks[0].set.len(), 2);
    drop(folder);
}

#[test]
fn a_file_that_is_not_there_is_a_problem_like_others() {
    let problems = load(Path::new("no/such.toml")).expect_err("not there");
    assert!(problems.to_string().starts_with("no/such.toml: error: cannot be read: "), "{problems}");
}

#[test]
fn depth_is_no_danger() {
    for text in [format!("a = {}", "[".repeat(100_000)), format!("{}a = 1", "a.".repeat(10_000))] {
        parse(&text, "deep.toml", Path::new(".")).expect_err("no config").to_string();
    }
}

fn never_panics(text: &str) {
    if let Err(problems) = parse(text, "any.toml", Path::new("no-such-folder")) {
        assert!(!problems.list().is_empty());
        problems.to_string();
        problems.lines().for_each(drop);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_is_a_config_or_a_problem(text in any::<String>()) {
        never_panics(&text);
    }

    #[test]
    fn any_change_of_a_config_is_a_config_or_a_problem(
        at in any::<prop::sample::Index>(),
        length in 0..40_usize,
        with in "[\\[\\]{}=\"'\n.,a-z0-9$ \t\r\u{0}é]{0,12}",
    ) {
        let mut text = SMALL.to_owned();
        let start = text.floor_char_boundary(at.index(text.len()));
        let end = text.floor_char_boundary((start + length).min(text.len()));
        text.replace_range(start..end, &with);
        never_panics(&text);
    }
}
