//! Listeners on Unix sockets: who their clients are, and what becomes of the file.

use std::{
    fs,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    thread,
};

use tempfile::TempDir;
use wasmgate_tests::{
    Authority, Client, Haproxy, Nginx, Signal, TestGateway, TestUpstream, before, binary, eventually, fill,
    get, kill, peer,
};

/// A folder for a socket, and a config of a listener there.
struct Place {
    folder: TempDir,
    upstream: TestUpstream,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap(), upstream: TestUpstream::ok() }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("gateway.sock")
    }

    /// `listener` are further keys of it; a table of the rest may belong to it.
    fn config(&self, listener: &str, rest: &str) -> String {
        let address = format!("address = \"unix:{}\"\n{listener}", self.socket().display());
        before(&self.upstream.address(), rest).replacen("address = \"127.0.0.1:0\"\n", &address, 1)
    }

    fn start(&self, listener: &str, rest: &str) -> TestGateway {
        TestGateway::start(&self.config(listener, rest))
    }

    fn connect(&self) -> Client {
        Client::connect_to_file(&self.socket())
    }

    fn answers(&self) -> bool {
        UnixStream::connect(self.socket()).is_ok() && self.connect().get("/").status == 200
    }

    fn curl(&self, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new(peer("curl")?);
        command.args(["--silent", "--write-out", "%{http_code}", "--unix-socket"]).arg(self.socket());
        let output = command.args(arguments).output().unwrap();
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn clients_are_on_this_machine() {
    let place = Place::new();
    let gateway = place.start("", "[server]\nworkers = 3\n[listener.limits]\nconnections_per_client = 40\n");
    let Some(told) = place.curl(&["-H", "X-Forwarded-For: 192.0.2.1", "http://a.test/"]) else { return };
    assert_eq!(told, "ok200");
    assert_eq!(place.upstream.request().header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(gateway.access_lines(1)[0]["client"], "127.0.0.1");
    eventually!(gateway.metric("wasmgate_connections{listener=\"public\"}") == 0.0);
    let mut open: Vec<_> = (0..40).map(|_| place.connect()).collect();
    open.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    let mut refused = place.connect();
    assert_eq!(refused.response().status, 503);
    refused.assert_closed();
    assert!(gateway.log().contains(&format!("address=unix:{}", place.socket().display())));
}

#[test]
fn who_is_trusted_may_tell_of_clients() {
    let place = Place::new();
    let trusted = "[forwarded]\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let _gateway = place.start("", trusted);
    let Some(program) = peer("nginx") else { return };
    let pass = format!(
        "location / {{ proxy_pass http://unix:{}:/; proxy_set_header X-Forwarded-For 192.0.2.1; }}",
        place.socket().display()
    );
    let nginx = Nginx::start(program, &pass);
    assert_eq!(get(nginx.address, "/").text(), "ok");
    assert_eq!(place.upstream.request().header("x-forwarded-for"), Some("192.0.2.1, 127.0.0.1"));
}

#[test]
fn a_proxy_may_say_whom_it_passes_on() {
    let place = Place::new();
    let gateway = place.start("proxy_protocol = [\"127.0.0.1\"]\n", "");
    let mut client = place.connect();
    assert_eq!(client.send("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n").get("/").status, 200);
    assert_eq!(place.upstream.take_requests()[0].header("x-forwarded-for"), Some("192.0.2.1"));
    place.connect().try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").assert_closed();
    eventually!(gateway.metric("wasmgate_proxy_header_failures_total{listener=\"public\"}") == 1.0);
    let Some(program) = peer("haproxy") else { return };
    let haproxy = Haproxy::start(&program, &format!("unix@{} send-proxy-v2", place.socket().display()));
    assert_eq!(Client::connect_from("127.0.0.9", haproxy.address).get("/").status, 200);
    assert_eq!(place.upstream.request().header("x-forwarded-for"), Some("127.0.0.9"));
}

#[test]
fn tls_is_spoken_there_too() {
    let (place, authority) = (Place::new(), Authority::new("the tests"));
    let tls = "[listener.tls]\ncertificates = [{ cert = \"a.crt\", key = \"a.key\" }]\n";
    let _gateway = TestGateway::start_in(&place.config("", tls), &[], |folder| {
        let own = authority.issue(1, &["a.test"]);
        fs::write(folder.join("a.crt"), &own.cert).unwrap();
        fs::write(folder.join("a.key"), &own.key).unwrap();
    });
    let answer = place.connect().get("/");
    assert_eq!((answer.status, answer.text().contains("port for HTTPS")), (400, true));
    let Some(told) = place.curl(&["--insecure", "https://a.test/"]) else { return };
    assert_eq!(told, "ok200");
}

#[test]
fn a_large_answer_and_a_slow_reader() {
    let length = 8 << 20;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let body = vec![b'x'; length];
    let place = Place {
        upstream: TestUpstream::answering([head.as_bytes(), &body].concat()),
        folder: tempfile::tempdir().unwrap(),
    };
    let gateway = place.start("", "[limits]\nsend_time = \"300ms\"\n");
    assert_eq!(place.connect().get("/").body.len(), length);
    let mut slow = place.connect();
    slow.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually!(
        gateway.access().iter().any(|line| line["code"] == "client_too_slow"),
        "{:?}",
        gateway.access()
    );
}

#[test]
fn the_file_is_there_as_long_as_the_listener() {
    let place = Place::new();
    let mut gateway = place.start("mode = \"0640\"\n", "");
    let mode = || fs::metadata(place.socket()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o640);
    gateway.terminate();
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(!place.socket().exists());
    assert_eq!(gateway.logged(" WARN "), Vec::<String>::new());
}

#[test]
fn what_a_killed_process_left_is_replaced() {
    let place = Place::new();
    let mut gateway = place.start("", "");
    kill("-KILL", gateway.pid());
    gateway.wait();
    assert!(place.socket().exists());
    let _gateway = place.start("", "");
    assert!(place.answers());
}

#[test]
fn what_is_in_use_is_left_alone() {
    let place = Place::new();
    let others = UnixListener::bind(place.socket()).unwrap();
    let refused = |place: &Place| {
        let told = TestGateway::refused(&place.config("", ""));
        assert!(
            told.contains("gateway.toml:5:11: error: listener[0].address: cannot listen on unix:/"),
            "{told}"
        );
        assert!(told.contains("Address already in use"), "{told}");
    };
    refused(&place);
    assert!(UnixStream::connect(place.socket()).is_ok());
    drop(others);
    fs::remove_file(place.socket()).unwrap();
    fs::write(place.socket(), "a file of somebody's").unwrap();
    refused(&place);
    assert_eq!(fs::read_to_string(place.socket()).unwrap(), "a file of somebody's");
}

#[test]
fn the_file_of_somebody_else_is_not_removed() {
    let place = Place::new();
    let mut gateway = place.start("", "");
    fs::remove_file(place.socket()).unwrap();
    let _others = UnixListener::bind(place.socket()).unwrap();
    gateway.terminate();
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(UnixStream::connect(place.socket()).is_ok());
}

#[test]
fn a_reload_keeps_what_stays_and_removes_what_goes() {
    let place = Place::new();
    let gateway = place.start("", "");
    let mut kept = place.connect();
    assert_eq!(kept.get("/").status, 200);
    let first = inode(&place.socket());
    let mode = || fs::metadata(place.socket()).unwrap().permissions().mode() & 0o777;
    gateway.reloads_after(|| {
        gateway.write_config(&place.config("mode = \"600\"\n", "[limits]\nuri = \"1KiB\"\n"))
    });
    assert_eq!((inode(&place.socket()), mode()), (first, 0o600));
    assert_eq!(kept.get("/").status, 200);
    // Under another name it is another listener on the same socket.
    let renamed = place.config("", "").replacen("\"public\"", "\"other\"", 1);
    gateway.reloads_after(|| gateway.write_config(&renamed));
    assert_eq!(inode(&place.socket()), first);
    assert!(place.answers());
    let elsewhere = before(&place.upstream.address(), "").replacen("\"public\"", "\"elsewhere\"", 1);
    gateway.reloads_after(|| gateway.write_config(&elsewhere));
    assert!(!place.socket().exists());
    assert_eq!(get(gateway.listener("elsewhere"), "/").status, 200);
    gateway.reloads_after(|| gateway.write_config(&place.config("", "")));
    assert!(place.answers());
}

#[test]
fn a_dry_run_leaves_nothing() {
    let place = Place::new();
    let token = [("TOKEN", "a-secret-of-some-length")];
    let with_token = |config: String| {
        config.replace("[admin]\n", "[admin]\ntoken = \"${env:TOKEN}\"\n") + "[reload]\nwatch = false\n"
    };
    let gateway = TestGateway::start_with(&with_token(before(&place.upstream.address(), "")), &token);
    gateway.write_config(&with_token(place.config("", "")));
    let bearer = "Authorization: Bearer a-secret-of-some-length\r\n";
    let answer = gateway.admin_request("POST", "/reload?dry-run", bearer);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!place.socket().exists());
}

#[test]
fn a_successor_takes_the_socket_and_no_request_is_lost() {
    let place = Place::new();
    let mut gateway = place.start("", "[server]\nworkers = 2\n");
    let first = inode(&place.socket());
    let (stop, served) = (AtomicBool::new(false), AtomicU32::new(0));
    let second = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    assert_eq!(place.connect().get("/").text(), "ok");
                    served.fetch_add(1, Relaxed);
                }
            });
        }
        eventually!(served.load(Relaxed) > 100);
        gateway.signal(Signal::User2);
        assert_eq!(gateway.wait().code(), Some(0));
        let second = gateway.successor();
        let before = served.load(Relaxed);
        eventually!(served.load(Relaxed) > before + 100);
        stop.store(true, Relaxed);
        second
    });
    assert_eq!(inode(&place.socket()), first);
    // The one after it, which then has the file to remove.
    kill("-USR2", second.0);
    eventually!(gateway.logged("took over").len() == 2);
    std::mem::forget(second);
    let third = gateway.successor();
    assert_eq!(inode(&place.socket()), first);
    assert!(place.answers());
    kill("-TERM", third.0);
    eventually!(!place.socket().exists());
    std::mem::forget(third);
    assert_eq!(gateway.logged("cannot be removed"), Vec::<String>::new());
}

