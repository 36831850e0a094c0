//! The command line as a user meets it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use tempfile::TempDir;
use wasmgate_tests::{Output, TestGateway, binary, guest, plugin, run, run_in};

fn folder(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(
            directory.path().join(name),
            text.replace("{rogue}", &guest("rogue").display().to_string()),
        )
        .unwrap();
    }
    directory
}

fn check(config: &str) -> Output {
    run_in(folder(&[("gateway.toml", config)]).path(), &["check", "gateway.toml"])
}

const GOOD: &str = "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [\"127.0.0.1:9\"]\n\
    [plugin.rogue]\nfile = \"{rogue}\"\n\
    [[route]]\nname = \"user\"\nmatch = { host = \"a.test\", path = \"/users/{id}\", methods = [\"GET\"] }\nupstream = \"app\"\n\
    plugins = [{ name = \"rogue\", config = { name = \"x\" } }]\n[[route]]\nname = \"all\"\nupstream = \"app\"\n";

#[test]
fn what_cannot_be_opened_is_told_with_its_place() {
    let run = |config: &str| TestGateway::refused(config);
    let busy: Vec<_> = (0..3).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let address = |place: usize| busy[place].local_addr().unwrap();
    let listeners =
        format!("[[listener]]\naddress = \"{}\"\n[[listener]]\naddress = \"{}\"\n", address(0), address(1));
    let route = "[[route]]\nname = \"all\"\nplugins = []\nupstream = \"app\"\n[upstream.app]\nendpoints = [\"127.0.0.1:9\"]\n";
    let told = run(&format!("{listeners}{route}"));
    for place in [
        "gateway.toml:2:11: error: listener[0].address: cannot listen",
        "gateway.toml:4:11: error: listener[1]",
    ] {
        assert!(told.contains(place), "{place} is missing:\n{told}");
    }
    let told = run(&format!("admin.address = \"{}\"\n{listeners}{route}", address(2)));
    assert!(told.contains("gateway.toml:1:17: error: admin.address: cannot listen"), "{told}");
    let told = run(&format!("access_log.file = \"nowhere/access.log\"\n{listeners}{route}"));
    assert!(
        told.contains("gateway.toml:1:19: error: access_log.file: nowhere/access.log cannot be written"),
        "{told}"
    );
    let told = run(&format!("[plugins]\ncache = \"/dev/null/x\"\n{listeners}{route}"));
    assert!(told.contains("gateway.toml:2:9: error: plugins.cache: /dev/null/x cannot be used"), "{told}");
}

#[test]
fn a_good_config_is_told_to_be_good() {
    let output = check(GOOD);
    assert_eq!((output.code, output.err.as_str()), (Some(0), ""));
    assert_eq!(output.out, "gateway.toml is correct: 1 listeners, 2 routes, 1 upstreams, 1 plugins\n");
}

#[test]
fn all_faults_are_printed_with_their_places() {
    let bad = "[[listener]]\naddress = \"nowhere\"\n[limits]\nbody = 5\n[[route]]\nname = \"a\"\nupstrem = \"app\"\n\
               [[route]]\nname = \"a\"\nupstream = \"none\"\n";
    let output = check(bad);
    assert_eq!(output.code, Some(1));
    for place in ["gateway.toml:2:11", "gateway.toml:4:8", "gateway.toml:7:1"] {
        assert!(output.err.contains(place), "{place} is missing:\n{}", output.err);
    }
    assert!(output.err.contains("upstream"), "a near name is told:\n{}", output.err);
    assert!(output.out.is_empty());
}

