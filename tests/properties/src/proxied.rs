//! Headers of the PROXY protocol: no bytes confuse the reader, and more of them never change what fewer have told.

use crate::proxy_protocol::{Header, parse};

pub fn check(data: &[u8]) {
    let mut known = None;
    for end in 0..=data.len().min(400) {
        let told = parse(&data[..end]);
        match (known, told) {
            (None, Ok(Header::Unfinished)) => {}
            (None, told) => known = Some(told),
            (Some(known), told) => assert_eq!(known, told, "{:?}", &data[..end]),
        }
    }
    if let Some(Ok(Header::Whole { length, told })) = known {
        let plain = if data.starts_with(b"PROXY ") { line(data) } else { block(data) };
        assert_eq!((length, told.map(|ends| (ends.peer, ends.local))), plain, "{data:?}");
    }
}

type Ends = Option<(std::net::SocketAddr, std::net::SocketAddr)>;

/// Version 1, word by word.
fn line(data: &[u8]) -> (usize, Ends) {
    let end = data.windows(2).position(|pair| pair == b"\r\n").expect("a line that was taken has an end");
    let text = String::from_utf8_lossy(&data[..end]);
    let words: Vec<&str> = text.split(' ').collect();
    let ends = match words[..] {
        ["PROXY", "TCP4" | "TCP6", peer, local, from, to] => {
            let end = |address: &str, port: &str| {
                let address: std::net::IpAddr = address.parse().expect("an address that was taken is one");
                (address, port.parse::<u16>().expect("a port that was taken is one")).into()
            };
            Some((end(peer, from), end(local, to)))
        }
        _ => None,
    };
    (end + 2, ends)
}

/// Version 2, by the offsets of its description.
fn block(data: &[u8]) -> (usize, Ends) {
    let number = |at: usize| u16::from_be_bytes([data[at], data[at + 1]]);
    let length = 16 + usize::from(number(14));
    let size = match (data[12], data[13]) {
        (0x21, 0x11) => 4,
        (0x21, 0x21) => 16,
        _ => return (length, None),
    };
    let address = |at: usize| -> std::net::IpAddr {
        match size {
            4 => <[u8; 4]>::try_from(&data[at..at + 4]).expect("four").into(),
            _ => <[u8; 16]>::try_from(&data[at..at + 16]).expect("sixteen").into(),
        }
    };
    let (peer, local) = (address(16), address(16 + size));
    let ports = 16 + 2 * size;
    (length, Some(((peer, number(ports)).into(), (local, number(ports + 2)).into())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn binary() -> impl Strategy<Value = Vec<u8>> {
        let command = prop_oneof![Just(0x20_u8), Just(0x21), any::<u8>()];
        let family = prop_oneof![Just(0x11_u8), Just(0x21), Just(0x31), Just(0), any::<u8>()];
        (command, family, 0_u16..80, prop::collection::vec(any::<u8>(), 0..90)).prop_map(
            |(command, family, length, rest)| {
                let signature = b"\r\n\r\n\0\r\nQUIT\n";
                [&signature[..], &[command, family], &length.to_be_bytes(), &rest].concat()
            },
        )
    }

    proptest! {
        #[test]
        fn lines_are_read_in_one_way(
            text in "PROXY (TCP4|TCP6|UNKNOWN)( [0-9a-f:.]{1,12}| 192\\.0\\.2\\.1| ::1){0,3}( [0-9]{1,6}){0,3}(\r\n|\n| )x{0,3}"
        ) {
            super::check(text.as_bytes());
        }

        #[test]
        fn blocks_are_read_in_one_way(bytes in binary()) {
            super::check(&bytes);
        }
    }
}
