use wasmgate_sdk::testing::{Host, Loaded, Outcome, Request, Response};

use super::{GrpcWeb, media::Media, text};

const ANSWER: &str = "\0\0\0\0\x02hi";

fn plugin() -> Loaded<GrpcWeb> {
    Host::new().load::<GrpcWeb>("null").expect("no config is needed")
}

fn call(kind: &str, pieces: &[&str]) -> Request {
    let pieces = pieces.iter().copied();
    Request::new("POST", "/a.B/C").header("content-type", kind).body_pieces(pieces)
}

fn answered() -> Response {
    let pieces = [&ANSWER[..3], &ANSWER[3..]];
    Response::new(200)
        .header("content-type", "application/grpc+proto")
        .body_pieces(pieces)
        .trailer("grpc-status", "0")
        .trailer("x-end-bin", "AAE")
}

fn trailers(lines: &str) -> Vec<u8> {
    [&[0x80, 0, 0, 0, lines.len() as u8], lines.as_bytes()].concat()
}

fn kind_of_answer(outcome: &Outcome) -> String {
    outcome.response().header_str("content-type").unwrap_or_default()
}

#[test]
fn what_is_binary_passes_and_ends_with_its_trailers() {
    let outcome = plugin().exchange(call("application/grpc-web+proto", &["\0\0\0\0\x01a"]), answered());
    assert_eq!(outcome.request().header_str("content-type").as_deref(), Some("application/grpc+proto"));
    assert_eq!(outcome.request_body, b"\0\0\0\0\x01a");
    assert_eq!(kind_of_answer(&outcome), "application/grpc-web+proto");
    let expected = [ANSWER.as_bytes(), &trailers("grpc-status: 0\r\nx-end-bin: AAE\r\n")].concat();
    assert_eq!(outcome.response_body, expected);
    assert!(outcome.response().trailers().is_empty());
}

#[test]
fn what_is_text_is_decoded_and_encoded() {
    // "\0\0\0\0\x03abc" in two pieces that were encoded by themselves, cut up anyhow.
    let pieces = ["AAA", "AAA", "M=YW", "Jj"];
    let outcome = plugin().exchange(call("application/grpc-web-text", &pieces), answered());
    assert!(outcome.error.is_none() && outcome.answer.is_none(), "{:?}", outcome.code);
    assert_eq!(outcome.request_body, b"\0\0\0\0\x03abc");
    assert_eq!(outcome.request().header_str("content-type").as_deref(), Some("application/grpc"));
    assert_eq!(kind_of_answer(&outcome), "application/grpc-web-text");
    let expected = [ANSWER.as_bytes(), &trailers("grpc-status: 0\r\nx-end-bin: AAE\r\n")].concat();
    assert_eq!(text::decode(&outcome.response_body), Some(expected));
}

#[test]
fn accept_chooses_the_form_of_the_answer() {
    for (kind, accept, expected) in [
        ("application/grpc-web+proto", "application/grpc-web-text", "application/grpc-web-text+proto"),
        ("application/grpc-web-text", "text/plain, application/grpc-web+proto", "application/grpc-web"),
        ("application/grpc-web-text+x", "*/*", "application/grpc-web-text+x"),
    ] {
        let outcome = plugin().exchange(call(kind, &[]).header("accept", accept), answered());
        assert_eq!(kind_of_answer(&outcome), expected);
        assert_eq!(outcome.response_body.starts_with(b"AAAA"), expected.contains("text"));
    }
}

#[test]
fn bodies_that_are_no_base64_are_refused() {
    for pieces in [&["AAAAA"][..], &["AA?A"], &["A===", "AAAA"], &["=AAA"], &["AAAA\n"]] {
        let outcome = plugin().send(call("application/grpc-web-text", pieces));
        assert_eq!(outcome.code.as_deref(), Some("bad_request"), "{pieces:?}");
        assert_eq!(outcome.response().header_str("grpc-status").as_deref(), Some("13"));
    }
}

#[test]
fn a_call_that_ended_with_its_head_has_no_body() {
    let ended = Response::new(200).header("content-type", "application/grpc").header("grpc-status", "5");
    let outcome = plugin().exchange(call("application/grpc-web-text", &[]), ended);
    assert_eq!(kind_of_answer(&outcome), "application/grpc-web-text");
    assert_eq!(outcome.response().header_str("grpc-status").as_deref(), Some("5"));
    assert!(outcome.response_body.is_empty());
}

#[test]
fn an_answer_without_trailers_has_an_unknown_end() {
    let answer = Response::new(200).header("content-type", "application/grpc").body(ANSWER);
    let outcome = plugin().exchange(call("application/grpc-web", &[]), answer);
    let end = String::from_utf8_lossy(&outcome.response_body).into_owned();
    assert!(end.ends_with("grpc-status: 2\r\ngrpc-message: the answer ended without a status\r\n"), "{end}");
}

#[test]
fn errors_of_http_are_ends_of_calls() {
    for (status, expected) in
        [(200, 2), (400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (500, 2), (502, 14), (504, 14)]
    {
        let answer = Response::new(status)
            .header("content-type", "text/html")
            .header("content-encoding", "gzip")
            .header("retry-after", "3")
            .body("<h1>no</h1>");
        let outcome = plugin().exchange(call("application/grpc-web+proto", &[]), answer);
        let response = outcome.response();
        assert_eq!(response.status(), 200);
        assert_eq!(response.header_str("grpc-status"), Some(expected.to_string()), "{status}");
        assert_eq!(response.header_str("retry-after").as_deref(), Some("3"));
        assert_eq!(response.header("content-encoding"), None);
        assert_eq!(kind_of_answer(&outcome), "application/grpc-web+proto");
        assert!(outcome.response_body.is_empty());
    }
}

#[test]
fn anything_else_is_left_alone() {
    let page = || Response::new(404).header("content-type", "text/html").body("no").trailer("x-end", "1");
    for (method, kind) in [
        ("POST", "text/plain"),
        ("POST", "application/grpc"),
        ("POST", "application/grpc-website"),
        ("POST", "application/grpc-web-textual"),
        ("PUT", "application/grpc-web-text"),
    ] {
        let request = Request::new(method, "/").header("content-type", kind).body("AAA");
        let outcome = plugin().exchange(request, page());
        assert_eq!(outcome.request().header_str("content-type").as_deref(), Some(kind));
        assert_eq!((outcome.response().status(), &outcome.response_body[..]), (404, &b"no"[..]));
        assert_eq!(outcome.request_body, b"AAA");
        assert_eq!(outcome.response().trailers().len(), 1);
    }
}

#[test]
fn kinds_are_read_in_any_case() {
    let media = Media::parse("Application/gRPC-Web-Text+proto; charset=x").expect("a kind");
    assert!(media.text);
    assert_eq!(media.of_grpc(), "application/grpc+proto; charset=x");
    assert_eq!(Media::parse("application/grpc-we"), None);
    assert_eq!(Media::parse("application/grpc-w\u{e9}b"), None);
}
