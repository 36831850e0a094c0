//! An upstream that behaves as the first segment of the path says. What it answers it writes at once, so that it comes
//! in the same pieces each time.

use std::io;

use wasmgate_tests::{Call, TestUpstream};

/// Names itself in its answers.
pub fn upstream(name: &'static str) -> TestUpstream {
    TestUpstream::start(move |call| answer(name, call))
}

fn answer(name: &str, call: &mut Call) -> io::Result<()> {
    let target = call.head.start.split(' ').nth(1).unwrap_or_default().to_owned();
    let path = target.split('?').next().unwrap_or_default();
    let mut segments = path.trim_start_matches('/').split('/');
    let kind = segments.next().unwrap_or_default();
    let argument = segments.next().unwrap_or_default().to_owned();
    let size: usize = argument.parse().unwrap_or_default();
    let is_head = call.head.start.starts_with("HEAD ");
    let head =
        |status: &str, fields: &str| format!("HTTP/1.1 {status}\r\nX-Upstream: {name}\r\n{fields}\r\n");
    let whole = |status: &str, fields: &str, body: &[u8]| {
        let head = head(status, &format!("Content-Length: {}\r\n{fields}", body.len()));
        if is_head { head.into_bytes() } else { [head.as_bytes(), body].concat() }
    };
    match kind {
        "never" => return call.wait_for_end(),
        "close" => return call.close(),
        // The request's body is still under way.
        "early" => {
            call.write(whole("403 Forbidden", "", b"early"))?;
            call.body()?;
            return Ok(());
        }
        _ => _ = call.body()?,
    }
    let chunked = |fields: &str| head("200 OK", &format!("Transfer-Encoding: chunked\r\n{fields}"));
    match kind {
        "echo" => {
            let body = call.body()?.body.clone();
            call.write(whole("200 OK", "", &body))
        }
        "length" => call.write(whole("200 OK", "", &filler(size))),
        "chunks" | "trailers" if is_head => call.write(chunked("")),
        "chunks" => {
            let mut whole = chunked("").into_bytes();
            for piece in filler(size).chunks(65_536) {
                whole.extend([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
            }
            call.write([&whole[..], b"0\r\n\r\n"].concat())
        }
        "digits" => call.write(whole("200 OK", "", b"0123456789")),
        "trailers" => {
            let rest = "5\r\nhello\r\n0\r\nX-T: first\r\nX-T: second\r\nX-U: u\r\n\r\n";
            call.write(chunked("Trailer: X-T\r\n") + rest)
        }
        "status" if matches!(size, 204 | 304) => call.write(head(&format!("{size} Some"), "X-Own: 1\r\n")),
        "status" => call.write(whole(&format!("{size} Some"), "", format!("status {size}").as_bytes())),
        "hints" => {
            let interim = head("103 Early Hints", "Link: </a.css>\r\n");
            call.write([interim.as_bytes(), &whole("200 OK", "", b"after hints")].concat())
        }
        "processing" => {
            let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(2);
            call.write([interim.as_bytes(), &whole("200 OK", "", b"processed")].concat())
        }
        // Less than it announced, and the end.
        "partial" => {
            call.write(head("200 OK", "Content-Length: 10\r\n") + "01234")?;
            call.close()
        }
        "partial-chunks" => {
            call.write(chunked("") + "5\r\n01234\r\n")?;
            call.close()
        }
        "half-head" => {
            call.write("HTTP/1.1 200 OK\r\nX-Half: ")?;
            call.close()
        }
        "garbage" => {
            call.write("this is no HTTP\r\n\r\n")?;
            call.close()
        }
        "eof" => {
            call.write(head("200 OK", "Connection: close\r\n") + "until the end")?;
            call.close()
        }
        // Begins and does not go on.
        "stalls" => {
            call.write(head("200 OK", "Content-Length: 10\r\n") + "01234")?;
            call.wait_for_end()
        }
        "repeated" => call.write(whole(
            "200 OK",
            "Set-Cookie: a=1\r\nX-Twice: 1\r\nSet-Cookie: b=2\r\nX-Once: once\r\nX-Twice: 2\r\nX-Empty:\r\n",
            b"ok",
        )),
        "secret" => call.write(whole("200 OK", "", b"this is a secret")),
        "byte" => call.write(whole("200 OK", "", if argument == "even" { &[2] } else { &[1] })),
        "grpc" => call.write(whole("200 OK", "Content-Type: application/grpc\r\nGrpc-Status: 5\r\n", b"")),
        _ => call.write(whole("200 OK", "", b"ok")),
    }
}

/// Bytes that differ from place to place.
pub fn filler(size: usize) -> Vec<u8> {
    (0..size).map(|at| b'a' + (at % 23) as u8).collect()
}
