//! Requests and answers that two parsers could read differently: each has one meaning, or is refused. The rows are in
//! tests/golden/http1, by the section of the RFC.

mod answers;
mod table;

use std::{
    cell::Cell,
    fmt::Debug,
    io::{self, Cursor},
    net::SocketAddr,
};

use wasmgate_tests::{
    Client, Nginx, Reader, Request, Response, TestGateway, TestUpstream, eventually, get, peer,
};

use table::{Row, bytes};

/// Without what the gateway adds. One worker: all requests go over one connection to the upstream, as long as nothing
/// spoils it.
const CONFIG: &str = "[server]\nworkers = 1\n[forwarded]\nvia = \"\"\nx_forwarded = false\n\
    [limits]\nuri = \"1000B\"\nheader_bytes = \"8KiB\"\nheader_count = 20\nbody = \"1000B\"\n";

/// Follows every row on its connection, and must be answered only where this stays open.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
const NEXT_SENT: &[u8] = b"GET /next HTTP/1.1\r\nhost: a\r\n\r\n";

/// Follows every row on another connection: what the upstream has seen before it is the row's.
const LAST: &str = "/last";

#[test]
fn requests_have_one_meaning() {
    let (begun, rows): (Vec<_>, Vec<_>) =
        Row::all("requests.txt").into_iter().partition(|row| row.is("begun"));
    assert!(begun.len() + rows.len() > 300, "{} and {}", begun.len(), rows.len());
    let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, CONFIG);
    let read = Cell::new(0);
    let mut faults = run(&rows, &gateway, false, shown, || {
        requests(&upstream, |request| {
            read.update(|read| read + request.raw.len());
            shown(&request.raw)
        })
    });
    // Nor has the upstream a byte besides.
    let connections = upstream.connections();
    drop(gateway);
    eventually!(upstream.ended() == connections);
    assert_eq!(upstream.raw().concat().len(), read.get(), "{faults:#?}");

    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, CONFIG);
    faults.extend(run(&begun, &gateway, false, shown, || requests(&upstream, |request| shown(&request.raw))));
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Chunks are those that came in time; what they are of is the same.
#[test]
fn requests_have_one_meaning_however_they_are_cut() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, CONFIG);
    let meant = |request: &Request| {
        let Request { head, body, trailers, .. } = request.clone();
        (head.start, head.fields, body, trailers)
    };
    let faults = run(
        &Row::all("requests.txt"),
        &gateway,
        true,
        |bytes| meant(&parsed(bytes)),
        || requests(&upstream, meant),
    );
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn an_answer_to_an_unfinished_upload_does_not_poison_the_connection() {
    let upstream = TestUpstream::start(|call| {
        call.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")?;
        call.close()
    });
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nsome");
    assert_eq!(client.response().status, 403);
    client.try_send(NEXT).finish();
    client.assert_closed();
    assert_eq!(upstream.connections(), 1, "the rest of the body was taken for a request");
}

/// nginx, and what it takes the requests for, as it tells the next one.
#[test]
fn nginx_means_the_same() {
    let Some(program) = peer("nginx") else { return };
    let behind = TestUpstream::ok();
    let pass = "proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_set_header Connection \"\";";
    let nginx =
        Nginx::start(program, &format!("location / {{ proxy_pass http://{}; {pass} }}", behind.address()));
    let gateway = TestGateway::start(&wasmgate_tests::before(&nginx.address, CONFIG));
    let meant = |request: &Request| {
        let host = request.header("host").map(str::to_owned);
        (request.head.start.clone(), host, request.body.clone())
    };
    let rows = Row::all("requests.txt").into_iter().filter(|row| !row.is("refused by nginx"));
    let faults = run(
        &rows.collect::<Vec<_>>(),
        &gateway,
        false,
        |bytes| meant(&parsed(bytes)),
        || requests(&behind, meant),
    );
    assert!(faults.is_empty(), "{faults:#?}");
}

/// The upstream's requests of a row, in the words of the test.
fn requests<T>(upstream: &TestUpstream, told: impl Fn(&Request) -> T) -> Vec<T> {
    let requests = upstream.take_requests();
    let told = requests.iter().map(|request| (told(request), request.target() == LAST));
    told.filter(|(_, last)| !last).map(|(told, _)| told).collect()
}

fn parsed(bytes: &[u8]) -> Request {
    let mut reader = Reader::new(Cursor::new(bytes.to_vec()));
    let head = reader.request_head().unwrap().unwrap();
    let (body, trailers) = reader.request_body(&head).unwrap();
    Request { head, body, trailers, raw: bytes.to_vec() }
}

/// What is wrong with the rows. `seen` is what the upstream has seen since it was asked last, and `told` how it
/// would tell of these bytes.
fn run<T: PartialEq + Debug>(
    rows: &[Row],
    gateway: &TestGateway,
    cut: bool,
    told: impl Fn(&[u8]) -> T,
    seen: impl Fn() -> Vec<T>,
) -> Vec<String> {
    let mut faults = Vec::new();
    for row in rows {
        let answered = play(row, gateway.addr(), cut);
        get(gateway.addr(), LAST);
        let mut expected: Vec<T> = row.lines(">").map(|(_, text)| told(&bytes(text))).collect();
        if !row.is("closed") {
            expected.push(told(NEXT_SENT));
        }
        let seen = seen();
        if seen != expected {
            faults.push(format!("{}: the upstream got {seen:#?} and not {expected:#?}", row.what));
        }
        faults.extend(answered.err().map(|fault| format!("{}: {fault}", row.what)));
    }
    faults
}

/// Sends the row and holds the answers against it.
fn play(row: &Row, gateway: SocketAddr, cut: bool) -> Result<(), String> {
    let mut client = Client::connect(gateway);
    let (mut sent, ended) = row.sent();
    if !ended {
        sent.extend(NEXT.bytes());
    }
    for piece in sent.chunks(if cut { 1 } else { sent.len() }) {
        client.try_send(piece);
    }
    if ended {
        client.finish();
    }
    for (sign, text) in row.lines(">=") {
        let (method, status) = match sign {
            '>' => (text.split(' ').next().unwrap_or_default(), "200"),
            _ => ("GET", text),
        };
        let response = answer(&mut client, method).map_err(|error| format!("no answer: {error}"))?;
        if response.status.to_string() != status {
            return Err(format!("{} and not {status}: {}", response.head.start, response.text()));
        }
    }
    match row.is("closed") {
        true => client.ends().map_err(|fault| format!("at the end {fault}")),
        false => answer(&mut client, "GET").map(|_| ()).map_err(|fault| format!("the next request: {fault}")),
    }
}

/// The next answer that is no interim one.
fn answer(client: &mut Client, method: &str) -> io::Result<Response> {
    loop {
        let response = client.reader.response(method)?;
        if !(100..200).contains(&response.status) {
            return Ok(response);
        }
    }
}
