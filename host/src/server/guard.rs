//! A look at the raw bytes of requests before they are parsed: what has more than one reading is
//! refused here, because the parser behind settles it silently (RFC 9112, section 11.2). Pure.
//!
//! It follows the framing of messages just far enough to know where heads begin. It refuses lines
//! that end in a bare LF, bare CR, folded headers, Content-Length twice or beside
//! Transfer-Encoding, codings other than one `chunked`, lengths that are not digits, chunk sizes
//! that are not plain hex, control characters beside them, and fragments in the target.

/// The longest body that the parser counts: it keeps two numbers for itself, and takes longer ones for a long head.
const MAX_LENGTH: u64 = u64::MAX - 2;

/// Longest line in front of a chunk, extensions included.
const MAX_CHUNK_LINE: usize = 4096;

pub struct Guard {
    state: State,
    /// The line so far, where it came in several reads.
    line: Vec<u8>,
    /// Longest line of a head; the parser refuses what is longer.
    max_line: usize,
    framing: Framing,
    /// How much of the last bytes was not looked at, because they wait.
    beyond: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before or in the request line.
    Start,
    Headers,
    /// So many bytes that are not looked at.
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    /// The line end after a chunk.
    ChunkEnd,
    Trailers,
    /// After a request that may lead to another protocol: what comes waits until it is known what it is.
    Held,
    /// The parser will close the connection; nothing is looked at any more.
    Off,
}

#[derive(Default)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
    http_10: bool,
    upgrade: bool,
}

/// What was found; the offset is that of the first byte that must not be passed on.
#[derive(Debug, PartialEq, Eq)]
pub struct Offence {
    pub at: usize,
    pub what: &'static str,
}

impl Guard {
    pub fn new(max_line: usize) -> Self {
        Guard { state: State::Start, line: Vec::new(), max_line, framing: Framing::default(), beyond: 0 }
    }

    /// Whether a head has begun and not ended.
    pub fn in_head(&self) -> bool {
        match self.state {
            State::Start => !self.line.is_empty(),
            State::Headers => true,
            _ => false,
        }
    }

    /// Whether all that has come belongs to whole requests.
    pub fn is_at_rest(&self) -> bool {
        self.state == State::Start && self.line.is_empty()
    }

