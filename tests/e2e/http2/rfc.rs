//! RFC 9113 and RFC 7541, section by section: frames, and what the gateway has to make of them. The rows cover what h2spec
//! tests of a server, and more.

use wasmgate_tests::{
    TestGateway, TestUpstream,
    frames::{
        ACK, END_HEADERS, END_STREAM, FrameClient, PADDED, PREFACE, PRIORITISED, Received, block, data,
        frame, get, head, kind, ping, pseudo, reset, settings, window_update,
    },
};

use super::{code, setting};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The connection ends with this code.
    GoAway(u32),
    /// The stream ends with this code, and the connection goes on.
    Reset(u32),
    /// The stream is answered, and the connection goes on.
    Status(u16),
    /// Nothing happens.
    Ignored,
}
use Outcome::{GoAway, Ignored, Reset, Status};

struct Row {
    section: &'static str,
    what: &'static str,
    /// What is sent, piece by piece; after each the answer on stream 1 is waited for, but after the last.
    pieces: Vec<Vec<u8>>,
    /// The stream that it is about.
    stream: u32,
    expected: Outcome,
    /// Where the library chooses otherwise: its choice and why it may.
    instead: Option<(Outcome, &'static str)>,
}

impl Row {
    fn on(mut self, stream: u32) -> Row {
        self.stream = stream;
        self
    }

    /// `frames` come after an answered request on stream 1.
    fn after_an_answer(mut self) -> Row {
        self.pieces.insert(0, get(1, "/"));
        self
    }

    fn comes_to(&self) -> Outcome {
        self.instead.map_or(self.expected, |(instead, _)| instead)
    }

    fn but(mut self, outcome: Outcome, why: &'static str) -> Row {
        self.instead = Some((outcome, why));
        self
    }
}

fn row(section: &'static str, what: &'static str, frames: Vec<u8>, expected: Outcome) -> Row {
    Row { section, what, pieces: vec![frames], stream: 1, expected, instead: None }
}

/// Frames one after the other.
macro_rules! all {
    ($($frame:expr),+ $(,)?) => { [$($frame),+].concat() };
}

/// RFC 9113, 5.4: "An endpoint can choose to treat a stream error as a connection error."
const STRICTER: &str = "a stream error may be treated as a connection error (5.4)";
/// What is wrong is found before it is known whose fault it is.
const GENERAL: &str = "PROTOCOL_ERROR may stand for every more specific code (7)";
/// Frames for a stream that is no longer remembered.
const FORGOTTEN: &str = "it is no longer remembered how the stream was closed";

/// The upstream answers `/hold` never, and anything else with the body that it got. Nothing for `/never` may reach it.
fn upstream() -> TestUpstream {
    TestUpstream::start(|call| {
        if call.head.start.contains(" /hold ") {
            return call.wait_for_end();
        }
        let body = call.body()?.body.clone();
        call.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()))?;
        call.write(body)
    })
}

/// An open stream: its body is still to come.
fn open(stream: u32) -> Vec<u8> {
    head(stream, 0, "POST", "/", &[])
}

/// The head of a request for `/never` with these fields after the pseudo-header fields.
fn with(fields: &[(&str, &str)]) -> Vec<u8> {
    head(1, END_STREAM, "GET", "/never", fields)
}

/// The same with exactly these.
fn of(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, block(fields.iter().copied()))
}

/// The same with this block behind a request's first three fields.
fn raw(rest: &[u8]) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a.test")];
    let first = block(fields);
    frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, [&first, rest].concat())
}

fn priority(stream: u32, on: u32) -> Vec<u8> {
    frame(kind::PRIORITY, 0, stream, [&on.to_be_bytes()[..], &[15]].concat())
}

fn goaway(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::GOAWAY, 0, stream, [[0; 4], code.to_be_bytes()].concat())
}

/// The head of a GET in this many frames.
fn cut(stream: u32, pieces: usize) -> Vec<u8> {
    let block = block(pseudo("GET", "/"));
    let size = block.len().div_ceil(pieces);
    let last = block.chunks(size).len() - 1;
    let frames = block.chunks(size).enumerate().map(|(at, piece)| {
        let end = if at == last { END_HEADERS } else { 0 };
        match at {
            0 => frame(kind::HEADERS, END_STREAM | end, stream, piece),
            _ => frame(kind::CONTINUATION, end, stream, piece),
        }
    });
    frames.collect::<Vec<_>>().concat()
}

fn continuation(stream: u32) -> Vec<u8> {
    frame(kind::CONTINUATION, END_HEADERS, stream, block([("x-a", "b")]))
}

