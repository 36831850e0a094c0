//! Connections that go on in another protocol: WebSocket between real peers, anything else byte by byte, and by HTTP/2.

use std::{fs, io::Write, net::Shutdown, time::Duration};

use wasmgate_tests::{
    Authority, Client, Python, TestGateway, TestUpstream, before, eventually, fill,
    frames::{self, END_HEADERS, END_STREAM, FrameClient, kind},
    plugin,
};

const CHAT: &str =
    "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: chat/1\r\n\r\n";

const AGREED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat/1\r\nX-Own: 1\r\n\r\n";

/// Agrees to what it is asked for, and then sends back what comes, in brackets.
fn chatting() -> TestUpstream {
    TestUpstream::start(|call| {
        let asked = call.head.fields.get("upgrade").map(str::to_owned);
        let Some(asked) = asked else {
            return call.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain");
        };
        call.write(AGREED.replace("chat/1", &asked))?;
        call.write("[hello]")?;
        while let Ok(byte) = call.bytes(1) {
            call.write([b"[", &byte[..], b"]"].concat())?;
        }
        call.write("[end]")?;
        call.close()
    })
}

fn gateway(upstream: &TestUpstream, route: &str) -> TestGateway {
    let config =
        before(&upstream.address(), &format!("[[route]]\nname = \"all\"\nupstream = \"app\"\n{route}\n"));
    TestGateway::start(&config)
}

