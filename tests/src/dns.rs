//! A DNS server whose answers are set by name; UDP, and TCP for what UDP has no room for.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

/// Listens until the test process ends. Names are given without the dot at their end.
pub struct TestDns {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

#[derive(Clone, Debug)]
pub enum Record {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(String),
    /// An empty target is the root: no such service.
    Srv {
        priority: u16,
        weight: u16,
        port: u16,
        target: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    ServFail,
    NxDomain,
    /// No answer at all.
    Silence,
}

/// How long a negative answer may be kept, in seconds.
pub const NEGATIVE_TTL: u32 = 30;

#[derive(Default)]
struct Zone {
    names: HashMap<String, Entry>,
    counts: HashMap<String, usize>,
}

enum Entry {
    Records { ttl: u32, records: Vec<Record> },
    Failure(Failure),
}

/// Response codes (RFC 1035, 4.1.1).
const SERV_FAIL: u8 = 2;
const NX_DOMAIN: u8 = 3;

/// Record types.
const CNAME: u16 = 5;
const SOA: u16 = 6;

/// What one may send by UDP to who does not say how much it takes.
const UDP_LIMIT: usize = 512;

impl TestDns {
    pub fn start() -> TestDns {
        let (socket, listener) = sockets();
        let address = socket.local_addr().expect("a bound socket");
        let zone = Arc::new(Mutex::new(Zone::default()));
        let (by_udp, by_tcp) = (zone.clone(), zone.clone());
        thread::spawn(move || serve_udp(&socket, &by_udp));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let zone = by_tcp.clone();
                thread::spawn(move || serve_tcp(stream, &zone));
            }
        });
        TestDns { address, zone }
    }

    /// Where it answers, by UDP and by TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the name has these records, whose TTL is in seconds. Without records it exists, and that
    /// is all.
    pub fn set(&self, name: &str, ttl: u32, records: impl IntoIterator<Item = Record>) {
        let records = records.into_iter().collect();
        lock(&self.zone).names.insert(name.to_lowercase(), Entry::Records { ttl, records });
    }

    /// From now on questions for the name fail.
    pub fn fail(&self, name: &str, failure: Failure) {
        lock(&self.zone).names.insert(name.to_lowercase(), Entry::Failure(failure));
    }

    /// Questions for the name so far, of any type; one that was sent again counts again.
    pub fn count(&self, name: &str) -> usize {
        lock(&self.zone).counts.get(&name.to_lowercase()).copied().unwrap_or_default()
    }
}

/// Of one port.
fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        // Somebody else may have the port of TCP.
        if let Ok(listener) = TcpListener::bind(socket.local_addr().expect("a bound socket")) {
            return (socket, listener);
        }
    }
}

fn serve_udp(socket: &UdpSocket, zone: &Mutex<Zone>) {
    let mut buffer = [0; 1024];
    while let Ok((length, client)) = socket.recv_from(&mut buffer) {
        let Some(question) = Question::read(&buffer[..length]) else { continue };
        let Some(answer) = lock(zone).answer(&question) else { continue };
        let message = if answer.len() > question.room { question.truncated() } else { answer };
        let _ = socket.send_to(&message, client);
    }
}

fn serve_tcp(mut stream: TcpStream, zone: &Mutex<Zone>) -> io::Result<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut message = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut message)?;
        let Some(question) = Question::read(&message) else { return Ok(()) };
        let Some(mut answer) = lock(zone).answer(&question) else { continue };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        answer.splice(..0, length.to_be_bytes());
        stream.write_all(&answer)?;
    }
}

struct Question {
    id: [u8; 2],
    name: String,
    kind: u16,
    /// The question as it came, to be repeated.
    raw: Vec<u8>,
    /// Bytes that an answer by UDP may have.
    room: usize,
}

