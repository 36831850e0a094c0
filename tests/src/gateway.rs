//! The gateway as a process: its config, ports, log, numbers and end.

use std::{
    fmt::Display,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread::{self, JoinHandle},
};

use tempfile::TempDir;
use wasmgate_build::target_directory;

use crate::{TestUpstream, build, client, config, eventually, log::Log, message::Response};

/// A running gateway, killed when it goes out of scope.
pub struct TestGateway {
    child: Child,
    log: Arc<Log>,
    reader: JoinHandle<()>,
    directory: TempDir,
}

#[derive(Clone, Copy, Debug)]
pub enum Signal {
    Terminate,
    Interrupt,
    Hangup,
    User2,
}

/// What a run of the binary came to.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs the binary to its end.
pub fn run(arguments: &[&str]) -> Output {
    run_in(Path::new("."), arguments)
}

pub fn run_in(directory: &Path, arguments: &[&str]) -> Output {
    run_with(directory, arguments, &[])
}

/// The same with these variables in its environment.
pub fn run_with(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(build::binary());
    command.envs(variables.iter().copied());
    let output = command.args(arguments).current_dir(directory).output().expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Output { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

impl TestGateway {
    /// Starts with this config and waits until it serves. `{plugins}` and `{guests}` stand
    /// for the folders of the plugins and of the test guests; other files are relative to the config.
    pub fn start(config: &str) -> TestGateway {
        TestGateway::start_with(config, &[])
    }

    /// The same with these variables in its environment.
    pub fn start_with(config: &str, variables: &[(&str, &str)]) -> TestGateway {
        TestGateway::start_in(config, variables, |_| {})
    }

    /// The same after the folder of the config was furnished.
    pub fn start_in(config: &str, variables: &[(&str, &str)], furnish: impl FnOnce(&Path)) -> TestGateway {
        let mut gateway = TestGateway::launch(config, variables, furnish);
        gateway.wait_until_ready();
        gateway
    }

    /// The same without waiting for it.
    pub fn launch(config: &str, variables: &[(&str, &str)], furnish: impl FnOnce(&Path)) -> TestGateway {
        TestGateway::spawn(config, variables, furnish, Stdio::null())
    }

    /// Starts, with a pipe that nobody reads as its standard output.
    pub fn unread(config: &str) -> TestGateway {
        let mut gateway = TestGateway::spawn(config, &[], |_| {}, Stdio::piped());
        gateway.wait_until_ready();
        gateway
    }

    fn spawn(
        config: &str,
        variables: &[(&str, &str)],
        furnish: impl FnOnce(&Path),
        out: Stdio,
    ) -> TestGateway {
        let directory = written(config);
        furnish(directory.path());
        let mut command = Command::new(build::binary());
        command
            .envs(variables.iter().copied())
            .args(["run", "gateway.toml"])
            .current_dir(directory.path())
            .stdin(Stdio::null());
        let (log, end) = Log::new();
        let child = command.stdout(out).stderr(end).spawn().expect("the binary runs");
        // It has the other end, which has to end with the last process that writes.
        drop(command);
        let log = Arc::new(log);
        let shared = log.clone();
        let reader = thread::spawn(move || shared.follow());
        TestGateway { child, log, reader, directory }
    }

    pub fn wait_until_ready(&mut self) {
        let mut running = true;
        eventually!({
            running = self.is_running();
            !running || self.log().contains(" ready ")
        });
        assert!(running, "the gateway does not start:\n{}", self.log());
    }

    /// In front of an upstream called `app`: listener `public`, admin, access log, a route `all` to
    /// it where the rest of the config has no routes of its own.
    pub fn before(upstream: &TestUpstream, rest: &str) -> TestGateway {
        TestGateway::start(&config::before(&upstream.address(), rest))
    }

    /// What it prints when it does not start with this config.
    pub fn refused(config: &str) -> String {
        let directory = written(config);
        let output = run_in(directory.path(), &["run", "gateway.toml"]);
        assert_eq!(output.code, Some(1), "{output:?}");
        output.err
    }

    /// Address of the listener `public`.
    pub fn addr(&self) -> SocketAddr {
        self.listener("public")
    }

    pub fn admin(&self) -> SocketAddr {
        self.listener("admin")
    }

    /// One request to the admin listener as from this machine.
    pub fn admin_request(&self, method: &str, target: &str, headers: &str) -> Response {
        client::request_for("localhost", self.admin(), method, target, headers)
    }

    /// The same with a token and a body.
    pub fn admin_order(&self, token: &str, method: &str, target: &str, body: &str) -> Response {
        let length = body.len();
        let mut client = client::Client::connect(self.admin());
        client.send(format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        client.response_to(method)
    }

    /// The port that the system gave, from the log.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let log = self.log();
        let start = format!("listening listener=\"{name}\" address=");
        let address = log.split_once(&start).and_then(|(_, rest)| rest.lines().next()?.trim().parse().ok());
        address.unwrap_or_else(|| panic!("no listener {name} in the log:\n{log}"))
    }

    pub fn get(&self, target: &str) -> Response {
        client::get(self.addr(), target)
    }

    /// Everything on standard error so far: what it has written before it answered is there.
    pub fn log(&self) -> String {
        self.log_from(0)
    }

    /// What standard error got from this byte on.
    pub fn log_from(&self, from: usize) -> String {
        self.log.text(from)
    }

    /// Lines of the log with this text in them.
    pub fn logged(&self, text: &str) -> Vec<String> {
        self.log().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    /// The access log so far.
    pub fn access(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.directory.path().join("access.log")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// Waits for this many lines of the access log.
    pub fn access_lines(&self, count: usize) -> Vec<serde_json::Value> {
        eventually!(self.access().len() >= count, "fewer than {count} lines: {:?}", self.access());
        self.access()
    }

    /// The metrics page.
    pub fn metrics(&self) -> String {
        self.admin_request("GET", "/metrics", "").text()
    }

    /// The sum of all series of this name with these labels, such as `name{a="b"}`; 0 without any.
    pub fn metric(&self, series: &str) -> f64 {
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels: Vec<_> = labels.trim_end_matches('}').split(',').collect();
        let value = |line: &str| {
            let (found, value) = line.rsplit_once(' ')?;
            let (found, has) = found.split_once('{').unwrap_or((found, ""));
            let fits = found == name && labels.iter().all(|label| has.contains(label));
            fits.then(|| value.parse::<f64>().ok()).flatten()
        };
        self.metrics().lines().filter_map(value).sum()
    }

    /// What the admin interface tells of an upstream.
    pub fn upstream(&self, name: &str) -> serde_json::Value {
        let page = self.admin_request("GET", "/upstreams", "").body;
        let page: Vec<serde_json::Value> = serde_json::from_slice(&page).expect("JSON");
        page.into_iter().find(|upstream| upstream["name"] == name).unwrap_or_default()
    }

    /// The same of one of its endpoints; null where it has no such one.
    pub fn endpoint(&self, upstream: &str, address: &dyn Display) -> serde_json::Value {
        let all = self.upstream(upstream)["endpoints"].take();
        let mut all = all.as_array().into_iter().flatten();
        all.find(|endpoint| endpoint["address"] == address.to_string()).cloned().unwrap_or_default()
    }

    /// Whether an endpoint of `app` is in service, as the metrics have it.
    pub fn serves(&self, address: &dyn Display) -> bool {
        let series =
            format!("wasmgate_upstream_endpoint_available{{upstream=\"app\",endpoint=\"{address}\"}}");
        self.metric(&series) == 1.0
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        line.and_then(|kilobytes| kilobytes.parse::<u64>().ok()).expect("a number of kB") * 1024
    }

    /// The process that it has started last to take over.
    pub fn successor(&self) -> Successor {
        let line = self.logged("starting a successor").pop().expect("there is one");
        let pid = line.rsplit_once("pid=").and_then(|(_, pid)| pid.trim().parse().ok());
        Successor(pid.expect("its number"))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Folder of its config.
    pub fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    pub fn signal(&self, signal: Signal) {
        let name = match signal {
            Signal::Terminate => "-TERM",
            Signal::Interrupt => "-INT",
            Signal::Hangup => "-HUP",
            Signal::User2 => "-USR2",
        };
        kill(name, self.pid());
    }

    /// Puts another config in the place of its own. `{plugins}` and `{guests}` are filled in again.
    pub fn write_config(&self, config: &str) {
        write(self.directory.path(), config);
    }

    /// Has it read its files again, and waits until it has said what came of it.
    pub fn reload(&self) {
        self.reloads_after(|| self.signal(Signal::Hangup));
    }

    /// Does this, and waits until it has said what came of the reload that follows.
    pub fn reloads_after(&self, act: impl FnOnce()) {
        let told = |log: &str| log.matches(" reloaded").count();
        let before = told(&self.log());
        act();
        eventually!(told(&self.log()) > before, "it says nothing of a reload:\n{}", self.log());
    }

    pub fn terminate(&self) {
        self.signal(Signal::Terminate);
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Waits until nothing writes to its standard error any more.
    pub fn wait_for_end_of_log(&self) {
        eventually!(self.reader.is_finished(), "the log does not end:\n{}", self.log());
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        eventually!(!self.is_running(), "the gateway does not end:\n{}", self.log());
        self.child.wait().expect("it has ended")
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let start = log.len().saturating_sub(4000);
            eprintln!("log of the gateway:\n{}", log.get(start..).unwrap_or(&log));
        }
    }
}

/// A process by its number, killed when this goes out of scope.
pub struct Successor(pub u32);

impl Drop for Successor {
    fn drop(&mut self) {
        kill("-KILL", self.0);
    }
}

/// Sends a signal to any process.
pub fn kill(signal: &str, pid: u32) {
    let sent = Command::new("kill").args([signal, &pid.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "the signal is sent");
}

/// A folder with the config in it. All gateways share one compile cache, as they would on a machine.
fn written(config: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("a folder for the config");
    write(directory.path(), config);
    directory
}

/// In one step: the gateway may be reading.
fn write(directory: &Path, config: &str) {
    let mut text = config.to_owned();
    if text.contains("{plugins}") {
        text = text.replace("{plugins}", &build::plugin_directory().display().to_string());
    }
    if text.contains("{guests}") {
        text = text.replace("{guests}", &build::guest_directory().display().to_string());
    }
    if !text.contains("[plugins]") {
        let cache = target_directory().join("test-cache");
        text.push_str(&format!("\n[plugins]\ncache = \"{}\"\n", cache.display()));
    }
    let next = directory.join("gateway.toml.next");
    fs::write(&next, text).expect("the config is written");
    fs::rename(next, directory.join("gateway.toml")).expect("the config is put in place");
}