#[test]
fn a_successor_that_does_not_start_or_does_not_want_it() {
    let place = Place::new();
    let unwatched = "[reload]\nwatch = false\n";
    let mut gateway = place.start("", unwatched);
    gateway.write_config("[[listener]");
    gateway.signal(Signal::User2);
    eventually!(gateway.logged("the successor has ended").len() == 1, "{}", gateway.log());
    assert!(place.answers());
    gateway.write_config(&before(&place.upstream.address(), unwatched));
    gateway.signal(Signal::User2);
    assert_eq!(gateway.wait().code(), Some(0));
    let _successor = gateway.successor();
    assert!(!place.socket().exists());
}

/// systemd's own tool holds the socket, and starts the gateway with the first connection.
#[test]
fn a_socket_of_systemd_stays_there() {
    let Some(activate) = peer("systemd-socket-activate") else { return };
    let place = Place::new();
    let config = fill(
        "[[listener]]\naddress = \"unix:{socket}\"\n[upstream.app]\nendpoints = [\"{app}\"]\n\
         [[route]]\nname = \"all\"\nupstream = \"app\"\n",
        &[("socket", &place.socket().display()), ("app", &place.upstream.address())],
    );
    fs::write(place.folder.path().join("gateway.toml"), config).unwrap();
    let mut command = Command::new(activate);
    command.arg("--listen").arg(place.socket()).arg(binary()).args(["run", "gateway.toml"]);
    let mut gateway =
        command.current_dir(place.folder.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually!(place.socket().exists() && place.answers());
    kill("-TERM", gateway.id());
    assert!(gateway.wait().unwrap().success());
    assert!(fs::metadata(place.socket()).unwrap().file_type().is_socket());
}
