//! Programs of others that the gateway is held against.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{Reserved, eventually};

/// Where the program is. Without it the test is skipped, unless WASMGATE_PEERS=required.
pub fn peer(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders =
        env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")]);
    or_skip(program, folders.map(|folder| folder.join(program)).find(|file| file.is_file()))
}

/// The same for what is not a program in the path.
pub fn or_skip<T>(name: &str, found: Option<T>) -> Option<T> {
    if found.is_none() {
        let required = env::var_os("WASMGATE_PEERS").is_some_and(|value| value == "required");
        assert!(!required, "{name} is required and not installed");
        println!("skipped: {name} is not installed");
    }
    found
}

/// A real nginx on a port of its own.
pub struct Nginx {
    program: PathBuf,
    child: Child,
    pub address: SocketAddr,
    pub directory: TempDir,
    _port: Reserved,
}

impl Nginx {
    /// `server` is what stands in its server block; files are served from `directory`.
    pub fn start(program: PathBuf, server: &str) -> Nginx {
        let directory = tempfile::tempdir().expect("a folder for nginx");
        let port = Reserved::new();
        let address = port.address();
        let root = directory.path().display();
        let config = format!(
            "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;\n\
             events {{}}\n\
             http {{ access_log off; root {root}; client_body_temp_path {root}/body; proxy_temp_path {root}/proxy;\n\
             fastcgi_temp_path {root}/fastcgi; uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;\n\
             server {{ listen {address} reuseport; {server} }} }}\n"
        );
        fs::write(directory.path().join("nginx.conf"), config).expect("the config is written");
        let child = spawn(&program, directory.path());
        eventually!(std::net::TcpStream::connect(address).is_ok());
        Nginx { program, child, address, directory, _port: port }
    }

    /// As `kill -9` does; its port stays its own.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// After it was killed; returns at once.
    pub fn restart(&mut self) {
        self.child = spawn(&self.program, self.directory.path());
    }
}

/// A real HAProxy on a port of its own that passes connections on to one server.
pub struct Haproxy {
    child: Child,
    pub address: SocketAddr,
    _directory: TempDir,
    _port: Reserved,
}

impl Haproxy {
    /// `server` is its address, and the options.
    pub fn start(program: &Path, server: &str) -> Haproxy {
        let (directory, port) = (tempfile::tempdir().expect("a folder for haproxy"), Reserved::new());
        let address = port.address();
        let config = format!(
            "defaults\n mode tcp\n timeout connect 10s\n timeout client 30s\n timeout server 30s\n\
             listen all\n bind {address}\n server app {server}\n"
        );
        let file = directory.path().join("haproxy.cfg");
        fs::write(&file, config).expect("the config is written");
        let mut command = Command::new(program);
        let child =
            command.args(["-db", "-f"]).arg(file).stderr(Stdio::null()).spawn().expect("haproxy runs");
        eventually!(std::net::TcpStream::connect(address).is_ok());
        Haproxy { child, address, _directory: directory, _port: port }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path, directory: &Path) -> Child {
    let mut command = Command::new(program);
    command.arg("-p").arg(directory).arg("-c").arg(directory.join("nginx.conf"));
    command.stderr(Stdio::null()).spawn().expect("nginx runs")
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.kill();
    }
}