#[test]
fn websockets_finds_nothing_wrong() {
    let Some(python) = Python::peer("websocket_peer.py", "websockets") else { return };
    let service = python.serve(&[]);
    let authority = Authority::new("the tests");
    let issued = authority.issue(1, &["localhost"]);
    let config = fill(
        "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"secure\"\naddress = \"127.0.0.1:0\"\n\
         tls = { certificates = [{ cert = \"a.crt\", key = \"a.key\" }] }\n\
         [upstream.app]\nendpoints = [\"{app}\"]\n\
         [plugin.request-id]\nfile = \"{file}\"\n\
         [[route]]\nname = \"all\"\nupstream = \"app\"\nplugins = [\"request-id\"]\n",
        &[("app", &service.address), ("file", &plugin("request-id").display())],
    );
    let gateway = TestGateway::start_in(&config, &[], |folder| {
        for (name, text) in [("a.crt", &issued.cert), ("a.key", &issued.key), ("ca.pem", &authority.pem)] {
            fs::write(folder.join(name), text).unwrap();
        }
    });
    let ca = gateway.directory().join("ca.pem").display().to_string();
    let secure = format!("wss://localhost:{}", gateway.listener("secure").port());
    for arguments in [
        // What it is like with nothing in between.
        vec!["call".to_owned(), format!("ws://{}", service.address)],
        vec!["call".to_owned(), format!("ws://{}", gateway.addr())],
        vec!["call".to_owned(), secure, ca],
    ] {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let output = python.run(&arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn any_protocol_that_the_route_allows_passes_byte_by_byte() {
    let upstream = chatting();
    let gateway = gateway(&upstream, "upgrades = [\"Chat/1\"]");
    let mut client = Client::connect(gateway.addr());
    // What follows the request in one breath belongs to what comes: bytes that would be refused as HTTP.
    client.send(format!("{CHAT}\n\r\0"));
    let answer = client.response();
    assert_eq!((answer.status, answer.header("upgrade")), (101, Some("chat/1")));
    assert_eq!((answer.header("connection"), answer.header("x-own")), (Some("upgrade"), Some("1")));
    let mut line = client.line();
    assert_eq!(client.bytes(7 + 9), b"[hello][\n][\r][\0]");
    line.write_all(b"ab").unwrap();
    assert_eq!(client.bytes(6), b"[a][b]");
    // Half closed: the other half goes on.
    line.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.bytes(5), b"[end]");
    client.assert_closed();
    let seen = upstream.request();
    assert_eq!((seen.header("upgrade"), seen.header("connection")), (Some("chat/1"), Some("upgrade")));
    let line = &gateway.access_lines(1)[0];
    assert_eq!(
        (&line["status"], &line["bytes_in"], &line["bytes_out"]),
        (&101.into(), &5.into(), &27.into())
    );
}

#[test]
fn what_is_not_allowed_is_a_plain_request() {
    let upstream = chatting();
    let gateway = gateway(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    // And what follows is the next request, held to the same rules.
    client
        .send(format!("{CHAT}GET /next HTTP/1.1\r\nHost: a\r\n\r\n{CHAT}GET /bad HTTP/1.1\nHost: a\r\n\r\n"));
    let texts: Vec<_> = (0..3).map(|_| client.response().text()).collect();
    assert_eq!(texts, ["plain", "plain", "plain"]);
    assert_eq!(client.response().status, 400);
    client.assert_closed();
    let seen = upstream.requests();
    assert_eq!(seen.iter().map(|request| request.target()).collect::<Vec<_>>(), ["/chat", "/next", "/chat"]);
    assert!(seen.iter().all(|request| request.header("upgrade").is_none()));
}

#[test]
fn an_upstream_that_agrees_to_something_else_is_not_believed() {
    for answer in [AGREED, "HTTP/1.1 101 Switching Protocols\r\n\r\n"] {
        let upstream = TestUpstream::answering(answer);
        let gateway = gateway(&upstream, "");
        assert_eq!(gateway.get("/").status, 502);
        let mut client = Client::connect(gateway.addr());
        client.send(CHAT.replace("chat/1", "websocket"));
        let response = client.response();
        assert_eq!((response.status, response.code().as_str()), (502, "upstream_protocol_error"));
    }
}

#[test]
fn a_tunnel_in_which_nothing_moves_is_closed() {
    let upstream = chatting();
    let config = before(
        &upstream.address(),
        "[upstream.app.timeouts]\ntunnel = \"300ms\"\n[[route]]\nname = \"all\"\nupstream = \"app\"\nupgrades = [\"chat/1\"]\n",
    );
    let gateway = TestGateway::start(&config);
    let mut client = Client::connect(gateway.addr());
    assert_eq!(client.send(CHAT).response().status, 101);
    assert_eq!(client.bytes(7), b"[hello]");
    client.assert_closed();
    assert_eq!(gateway.access_lines(1)[0]["code"], "tunnel_idle");
    eventually!(upstream.ended() == 1);
}

/// RFC 8441.
#[test]
fn by_http2_it_is_a_stream_beside_others() {
    let upstream = chatting();
    let gateway = gateway(&upstream, "");
    let mut client = FrameClient::connect(gateway.addr());
    let connect = |stream: u32, protocol: &str| {
        let fields = [
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", "http"),
            (":authority", "a.test"),
            (":path", "/chat?a=b"),
            ("sec-websocket-version", "13"),
        ];
        frames::frame(kind::HEADERS, END_HEADERS, stream, frames::block(fields))
    };
    client.send(connect(1, "websocket"));
    client.wait(|client| client.stream(1).is_some_and(|stream| stream.body.len() == 7));
    assert_eq!(client.settings.get(&8), Some(&1), "SETTINGS_ENABLE_CONNECT_PROTOCOL");
    let stream = client.stream(1).unwrap().clone();
    assert_eq!((stream.status, stream.text().as_str(), stream.ended), (200, "[hello]", false));
    assert_eq!(
        (stream.header("upgrade"), stream.header("connection"), stream.header("x-own")),
        (None, None, Some("1"))
    );
    assert_eq!(client.get(3, "/").text(), "plain");
    client.send(frames::data(1, 0, "ab")).send(frames::data(1, END_STREAM, "c"));
    assert_eq!(client.answer(1).text(), "[hello][a][b][c][end]");
    let seen = upstream.requests().into_iter().find(|request| request.target() == "/chat?a=b").unwrap();
    assert_eq!(seen.header("upgrade"), Some("websocket"));
    assert!(seen.head.start.starts_with("GET "), "{seen:?}");
    assert_eq!(seen.header("sec-websocket-key").map(str::len), Some(24));

    client.send(connect(5, "chat/1"));
    assert_eq!(client.answer(5).status, 501);
    client.send(connect(7, "websocket"));
    client.wait(|client| client.stream(7).is_some_and(|stream| stream.body.len() == 7));
    client.send(frames::reset(7, 8));
    eventually!(upstream.ended() >= 2);
}

/// Those that are open when the gateway ends have the time that requests have.
#[test]
fn tunnels_are_not_waited_for_without_end() {
    let upstream = chatting();
    let config = before(
        &upstream.address(),
        "[server]\ndrain_timeout = \"300ms\"\n[[route]]\nname = \"all\"\nupstream = \"app\"\nupgrades = [\"chat/1\"]\n",
    );
    let mut gateway = TestGateway::start(&config);
    let mut client = Client::connect(gateway.addr());
    client.patience(Duration::from_secs(20));
    assert_eq!(client.send(CHAT).response().status, 101);
    gateway.terminate();
    assert_eq!(client.bytes(7), b"[hello]");
    assert!(gateway.wait().success());
}
