//! Clients who send what costs them nothing (RFC 9113, section 10.5), and those who only seem to.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use wasmgate_tests::{
    Client, TestGateway, TestUpstream, eventually,
    frames::{
        END_HEADERS, END_STREAM, FrameClient, block, data, frame, get, head, kind, ping, pseudo, reset,
        settings, window_update,
    },
};

use super::code;

/// The most that the memory of a gateway may grow while it is flooded.
const GROWTH: u64 = 32 << 20;

/// Answers `/hold` never.
fn upstream() -> TestUpstream {
    TestUpstream::start(|call| {
        if call.head.start.contains(" /hold ") {
            return call.wait_for_end();
        }
        call.body()?;
        call.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    })
}

fn floods(gateway: &TestGateway) -> f64 {
    gateway.metric("wasmgate_http2_floods_total{listener=\"public\"}")
}

/// Somebody else who asks again and again.
struct Neighbour {
    over: Arc<AtomicBool>,
    asks: thread::JoinHandle<usize>,
}

impl Neighbour {
    fn of(address: SocketAddr) -> Neighbour {
        let over = Arc::new(AtomicBool::new(false));
        let end = over.clone();
        let asks = thread::spawn(move || {
            let mut client = Client::connect(address);
            let mut count = 0;
            while !end.load(Ordering::Relaxed) || count == 0 {
                assert_eq!(client.get("/").status, 200);
                count += 1;
            }
            count
        });
        Neighbour { over, asks }
    }

    /// How many answers there were.
    fn leave(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.asks.join().unwrap()
    }
}

/// Sends `opening` and then the frames for 0, 1, 2, until the gateway has enough, which it has to have in time.
fn flood(gateway: &TestGateway, what: &str, opening: &[u8], frames: impl Fn(u32) -> Vec<u8>) {
    const MOST: u32 = 100_000;
    let (before, counted) = (gateway.rss(), floods(gateway));
    let neighbour = Neighbour::of(gateway.addr());
    let mut client = FrameClient::connect(gateway.addr());
    client.try_send(opening);
    let sent = (0..MOST / 50).take_while(|round| {
        let round = (0..50).flat_map(|number| frames(50 * round + number)).collect::<Vec<_>>();
        client.try_send(round)
    });
    let sent = sent.count();
    client.end();
    let last = client.goaways.last().map(|goaway| goaway.code);
    assert!(matches!(last, Some(code::CALM)), "{what}: {:?} after {sent} rounds", client.goaways);
    assert!(neighbour.leave() > 0);
    eventually!(floods(gateway) == counted + 1.0, "{what} is not counted");
    let grown = gateway.rss().saturating_sub(before);
    assert!(grown < GROWTH, "{what}: {grown} bytes");
    eventually!(gateway.metric("wasmgate_connections{listener=\"public\"}") == 0.0, "{what}");
}

#[test]
fn frames_without_a_message_end_in_calm() {
    let gateway = TestGateway::before(&upstream(), "");
    flood(&gateway, "PING", &[], |_| ping([0; 8]));
    flood(&gateway, "PRIORITY", &[], |number| frame(kind::PRIORITY, 0, 2 * number + 1, [0; 5]));
    flood(&gateway, "SETTINGS", &[], |_| settings(&[(4, 100)]));
    flood(&gateway, "empty SETTINGS", &[], |_| settings(&[]));
    flood(&gateway, "WINDOW_UPDATE", &[], |_| window_update(0, 1));
    flood(&gateway, "WINDOW_UPDATE of a stream", &get(1, "/hold"), |_| window_update(1, 1));
    flood(&gateway, "unknown kinds", &[], |number| frame(10 + (number % 200) as u8, 0, 0, [0; 100]));
    let open = head(1, 0, "POST", "/hold", &[]);
    flood(&gateway, "empty DATA", &open, |_| data(1, 0, ""));
    flood(&gateway, "DATA of padding", &open, |_| frame(kind::DATA, 0x8, 1, [0]));
}

#[test]
fn streams_for_nothing_end_in_calm() {
    let gateway = TestGateway::before(&upstream(), "[limits]\nstreams = 10\n");
    let stream = |number: u32| 2 * number + 1;
    flood(&gateway, "rapid reset", &[], |number| {
        [get(stream(number), "/hold"), reset(stream(number), code::CANCEL)].concat()
    });
    flood(&gateway, "refused streams", &[], |number| get(stream(number), "/hold"));
    flood(&gateway, "malformed requests", &[], |number| head(stream(number), END_STREAM, "GET", "", &[]));
    flood(&gateway, "resets that the client provokes", &[], |number| {
        let stream = stream(number);
        [get(stream, "/hold"), window_update(stream, i32::MAX as u32)].concat()
    });
    flood(&gateway, "DATA for nobody", &[get(1, "/hold"), reset(1, 8)].concat(), |_| data(1, 0, "x"));
}

/// At a pace at which the library sees none of it: each request is under way when it is reset.
#[test]
fn paced_resets_end_in_calm() {
    for provoked in [false, true] {
        let upstream = upstream();
        let gateway = TestGateway::before(&upstream, "");
        let before = gateway.rss();
        let mut client = FrameClient::connect(gateway.addr());
        let resets = (0..5000).take_while(|number| {
            let stream = 2 * number + 1;
            client.try_send(get(stream, "/hold"));
            if !client.is_alive() {
                return false;
            }
            client.try_send(match provoked {
                false => reset(stream, code::CANCEL),
                true => window_update(stream, i32::MAX as u32),
            })
        });
        let resets = resets.count();
        client.ends_with(code::CALM);
        assert!((300..1100).contains(&resets), "{resets}");
        eventually!(floods(&gateway) == 1.0);
        assert!(gateway.rss() < before + GROWTH);
        eventually!(upstream.ended() == upstream.connections(), "the upstream is told of all of them");
    }
}

