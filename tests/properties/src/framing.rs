//! The guard and a parser that has nothing to do with it see the same requests.

use crate::guard::Guard;

/// Longer than what is tried: nothing is left to the parser's limit.
const MAX_LINE: usize = 1 << 16;
const MAX_HEADERS: usize = 1000;

/// Where the requests of these bytes end, and why there is no further one.
#[derive(Debug, PartialEq, Eq)]
struct Requests {
    ends: Vec<usize>,
    rest: Rest,
}

#[derive(Debug, PartialEq, Eq)]
enum Rest {
    /// Nothing, or the beginning of a request.
    Open,
    /// The parser refuses it.
    Refused,
}

/// The first byte says how the others are cut.
pub fn check(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    if bytes.len() >= MAX_LINE {
        return;
    }
    let (ends, accepted) = guarded(bytes);
    let pieces = bytes.chunks(usize::from(*size).max(1));
    assert_eq!(in_pieces(pieces), accepted < bytes.len(), "the cuts make a difference");

    let Requests { ends: parsed, rest } = parse(&bytes[..accepted]);
    match rest {
        Rest::Open => assert_eq!(ends, parsed, "the guard and the parser differ"),
        // The connection ends there, whatever the guard thinks.
        Rest::Refused => assert!(ends.starts_with(&parsed), "{ends:?} and {parsed:?}"),
    }
}

/// Where requests end for the guard, and how many bytes it lets pass.
fn guarded(bytes: &[u8]) -> (Vec<usize>, usize) {
    let mut guard = Guard::new(MAX_LINE);
    let mut ends = Vec::new();
    let mut begun = false;
    for (at, byte) in bytes.iter().enumerate() {
        if guard.scan(&[*byte]).is_err() {
            return (ends, at);
        }
        // As if every request for another protocol were answered at once, and with something else.
        if guard.is_held() {
            guard.resume();
        }
        // Empty lines before a request are none.
        begun |= !guard.is_at_rest() && *byte != b'\r';
        if begun && guard.is_at_rest() {
            ends.push(at + 1);
            begun = false;
        }
    }
    (ends, bytes.len())
}

/// Whether the guard refuses the pieces, one after the other.
fn in_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut guard = Guard::new(MAX_LINE);
    pieces.into_iter().any(|mut piece| {
        loop {
            if guard.scan(piece).is_err() {
                return true;
            }
            if !guard.is_held() {
                return false;
            }
            piece = &piece[piece.len() - guard.beyond()..];
            guard.resume();
        }
    })
}

/// The same with the parser, and everything that the guard promises of a head.
fn parse(bytes: &[u8]) -> Requests {
    let mut ends = Vec::new();
    let mut at = 0;
    loop {
        match request(&bytes[at..]) {
            Parsed::Whole(length) => at += length,
            Parsed::Part => return Requests { ends, rest: Rest::Open },
            Parsed::Refused => return Requests { ends, rest: Rest::Refused },
        }
        ends.push(at);
    }
}

enum Parsed {
    Whole(usize),
    Part,
    Refused,
}

fn request(bytes: &[u8]) -> Parsed {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut fields);
    let head = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Parsed::Part,
        Err(_) => return Parsed::Refused,
    };
    assert_lines_end_in_crlf(&bytes[..head]);
    assert!(request.path.is_some_and(|path| !path.contains('#')), "a fragment");
    let all = |wanted: &str| -> Vec<&[u8]> {
        let named = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(wanted));
        named.map(|field| field.value.trim_ascii()).collect()
    };
    let body = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => Parsed::Whole(0),
        ([length], []) => sized(length, bytes.len() - head),
        ([], [coding]) => {
            assert!(coding.eq_ignore_ascii_case(b"chunked"), "another coding");
            assert_eq!(request.version, Some(1), "a coding in HTTP/1.0");
            chunked(&bytes[head..])
        }
        _ => panic!("two lengths"),
    };
    match body {
        Parsed::Whole(length) => Parsed::Whole(head + length),
        other => other,
    }
}

fn assert_lines_end_in_crlf(head: &[u8]) {
    for (at, byte) in head.iter().enumerate() {
        match byte {
            b'\n' => assert_eq!(head.get(at.wrapping_sub(1)), Some(&b'\r'), "a bare LF"),
            b'\r' => assert_eq!(head.get(at + 1), Some(&b'\n'), "a bare CR"),
            _ => {}
        }
    }
}

fn sized(length: &[u8], there: usize) -> Parsed {
    assert!(length.iter().all(u8::is_ascii_digit), "a length that is none");
    let length: u64 = String::from_utf8_lossy(length).parse().expect("a length in 64 bits");
    match usize::try_from(length) {
        Ok(length) if length <= there => Parsed::Whole(length),
        _ => Parsed::Part,
    }
}

fn chunked(bytes: &[u8]) -> Parsed {
    let mut at = 0;
    loop {
        let (line, size) = match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(httparse::Status::Complete(read)) => read,
            Ok(httparse::Status::Partial) => return Parsed::Part,
            Err(_) => return Parsed::Refused,
        };
        assert_lines_end_in_crlf(&bytes[at..at + line]);
        at += line;
        if size == 0 {
            break;
        }
        let end = usize::try_from(size).ok().and_then(|size| at.checked_add(size)?.checked_add(2));
        let Some(end) = end.filter(|end| *end <= bytes.len()) else { return Parsed::Part };
        if &bytes[end - 2..end] != b"\r\n" {
            return Parsed::Refused;
        }
        at = end;
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    match httparse::parse_headers(&bytes[at..], &mut fields) {
        Ok(httparse::Status::Complete((length, _))) => Parsed::Whole(at + length),
        Ok(httparse::Status::Partial) => Parsed::Part,
        Err(_) => Parsed::Refused,
    }
}

#[cfg(test)]
mod tests {
    proptest::proptest! {
        #[test]
        fn the_guard_sees_the_requests_that_a_parser_sees(
            cut in 0u8..40,
            text in "((GET|POST) /[#a]? HTTP/1\\.[01]\r\n|a: b\r\n|upgrade: x\r\n|content-length ?: ?[0-5]?\r\n|transfer-encoding: x?chunked\r\n|\r\n|\n|\r|[0-4];?\r\n|abc|0\r\n| |x){0,24}",
        ) {
            super::check(&[&[cut], text.as_bytes()].concat());
        }

        /// Such as are mostly in order, but for one byte.
        #[test]
        fn also_of_whole_requests(
            cut in 0u8..40,
            requests in proptest::collection::vec(
                "(\r\n)?(GET|POST) / HTTP/1\\.1\r\n\
                 (a: b\r\n|Upgrade: x\r\n|content-length: 3\r\n|Content-Length:0\r\n|transfer-encoding: chunked\r\n){0,2}\r\n\
                 (|ab\n|(2;a\r\nGE\r\n|1\r\n\n\r\n){0,3}0\r\n(b: c\r\n)?\r\n)",
                0..5,
            ),
            spoilt in proptest::option::of((0usize..300, proptest::num::u8::ANY)),
        ) {
            let mut data = [&[cut], requests.concat().as_bytes()].concat();
            if let Some((at, byte)) = spoilt && let Some(place) = data.get_mut(at) {
                *place = byte;
            }
            super::check(&data);
        }
    }
}
