//! The end: signals, requests in flight, exit status.

use std::net::TcpStream;

use wasmgate_tests::{Client, Gate, Pipe, Signal, TestGateway, TestUpstream, eventually};

/// An upstream that answers when the gate opens, and a client that waits for it.
fn in_flight(config: &str) -> (TestGateway, Client, Gate) {
    let (asked, answer) = (Gate::new(), Gate::new());
    let (told, wait) = (asked.clone(), answer.clone());
    let upstream = TestUpstream::start(move |call| {
        told.open();
        wait.wait();
        call.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let gateway = TestGateway::before(&upstream, config);
    let mut client = Client::connect(gateway.addr());
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    asked.wait();
    (gateway, client, answer)
}

#[test]
fn requests_in_flight_are_finished() {
    for signal in [Signal::Terminate, Signal::Interrupt] {
        let (mut gateway, mut client, answer) = in_flight("");
        gateway.signal(signal);
        let address = gateway.addr();
        eventually!(TcpStream::connect(address).is_err(), "{signal:?}: new connections are refused");
        assert_eq!(gateway.admin_request("GET", "/readyz", "").status, 503);
        assert_eq!(gateway.admin_request("GET", "/healthz", "").status, 200);
        assert!(gateway.is_running());
        answer.open();
        let response = client.response();
        assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{signal:?}");
        client.assert_closed();
        assert_eq!(gateway.wait().code(), Some(0), "{signal:?}");
        assert_eq!(gateway.access().len(), 1, "the access log is written to its end");
    }
}

#[test]
fn idle_connections_are_closed() {
    let upstream = TestUpstream::ok();
    let mut gateway = TestGateway::before(&upstream, "");
    let (mut used, mut unused) = (Client::connect(gateway.addr()), Client::connect(gateway.addr()));
    assert_eq!(used.get("/").status, 200);
    gateway.terminate();
    used.assert_closed();
    unused.assert_closed();
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    for second in [Signal::Terminate, Signal::Interrupt] {
        let (mut gateway, mut client, _answer) = in_flight("");
        gateway.terminate();
        eventually!(gateway.log().contains("draining"));
        gateway.signal(second);
        assert_eq!(gateway.wait().code(), Some(0), "{second:?}");
        assert!(client.reader.response("GET").is_err(), "the answer never came");
    }
}

#[test]
fn the_drain_has_an_end() {
    let (mut gateway, _client, _answer) = in_flight("[server]\ndrain_timeout = \"100ms\"\n");
    gateway.terminate();
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(gateway.log().contains("still open after the drain timeout"), "{}", gateway.log());
}

/// A gateway that has come to its end but for an access log that nobody reads.
fn stalled(gateway: &TestGateway) {
    let target = format!("/{}", "x".repeat(8000));
    let stalls = || {
        gateway.get(&target);
        gateway.metric("wasmgate_access_log_dropped_total") > 0.0
    };
    eventually!(stalls());
    gateway.terminate();
    eventually!(gateway.log().contains(" drained"));
}

fn logging(drain_timeout: &str, access_log: &str) -> String {
    let server = format!("server = {{ drain_timeout = \"{drain_timeout}\" }}\n");
    let respond = "[plugins]\ndirectory = \"{plugins}\"\n[[route]]\nname = \"all\"\n\
                   plugins = [{ name = \"respond\", config = { body = \"x\" } }]\n";
    let listeners =
        "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n";
    format!("{server}access_log = {{ {access_log} }}\n{listeners}{respond}")
}

#[test]
fn an_access_log_that_nobody_reads_delays_the_end_only_so_far() {
    let mut gateway = TestGateway::unread(&logging("100ms", "queue = 5"));
    stalled(&gateway);
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(gateway.log().contains("are not taken"), "{}", gateway.log());
}

#[test]
fn a_second_signal_does_not_wait_for_the_access_log() {
    let mut pipe = None;
    let config = logging("1h", "queue = 5, file = \"pipe\"");
    let mut gateway = TestGateway::launch(&config, &[], |folder| {
        pipe = Some(Pipe::make(&folder.join("pipe")));
    });
    let _reader = pipe.unwrap().reader();
    gateway.wait_until_ready();
    stalled(&gateway);
    assert!(gateway.is_running());
    gateway.terminate();
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(gateway.log().contains("ended without waiting"), "{}", gateway.log());
}

#[test]
fn readiness_and_health_are_told() {
    let gateway = TestGateway::before(&TestUpstream::ok(), "");
    for path in ["/readyz", "/healthz", "/metrics"] {
        assert_eq!(gateway.admin_request("GET", path, "").status, 200, "{path}");
    }
    assert_eq!(gateway.admin_request("GET", "/else", "").status, 404);
    assert_eq!(gateway.admin_request("DELETE", "/metrics", "").status, 405);
    gateway.get("/");
    eventually!(gateway.metric("wasmgate_requests_total{route=\"all\",status=\"2xx\"}") == 1.0);
}
