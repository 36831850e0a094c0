//! HTTP/1 messages read strictly: whatever RFC 9112 calls malformed is an error here, so that the
//! gateway cannot get away with it.

use std::io::{self, Error, ErrorKind, Read};

/// Header or trailer fields in their order, with names as they were sent and values as latin-1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The request line or status line.
    pub start: String,
    pub fields: Fields,
}

impl Head {
    /// The target of a request line.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }
}

/// What an upstream got.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub head: Head,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// All of it as it came.
    pub raw: Vec<u8>,
}

/// What a client got.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub head: Head,
    pub body: Vec<u8>,
    pub trailers: Fields,
}

/// How long a body is.
enum Framing {
    Length(u64),
    Chunked,
    /// Until the connection ends.
    Close,
}

/// One direction of a connection.
pub struct Reader {
    stream: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// Everything that came, for exact comparison.
    pub raw: Vec<u8>,
    /// What of it [`Self::take_raw`] has given away.
    taken: usize,
}

impl Fields {
    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    }

    /// The only value; more than one is a fault of the test or of what it tests.
    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} stands {} times in {self:?}", all.len());
        all.first().copied()
    }
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.fields.get(name)
    }

    pub fn target(&self) -> &str {
        self.head.target()
    }
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.fields.get(name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The `code` of a problem document (RFC 9457), which says why the gateway answered.
    pub fn code(&self) -> String {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        problem["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Reader {
    pub fn new(stream: impl Read + Send + 'static) -> Reader {
        Reader { stream: Box::new(stream), buffer: Vec::new(), raw: Vec::new(), taken: 0 }
    }

    /// A request's head; none where the connection ended before it.
    pub fn request_head(&mut self) -> io::Result<Option<Head>> {
        if self.buffer.is_empty() && self.fill()? == 0 {
            return Ok(None);
        }
        let head = self.head()?;
        let mut words = head.start.split(' ');
        let well_formed = matches!(
            (words.next(), words.next(), words.next(), words.next()),
            (Some(method), Some(_), Some("HTTP/1.1"), None) if !method.is_empty()
        );
        well_formed.then_some(Some(head)).ok_or_else(|| bad("malformed request line"))
    }

    /// A request's body and trailers.
    pub fn request_body(&mut self, head: &Head) -> io::Result<(Vec<u8>, Fields)> {
        let framing = framing(&head.fields)?.unwrap_or(Framing::Length(0));
        self.body(framing)
    }

    /// A whole response, an interim one included. `method` is that of the request.
    pub fn response(&mut self, method: &str) -> io::Result<Response> {
        let (status, head) = self.response_head()?;
        let (body, trailers) = self.response_body(method, status, &head)?;
        Ok(Response { status, head, body, trailers })
    }

    /// A response's status and head.
    pub fn response_head(&mut self) -> io::Result<(u16, Head)> {
        let head = self.head()?;
        let version = ["HTTP/1.1 ", "HTTP/1.0 "];
        let rest = version.iter().find_map(|version| head.start.strip_prefix(version));
        let status = rest.and_then(|rest| rest.split(' ').next());
        let status = status.filter(|digits| digits.len() == 3).and_then(|digits| digits.parse().ok());
        let status: u16 = status.ok_or_else(|| bad(&format!("malformed status line {:?}", head.start)))?;
        Ok((status, head))
    }

    /// What follows such a head, in answer to a request with this method.
    pub fn response_body(&mut self, method: &str, status: u16, head: &Head) -> io::Result<(Vec<u8>, Fields)> {
        let declared = framing(&head.fields)?;
        let framing = match status {
            100..200 | 204 | 304 => Framing::Length(0),
            _ if method == "HEAD" => Framing::Length(0),
            _ => declared.unwrap_or(Framing::Close),
        };
        self.body(framing)
    }

    /// Status line or request line with the fields.
    pub fn head(&mut self) -> io::Result<Head> {
        Ok(Head { start: self.line()?, fields: self.fields()? })
    }

    /// Bytes until the connection ends.
    pub fn to_end(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    /// What has come and was not asked for yet.
    pub fn rest(&self) -> &[u8] {
        &self.buffer
    }

    /// The bytes that were read as messages since this was asked last.
    pub fn take_raw(&mut self) -> Vec<u8> {
        let end = self.raw.len() - self.buffer.len();
        let from = std::mem::replace(&mut self.taken, end);
        self.raw[from..end].to_vec()
    }

    pub fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.drain(..count).collect())
    }

    fn body(&mut self, framing: Framing) -> io::Result<(Vec<u8>, Fields)> {
        match framing {
            Framing::Length(length) => Ok((self.exactly(length as usize)?, Fields::default())),
            Framing::Close => Ok((self.to_end()?, Fields::default())),
            Framing::Chunked => self.chunks(),
        }
    }

    fn chunks(&mut self) -> io::Result<(Vec<u8>, Fields)> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let digits = line.bytes().all(|byte| byte.is_ascii_hexdigit());
            let size = usize::from_str_radix(&line, 16).ok().filter(|_| digits);
            match size.ok_or_else(|| bad(&format!("malformed chunk size {line:?}")))? {
                0 => return Ok((body, self.fields()?)),
                size => body.extend(self.exactly(size)?),
            }
            if !self.line()?.is_empty() {
                return Err(bad("a chunk is longer than its size"));
            }
        }
    }

    fn fields(&mut self) -> io::Result<Fields> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Fields(fields));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad("a field without colon"))?;
            let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if name.is_empty() || !name.bytes().all(token) {
                return Err(bad(&format!("malformed field name {name:?}")));
            }
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    /// Up to CRLF, without it. A bare CR or LF, or a NUL, is malformed.
    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
                if line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
                    return Err(bad("a line holds CR, LF or NUL"));
                }
                return Ok(line.into_iter().map(char::from).collect());
            }
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 64 * 1024];
        let read = self.stream.read(&mut piece)?;
        self.buffer.extend_from_slice(&piece[..read]);
        self.raw.extend_from_slice(&piece[..read]);
        Ok(read)
    }
}

fn framing(fields: &Fields) -> io::Result<Option<Framing>> {
    match (&fields.all("transfer-encoding")[..], &fields.all("content-length")[..]) {
        ([], []) => Ok(None),
        (["chunked"], []) => Ok(Some(Framing::Chunked)),
        ([], [length]) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length = length.parse().map_err(|_| bad("malformed Content-Length"))?;
            Ok(Some(Framing::Length(length)))
        }
        _ => Err(bad(&format!("ambiguous framing in {fields:?}"))),
    }
}

fn bad(text: &str) -> Error {
    Error::new(ErrorKind::InvalidData, text)
}