impl Question {
    /// RFC 1035, 4.1; RFC 6891, 6.1.2. None where it is none.
    fn read(message: &[u8]) -> Option<Question> {
        let mut rest = message.get(12..)?;
        let mut labels = Vec::new();
        loop {
            let (&length, tail) = rest.split_first()?;
            let (label, tail) = tail.split_at_checked(length.into())?;
            rest = tail;
            if label.is_empty() {
                break;
            }
            labels.push(String::from_utf8_lossy(label).to_lowercase());
        }
        let (fixed, extra) = rest.split_at_checked(4)?;
        let room = match extra {
            [0, 0, 41, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
            _ => UDP_LIMIT,
        };
        let raw = message[12..message.len() - extra.len()].to_vec();
        let kind = u16::from_be_bytes([fixed[0], fixed[1]]);
        Some(Question { id: [message[0], message[1]], name: labels.join("."), kind, raw, room })
    }

    fn message(&self, flags: [u8; 2], answers: &[Vec<u8>], authorities: &[Vec<u8>]) -> Vec<u8> {
        let mut message = [self.id, flags, [0, 1], count(answers), count(authorities), [0, 0]].concat();
        message.extend_from_slice(&self.raw);
        message.extend(answers.concat());
        message.extend(authorities.concat());
        message
    }

    fn truncated(&self) -> Vec<u8> {
        self.message([0x83, 0x80], &[], &[])
    }
}

fn count(records: &[Vec<u8>]) -> [u8; 2] {
    u16::try_from(records.len()).expect("fewer than that").to_be_bytes()
}

impl Zone {
    /// None stands for silence.
    fn answer(&mut self, question: &Question) -> Option<Vec<u8>> {
        *self.counts.entry(question.name.clone()).or_default() += 1;
        let (mut name, mut answers) = (question.name.clone(), Vec::new());
        let (mut code, mut found) = (0, false);
        loop {
            match self.names.get(&name) {
                None | Some(Entry::Failure(Failure::NxDomain)) => code = NX_DOMAIN,
                Some(Entry::Failure(Failure::ServFail)) => code = SERV_FAIL,
                Some(Entry::Failure(Failure::Silence)) => return None,
                Some(Entry::Records { ttl, records }) => {
                    let mut next = None;
                    for record in records {
                        let owner = if name == question.name { vec![0xC0, 12] } else { wire_name(&name) };
                        let (kind, data) = record.wire();
                        found |= kind == question.kind;
                        if kind == question.kind || kind == CNAME {
                            answers.push(wire_record(owner, kind, *ttl, &data));
                        }
                        if let (true, Record::Cname(target)) = (kind != question.kind, record) {
                            next = Some(target);
                        }
                    }
                    // As many as there are names: a chain may be a circle.
                    if let Some(target) = next.filter(|_| answers.len() <= self.names.len()) {
                        name = target.to_lowercase();
                        continue;
                    }
                }
            }
            break;
        }
        let authorities: &[_] = if found || code == SERV_FAIL { &[] } else { &[wire_soa()] };
        Some(question.message([0x81, 0x80 | code], &answers, authorities))
    }
}

impl Record {
    /// Type and data.
    fn wire(&self) -> (u16, Vec<u8>) {
        match self {
            Record::A(address) => (1, address.octets().to_vec()),
            Record::Aaaa(address) => (28, address.octets().to_vec()),
            Record::Cname(target) => (CNAME, wire_name(target)),
            Record::Srv { priority, weight, port, target } => {
                let numbers = [priority, weight, port].map(|number| number.to_be_bytes());
                (33, [numbers.concat(), wire_name(target)].concat())
            }
        }
    }
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(u8::try_from(label.len()).expect("a label of up to 63 bytes"));
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

fn wire_record(owner: Vec<u8>, kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("data of a record");
    let (kind, class) = (kind.to_be_bytes(), [0, 1]);
    [&owner, &kind[..], &class, &ttl.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

/// The root's, for negative answers (RFC 2308, 3).
fn wire_soa() -> Vec<u8> {
    let (serial, refresh, retry, expire) = (1_u32, 3600_u32, 600_u32, 86400_u32);
    let numbers = [serial, refresh, retry, expire, NEGATIVE_TTL].map(u32::to_be_bytes).concat();
    wire_record(vec![0], SOA, 2 * NEGATIVE_TTL, &[wire_name("ns"), wire_name("mail"), numbers].concat())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
