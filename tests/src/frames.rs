//! A client of HTTP/2 that sends exactly the frames it is given (RFC 9113), and keeps what comes.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use fluke_hpack::Decoder;

use crate::{PATIENCE, message::Fields};

pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames (RFC 9113, section 6).
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

pub const ACK: u8 = 0x1;
pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const PRIORITISED: u8 = 0x20;

/// What a window has from the start (RFC 9113, section 6.9.2).
const WINDOW: i64 = 65_535;

/// Of a frame: length, kind, flags, stream.
const HEAD: usize = 9;

/// The largest frame that needs no setting.
const FRAME: usize = 16_384;

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A block of fields, none of which is indexed or compressed (RFC 7541, section 6.2.3).
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: impl IntoIterator<Item = (N, V)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0x10);
        text(&mut block, name.as_ref());
        text(&mut block, value.as_ref());
    }
    block
}

/// A string behind its length (RFC 7541, sections 5.1 and 5.2).
fn text(block: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        short @ 0..127 => block.push(short as u8),
        long => {
            block.push(127);
            let mut rest = long - 127;
            while rest >= 128 {
                block.push(rest as u8 | 128);
                rest >>= 7;
            }
            block.push(rest as u8);
        }
    }
    block.extend(bytes);
}

/// The pseudo-header fields of a request for this path at `a.test`.
pub fn pseudo<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![(":method", method), (":scheme", "http"), (":authority", "a.test"), (":path", path)]
}

/// A request's head in one frame; `flags` beside END_HEADERS.
pub fn head(stream: u32, flags: u8, method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let fields = pseudo(method, path).into_iter().chain(fields.iter().copied());
    frame(kind::HEADERS, END_HEADERS | flags, stream, block(fields))
}

/// A whole request without body.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    head(stream, END_STREAM, "GET", path, &[])
}

pub fn data(stream: u32, flags: u8, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    frame(kind::DATA, flags, stream, bytes)
}

pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let bytes = |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()[..]].concat();
    frame(kind::SETTINGS, 0, 0, values.iter().flat_map(bytes).collect::<Vec<_>>())
}

pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, code.to_be_bytes())
}

pub fn window_update(stream: u32, bytes: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, bytes.to_be_bytes())
}

pub fn ping(text: [u8; 8]) -> Vec<u8> {
    frame(kind::PING, 0, 0, text)
}

#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    fn number(&self, at: usize) -> u32 {
        self.payload.get(at..at + 4).map_or(0, |bytes| u32::from_be_bytes(bytes.try_into().expect("four")))
    }
}

