//! The PROXY protocol (haproxy.org/download/3.2/doc/proxy-protocol.txt), versions 1 and 2: how a proxy says, before the
//! first byte of what it passes on, whom a connection is from.
//!
//! What follows the addresses in version 2, checksums and facts of TLS among it, is passed over unread, as its length says.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::{self, FromStr},
};

/// So many bytes are always enough to tell what a header is: no line of version 1 is longer, and in version 2 the
/// addresses end before.
pub const DECISIVE: usize = 107;

const VERSION_1: &[u8] = b"PROXY ";
const VERSION_2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Both ends of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub peer: SocketAddr,
    pub local: SocketAddr,
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// All of them belong to the header, and it goes on.
    Unfinished,
    /// The header has so many bytes, of which some may be still to come. It tells of no ends where they are not known, or
    /// not those of TCP over IP, and where the proxy speaks for itself.
    Whole { length: usize, told: Option<Ends> },
}

/// It is no header, for this reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Looks at the first bytes of a connection. More of them never change what fewer have told.
pub fn parse(bytes: &[u8]) -> Result<Header, Malformed> {
    let begins_like = |signature: &[u8]| bytes.iter().zip(signature).all(|(byte, wanted)| byte == wanted);
    if begins_like(VERSION_1) {
        line(bytes)
    } else if begins_like(VERSION_2) {
        block(bytes)
    } else {
        Err(Malformed("there is none"))
    }
}

/// Version 1.
fn line(bytes: &[u8]) -> Result<Header, Malformed> {
    let bytes = &bytes[..bytes.len().min(DECISIVE)];
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        return if bytes.len() < DECISIVE {
            Ok(Header::Unfinished)
        } else {
            Err(Malformed("the line is too long"))
        };
    };
    let Some(line) = bytes[..end].strip_suffix(b"\r") else {
        return Err(Malformed("the line does not end in CRLF"));
    };
    let mut words = line.split(|byte| *byte == b' ').skip(1);
    let told = match words.next() {
        Some(b"UNKNOWN") => None,
        Some(b"TCP4") => Some(written::<Ipv4Addr>(words)?),
        Some(b"TCP6") => Some(written::<Ipv6Addr>(words)?),
        _ => return Err(Malformed("an unknown protocol")),
    };
    Ok(Header::Whole { length: end + 1, told })
}

/// Two addresses and two ports, and nothing behind them.
fn written<'a, A>(words: impl Iterator<Item = &'a [u8]>) -> Result<Ends, Malformed>
where
    A: FromStr + Into<IpAddr>,
{
    let mut words = words.map(|word| str::from_utf8(word).unwrap_or_default());
    let mut read = || {
        let mut address = || words.next()?.parse::<A>().ok().map(A::into);
        let (source, destination) = (address()?, address()?);
        let (from, to) = (port(words.next()?)?, port(words.next()?)?);
        let ends = Ends { peer: (source, from).into(), local: (destination, to).into() };
        words.next().is_none().then_some(ends)
    };
    read().ok_or(Malformed("the addresses cannot be read"))
}

/// Without a sign and without zeros in front.
fn port(text: &str) -> Option<u16> {
    let plain = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
    text.parse().ok().filter(|_| plain)
}

/// Version 2.
fn block(bytes: &[u8]) -> Result<Header, Malformed> {
    let Some((head, rest)) = bytes.split_first_chunk::<16>() else { return Ok(Header::Unfinished) };
    let [.., command, protocol, high, low] = *head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let whole = |told| Header::Whole { length: head.len() + length, told };
    match command {
        // LOCAL: whatever it says does not count.
        0x20 => return Ok(whole(None)),
        0x21 => {}
        _ => return Err(Malformed("an unknown version or command")),
    }
    let (family, transport) = (protocol >> 4, protocol & 0xf);
    let addresses = match family {
        0 => 0,
        1 => 12,
        2 => 36,
        3 => 216,
        _ => return Err(Malformed("an unknown family of addresses")),
    };
    if length < addresses {
        return Err(Malformed("it ends within its addresses"));
    }
    let told = match (family, transport) {
        (1, 1) => packed::<Ipv4Addr, 4>(rest),
        (2, 1) => packed::<Ipv6Addr, 16>(rest),
        (_, 0..=2) => return Ok(whole(None)),
        _ => return Err(Malformed("an unknown transport")),
    };
    Ok(told.map_or(Header::Unfinished, |ends| whole(Some(ends))))
}