/// Sections 4 and 5: frames and streams.
fn frames_and_streams() -> Vec<Row> {
    let half_closed = get(1, "/hold");
    let unfinished = frame(kind::HEADERS, END_STREAM, 1, block(pseudo("GET", "/never")));
    let protocol = GoAway(code::PROTOCOL);
    vec![
        row("3.4", "a request after the preface", get(1, "/"), Status(200)),
        row(
            "4.1",
            "a frame of an unknown kind",
            all![frame(0xfe, 0xff, 1, [1; 9]), get(1, "/")],
            Status(200),
        ),
        row("4.1", "unknown flags", frame(kind::PING, 0xfe, 0, [7; 8]), Ignored),
        row("4.1", "the reserved bit", all![frame(kind::PING, 0, 1 << 31, [7; 8]), get(1, "/")], Status(200)),
        row(
            "4.2",
            "DATA of the largest size",
            all![open(1), data(1, END_STREAM, [b'x'; 16384])],
            Status(200),
        ),
        row(
            "4.2",
            "DATA too large",
            all![open(1), data(1, END_STREAM, [0; 16385])],
            GoAway(code::FRAME_SIZE),
        ),
        row("4.2", "HEADERS too large", with(&[("x-a", &"b".repeat(17000))]), GoAway(code::FRAME_SIZE)),
        row("4.2", "SETTINGS too large", settings(&[(99, 1); 2731]), GoAway(code::FRAME_SIZE)),
        row("4.3", "a block that cannot be decoded", raw(&[0x40]), GoAway(code::COMPRESSION))
            .but(protocol, GENERAL),
        row(
            "4.3",
            "PRIORITY in a block",
            all![unfinished.clone(), priority(1, 0), continuation(1)],
            protocol,
        ),
        row(
            "4.3",
            "HEADERS of another stream in a block",
            all![unfinished.clone(), get(3, "/never")],
            protocol,
        ),
        row("4.3", "DATA in a block", all![unfinished.clone(), data(1, 0, "x")], protocol),
        row("5.5", "an unknown kind in a block", all![unfinished.clone(), frame(0xfe, 0, 1, [])], protocol),
        row("5.1", "idle: DATA", data(1, END_STREAM, "x"), protocol),
        row("5.1", "idle: RST_STREAM", reset(1, code::CANCEL), protocol),
        row("5.1", "idle: WINDOW_UPDATE", window_update(1, 100), protocol),
        row("5.1", "idle: CONTINUATION", continuation(1), protocol),
        row("5.1", "idle: PRIORITY", all![priority(1, 0), get(1, "/")], Status(200)),
        row(
            "5.1",
            "half-closed: DATA",
            all![half_closed.clone(), data(1, END_STREAM, "x")],
            Reset(code::STREAM_CLOSED),
        )
        .but(protocol, STRICTER),
        row(
            "5.1",
            "half-closed: HEADERS",
            all![half_closed.clone(), get(1, "/never")],
            Reset(code::STREAM_CLOSED),
        )
        .but(protocol, STRICTER),
        row("5.1", "half-closed: CONTINUATION", all![half_closed.clone(), continuation(1)], protocol),
        row("5.1", "half-closed: RST_STREAM", all![half_closed.clone(), reset(1, code::CANCEL)], Ignored),
        row("5.1", "half-closed: PRIORITY", all![half_closed.clone(), priority(1, 0)], Ignored),
        row("5.1", "half-closed: WINDOW_UPDATE", all![half_closed.clone(), window_update(1, 9)], Ignored),
        row(
            "5.1",
            "reset: DATA",
            all![head(1, 0, "POST", "/hold", &[]), reset(1, code::CANCEL), data(1, 0, "x")],
            Reset(code::STREAM_CLOSED),
        ),
        row(
            "5.1",
            "reset: HEADERS",
            all![get(1, "/hold"), reset(1, code::CANCEL), get(1, "/never")],
            Reset(code::STREAM_CLOSED),
        )
        .but(protocol, STRICTER),
        row("5.1", "reset: CONTINUATION", all![half_closed.clone(), reset(1, 8), continuation(1)], protocol),
        row("5.1", "reset: RST_STREAM", all![half_closed.clone(), reset(1, 8), reset(1, 8)], Ignored),
        row("5.1", "reset: WINDOW_UPDATE", all![half_closed, reset(1, 8), window_update(1, 9)], Ignored),
        row("5.1", "closed: DATA", data(1, END_STREAM, "x"), GoAway(code::STREAM_CLOSED))
            .after_an_answer()
            .but(Reset(code::STREAM_CLOSED), FORGOTTEN),
        row("5.1", "closed: HEADERS", get(1, "/never"), GoAway(code::STREAM_CLOSED))
            .after_an_answer()
            .but(protocol, GENERAL),
        row("5.1", "closed: CONTINUATION", continuation(1), protocol).after_an_answer(),
        row("5.1", "closed: PRIORITY", priority(1, 3), Status(200)).after_an_answer(),
        row("5.1", "closed: WINDOW_UPDATE", window_update(1, 9), Status(200)).after_an_answer(),
        row("5.1", "closed: RST_STREAM", reset(1, code::CANCEL), Status(200)).after_an_answer(),
        row("5.1.1", "a request on an even stream", get(2, "/never"), protocol).on(2),
        row("5.1.1", "a stream below one that was opened", all![get(5, "/"), get(3, "/never")], protocol)
            .on(3),
        row(
            "5.3",
            "HEADERS with a priority that depends on itself",
            frame(
                kind::HEADERS,
                END_HEADERS | END_STREAM | PRIORITISED,
                1,
                [&[0, 0, 0, 1, 15][..], &block(pseudo("GET", "/never"))].concat(),
            ),
            Reset(code::PROTOCOL),
        ),
        row(
            "5.3",
            "PRIORITY that depends on itself",
            all![get(1, "/hold"), priority(1, 1)],
            Reset(code::PROTOCOL),
        ),
        row("5.4.1", "an error closes the connection", all![data(0, 0, "x"), get(1, "/never")], protocol),
    ]
}