    /// Looks at the next bytes of the connection.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<(), Offence> {
        let mut at = 0;
        self.beyond = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.state {
                State::Off => break,
                State::Held => {
                    self.beyond = rest.len();
                    break;
                }
                State::Body(left) | State::ChunkData(left) => at += self.skip(left, rest.len()),
                _ => match memchr::memchr(b'\n', rest) {
                    Some(end) => {
                        self.take_line(&rest[..end]).map_err(|what| Offence { at: at + end, what })?;
                        at += end + 1;
                    }
                    None => {
                        self.keep(rest).map_err(|what| Offence { at, what })?;
                        break;
                    }
                },
            }
        }
        Ok(())
    }

    /// Whether what comes waits for the answer to a request that asks for another protocol.
    pub fn is_held(&self) -> bool {
        self.state == State::Held
    }

    /// How many of the bytes that came last wait for it.
    pub fn beyond(&self) -> usize {
        self.beyond
    }

    /// HTTP goes on.
    pub fn resume(&mut self) {
        self.state = State::Start;
    }

    fn skip(&mut self, left: u64, available: usize) -> usize {
        let step = left.min(available as u64);
        self.state = match (self.state, left - step) {
            (State::Body(_), 0) => State::Start,
            (State::Body(_), left) => State::Body(left),
            (_, 0) => State::ChunkEnd,
            (_, left) => State::ChunkData(left),
        };
        // No more than `available`.
        step as usize
    }

    /// Keeps the beginning of a line until its end comes.
    fn keep(&mut self, part: &[u8]) -> Result<(), &'static str> {
        let in_chunks = matches!(self.state, State::ChunkSize | State::ChunkEnd);
        if in_chunks && self.line.len() + part.len() > MAX_CHUNK_LINE {
            return Err("a chunk extension is too long");
        }
        if self.line.len() + part.len() > self.max_line {
            self.state = State::Off;
            self.line = Vec::new();
            return Ok(());
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn take_line(&mut self, end: &[u8]) -> Result<(), &'static str> {
        if self.line.is_empty() {
            return self.look_at(end);
        }
        self.line.extend_from_slice(end);
        let line = std::mem::take(&mut self.line);
        let result = self.look_at(&line);
        self.line = line;
        self.line.clear();
        result
    }

    fn look_at(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let line = line.strip_suffix(b"\r").ok_or("a line ends without CR")?;
        if memchr::memchr(b'\r', line).is_some() {
            return Err("a line holds a bare CR");
        }
        match self.state {
            // One empty line before a request is tolerated (RFC 9112, section 2.2).
            State::Start if line.is_empty() => {}
            State::Start => self.request_line(line)?,
            State::Headers if line.is_empty() => self.end_of_head(),
            State::Headers => self.header(line)?,
            State::ChunkSize => self.chunk_size(line)?,
            State::ChunkEnd if line.is_empty() => self.state = State::ChunkSize,
            State::ChunkEnd => return Err("a chunk is longer than its size"),
            State::Trailers if line.is_empty() => self.state = State::Start,
            State::Trailers if folded(line) => return Err("a trailer is folded"),
            State::Trailers | State::Body(_) | State::ChunkData(_) | State::Held | State::Off => {}
        }
        Ok(())
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        if line.starts_with(b"PRI * HTTP/2") {
            return Err("HTTP/2 is not spoken here");
        }
        // A method may have the sign.
        let target = memchr::memchr(b' ', line).map_or(line, |space| &line[space..]);
        if memchr::memchr(b'#', target).is_some() {
            return Err("the target has a fragment");
        }
        self.framing = Framing { http_10: line.ends_with(b"HTTP/1.0"), ..Framing::default() };
        self.state = State::Headers;
        Ok(())
    }

    fn header(&mut self, line: &[u8]) -> Result<(), &'static str> {
        if folded(line) {
            return Err("a header is folded");
        }
        let colon = memchr::memchr(b':', line).ok_or("a header has no colon")?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.last().is_none_or(u8::is_ascii_whitespace) {
            return Err("there is a space before a colon");
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            return self.content_length(value);
        }
        self.framing.upgrade |= name.eq_ignore_ascii_case(b"upgrade");
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return self.transfer_encoding(value);
        }
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), &'static str> {
        if self.framing.chunked {
            return Err("Content-Length stands beside Transfer-Encoding");
        }
        if self.framing.length.is_some() {
            return Err("there is more than one Content-Length");
        }
        let digits = value.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(value).ok()).flatten();
        let length = digits.and_then(|digits| digits.parse().ok()).filter(|length| *length <= MAX_LENGTH);
        self.framing.length = Some(length.ok_or("Content-Length is no number of bytes")?);
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), &'static str> {
        if self.framing.length.is_some() {
            return Err("Content-Length stands beside Transfer-Encoding");
        }
        if self.framing.http_10 {
            return Err("HTTP/1.0 has no Transfer-Encoding");
        }
        if self.framing.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err("Transfer-Encoding is not one chunked");
        }
        self.framing.chunked = true;
        Ok(())
    }

    fn end_of_head(&mut self) {
        self.state = match self.framing {
            Framing { chunked: true, .. } => State::ChunkSize,
            Framing { length: Some(length), .. } if length > 0 => State::Body(length),
            Framing { upgrade: true, http_10: false, .. } => State::Held,
            _ => State::Start,
        };
    }

    fn chunk_size(&mut self, line: &[u8]) -> Result<(), &'static str> {
        if line.len() > MAX_CHUNK_LINE {
            return Err("a chunk extension is too long");
        }
        if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err("a chunk extension holds a control character");
        }
        let size = line.split(|&byte| byte == b';').next().unwrap_or_default();
        let hex = (1..=16).contains(&size.len()) && size.iter().all(u8::is_ascii_hexdigit);
        let size = hex.then(|| std::str::from_utf8(size).ok()).flatten();
        let size = size.and_then(|size| u64::from_str_radix(size, 16).ok());
        self.state = match size.ok_or("a chunk size is not a number")? {
            0 => State::Trailers,
            size => State::ChunkData(size),
        };
        Ok(())
    }
}

