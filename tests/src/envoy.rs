//! The real Envoy as a process: its config, ports, log and numbers.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use tempfile::TempDir;

use crate::{client, eventually, gateway::kill, holds_in_time, peer::peer, transcript::Told};

/// A running Envoy with one worker, killed when it goes out of scope.
pub struct Envoy {
    child: Child,
    log: Arc<Mutex<Log>>,
    reader: JoinHandle<()>,
    admin: SocketAddr,
    /// Its config, and the file into which it writes its admin address.
    _directory: TempDir,
}

#[derive(Default)]
struct Log {
    lines: Vec<String>,
    /// What plugins have logged on the worker.
    told: Vec<Told>,
}

const VERSION: &str = "/1.40.0/";

impl Envoy {
    /// The program, of the one version that answers were recorded of. Without it tests use the recordings.
    pub fn program() -> Option<PathBuf> {
        let program = peer("envoy")?;
        let output = Command::new(&program).arg("--version").output().ok()?;
        let is_recorded = String::from_utf8_lossy(&output.stdout).contains(VERSION);
        if !is_recorded {
            println!("skipped: {} is not of version {VERSION}", program.display());
        }
        is_recorded.then_some(program)
    }

    /// Starts with this config (a bootstrap in JSON, without admin) and waits until it serves. Says what it logged
    /// where it does not start.
    pub fn start(program: &Path, mut config: serde_json::Value) -> Result<Envoy, String> {
        let directory = tempfile::tempdir().expect("a folder for Envoy");
        let root = directory.path();
        config["admin"] = serde_json::json!({ "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } } });
        fs::write(root.join("envoy.json"), config.to_string()).expect("the config is written");
        let mut command = Command::new(program);
        command.args(["--concurrency", "1", "--use-dynamic-base-id", "--disable-hot-restart"]);
        command.args(["--log-level", "critical", "--component-log-level", "wasm:trace,main:info"]);
        // The thread comes first: each has modules of its own, and those of the worker are the ones that matter.
        command.args(["--log-format", "[%t][%n][%l] %v"]);
        command.arg("-c").arg(root.join("envoy.json")).arg("--admin-address-path").arg(root.join("admin"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("Envoy runs");
        let log = Arc::new(Mutex::new(Log::default()));
        let (lines, shared) = (child.stderr.take().expect("stderr is a pipe"), log.clone());
        let main = format!("[{}]", child.id());
        let reader = thread::spawn(move || collect(lines, &main, &shared));
        let serves = || lock(&log).lines.iter().any(|line| line.ends_with("starting main dispatch loop"));
        let mut running = true;
        let came = holds_in_time(|| {
            running = child.try_wait().is_ok_and(|status| status.is_none());
            !running || serves()
        });
        if !came || !running {
            let _ = child.kill();
            let _ = (child.wait(), reader.join());
            return Err(lock(&log).lines.join("\n"));
        }
        let admin = fs::read_to_string(root.join("admin")).expect("the address of the admin interface");
        let admin = admin.trim().parse().expect("an address");
        Ok(Envoy { child, log, reader, admin, _directory: directory })
    }

    /// The port that the system gave.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let page = self.page("/listeners");
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("::"));
        line.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("no listener {name}:\n{page}"))
    }

    /// A page of the admin interface.
    pub fn page(&self, target: &str) -> String {
        client::get(self.admin, target).text()
    }

    /// What plugins have logged on the worker, from this line on.
    pub fn told(&self, from: usize) -> Vec<Told> {
        lock(&self.log).told[from..].to_vec()
    }

    /// Ends it in order, and waits until it has ended and all that it logged is read.
    pub fn terminate(&mut self) {
        kill("-TERM", self.child.id());
        eventually!(self.child.try_wait().is_ok_and(|status| status.is_some()), "Envoy does not end");
        eventually!(self.reader.is_finished(), "Envoy's log does not end");
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        if thread::panicking() {
            let lines = &lock(&self.log).lines;
            eprintln!("log of Envoy:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines that trace the calls between Envoy and its modules are left out: they are most.
fn collect(lines: ChildStderr, main: &str, log: &Mutex<Log>) {
    let mut reader = BufReader::new(lines);
    let mut line = Vec::new();
    let mut speaker = None;
    while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned();
        line.clear();
        if text.contains("][trace] [") || text.contains("[main][info]   ") {
            continue;
        }
        let mut message = text.as_str();
        // A line without a beginning of its own belongs to the one before.
        if text.starts_with('[') {
            let said = if text.starts_with(main) { None } else { said(&text) };
            speaker = said.map(|(level, plugin, first)| {
                message = first;
                (level.to_owned(), plugin.to_owned())
            });
        }
        let mut log = lock(log);
        log.told.extend(speaker.as_ref().map(|(level, plugin)| Told::new(level, message, plugin)));
        log.lines.push(text);
    }
}

/// Level, plugin and message of a line in which a plugin speaks.
fn said(line: &str) -> Option<(&str, &str, &str)> {
    let (front, rest) = line.split_once("wasm log ")?;
    let (names, message) = rest.split_once(": ")?;
    let level = front.split(['[', ']']).nth(5)?;
    // What a stream logs begins with the plugin's name, what a root context does with its root id. Both end with the
    // id of the VM, which is the plugin's name here.
    let plugin = names.split(' ').next_back()?;
    Some((level, plugin, message))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
