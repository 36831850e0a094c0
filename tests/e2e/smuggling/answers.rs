//! Answers of upstreams that could be read in two ways: the client gets one of them, or an honest error, and what may
//! be left of them on their connection is read by nobody.

use std::{io, sync::Arc};

use wasmgate_tests::{Client, TestGateway, TestUpstream};

use super::{answer, table::Row};

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";

#[test]
fn answers_have_one_meaning() {
    let rows = Arc::new(Row::all("answers.txt"));
    assert!(rows.len() >= 70, "{}", rows.len());
    let answers = rows.clone();
    let upstream = TestUpstream::start(move |call| {
        let number: Option<usize> = call.head.start.split(['/', ' ']).nth(2).and_then(|n| n.parse().ok());
        let Some(row) = number.and_then(|number| answers.get(number)) else { return call.write(FINE) };
        let (bytes, ends) = row.sent();
        call.write(bytes)?;
        if ends { call.close() } else { Ok(()) }
    });
    let gateway = TestGateway::before(&upstream, super::CONFIG);
    let mut faults = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let what = &row.what;
        let told = ask(&gateway, number, row);
        let expected = row.lines("=").next().map(|(_, text)| text).unwrap_or_default();
        if told != expected {
            faults.push(format!("{what}: {told:?} and not {expected:?}"));
        }
        let before = upstream.connections();
        let next = gateway.get("/fine");
        if next.status != 200 || next.text() != "fine" {
            faults.push(format!("{what}: then {} {:?}", next.head.start, next.text()));
        }
        let closed = upstream.connections() > before;
        if closed != row.is("closed") {
            faults.push(format!(
                "{what}: the connection to the upstream {}",
                if closed { "ended" } else { "stayed" }
            ));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// What the client gets for the row, in the words of the table.
fn ask(gateway: &TestGateway, number: usize, row: &Row) -> String {
    let request = row.lines("?").next().map_or("GET", |(_, text)| text);
    let (method, fields) = request.split_once(' ').unwrap_or((request, ""));
    let mut client = Client::connect(gateway.addr());
    client.send(format!("{method} /{number} HTTP/1.1\r\nHost: a\r\n"));
    client.send(super::bytes(fields)).send("\r\n");
    match answer(&mut client, method) {
        Ok(response) if response.status == 502 => "502".to_owned(),
        Ok(response) => {
            let trailers = response.trailers.0.iter().map(|(name, value)| format!("{name}: {value}"));
            let parts = [response.status.to_string(), response.text()].into_iter().chain(trailers);
            parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => error.to_string(),
        Err(_) => "broken".to_owned(),
    }
}
