//! One process after the other on the same sockets, and what the service manager is told.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    thread,
};

use wasmgate_build::workspace;
use wasmgate_tests::{
    Client, PATIENCE, Reserved, Signal, Successor, TestGateway, TestUpstream, binary, eventually, fill, get,
    kill, peer,
};

const CONFIG: &str = r#"
[[listener]]
name = "public"
address = "{address}"
[upstream.app]
endpoints = ["{upstream}"]
[[route]]
name = "all"
upstream = "app"
"#;

fn config(port: &Reserved, upstream: &TestUpstream) -> String {
    fill(CONFIG, &[("address", &port.address()), ("upstream", &upstream.address())])
}

#[test]
fn a_successor_takes_over_and_no_request_is_lost() {
    let (port, upstream) = (Reserved::new(), TestUpstream::ok());
    let mut gateway = TestGateway::start(&config(&port, &upstream));
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let address = port.address();
    let loads: Vec<_> = (0..6)
        .map(|number| {
            let (stop, served) = (stop.clone(), served.clone());
            thread::spawn(move || {
                let mut client = Client::connect(address);
                while !stop.load(Relaxed) {
                    // Half of them on new connections, half on kept ones for as long as these are kept.
                    let response = client.get("/");
                    assert_eq!(response.text(), "ok");
                    served.fetch_add(1, Relaxed);
                    if number % 2 == 0 || response.header("connection") == Some("close") {
                        client = Client::connect(address);
                    }
                }
            })
        })
        .collect();
    eventually!(served.load(Relaxed) > 100);
    gateway.signal(Signal::User2);
    assert_eq!(gateway.wait().code(), Some(0));
    let successor = gateway.successor();
    let before = served.load(Relaxed);
    eventually!(served.load(Relaxed) > before + 100);
    stop.store(true, Relaxed);
    for load in loads {
        load.join().expect("no request failed");
    }
    assert_eq!(gateway.logged("took over").len(), 1);

    // The next one works as well.
    kill("-USR2", successor.0);
    eventually!(gateway.logged("took over").len() == 2);
    let _second = gateway.successor();
    assert_eq!(get(address, "/").text(), "ok");
    std::mem::forget(successor);
}

#[test]
fn a_successor_that_does_not_start_changes_nothing() {
    let (port, upstream) = (Reserved::new(), TestUpstream::ok());
    let mut gateway = TestGateway::start(&format!("reload.watch = false\n{}", config(&port, &upstream)));
    gateway.write_config("[[listener]");
    for count in 1..=2 {
        gateway.signal(Signal::User2);
        eventually!(gateway.logged("the successor has ended").len() == count, "{}", gateway.log());
        assert!(gateway.is_running());
        assert_eq!(get(port.address(), "/").text(), "ok");
    }
}

#[test]
fn the_service_manager_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = |wanted: &str| {
        let mut buffer = [0; 512];
        loop {
            let length = socket.recv(&mut buffer).expect("it is told");
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.lines().any(|line| line == wanted) {
                return text;
            }
        }
    };
    let (port, upstream) = (Reserved::new(), TestUpstream::ok());
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let mut gateway = TestGateway::start_with(&config(&port, &upstream), &variables);
    assert!(told("READY=1").contains(&format!("MAINPID={}", gateway.pid())));
    gateway.signal(Signal::Hangup);
    assert!(told("RELOADING=1").contains("MONOTONIC_USEC="));
    told("READY=1");
    gateway.terminate();
    told("STOPPING=1");
    assert_eq!(gateway.wait().code(), Some(0));
}

/// systemd's own tool holds the socket, and starts the gateway with the first connection.
#[test]
fn systemd_hands_over_its_socket() {
    let Some(activate) = peer("systemd-socket-activate") else { return };
    // The tool takes no port that anybody holds.
    let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap();
    let upstream = TestUpstream::ok();
    let folder = tempfile::tempdir().unwrap();
    let text = fill(CONFIG, &[("address", &address), ("upstream", &upstream.address())]);
    fs::write(folder.path().join("gateway.toml"), text).unwrap();
    let mut command = Command::new(activate);
    command.arg("--listen").arg(address.to_string()).arg(binary()).args(["run", "gateway.toml"]);
    let started = command.current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    // It becomes the gateway.
    let _successor = Successor(started.unwrap().id());
    eventually!(TcpStream::connect(address).is_ok());
    assert_eq!(get(address, "/").text(), "ok");
}

#[test]
fn systemd_takes_the_unit() {
    let Some(analyze) = peer("systemd-analyze") else { return };
    let unit = fs::read_to_string(workspace().join("config/wasmgate.service")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wasmgate.service");
    let here = binary().display().to_string();
    fs::write(&file, unit.replace("/usr/local/bin/wasmgate", &here)).unwrap();
    let output = Command::new(analyze).arg("verify").arg(&file).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    // It reads the other units of the machine as well.
    let of_ours: Vec<_> = told.lines().filter(|line| line.contains("wasmgate")).collect();
    assert!(output.status.success() && of_ours.is_empty(), "{told}");
}