#[test]
fn faults_of_all_kinds_are_told_at_once() {
    let bad = "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1:0\"\n[plugins]\ncache = \"open\"\n\
        [access_log]\nfile = \"nowhere/access.log\"\n[plugin.rogue]\nfile = \"{rogue}\"\n\
        [plugin.garbage]\nfile = \"garbage.wasm\"\n[plugin.missing]\nfile = \"missing.wasm\"\n\
        [plugin.small]\nfile = \"{rogue}\"\nlimits = { memory = \"much\" }\n[[route]]\nname = \"all\"\nupstream = \"none\"\n\
        plugins = [{ name = \"rogue\", config = { name = 5 } }, { name = \"rogue\", config = { name = \"${env:NOT_SET}\" } }]\n\
        [[route]]\nname = \"b\"\nmatch = { path = \"/b\" }\nplugins = [\"garbage\", \"missing\", \"small\"]\n";
    let directory = folder(&[("gateway.toml", bad), ("garbage.wasm", "garbage")]);
    fs::create_dir(directory.path().join("open")).unwrap();
    fs::set_permissions(directory.path().join("open"), fs::Permissions::from_mode(0o777)).unwrap();
    let output = run_in(directory.path(), &["check", "gateway.toml"]);
    assert_eq!(output.code, Some(1));
    let mut told: Vec<_> = output
        .err
        .lines()
        .filter_map(|line| line.strip_prefix("gateway.toml:")?.split_once(": error: "))
        .collect();
    told.iter_mut().for_each(|(_, what)| *what = what.split(": ").next().unwrap());
    let expected = [
        ("5:9", "plugins.cache"),
        ("7:8", "access_log.file"),
        ("10:1", "plugin.garbage"),
        ("13:8", "plugin.missing.file"),
        ("16:21", "plugin.small.limits.memory"),
        ("19:12", "route[0].upstream"),
        ("20:48", "route[0].plugins[0].config.name"),
        ("20:91", "route[0].plugins[1].config.name"),
    ];
    assert_eq!(told, expected, "{}", output.err);
    assert!(!directory.path().join("nowhere").exists());
}

#[test]
fn faults_in_a_plugins_config_are_found_by_its_own_schema() {
    let bad = GOOD.replace("{ name = \"x\" }", "{ name = 5, requst = [], request = [\"dance\"] }");
    let output = check(&bad);
    assert_eq!(output.code, Some(1));
    let line = bad.lines().position(|line| line.starts_with("plugins")).unwrap() + 1;
    let faults = output.err.matches(&format!("gateway.toml:{line}:")).count();
    assert_eq!(faults, 3, "{}", output.err);
    assert!(output.err.contains("requst"), "{}", output.err);
}

#[test]
fn an_error_of_init_is_located() {
    let bad = GOOD.replace("name = \"x\" }", "init = [{ fail = \"the key is too short\" }] }");
    let output = check(&bad);
    assert_eq!(output.code, Some(1));
    let line = bad.lines().position(|line| line.starts_with("plugins")).unwrap() + 1;
    let place = format!("gateway.toml:{line}:");
    assert!(output.err.contains(&place) && output.err.contains("the key is too short"), "{}", output.err);
}

#[test]
fn a_missing_file_is_told() {
    for command in ["check", "run", "inspect"] {
        let output = run(&[command, "/does/not/exist"]);
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.err.contains("/does/not/exist"), "{output:?}");
    }
}

#[test]
fn secrets_are_never_printed() {
    let directory = folder(&[(
        "gateway.toml",
        &GOOD.replace("{ name = \"x\" }", "{ name = 7, init = [\"${env:SECRET}\"] }"),
    )]);
    let mut command = Command::new(binary());
    command.args(["check", "gateway.toml"]).current_dir(directory.path()).env("SECRET", "hunter2-hunter2");
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(!output.status.success() && !text.contains("hunter2"), "{text}");
}

#[test]
fn inspect_shows_what_a_plugin_is() {
    let file = guest("rogue");
    let output = run(&["inspect", &file.display().to_string()]);
    assert_eq!(output.code, Some(0), "{output:?}");
    for text in [
        "kind      native plugin (component, wasmgate:plugin@0.1.0)",
        "phases    request, request-body, response, response-body, log\n",
        "wasmgate:plugin/request@0.1.0",
        "wasmgate:plugin/lifecycle@0.1.0",
        "\"$schema\"",
        "bytes of native code",
    ] {
        assert!(output.out.contains(text), "{text} is missing:\n{}", output.out);
    }
    let size = fs::metadata(&file).unwrap().len();
    assert!(output.out.contains(&format!("{size} bytes")), "{}", output.out);
}