/// Section 6: kinds of frames.
fn kinds() -> Vec<Row> {
    let protocol = GoAway(code::PROTOCOL);
    let size = GoAway(code::FRAME_SIZE);
    let padded = |flags: u8, payload: &[u8]| frame(kind::DATA, PADDED | flags, 1, payload);
    let padded_head = |length: u8| {
        let block = [&[length][..], &block(pseudo("GET", "/")), &[0; 3]].concat();
        frame(kind::HEADERS, PADDED | END_HEADERS | END_STREAM, 1, block)
    };
    vec![
        row("6.1", "DATA on stream 0", data(0, 0, "x"), protocol),
        row("6.1", "DATA with padding", all![open(1), padded(END_STREAM, b"\x02hi\0\0")], Status(200)),
        row("6.1", "DATA of padding only", all![open(1), padded(END_STREAM, b"\x02\0\0")], Status(200)),
        row("6.1", "padding as long as the payload", all![open(1), padded(0, b"\x04hi\0")], protocol),
        row("6.1", "padding longer than the payload", all![open(1), padded(0, b"\xffhi")], protocol),
        row("6.1", "padded DATA that is empty", all![open(1), padded(0, b"")], size).but(protocol, GENERAL),
        row("6.2", "HEADERS on stream 0", get(0, "/never"), protocol),
        row("6.2", "HEADERS with padding", padded_head(3), Status(200)),
        row("6.2", "padding longer than the block", padded_head(200), protocol),
        row(
            "6.2",
            "HEADERS with a priority",
            frame(
                kind::HEADERS,
                END_HEADERS | END_STREAM | PRIORITISED,
                1,
                [&[0, 0, 0, 0, 15][..], &block(pseudo("GET", "/"))].concat(),
            ),
            Status(200),
        ),
        row("6.3", "PRIORITY on stream 0", priority(0, 1), protocol),
        row(
            "6.3",
            "PRIORITY of another length",
            all![open(1), frame(kind::PRIORITY, 0, 1, [0; 4])],
            Reset(code::FRAME_SIZE),
        )
        .but(protocol, STRICTER),
        row("6.4", "RST_STREAM on stream 0", reset(0, code::CANCEL), protocol),
        row(
            "6.4",
            "RST_STREAM of another length",
            all![open(1), frame(kind::RST_STREAM, 0, 1, [0; 3])],
            size,
        )
        .but(protocol, GENERAL),
        row("6.5", "SETTINGS", all![settings(&[(setting::STREAMS, 7)]), get(1, "/")], Status(200)),
        row("6.5", "an acknowledgement with a payload", frame(kind::SETTINGS, ACK, 0, [0; 6]), size)
            .but(protocol, GENERAL),
        row("6.5", "SETTINGS on a stream", frame(kind::SETTINGS, 0, 1, [0, 3, 0, 0, 0, 7]), protocol),
        row("6.5", "SETTINGS of another length", frame(kind::SETTINGS, 0, 0, [0, 3, 0]), size)
            .but(protocol, GENERAL),
        row("6.5.2", "ENABLE_PUSH of 2", settings(&[(setting::PUSH, 2)]), protocol),
        row(
            "6.5.2",
            "a window beyond 2^31-1",
            settings(&[(setting::WINDOW, 1 << 31)]),
            GoAway(code::FLOW_CONTROL),
        )
        .but(protocol, GENERAL),
        row("6.5.2", "MAX_FRAME_SIZE too small", settings(&[(setting::FRAME, 16383)]), protocol),
        row("6.5.2", "MAX_FRAME_SIZE too large", settings(&[(setting::FRAME, 1 << 24)]), protocol),
        row("6.5.2", "an unknown setting", all![settings(&[(0xff, 1)]), get(1, "/")], Status(200)),
        row("6.5.3", "a setting twice", all![settings(&[(4, 1), (4, 100)]), get(1, "/")], Status(200)),
        row("6.5.3", "an acknowledgement of nothing", frame(kind::SETTINGS, ACK, 0, []), protocol)
            .but(protocol, "what the library does; the RFC says nothing of it"),
        row(
            "6.6",
            "PUSH_PROMISE of a client",
            all![
                open(1),
                frame(
                    kind::PUSH_PROMISE,
                    END_HEADERS,
                    1,
                    [&[0, 0, 0, 2][..], &block(pseudo("GET", "/never"))].concat()
                )
            ],
            protocol,
        ),
        row("6.7", "PING", ping([7; 8]), Ignored),
        row("6.7", "an answer to no PING", frame(kind::PING, ACK, 0, *b"nobody??"), Ignored),
        row("6.7", "PING on a stream", frame(kind::PING, 0, 1, [7; 8]), protocol),
        row("6.7", "PING of another length", frame(kind::PING, 0, 0, [7; 6]), size).but(protocol, GENERAL),
        row("6.8", "GOAWAY on a stream", goaway(1, 0), protocol),
        row("6.8", "GOAWAY of another length", frame(kind::GOAWAY, 0, 0, [0; 7]), size)
            .but(protocol, GENERAL),
        row("6.9", "WINDOW_UPDATE of 0", window_update(0, 0), protocol),
        row(
            "6.9",
            "WINDOW_UPDATE of 0 on a stream",
            all![get(1, "/hold"), window_update(1, 0)],
            Reset(code::PROTOCOL),
        )
        .but(protocol, STRICTER),
        row("6.9", "WINDOW_UPDATE of another length", frame(kind::WINDOW_UPDATE, 0, 0, [0; 3]), size)
            .but(protocol, GENERAL),
        row(
            "6.9",
            "the reserved bit of WINDOW_UPDATE",
            all![window_update(0, 1 << 31 | 1), get(1, "/")],
            Status(200),
        ),
        row(
            "6.9.1",
            "a window beyond 2^31-1",
            all![window_update(0, i32::MAX as u32), window_update(0, i32::MAX as u32)],
            GoAway(code::FLOW_CONTROL),
        ),
        row(
            "6.9.1",
            "a stream's window beyond 2^31-1",
            all![get(1, "/hold"), window_update(1, i32::MAX as u32)],
            Reset(code::FLOW_CONTROL),
        ),
        row(
            "6.9.2",
            "a setting that takes a window beyond 2^31-1",
            all![get(1, "/hold"), window_update(1, 1 << 30), settings(&[(setting::WINDOW, i32::MAX as u32)])],
            GoAway(code::FLOW_CONTROL),
        ),
        row("6.10", "a block in two frames", cut(1, 2), Status(200)),
        row("6.10", "a block in four frames", cut(1, 4), Status(200)),
        row(
            "6.10",
            "empty CONTINUATION frames",
            all![
                frame(kind::HEADERS, END_STREAM, 1, block(pseudo("GET", "/"))),
                frame(kind::CONTINUATION, 0, 1, []),
                frame(kind::CONTINUATION, END_HEADERS, 1, []),
            ],
            Status(200),
        ),
        row("6.10", "CONTINUATION after the end of a block", all![cut(1, 2), continuation(1)], protocol),
        row("6.10", "CONTINUATION on stream 0", all![cut(1, 1), continuation(0)], protocol),
        row("6.10", "CONTINUATION after HEADERS with END_HEADERS", all![open(1), continuation(1)], protocol),
        row("6.10", "CONTINUATION after DATA", all![open(1), data(1, 0, "x"), continuation(1)], protocol),
        row(
            "6.10",
            "CONTINUATION of another stream",
            all![frame(kind::HEADERS, END_STREAM, 1, block(pseudo("GET", "/never"))), continuation(3)],
            protocol,
        ),
        row("7", "GOAWAY with an unknown code", all![get(1, "/hold"), goaway(0, 0xff)], Ignored),
        row("7", "RST_STREAM with an unknown code", all![get(1, "/hold"), reset(1, 0xff)], Ignored),
    ]
}