/// What came on a stream.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// 0 before there is any.
    pub status: u16,
    /// Statuses of interim answers.
    pub interim: Vec<u16>,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    pub ended: bool,
    pub reset: Option<u32>,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The `code` of a problem document.
    pub fn code(&self) -> String {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        problem["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn is_over(&self) -> bool {
        self.ended || self.reset.is_some()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoAway {
    pub last: u32,
    pub code: u32,
    pub text: String,
}

pub struct FrameClient {
    line: TcpStream,
    buffer: Vec<u8>,
    decoder: Decoder<'static>,
    /// Frames of a block of fields that has not ended, and the flags of the first.
    block: Option<(u8, Vec<u8>)>,
    /// Gives room again for all that comes.
    pub grants: bool,
    pub streams: BTreeMap<u32, Received>,
    pub goaways: Vec<GoAway>,
    /// What came back of its pings.
    pub pongs: Vec<[u8; 8]>,
    /// Of its settings.
    pub acknowledged: usize,
    /// Those of the gateway.
    pub settings: BTreeMap<u16, u32>,
    /// Room for what it sends: of the connection (0) and of streams.
    windows: BTreeMap<u32, i64>,
}

impl FrameClient {
    /// Before anything is sent.
    pub fn raw(address: SocketAddr) -> FrameClient {
        let line = TcpStream::connect_timeout(&address, PATIENCE).expect("the gateway listens");
        line.set_nodelay(true).expect("a socket option");
        line.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        line.set_write_timeout(Some(PATIENCE)).expect("a socket option");
        FrameClient {
            line,
            buffer: Vec::new(),
            decoder: Decoder::new(),
            block: None,
            grants: true,
            streams: BTreeMap::new(),
            goaways: Vec::new(),
            pongs: Vec::new(),
            acknowledged: 0,
            settings: BTreeMap::new(),
            windows: BTreeMap::from([(0, WINDOW)]),
        }
    }

    /// Both sides have told their settings.
    pub fn connect(address: SocketAddr) -> FrameClient {
        FrameClient::with(address, &[])
    }

    /// The same with these settings.
    pub fn with(address: SocketAddr, values: &[(u16, u32)]) -> FrameClient {
        let mut client = FrameClient::raw(address);
        client.send([&PREFACE[..], &settings(values)].concat());
        client.wait(|client| client.acknowledged > 0 && !client.settings.is_empty());
        client
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut FrameClient {
        self.line.write_all(bytes.as_ref()).expect("the gateway reads");
        self
    }

    /// Sends to a gateway that may close in the middle; whether it took all.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.line.write_all(bytes.as_ref()).is_ok()
    }

    /// How long it waits for frames.
    pub fn patience(&mut self, time: Duration) {
        self.line.set_read_timeout(Some(time)).expect("a socket option");
    }

    /// The next frame, which is answered where the protocol wants it.
    pub fn read(&mut self) -> io::Result<Frame> {
        self.fill(HEAD)?;
        let [a, b, c, kind, flags, stream @ ..]: [u8; HEAD] =
            self.buffer[..HEAD].try_into().expect("it is there");
        let end = HEAD + u32::from_be_bytes([0, a, b, c]) as usize;
        self.fill(end)?;
        let payload = self.buffer.drain(..end).skip(HEAD).collect();
        let frame = Frame { kind, flags, stream: u32::from_be_bytes(stream), payload };
        self.note(&frame)?;
        Ok(frame)
    }

    /// Until so much is there.
    fn fill(&mut self, count: usize) -> io::Result<()> {
        let mut piece = [0; FRAME];
        while self.buffer.len() < count {
            match self.line.read(&mut piece)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => self.buffer.extend_from_slice(&piece[..read]),
            }
        }
        Ok(())
    }

    fn note(&mut self, frame: &Frame) -> io::Result<()> {
        let ends_block = frame.flags & END_HEADERS != 0;
        match frame.kind {
            kind::DATA => {
                let ends = frame.flags & END_STREAM != 0;
                let received = self.streams.entry(frame.stream).or_default();
                received.body.extend_from_slice(&frame.payload);
                received.ended |= ends;
                if self.grants && !frame.payload.is_empty() {
                    let length = frame.payload.len() as u32;
                    self.try_send(window_update(0, length));
                    if !ends {
                        self.try_send(window_update(frame.stream, length));
                    }
                }
            }
            kind::HEADERS => self.block = Some((frame.flags, frame.payload.clone())),
            kind::CONTINUATION => match &mut self.block {
                Some((_, block)) => block.extend_from_slice(&frame.payload),
                None => return Err(bad("CONTINUATION of nothing")),
            },
            kind::RST_STREAM => {
                self.streams.entry(frame.stream).or_default().reset = Some(frame.number(0));
            }
            kind::SETTINGS if frame.flags & ACK != 0 => self.acknowledged += 1,
            kind::SETTINGS => {
                for pair in frame.payload.chunks_exact(6) {
                    let name = u16::from_be_bytes([pair[0], pair[1]]);
                    let value = u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]);
                    self.settings.insert(name, value);
                }
                self.try_send(frame_of_ack());
            }
            kind::PING if frame.flags & ACK != 0 => {
                self.pongs.push(frame.payload[..].try_into().map_err(|_| bad("a PING of another length"))?);
            }
            kind::PING => _ = self.try_send(self::frame(kind::PING, ACK, 0, &frame.payload)),
            kind::GOAWAY => {
                let text = String::from_utf8_lossy(frame.payload.get(8..).unwrap_or_default()).into_owned();
                self.goaways.push(GoAway { last: frame.number(0), code: frame.number(4), text });
            }
            kind::WINDOW_UPDATE => *self.window(frame.stream) += i64::from(frame.number(0)),
            other => return Err(bad(&format!("a frame of kind {other}"))),
        }
        if matches!(frame.kind, kind::HEADERS | kind::CONTINUATION)
            && ends_block
            && let Some((flags, block)) = self.block.take()
        {
            self.fields(frame.stream, flags, &block)?;
        }
        Ok(())
    }

    fn fields(&mut self, stream: u32, flags: u8, block: &[u8]) -> io::Result<()> {
        let decoded = self.decoder.decode(block).map_err(|error| bad(&format!("{error:?}")))?;
        let text = |bytes: Vec<u8>| bytes.into_iter().map(char::from).collect::<String>();
        let mut fields: Vec<_> = decoded.into_iter().map(|(name, value)| (text(name), text(value))).collect();
        let received = self.streams.entry(stream).or_default();
        received.ended |= flags & END_STREAM != 0;
        if received.status != 0 {
            received.trailers = Fields(fields);
            return Ok(());
        }
        if fields.first().is_none_or(|(name, _)| name != ":status") {
            return Err(bad("an answer has no status"));
        }
        let status = fields.remove(0).1.parse().map_err(|_| bad("a status is no number"))?;
        if fields
            .iter()
            .any(|(name, _)| name.starts_with(':') || name.bytes().any(|b| b.is_ascii_uppercase()))
        {
            return Err(bad(&format!("malformed names in {fields:?}")));
        }
        match status {
            100..200 => received.interim.push(status),
            _ => (received.status, received.fields) = (status, Fields(fields)),
        }
        Ok(())
    }

    /// Reads until this holds.
    pub fn wait(&mut self, holds: impl Fn(&FrameClient) -> bool) -> &mut FrameClient {
        while !holds(self) {
            if let Err(error) = self.read() {
                panic!("{error}; so far {:?} {:?}", self.goaways, self.streams);
            }
        }
        self
    }

    /// Reads until this holds or the gateway closes; whether it holds.
    pub fn holds(&mut self, holds: impl Fn(&FrameClient) -> bool) -> bool {
        while !holds(self) {
            match self.read() {
                Ok(_) => {}
                Err(error) if is_end(&error) => return false,
                Err(error) => panic!("{error}; so far {:?} {:?}", self.goaways, self.streams),
            }
        }
        true
    }

    pub fn stream(&self, stream: u32) -> Option<&Received> {
        self.streams.get(&stream)
    }

    /// What came on this stream, once it is whole or reset.
    pub fn answer(&mut self, stream: u32) -> Received {
        self.wait(|client| client.stream(stream).is_some_and(Received::is_over));
        self.streams[&stream].clone()
    }

    /// A GET on this stream and its answer.
    pub fn get(&mut self, stream: u32, path: &str) -> Received {
        self.send(get(stream, path)).answer(stream)
    }

    /// Reads to the end of the connection, which has to come.
    pub fn end(&mut self) -> &mut FrameClient {
        while match self.read() {
            Ok(_) => true,
            Err(error) if is_end(&error) => false,
            Err(error) => panic!("not closed: {error}; so far {:?} {:?}", self.goaways, self.streams),
        } {}
        self
    }

    /// The gateway says that it closes, with this code, and closes.
    pub fn ends_with(&mut self, code: u32) {
        let last = self.end().goaways.last().map(|goaway| goaway.code);
        assert_eq!(last, Some(code), "{:?}", self.goaways);
    }

    /// Reads what comes within this time.
    pub fn read_for(&mut self, time: Duration) -> &mut FrameClient {
        self.patience(time);
        while self.read().is_ok() {}
        self.patience(PATIENCE);
        self
    }

    /// Whether the gateway still answers pings.
    pub fn is_alive(&mut self) -> bool {
        let before = self.pongs.len();
        self.try_send(ping(*b"alive?!?")) && self.holds(|client| client.pongs.len() > before)
    }

    fn window(&mut self, stream: u32) -> &mut i64 {
        let initial = self.settings.get(&4).map_or(WINDOW, |value| i64::from(*value));
        self.windows.entry(stream).or_insert(initial)
    }

    /// Sends a body as the gateway leaves room for it, and ends the stream. Stops where the stream is over.
    pub fn upload(&mut self, stream: u32, mut body: &[u8]) {
        while !body.is_empty() {
            if self.stream(stream).is_some_and(Received::is_over) {
                return;
            }
            let room = (*self.window(0)).min(*self.window(stream)).max(0) as usize;
            let (piece, rest) = body.split_at(room.min(FRAME).min(body.len()));
            if piece.is_empty() {
                self.read().expect("there will be room");
                continue;
            }
            body = rest;
            self.send(data(stream, if body.is_empty() { END_STREAM } else { 0 }, piece));
            *self.window(0) -= piece.len() as i64;
            *self.window(stream) -= piece.len() as i64;
        }
    }

    /// Ends this side's sending.
    pub fn finish(&mut self) {
        let _ = self.line.shutdown(Shutdown::Write);
    }
}

fn frame_of_ack() -> Vec<u8> {
    frame(kind::SETTINGS, ACK, 0, [])
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

fn bad(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text)
}