/// `command | head -1`, in a pipe that is closed before anything is written to it.
#[test]
fn a_reader_that_has_seen_enough_is_no_fault() {
    let directory = folder(&[("gateway.toml", GOOD)]);
    let rogue = guest("rogue").display().to_string();
    let explain = ["explain", "gateway.toml", "GET", "/"];
    for arguments in [&["inspect", &rogue][..], &explain, &["schema"], &["check", "gateway.toml"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(binary());
        let output = command.args(arguments).current_dir(directory.path()).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn explain_shows_the_route_and_the_reasons() {
    let directory = folder(&[("gateway.toml", GOOD)]);
    let explain = |arguments: &[&str]| {
        let output = run_in(directory.path(), &[&["explain", "gateway.toml"], arguments].concat());
        assert_eq!(output.code, Some(0), "{output:?}");
        output.out
    };
    let text = explain(&["GET", "http://a.test/users/7"]);
    for part in [
        "route     user",
        "id = 7",
        "upstream  app: 127.0.0.1:9 (weight 1)",
        "1. rogue",
        "fails closed",
        "all",
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    for line in ["\n> user: matches, and wins\n", "\n  all: matches, but user has a more specific host\n"] {
        assert!(text.contains(line), "{line:?} is missing:\n{text}");
    }
    assert!(explain(&["POST", "http://a.test/users/7"]).contains("route     all"));
    assert!(explain(&["GET", "/users/7"]).contains("route     all"));
    assert!(explain(&["GET", "/users/7", "-H", "Host: a.test"]).contains("route     user"));
    let output = run_in(directory.path(), &["explain", "gateway.toml", "GET", "/", "--listener", "none"]);
    assert_eq!((output.code, output.err.contains("none")), (Some(1), true), "{output:?}");
    let output = run_in(directory.path(), &["explain", "gateway.toml", "GET", "/%zz"]);
    assert_eq!(output.code, Some(1), "{output:?}");
}

#[test]
fn explain_shows_all_upstreams_of_a_route() {
    let routes = "[[listener]]\naddress = \"127.0.0.1:0\"\n[upstream.old]\nendpoints = [\"127.0.0.1:8\"]\n\
        [upstream.new]\nendpoints = [\"127.0.0.1:9\"]\n[[route]]\nname = \"all\"\nfallback = \"new\"\n\
        mirror = { upstream = \"new\", percent = 5.0 }\n[route.split]\nbranches = [\n\
        { upstream = \"old\", weight = 3 },\n\
        { upstream = \"new\", weight = 1, ramp = { start = \"2020-01-01T00:00:00Z\", over = \"1h\" } },\n\
        { upstream = \"new\", match = { headers = { x-canary = \"1\" } } }]\n";
    let directory = folder(&[("gateway.toml", routes)]);
    let output = run_in(directory.path(), &["explain", "gateway.toml", "GET", "/"]);
    for line in [
        "branch    75 % now: old: 127.0.0.1:8 (weight 1)\n",
        "branch    25 % now: new: 127.0.0.1:9 (weight 1)\n",
        "branch    0 % now, and all that its match asks for: new: 127.0.0.1:9 (weight 1)\n",
        "fallback  new: 127.0.0.1:9 (weight 1)\n",
        "mirror    5 % are copied to new: 127.0.0.1:9 (weight 1)\n",
    ] {
        assert!(output.out.contains(line), "{line:?} is missing:\n{output:?}");
    }
}

#[test]
fn explain_agrees_with_the_gateway() {
    let routes = "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1:0\"\n[[listener]]\nname = \"inner\"\n\
        address = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [\"127.0.0.1:9\"]\n[[route]]\nname = \"all\"\nupstream = \"app\"\n\
        [[route]]\nname = \"stripped\"\nmatch = { path = \"/api/*\" }\nstrip_prefix = \"/api\"\nupstream = \"app\"\n\
        [[route]]\nname = \"filled\"\nmatch = { path = \"/v1/{id}\" }\nrewrite = \"/v2/{id}/x\"\nupstream = \"app\"\n\
        [[route]]\nname = \"inner\"\nmatch = { listener = \"inner\" }\nupstream = \"app\"\n";
    let directory = folder(&[("gateway.toml", routes)]);
    let explain =
        |arguments: &[&str]| run_in(directory.path(), &[&["explain", "gateway.toml"], arguments].concat());
    for method in ["TRACE", "CONNECT"] {
        let output = explain(&[method, "/"]);
        assert!(output.code == Some(1) && output.err.starts_with("405"), "{output:?}");
    }
    assert!(explain(&["OPTIONS", "*"]).out.contains("route     all"));
    assert!(explain(&["GET", "*"]).err.starts_with("400"));
    assert!(explain(&["GET", "/api/a?b"]).out.contains("path      /a\n"));
    assert!(explain(&["GET", "/v1/7"]).out.contains("path      /v2/7/x\n"));
    assert!(explain(&["GET", "/"]).out.contains("inner: listener public is not one of inner"));
    assert!(explain(&["GET", "/", "--listener", "inner"]).out.contains("route     inner"));
}

#[test]
fn the_schema_in_the_repository_is_the_binarys() {
    let output = run(&["schema"]);
    let file = fs::read_to_string(wasmgate_build::workspace().join("config/schema.json")).unwrap();
    assert_eq!(output.code, Some(0));
    assert!(output.out == file, "run: target/release/wasmgate schema > config/schema.json");
}

#[test]
fn help_names_every_command() {
    let output = run(&["--help"]);
    assert_eq!(output.code, Some(0));
    for command in ["run", "check", "inspect", "explain", "migrate", "schema"] {
        assert!(
            output.out.lines().any(|line| line.trim_start().starts_with(command)),
            "{command}: {}",
            output.out
        );
        let help = run(&[command, "--help"]);
        assert!(help.code == Some(0) && !help.out.is_empty(), "{command}");
    }
    assert_eq!(run(&["dance"]).code, Some(2));
    assert!(run(&["--version"]).out.starts_with("wasmgate 0."));
}

/// A config with a compile cache of its own.
fn cached(directory: &Path) -> Output {
    write_cached(directory);
    run_in(directory, &["check", "gateway.toml"])
}

fn write_cached(directory: &Path) {
    let text = format!("[plugins]\ncache = \"cache\"\n{GOOD}")
        .replace("{rogue}", &guest("rogue").display().to_string());
    fs::write(directory.join("gateway.toml"), text).unwrap();
}

fn only_file(directory: &Path) -> std::path::PathBuf {
    let files: Vec<_> =
        fs::read_dir(directory.join("cache")).unwrap().flatten().map(|entry| entry.path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn gateways_may_start_at_once_on_an_empty_cache() {
    let directory = tempfile::tempdir().unwrap();
    write_cached(directory.path());
    std::thread::scope(|scope| {
        let start = || run_in(directory.path(), &["check", "gateway.toml"]);
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
        for start in starts {
            let output = start.join().unwrap();
            assert_eq!((output.code, output.err.as_str()), (Some(0), ""));
        }
    });
    only_file(directory.path());
}

#[test]
fn a_damaged_cache_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(cached(directory.path()).code, Some(0));
    let file = only_file(directory.path());
    let good = fs::read(&file).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for (what, bytes) in [
        ("flipped", &flipped[..]),
        ("truncated", &good[..good.len() / 2]),
        ("short", &good[..10]),
        ("empty", b""),
    ] {
        fs::write(&file, bytes).unwrap();
        let output = cached(directory.path());
        assert_eq!(output.code, Some(0), "{what}: {output:?}");
        assert!(fs::read(&file).unwrap() == good, "{what}: the file is whole again");
    }
}

#[test]
fn code_of_another_plugin_is_not_run() {
    let directory = tempfile::tempdir().unwrap();
    let files = || {
        let mut files: Vec<_> = fs::read_dir(directory.path().join("cache"))
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        files.sort();
        files
    };
    assert_eq!(cached(directory.path()).code, Some(0));
    let first = files();
    let other = format!(
        "[plugins]\ncache = \"cache\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[plugin.other]\nfile = {:?}\n\
         [[route]]\nname = \"all\"\nplugins = [\"other\"]\n",
        plugin("request-id")
    );
    fs::write(directory.path().join("gateway.toml"), other).unwrap();
    let check = || run_in(directory.path(), &["check", "gateway.toml"]);
    assert_eq!(check().code, Some(0));
    let second = files().into_iter().find(|file| !first.contains(file)).unwrap();
    let good = fs::read(&second).unwrap();
    fs::copy(&first[0], &second).unwrap();
    let output = check();
    assert!(output.code == Some(0) && output.err.contains("is not what its name says"), "{output:?}");
    assert!(fs::read(&second).unwrap() == good, "it is compiled anew");
}

#[test]
fn a_cache_that_cannot_be_written_costs_only_time() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("cache");
    fs::create_dir(&cache).unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o500)).unwrap();
    let output = cached(directory.path());
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(output.code, Some(0), "{output:?}");
}

#[test]
fn a_file_in_the_cache_that_others_may_write_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(cached(directory.path()).code, Some(0));
    let file = only_file(directory.path());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let output = cached(directory.path());
    assert!(output.code == Some(0) && output.err.contains("others may write into it"), "{output:?}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_cache_into_which_others_may_write_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("cache");
    fs::create_dir(&cache).unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
    let output = cached(directory.path());
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.err.contains("plugins.cache"), "{output:?}");
}