/// None where they are not all there.
fn packed<A, const N: usize>(bytes: &[u8]) -> Option<Ends>
where
    A: From<[u8; N]> + Into<IpAddr>,
{
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (from, rest) = rest.split_first_chunk()?;
    let to = rest.first_chunk()?;
    let end = |address: &[u8; N], port: &[u8; 2]| {
        SocketAddr::new(A::from(*address).into(), u16::from_be_bytes(*port))
    };
    Some(Ends { peer: end(source, from), local: end(destination, to) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x11, 0x22, 0, 80];

    fn version_2(command: u8, protocol: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&VERSION_2[..], &[command, protocol], &length, rest].concat()
    }

    fn ends(peer: &str, local: &str) -> Option<Ends> {
        Some(Ends { peer: peer.parse().unwrap(), local: local.parse().unwrap() })
    }

    fn whole_headers() -> Vec<(Vec<u8>, Option<Ends>)> {
        let line = |text: &str| text.as_bytes().to_vec();
        let long = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let v6 = [&[0x20, 1, 0xd, 0xb8], &[0; 11][..], &[1], &[0; 15], &[2], &[1, 0], &[0, 1]].concat();
        let tlv = [&V4[..], &[4, 0, 3], b"tlv"].concat();
        vec![
            (
                line("PROXY TCP4 192.0.2.1 198.51.100.2 4386 80\r\n"),
                ends("192.0.2.1:4386", "198.51.100.2:80"),
            ),
            (
                line("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n"),
                ends("0.0.0.0:0", "255.255.255.255:65535"),
            ),
            (line("PROXY TCP6 2001:db8::1 ::2 256 1\r\n"), ends("[2001:db8::1]:256", "[::2]:1")),
            (
                line(&format!("PROXY TCP6 {long} {long} 65535 65535\r\n")),
                ends(&format!("[{long}]:65535"), &format!("[{long}]:65535")),
            ),
            (line("PROXY UNKNOWN\r\n"), None),
            (line("PROXY UNKNOWN ffff::1 what ever\r\n"), None),
            (line(&format!("PROXY UNKNOWN {long} {long} 65535 65535\r\n")), None),
            (version_2(0x21, 0x11, &V4), ends("192.0.2.1:4386", "198.51.100.2:80")),
            (version_2(0x21, 0x11, &tlv), ends("192.0.2.1:4386", "198.51.100.2:80")),
            (version_2(0x21, 0x21, &v6), ends("[2001:db8::1]:256", "[::2]:1")),
            (version_2(0x21, 0x12, &V4), None),
            (version_2(0x21, 0x31, &[b'/'; 216]), None),
            (version_2(0x21, 0x00, &[]), None),
            (version_2(0x21, 0x00, b"what ever"), None),
            (version_2(0x20, 0x11, &V4), None),
            (version_2(0x20, 0xff, &[]), None),
            (version_2(0x20, 0x00, &[7; 65_535]), None),
        ]
    }

    #[test]
    fn headers_are_read() {
        for (bytes, told) in whole_headers() {
            let length = bytes.len();
            let followed = [&bytes[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(parse(&followed), Ok(Header::Whole { length, told }), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
        let lines = [
            "GET / HTTP/1.1\r\n",
            "PROXX",
            "proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY\r\n",
            "PROXY \r\n",
            "PROXY  TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 -1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2  2\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n",
            "PROXY TCP4 192.0.2 198.51.100.2 1 2\r\n",
            "PROXY TCP4 ::1 ::2 1 2\r\n",
            "PROXY TCP4 192.0.2.1\t198.51.100.2 1 2\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY TCP6 ::1%lo ::2 1 2\r\n",
            "PROXY TCP6 [::1] [::2] 1 2\r\n",
            "PROXY TCP5 ::1 ::2 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY UNKNOWN\n",
            "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
            "\r\n\r\nGET",
            &long,
        ];
        let blocks = [
            version_2(0x11, 0x11, &V4),
            version_2(0x22, 0x11, &V4),
            version_2(0x31, 0x11, &V4),
            version_2(0x21, 0x41, &V4),
            version_2(0x21, 0x13, &V4),
            version_2(0x21, 0x11, &V4[..11]),
            version_2(0x21, 0x21, &V4),
            version_2(0x21, 0x31, &[0; 215]),
        ];
        for bytes in lines.map(str::as_bytes).into_iter().chain(blocks.iter().map(Vec::as_slice)) {
            assert!(parse(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }

    /// Whatever is there of a connection's first bytes, the header that is read is the same.
    fn assert_cuts_make_no_difference(bytes: &[u8]) {
        let all = parse(bytes);
        let mut decided = false;
        for end in 0..=bytes.len() {
            let told = parse(&bytes[..end]);
            if let (false, Ok(Header::Whole { length, .. })) = (decided, told) {
                assert!(length >= end, "what was unfinished has all belonged to it");
            }
            decided |= told != Ok(Header::Unfinished);
            assert_eq!(told, if decided { all } else { Ok(Header::Unfinished) }, "{end} of them");
        }
        assert!(decided || bytes.len() < DECISIVE);
    }

    #[test]
    fn cuts_within_whole_headers() {
        for (bytes, _) in whole_headers() {
            assert_cuts_make_no_difference(&bytes[..bytes.len().min(300)]);
        }
    }

    proptest! {
        #[test]
        fn cuts_within_anything(
            (start, changed, by, tail) in (0..17_usize, 0..60_usize, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..200))
        ) {
            let mut bytes = whole_headers().swap_remove(start).0;
            bytes.truncate(250);
            if let Some(byte) = bytes.get_mut(changed) {
                *byte ^= by;
            }
            bytes.extend(tail);
            assert_cuts_make_no_difference(&bytes);
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            assert_cuts_make_no_difference(&bytes);
            assert_cuts_make_no_difference(&[VERSION_1, &bytes].concat());
            assert_cuts_make_no_difference(&[VERSION_2, &bytes[..]].concat());
        }
    }
}