#[test]
fn blocks_without_end_end_in_calm() {
    let gateway = TestGateway::before(&upstream(), "");
    let open = frame(kind::HEADERS, END_STREAM, 1, block(pseudo("GET", "/")));
    flood(&gateway, "empty CONTINUATION", &open, |_| frame(kind::CONTINUATION, 0, 1, []));
    flood(&gateway, "CONTINUATION", &open, |number| {
        frame(kind::CONTINUATION, 0, 1, block([(format!("x-{number}"), "y")]))
    });
    flood(&gateway, "large CONTINUATION", &open, |number| {
        frame(kind::CONTINUATION, 0, 1, block([(format!("x-{number}"), "y".repeat(10_000))]))
    });
}

/// A block in as many frames as it takes.
fn long(stream: u32, block: &[u8]) -> Vec<u8> {
    let last = block.len().div_ceil(16_384) - 1;
    let frames = block.chunks(16_384).enumerate().map(|(at, piece)| {
        let end = if at == last { END_HEADERS } else { 0 };
        match at {
            0 => frame(kind::HEADERS, END_STREAM | end, stream, piece),
            _ => frame(kind::CONTINUATION, end, stream, piece),
        }
    });
    frames.collect::<Vec<_>>().concat()
}

#[test]
fn a_block_that_unfolds_to_much_more_is_refused() {
    let upstream = upstream();
    let gateway = TestGateway::before(&upstream, "");
    let before = gateway.rss();
    // One entry of the table, and references to it, a byte each: 60 MB.
    let entry = [&[0x40, 3], &b"x-a"[..], &[127, 128 + 113, 29], &[b'y'; 3952]].concat();
    let bomb = [&block(pseudo("GET", "/never"))[..], &entry, &[0xbe; 16_000]].concat();
    let mut client = FrameClient::connect(gateway.addr());
    client.send(long(1, &bomb)).ends_with(code::CALM);
    eventually!(floods(&gateway) == 1.0);
    // What only the limit forbids is told, and the connection goes on.
    let mut client = FrameClient::connect(gateway.addr());
    let large = block([(&b"x-a"[..], &[b'y'; 66_000][..])]);
    client.send(long(1, &[&block(pseudo("GET", "/never"))[..], &large].concat()));
    assert_eq!(client.answer(1).status, 431);
    let many = (0..101).map(|number| (format!("x-{number}"), "y"));
    client.send(long(3, &[block(pseudo("GET", "/never")), block(many)].concat()));
    let answer = client.answer(3);
    assert_eq!((answer.status, answer.code().as_str()), (431, "headers_too_large"));
    assert_eq!(client.get(5, "/").status, 200);
    assert!(gateway.rss() < before + GROWTH);
    assert!(upstream.requests().iter().all(|request| request.target() == "/"));
}

#[test]
fn a_client_that_cancels_every_third_request_is_served() {
    let gateway = TestGateway::before(&upstream(), "");
    let mut client = FrameClient::connect(gateway.addr());
    for round in 0..700 {
        let [first, second, third] = [6 * round + 1, 6 * round + 3, 6 * round + 5];
        client.send([get(first, "/"), get(second, "/hold"), get(third, "/")].concat());
        assert_eq!((client.answer(first).status, client.answer(third).status), (200, 200));
        client.send(reset(second, code::CANCEL));
        client.streams.clear();
    }
    assert!(client.is_alive() && client.goaways.is_empty());
}

#[test]
fn a_page_that_is_left_before_it_is_there_is_no_flood() {
    let gateway = TestGateway::before(&upstream(), "");
    let mut client = FrameClient::connect(gateway.addr());
    let streams = || (0..100).map(|number| 2 * number + 1);
    let asked: Vec<_> = streams().flat_map(|stream| get(stream, "/hold")).collect();
    let left: Vec<_> = streams().flat_map(|stream| reset(stream, code::CANCEL)).collect();
    client.send([asked, left].concat());
    assert_eq!(client.get(201, "/").status, 200);
    assert!(client.goaways.is_empty());
}

#[test]
fn small_messages_with_updates_and_pings_are_served() {
    let gateway = TestGateway::before(&TestUpstream::echo(), "");
    let mut client = FrameClient::connect(gateway.addr());
    client.send(head(1, 0, "POST", "/", &[("te", "trailers")]));
    for number in 0..3000_u32 {
        let updates = [window_update(0, 5), window_update(1, 5)].concat();
        client.send([data(1, 0, "12345"), updates].concat());
        if number % 3 == 0 {
            assert!(client.is_alive(), "after {number} messages");
        }
    }
    client.send(data(1, END_STREAM, ""));
    assert_eq!(client.answer(1).body.len(), 15_000);
    assert!(client.goaways.is_empty());
}

#[test]
fn a_download_with_updates_for_each_frame_is_served() {
    const SIZE: usize = 30_000_000;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
    let upstream = TestUpstream::answering([head.into_bytes(), vec![b'x'; SIZE]].concat());
    let gateway = TestGateway::before(&upstream, "");
    let mut client = FrameClient::connect(gateway.addr());
    assert_eq!(client.get(1, "/").body.len(), SIZE);
    assert!(client.goaways.is_empty());
}