fn folded(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Result<Guard, Offence> {
        let mut guard = Guard::new(8192);
        guard.scan(text.as_bytes()).map(|()| guard)
    }

    fn head(headers: &str) -> String {
        format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n")
    }

    #[test]
    fn refuses_what_has_two_readings() {
        for headers in [
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: 0x1\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 18446744073709551615\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: \u{b}chunked\r\n",
            "A: b\r\n c\r\n",
            "A: b\n",
            "A: b\rc\r\n",
            "A : b\r\n",
            "A\r\n",
            ": b\r\n",
        ] {
            assert!(scan(&head(headers)).is_err(), "{headers:?}");
        }
        assert!(scan("GET /#x HTTP/1.1\r\n").is_err());
        assert!(scan("GET / HTTP/1.1\n").is_err());
        assert!(scan("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n").is_err());
    }

    #[test]
    fn refuses_bad_chunks() {
        let chunked = head("Transfer-Encoding: chunked\r\n");
        for chunks in ["0x1\r\n", "1 \r\n", "-1\r\n", "\r\n", "11112222333344445\r\n", "1\n", "1\r\nab\r\n"] {
            assert!(scan(&format!("{chunked}{chunks}")).is_err(), "{chunks:?}");
        }
        let long = format!("{chunked}1;{}\r\n", "x".repeat(MAX_CHUNK_LINE));
        assert!(scan(&long).is_err());
    }

    #[test]
    fn finds_the_next_head_behind_any_body() {
        let bodies = [
            head("Content-Length: 5\r\n") + "a\nb:\n",
            head("Transfer-Encoding: Chunked\r\n")
                + "3;x=y\r\n\n\n\n\r\nA\r\n0123456789\r\n0\r\nT: v\r\n\r\n",
            head(""),
            "\r\n".to_owned() + &head("Content-Length: 0\r\n"),
        ];
        for body in bodies {
            let guard = scan(&body).unwrap();
            assert_eq!(guard.state, State::Start, "{body:?}");
            assert!(!guard.in_head());
            let two = format!("{body}GET /x HTTP/1.1\r\nA: b\nB: c\r\n\r\n");
            let offence = scan(&two).err().unwrap();
            assert_eq!(&two[offence.at..offence.at + 2], "\nB");
        }
    }

    #[test]
    fn waits_behind_a_request_for_another_protocol() {
        let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
        let mut guard = scan(&format!("{upgrade}\nno\rHTTP")).unwrap();
        assert!(guard.is_held() && !guard.in_head());
        assert_eq!(guard.beyond(), 8);
        guard.resume();
        assert!(guard.scan(b"GET / HTTP/1.1\n").is_err());
        for no_wait in
            [upgrade.replace("1.1\r", "1.0\r"), upgrade.replace("Host", "Content-Length: 1\r\nHost")]
        {
            assert!(!scan(&no_wait).unwrap().is_held(), "{no_wait}");
        }
    }

    #[test]
    fn knows_when_it_is_in_a_head() {
        let mut guard = Guard::new(100);
        assert!(!guard.in_head());
        guard.scan(b"G").unwrap();
        assert!(guard.in_head());
        guard.scan(b"ET / HTTP/1.1\r\nHost: a\r\n").unwrap();
        assert!(guard.in_head());
        guard.scan(b"\r\n").unwrap();
        assert!(!guard.in_head());
        guard.scan(&[b'x'; 101]).unwrap();
        assert_eq!(guard.state, State::Off, "left to the parser's own limit");
    }
}