/// Section 8: messages.
fn messages() -> Vec<Row> {
    let malformed = Reset(code::PROTOCOL);
    let gone = GoAway(code::PROTOCOL);
    let length = |length: &str, pieces: &[&str]| {
        let head = head(1, 0, "POST", "/never", &[("content-length", length)]);
        let last = pieces.len() - 1;
        let pieces = pieces.iter().enumerate();
        let data = pieces.map(|(at, piece)| data(1, if at == last { END_STREAM } else { 0 }, piece));
        [head, data.collect::<Vec<_>>().concat()].concat()
    };
    let trailers = |flags: u8, fields: &[(&str, &str)]| {
        let trailers = frame(kind::HEADERS, END_HEADERS | flags, 1, block(fields.iter().copied()));
        all![head(1, 0, "POST", "/never", &[]), data(1, 0, "x"), trailers]
    };
    let mut rows = vec![
        row("8.1", "a second HEADERS without END_STREAM", trailers(0, &[("x-a", "b")]), malformed),
        row("8.1.1", "a length that is too short", length("1", &["ab"]), malformed),
        row("8.1.1", "a length that is too long", length("3", &["ab"]), malformed),
        row("8.1.1", "a length that differs from several DATA", length("1", &["a", "b"]), malformed),
        row("8.1.1", "a length without a body", with(&[("content-length", "1")]), malformed),
        row("8.1.1", "a length that is no number", length("1x", &["a"]), malformed),
        row("8.1.1", "a length with a sign", length("+1", &["a"]), malformed),
        row("8.1.1", "an empty length", length("", &["a"]), malformed),
        row(
            "8.1.1",
            "two lengths",
            all![
                head(1, 0, "POST", "/never", &[("content-length", "1"), ("content-length", "2")]),
                data(1, END_STREAM, "a")
            ],
            malformed,
        ),
        row(
            "8.1.1",
            "a length that trailers cut short",
            all![
                head(1, 0, "POST", "/never", &[("content-length", "2")]),
                data(1, 0, "a"),
                frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, block([("x-a", "b")])),
            ],
            malformed,
        ),
        row("8.2.1", "a name in upper case", with(&[("X-A", "b")]), malformed).but(gone, STRICTER),
        row("8.2.1", "a space in a name", with(&[("x a", "b")]), malformed).but(gone, STRICTER),
        row("8.2.1", "a colon in a name", with(&[("x:a", "b")]), malformed).but(gone, STRICTER),
        row("8.2.1", "an empty name", with(&[("", "b")]), malformed).but(gone, STRICTER),
        row("8.2.1", "a line end in a name", with(&[("x\r\na", "b")]), malformed).but(gone, STRICTER),
        row("8.2.1", "CR in a value", with(&[("x-a", "b\rc")]), malformed).but(gone, STRICTER),
        row("8.2.1", "LF in a value", with(&[("x-a", "b\nc: d")]), malformed).but(gone, STRICTER),
        row("8.2.1", "NUL in a value", with(&[("x-a", "b\0c")]), malformed).but(gone, STRICTER),
        row("8.2.1", "a space before a value", with(&[("x-a", " b")]), Status(400)),
        row("8.2.1", "a space after a value", with(&[("x-a", "b ")]), Status(400)),
        row("8.2.1", "a tab after a value", with(&[("x-a", "b\t")]), Status(400)),
        row(
            "8.3",
            "a field before a pseudo-header field",
            of(&[
                (":method", "GET"),
                ("x-a", "b"),
                (":scheme", "http"),
                (":authority", "a.test"),
                (":path", "/never"),
            ]),
            malformed,
        ),
        row(
            "8.3",
            "an unknown pseudo-header field",
            of(&[
                (":x", "y"),
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "a"),
                (":path", "/never"),
            ]),
            malformed,
        )
        .but(gone, STRICTER),
        row(
            "8.3",
            "a pseudo-header field of answers",
            of(&[
                (":status", "200"),
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "a"),
                (":path", "/never"),
            ]),
            malformed,
        ),
        row(
            "8.1",
            "a pseudo-header field in trailers",
            all![
                open(1),
                data(1, 0, "x"),
                frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, block([(":path", "/x")]))
            ],
            malformed,
        )
        .but(Status(200), "the library drops it; it means nothing in trailers"),
        row("8.3.1", "an empty path", head(1, END_STREAM, "GET", "", &[]), malformed),
        row(
            "8.3.1",
            "no method",
            of(&[(":scheme", "http"), (":authority", "a"), (":path", "/never")]),
            malformed,
        ),
        row(
            "8.3.1",
            "no scheme",
            of(&[(":method", "GET"), (":authority", "a"), (":path", "/never")]),
            malformed,
        ),
        row(
            "8.3.1",
            "a scheme that is not one of HTTP",
            of(&[(":method", "GET"), (":scheme", "ftp"), (":authority", "a"), (":path", "/never")]),
            Status(400),
        ),
        row(
            "8.3.1",
            "the same with Host in place of an authority",
            of(&[(":method", "GET"), (":scheme", "ftp"), (":path", "/"), ("host", "a")]),
            Status(400),
        )
        .but(Status(200), "the library drops it; the connection's scheme is what counts"),
        row(
            "8.3.1",
            "a scheme that is none",
            of(&[(":method", "GET"), (":scheme", "ht tp"), (":authority", "a"), (":path", "/never")]),
            malformed,
        ),
        row(
            "8.3.1",
            "an empty scheme",
            of(&[(":method", "GET"), (":scheme", ""), (":authority", "a"), (":path", "/never")]),
            Status(400),
        ),
        row(
            "8.3.1",
            "https in the clear",
            of(&[(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")]),
            Status(200),
        ),
        row(
            "8.3.1",
            "a scheme in upper case",
            of(&[(":method", "GET"), (":scheme", "HTTP"), (":authority", "a"), (":path", "/")]),
            Status(200),
        ),
        row(
            "8.3.1",
            "no path",
            of(&[(":method", "GET"), (":scheme", "http"), (":authority", "a")]),
            malformed,
        ),
        row(
            "8.2",
            "two lines of Authorization",
            with(&[("authorization", "Basic eA=="), ("authorization", "Basic eQ==")]),
            Status(400),
        ),
        row("8.3.1", "an authority and another Host", with(&[("host", "b.test")]), Status(400)),
        row(
            "8.3.1",
            "neither authority nor Host",
            of(&[(":method", "GET"), (":scheme", "http"), (":path", "/never")]),
            Status(400),
        ),
        row(
            "8.3.1",
            "two Hosts",
            of(&[(":method", "GET"), (":scheme", "http"), (":path", "/never"), ("host", "a"), ("host", "a")]),
            Status(400),
        ),
        row(
            "8.3.1",
            "user information",
            of(&[(":method", "GET"), (":scheme", "http"), (":authority", "u@a"), (":path", "/never")]),
            Status(400),
        ),
        row(
            "8.3.1",
            "an empty authority",
            of(&[(":method", "GET"), (":scheme", "http"), (":authority", ""), (":path", "/never")]),
            malformed,
        ),
        row(
            "8.3.1",
            "a space in the authority",
            of(&[(":method", "GET"), (":scheme", "http"), (":authority", "a b"), (":path", "/never")]),
            malformed,
        ),
        row(
            "8.3.1",
            "Host in place of an authority",
            of(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a")]),
            Status(200),
        ),
        row(
            "8.3.1",
            "authority and Host that differ in case",
            head(1, END_STREAM, "GET", "/", &[("host", "A.test")]),
            Status(200),
        ),
        row("8.5", "CONNECT", of(&[(":method", "CONNECT"), (":authority", "a:1")]), Status(405)),
        row("8.5", "CONNECT with a path", head(1, END_STREAM, "CONNECT", "/never", &[]), malformed),
    ];
    for twice in pseudo("GET", "/never") {
        let fields = [&pseudo("GET", "/never")[..], &[twice]].concat();
        rows.push(row("8.3", "a pseudo-header field twice", of(&fields), malformed));
    }
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "5"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("te", "trailers, deflate"),
    ] {
        rows.push(row("8.2.2", "a field of HTTP/1.1", with(&[(name, value)]), malformed));
    }
    rows.push(row(
        "8.2.2",
        "TE for trailers",
        head(1, END_STREAM, "GET", "/", &[("te", "trailers")]),
        Status(200),
    ));
    for (what, path) in [
        ("no slash", "never"),
        ("a whole URL", "http://a.test/never"),
        ("a space", "/never /x"),
        ("a line end", "/never\r\nx: y"),
        ("a control character", "/never\x01"),
        ("DEL", "/never\x7f"),
        ("NUL", "/never\0"),
    ] {
        rows.push(row("8.3.1", what, head(1, END_STREAM, "GET", path, &[]), malformed));
    }
    for (what, path) in [
        ("a star", "*"),
        ("an encoded NUL", "/never%00"),
        ("a broken escape", "/never%zz"),
        ("a backslash", "/never\\x"),
        ("a way above the root", "/../never"),
    ] {
        rows.push(row("8.3.1", what, head(1, END_STREAM, "GET", path, &[]), Status(400)));
    }
    for (what, method) in
        [("a space", "GET /x"), ("a line end", "GET\r\nx: y"), ("nothing", ""), ("a slash", "GE/T")]
    {
        rows.push(
            row("8.3.1", what, head(1, END_STREAM, method, "/never", &[]), malformed).but(gone, STRICTER),
        );
    }
    rows
}

/// RFC 7541.
fn compression() -> Vec<Row> {
    let broken = |section, what, bytes: &[u8]| {
        row(section, what, raw(bytes), GoAway(code::COMPRESSION)).but(GoAway(code::PROTOCOL), GENERAL)
    };
    vec![
        broken("7541 2.3.3", "an index beyond the tables", &[0xff, 0x80, 0x01]),
        broken("7541 6.1", "index 0", &[0x80]),
        broken("7541 4.2", "a table size after fields", &[0x84, 0x3f, 0x01]),
        broken("7541 6.3", "a table larger than allowed", &[0x3f, 0xe1, 0xff, 0x03]),
        broken("7541 5.1", "an integer too large", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        broken(
            "7541 5.2",
            "a padding longer than 7 bits",
            &[0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x84, 0x49, 0x50, 0x9f, 0xff],
        ),
        broken(
            "7541 5.2",
            "a padding that is not EOS",
            &[0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x83, 0x49, 0x50, 0x90],
        ),
        broken(
            "7541 5.2",
            "EOS in a string",
            &[0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x87, 0x49, 0x51, 0xff, 0xff, 0xff, 0xfa, 0x7f],
        ),
        broken("7541 5.2", "a string beyond the block", &[0x00, 0x03, b'x']),
        row(
            "7541 6.2.1",
            "indexed fields",
            all![
                get(1, "/"),
                frame(kind::HEADERS, END_HEADERS | END_STREAM, 3, [0x82, 0x86, 0x84, 0x41, 1, b'a'])
            ],
            Status(200),
        )
        .on(3),
    ]
}

/// What becomes of it: of the stream while the connection goes on, or of the connection.
fn outcome(gateway: &TestGateway, row: &Row) -> Outcome {
    const PROBE: u32 = 1001;
    let mut client = FrameClient::connect(gateway.addr());
    let (last, first) = row.pieces.split_last().unwrap();
    for piece in first {
        client.send(piece).answer(1);
    }
    client.try_send(last);
    client.try_send(get(PROBE, "/"));
    let is_over = |client: &FrameClient, stream| client.stream(stream).is_some_and(Received::is_over);
    let waits = matches!(row.comes_to(), Reset(_) | Status(_));
    let went_on = client.holds(|client| is_over(client, PROBE) && (!waits || is_over(client, row.stream)));
    if !went_on {
        return GoAway(client.goaways.last().map_or(u32::MAX, |goaway| goaway.code));
    }
    assert_eq!(client.streams[&PROBE].status, 200, "{}: {}: {:?}", row.section, row.what, client.streams);
    match client.stream(row.stream) {
        Some(Received { reset: Some(code), .. }) => Reset(*code),
        Some(Received { ended: true, status, .. }) => Status(*status),
        _ => Ignored,
    }
}

#[test]
fn every_rule_holds() {
    let upstream = upstream();
    let gateway = TestGateway::before(&upstream, "[limits]\nstreams = 4\n");
    let rows: Vec<_> =
        [frames_and_streams(), kinds(), messages(), compression()].into_iter().flatten().collect();
    let mut faults = Vec::new();
    for row in &rows {
        let outcome = outcome(&gateway, row);
        if outcome != row.comes_to() {
            faults.push(format!(
                "{}: {}: {outcome:?} in place of {:?}",
                row.section,
                row.what,
                row.comes_to()
            ));
        }
    }
    println!("{} rows", rows.len());
    assert_eq!(gateway.logged(" WARN "), [""; 0], "what clients do fills no log");
    let reached = upstream.requests().into_iter().map(|request| request.head.start);
    let reached: Vec<_> = reached.filter(|start| start.contains("never")).collect();
    assert!(faults.is_empty() && reached.is_empty(), "{faults:#?}\nreached the upstream: {reached:#?}");
}

#[test]
fn the_gateway_begins_with_its_settings() {
    let gateway = TestGateway::before(&TestUpstream::ok(), "[limits]\nstreams = 7\n");
    let mut client = FrameClient::raw(gateway.addr());
    client.send([&PREFACE[..], &settings(&[])].concat());
    let first = client.read().unwrap();
    assert_eq!((first.kind, first.flags, first.stream), (kind::SETTINGS, 0, 0));
    assert_eq!(client.settings.get(&setting::STREAMS), Some(&7));
    assert!(matches!(client.settings.get(&setting::PUSH), None | Some(0)), "{:?}", client.settings);
    client.wait(|client| client.acknowledged == 1);
}

#[test]
fn a_preface_is_whole_and_followed_by_settings() {
    let gateway = TestGateway::before(&TestUpstream::ok(), "");
    for first in [get(1, "/never"), ping([1; 8]), frame(kind::SETTINGS, ACK, 0, [])] {
        let mut client = FrameClient::raw(gateway.addr());
        client.send([&PREFACE[..], &first].concat());
        client.ends_with(code::PROTOCOL);
    }
    // In the clear what is no preface is HTTP/1.1, which does not know it either.
    let mut client = wasmgate_tests::Client::connect(gateway.addr());
    client.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    assert!(matches!(client.response().status, 400 | 505));
    client.assert_closed();
}

#[test]
fn a_preface_may_come_in_pieces() {
    let gateway = TestGateway::before(&TestUpstream::ok(), "");
    let mut client = FrameClient::raw(gateway.addr());
    let bytes = [&PREFACE[..], &settings(&[]), &cut(1, 5)].concat();
    for byte in bytes {
        client.send([byte]);
    }
    assert_eq!(client.answer(1).status, 200);
}

#[test]
fn windows_are_obeyed_exactly() {
    let body = "x".repeat(300);
    let upstream = TestUpstream::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n{body}"));
    let gateway = TestGateway::before(&upstream, "");
    let mut client = FrameClient::with(gateway.addr(), &[(setting::WINDOW, 0)]);
    client.grants = false;
    let got = |client: &mut FrameClient, stream: u32| {
        // What is queued comes before the answer to a request that is made now.
        assert!(client.is_alive());
        client.stream(stream).map_or(0, |received| received.body.len())
    };
    client.send(get(1, "/")).wait(|client| client.stream(1).is_some());
    assert_eq!(got(&mut client, 1), 0);
    for (grant, total) in [(1, 1), (1, 2), (98, 100)] {
        client.send(window_update(1, grant)).wait(|client| client.streams[&1].body.len() >= total);
        assert_eq!(got(&mut client, 1), total);
    }
    // The setting is that of streams that are open, too; and takes room that was given.
    client.send(settings(&[(setting::WINDOW, 50)])).wait(|client| client.streams[&1].body.len() >= 150);
    client.send(settings(&[(setting::WINDOW, 0)])).wait(|client| client.acknowledged == 3);
    client.send(window_update(1, 50));
    assert_eq!(got(&mut client, 1), 150, "that only makes good for what was taken");
    client.send(window_update(1, 150));
    assert_eq!(client.answer(1).body.len(), 300);
}

#[test]
fn nothing_is_pushed_and_a_table_of_no_size_is_respected() {
    let upstream =
        TestUpstream::answering("HTTP/1.1 200 OK\r\nX-Long: abcdef\r\nContent-Length: 2\r\n\r\nok");
    let gateway = TestGateway::before(&upstream, "");
    let mut client = FrameClient::with(gateway.addr(), &[(setting::TABLE, 0), (setting::PUSH, 0)]);
    for stream in [1, 3, 5] {
        let mut block = None;
        client.send(get(stream, "/"));
        while block.is_none() {
            let frame = client.read().unwrap();
            block = (frame.kind == kind::HEADERS).then_some(frame.payload);
        }
        let indexed = block.unwrap().windows(6).any(|bytes| bytes[0] & 0xc0 == 0x40 && bytes[0] == 0x40);
        assert!(!indexed, "an entry for a table of no size");
        assert_eq!(client.answer(stream).header("x-long"), Some("abcdef"));
    }
}
