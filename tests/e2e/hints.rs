//! Answers before the last one: 103 (RFC 8297) and others, by HTTP/1.1 and HTTP/2.

use wasmgate_tests::{
    Client, Gate, TestGateway, TestUpstream, before,
    frames::{FrameClient, get},
};

const HINTS: &str =
    "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Hop: 1\r\nConnection: x-hop\r\n\r\n";

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn gateway(upstream: &TestUpstream, route: &str) -> TestGateway {
    let route = format!("[[route]]\nname = \"all\"\nupstream = \"app\"\n{route}");
    TestGateway::start(&before(&upstream.address(), &route))
}

/// The hints come before the upstream has made up its mind.
#[test]
fn they_do_not_wait_for_the_last_one() {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = TestUpstream::start(move |call| {
        call.write(HINTS)?;
        call.write("HTTP/1.1 102 Processing\r\n\r\n")?;
        gate.wait();
        call.write(ANSWER)
    });
    let gateway = gateway(&upstream, "early_hints = true\n");

    let mut client = Client::connect(gateway.addr());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let hints = client.response();
    assert_eq!((hints.status, hints.header("link")), (103, Some("</a.css>; rel=preload")));
    assert_eq!((hints.header("x-hop"), hints.header("connection")), (None, None));
    assert_eq!(client.response().status, 102);
    let mut other = FrameClient::connect(gateway.addr());
    other.send(get(1, "/"));
    other.wait(|client| client.stream(1).is_some_and(|stream| stream.interim == [103, 102]));
    opened.open();
    assert_eq!(client.response().text(), "ok");
    assert_eq!(other.answer(1).text(), "ok");
    // The connection is as good as before.
    let texts: Vec<_> = (0..3)
        .map(|_| {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            let statuses = [client.response().status, client.response().status];
            (statuses, client.response().text())
        })
        .collect();
    assert!(texts.iter().all(|(statuses, text)| *statuses == [103, 102] && text == "ok"), "{texts:?}");
}

#[test]
fn only_those_get_them_who_want_them() {
    let upstream = TestUpstream::answering(format!("{HINTS}{HINTS}{ANSWER}"));
    let plain = gateway(&upstream, "");
    assert_eq!(Client::connect(plain.addr()).get("/").status, 200);
    assert!(FrameClient::connect(plain.addr()).get(1, "/").interim.is_empty());
    let gateway = gateway(&upstream, "early_hints = true\n");
    let mut client = Client::connect(gateway.addr());
    assert_eq!(client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").response().status, 200);
    // All at once, and in order also where requests are sent one behind the other.
    let mut client = Client::connect(gateway.addr());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3));
    let statuses: Vec<_> = (0..9).map(|_| client.response().status).collect();
    assert_eq!(statuses, [103, 103, 200].repeat(3));
}
