//! Real Redis servers: one, a Cluster of three, and a master with Sentinels.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering::Relaxed},
};

use tempfile::TempDir;

use crate::{eventually, kill as signal};

/// A server on a port of its own, which it gets again after it was killed.
pub struct Redis {
    program: PathBuf,
    child: Child,
    arguments: Vec<String>,
    pub address: SocketAddr,
    directory: TempDir,
}

impl Redis {
    /// `arguments` come after its own, of which `--appendonly no` makes it forget all when it ends.
    pub fn start(program: PathBuf, arguments: &[&str]) -> Redis {
        let given = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Redis::begin(program, given, |arguments, port| {
            arguments.extend(["--port".to_owned(), port.to_string()])
        })
    }

    /// The same within TLS alone. Files are in the directory of the certificates.
    pub fn start_tls(program: PathBuf, arguments: &[&str]) -> Redis {
        let given = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Redis::begin(program, given, |arguments, port| {
            let port = port.to_string();
            arguments.extend(["--port", "0", "--tls-port", &port].map(str::to_owned));
        })
    }

    fn begin(program: PathBuf, given: Vec<String>, listen: impl FnOnce(&mut Vec<String>, u16)) -> Redis {
        let directory = tempfile::tempdir().expect("a folder for Redis");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let own = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning"];
        let mut arguments = own.map(str::to_owned).to_vec();
        listen(&mut arguments, address.port());
        arguments.extend(given);
        let child = spawn(&program, &arguments, &directory);
        let redis = Redis { program, child, arguments, address, directory };
        redis.wait();
        redis
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// After it was killed: returns when it listens.
    pub fn restart(&mut self) {
        self.child = spawn(&self.program, &self.arguments, &self.directory);
        self.wait();
    }

    /// It keeps its connections and says nothing any more.
    pub fn pause(&self) {
        signal("-STOP", self.child.id());
    }

    pub fn resume(&self) {
        signal("-CONT", self.child.id());
    }

    /// What `redis-cli` prints.
    pub fn ask(&self, arguments: &[&str]) -> String {
        cli(&self.program, self.address, arguments)
    }

    fn wait(&self) {
        eventually!(TcpStream::connect(self.address).is_ok());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three masters that share the keys.
pub fn redis_cluster(program: PathBuf) -> Vec<Redis> {
    let node = |_| {
        let bus = free_port().to_string();
        let given =
            ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-config-file", "nodes.conf"];
        Redis::start(program.clone(), &given)
    };
    let nodes: Vec<Redis> = (0..3).map(node).collect();
    let addresses: Vec<String> = nodes.iter().map(|node| node.address.to_string()).collect();
    let mut command = vec!["--cluster", "create"];
    command.extend(addresses.iter().map(String::as_str));
    command.push("--cluster-yes");
    let printed = cli(&program, nodes[0].address, &command);
    assert!(printed.contains("All 16384 slots covered"), "{printed}");
    let knows = |node: &Redis| node.ask(&["cluster", "info"]).contains("cluster_state:ok");
    eventually!(nodes.iter().all(knows));
    nodes
}

/// A Sentinel that watches over this master and calls it "main".
pub fn redis_sentinel(program: PathBuf, master: &Redis) -> Redis {
    let directory = tempfile::tempdir().expect("a folder for Redis");
    let file = directory.path().join("sentinel.conf");
    let watched = master.address;
    let text = format!(
        "sentinel monitor main {} {} 1\nsentinel down-after-milliseconds main 300\n\
         sentinel failover-timeout main 2000\n",
        watched.ip(),
        watched.port()
    );
    fs::write(&file, text).expect("the config is written");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (file, port) = (file.display().to_string(), address.port().to_string());
    let arguments = [&file, "--sentinel", "--port", &port].map(str::to_owned).to_vec();
    let child = spawn(&program, &arguments, &directory);
    let sentinel = Redis { program, child, arguments, address, directory };
    sentinel.wait();
    sentinel
}

fn spawn(program: &Path, arguments: &[String], directory: &TempDir) -> Child {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory.path()).stdout(Stdio::null());
    command.spawn().expect("redis-server runs")
}

fn cli(server: &Path, address: SocketAddr, arguments: &[&str]) -> String {
    let mut command = Command::new(server.with_file_name("redis-cli"));
    command.args(["-h", "127.0.0.1", "-p", &address.port().to_string()]).args(arguments);
    let output = command.output().expect("redis-cli runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A port below those that the system gives out, so that nobody gets it between two who listen on it.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    // Processes of tests that run side by side begin elsewhere.
    let begin = (std::process::id() as u16).wrapping_mul(131);
    let mut ports = (0..COUNT).map(|_| FIRST + NEXT.fetch_add(1, Relaxed).wrapping_add(begin) % COUNT);
    ports.find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok()).expect("a free port")
}
