//! What a reader copies from a README works, and shows what stands below it.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use wasmgate_tests::{Reserved, TestGateway, certificates, peer, run_in};

/// Where a config has an upstream of its own.
const EMBEDDED: &str = "127.0.0.1:8081";

/// Where configs and commands have certificates.
const CERTIFICATES: &str = "/etc/wasmgate/tls";

/// A command of a README with the lines that it prints there.
#[derive(Debug)]
struct Shown {
    command: String,
    output: Vec<String>,
}

#[test]
fn the_demonstration_answers_as_the_readme_says() {
    let Some(_) = peer("curl") else { return };
    let root = wasmgate_build::workspace();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let demo = fs::read_to_string(root.join("config/demo.toml")).unwrap();
    // The port of the embedded upstream stands in the config twice, so it has to be known before.
    let embedded = Reserved::new();
    let config = demo
        .replace("127.0.0.1:8080", "127.0.0.1:0")
        .replace("127.0.0.1:9901", "127.0.0.1:0")
        .replace(EMBEDDED, &embedded.address().to_string())
        .replace("../target/plugins", "{plugins}");
    let gateway = TestGateway::start(&config);
    let printed = fs::read_to_string(root.join("plugins/build/src/main.rs")).unwrap();
    let curls: Vec<_> = readme.lines().filter_map(|line| line.split_once("#")).collect();
    let curls: Vec<_> = curls.into_iter().filter(|(command, _)| command.starts_with("curl ")).collect();
    assert_eq!(curls.len(), 3);
    for (command, comment) in curls {
        let command = command.trim();
        assert!(printed.contains(command), "`cargo demo` does not print {command}");
        assert!(demo.contains(command), "config/demo.toml does not tell {command}");
        let answer = shell(command, gateway.addr());
        let status = comment.trim().split_once([',', ':']).unwrap().0;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{command}: {comment}\n{answer}");
    }
    let unnamed = shell("curl -i http://127.0.0.1:8080/public/hello", gateway.addr());
    assert!(unnamed.starts_with("HTTP/1.1 403 "), "{unnamed}");
}

#[test]
fn the_readme_s_own_config_and_commands_work() {
    let readme = fs::read_to_string(wasmgate_build::workspace().join("README.md")).unwrap();
    let config = readme.split_once("```toml\n# gateway.toml\n").unwrap().1.split_once("```").unwrap().0;
    let config = config.replace("0.0.0.0:8080", "127.0.0.1:0");
    let gateway = TestGateway::start(&config.replace("\"target/plugins\"", "\"{plugins}\""));
    let plugins = wasmgate_build::target_directory().join("plugins");
    let commands = readme.lines().filter_map(|line| line.strip_prefix("wasmgate "));
    let mut names = Vec::new();
    for command in commands {
        let command = command.split_once('#').map_or(command, |(command, _)| command);
        let command = command.replace("target/plugins", &plugins.display().to_string());
        let arguments: Vec<_> = command.split_whitespace().collect();
        names.push(arguments[0].to_owned());
        // That one runs already, and has no admin listener for those of a roll-out, whose own tests call them.
        if !["run", "plugin"].contains(&arguments[0]) {
            let output = run_in(&gateway.directory(), &arguments);
            assert_eq!(output.code, Some(0), "{command}: {output:?}");
        }
    }
    assert_eq!(names, ["check", "explain", "inspect", "run", "plugin", "plugin", "plugin"]);
}

#[test]
fn every_plugin_does_what_its_readme_shows() {
    let plugins = wasmgate_build::workspace().join("plugins");
    let folders = fs::read_dir(plugins).unwrap().flatten().map(|entry| entry.path());
    let folders: Vec<_> = folders.filter(|folder| folder.join("gateway.toml").is_file()).collect();
    assert!(folders.len() > 5, "{folders:?}");
    for folder in folders {
        try_out(&folder);
    }
}

fn try_out(folder: &Path) {
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    let shown = shown(&readme);
    assert!(!shown.is_empty(), "{} shows no curl", folder.display());
    let programs = ["curl", "jq"].into_iter().filter(|name| shown.iter().any(|s| s.command.contains(name)));
    if programs.map(peer).any(|found| found.is_none()) {
        return;
    }
    let config = fs::read_to_string(folder.join("gateway.toml")).unwrap();
    let listener = "[[listener]]\nname = \"public\"";
    let (embedded, folder_of_certificates) = (Reserved::new(), certificates());
    let certificates = folder_of_certificates.path().display().to_string();
    let config = config
        .replacen("[[listener]]", listener, 1)
        .replace("127.0.0.1:8080", "127.0.0.1:0")
        .replace(EMBEDDED, &embedded.address().to_string())
        .replace(CERTIFICATES, &certificates)
        .replace("../../target/plugins", "{plugins}");
    let gateway = TestGateway::start(&config);
    for Shown { command, output } in shown {
        let printed = shell(&command.replace(CERTIFICATES, &certificates), gateway.addr());
        let printed: Vec<_> = printed.trim_end().lines().map(masked).collect();
        let output: Vec<_> = output.iter().map(|line| masked(line)).collect();
        assert_eq!(printed, output, "{}: {command}", folder.display());
    }
}

/// The curls in indented blocks, `$ curl ...`, and what they print.
fn shown(readme: &str) -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        let code = line.strip_prefix("    ");
        if let Some(command) = code.and_then(|code| code.strip_prefix("$ ")) {
            inside = command.contains("curl ");
            if inside {
                all.push(Shown { command: command.to_owned(), output: Vec::new() });
            }
        } else if let Some(last) = all.last_mut().filter(|_| inside) {
            match code {
                Some(code) => last.output.push(code.to_owned()),
                // Blank lines may stand between lines of an answer.
                None if line.is_empty() => last.output.push(String::new()),
                None => inside = false,
            }
        }
    }
    for shown in &mut all {
        while shown.output.last().is_some_and(|line| line.is_empty()) {
            shown.output.pop();
        }
    }
    all
}

/// Runs it against the gateway in place of port 8080; in what it prints the port is 8080 again.
fn shell(command: &str, gateway: SocketAddr) -> String {
    let here = gateway.to_string();
    let output = Command::new("sh").arg("-c").arg(command.replace("127.0.0.1:8080", &here)).output();
    let output = output.expect("there is a shell");
    String::from_utf8_lossy(&output.stdout).replace(&here, "127.0.0.1:8080")
}

/// A line without what differs from run to run: ids, and how long a bucket still takes.
fn masked(line: &str) -> String {
    let line = line.trim_end();
    let clock = ["retry-after:", "ratelimit:"].iter().any(|name| line.starts_with(name));
    let word = |word: &str| match word {
        id if id.len() == 36 && id.split('-').map(str::len).eq([8, 4, 4, 4, 12]) => "ID".to_owned(),
        number if clock && number.contains(|c: char| c.is_ascii_digit()) => "NUMBER".to_owned(),
        other => other.to_owned(),
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
