//! One meaning for a path: the same string is matched, shown to plugins and sent. Pure.

use std::borrow::Cow;

/// Removes dot segments (RFC 3986, section 5.2.4), also percent-encoded ones. Refuses what has
/// more than one reading: broken escapes, %00, backslashes, control characters, and dots that lead
/// above the root. Everything else stays as the client sent it: `//`, `%2F`, the case of escapes.
pub fn normalise(path: &str) -> Option<Cow<'_, str>> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return None;
    }
    // Without an early end, so that the loop is vectorised.
    let (mut odd, mut dot) = (false, false);
    for byte in bytes {
        odd |= matches!(byte, b'%' | b'\\' | 0..=0x20 | 0x7f);
        dot |= *byte == b'.';
    }
    let dot_segments = dot && memchr::memmem::find(bytes, b"/.").is_some();
    if !odd && !dot_segments {
        return Some(Cow::Borrowed(path));
    }
    if !is_well_formed(bytes) {
        return None;
    }
    let mut out: Vec<&str> = Vec::new();
    let mut segments = path[1..].split('/').peekable();
    let mut changed = false;
    while let Some(segment) = segments.next() {
        let dots = dots(segment);
        if dots == 0 {
            out.push(segment);
            continue;
        }
        changed = true;
        if dots == 2 {
            out.pop()?;
        }
        if segments.peek().is_none() {
            out.push("");
        }
    }
    Some(if changed { format!("/{}", out.join("/")).into() } else { Cow::Borrowed(path) })
}

/// 1 or 2 where the segment is a dot segment.
fn dots(segment: &str) -> usize {
    let mut rest = segment;
    let mut count = 0;
    while let Some(after) =
        rest.strip_prefix('.').or_else(|| rest.strip_prefix("%2e")).or_else(|| rest.strip_prefix("%2E"))
    {
        (rest, count) = (after, count + 1);
    }
    if rest.is_empty() && count <= 2 { count } else { 0 }
}

fn is_well_formed(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'%' => match after {
                [b'0', b'0', ..] => return false,
                [a, b, after @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => rest = after,
                _ => return false,
            },
            b'\\' | 0..=0x20 | 0x7f => return false,
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for (path, expected) in [
            ("/", Some("/")),
            ("/a/b", Some("/a/b")),
            ("/a/./b", Some("/a/b")),
            ("/a/../b", Some("/b")),
            ("/a/b/..", Some("/a/")),
            ("/a/.", Some("/a/")),
            ("/a/%2e%2E/b", Some("/b")),
            ("/a/.%2e", Some("/")),
            ("/.well-known/x", Some("/.well-known/x")),
            ("/a/...", Some("/a/...")),
            ("/a//b", Some("/a//b")),
            ("/a/b%2Fc", Some("/a/b%2Fc")),
            ("/..", None),
            ("/a/../../b", None),
            ("/%2e%2e/b", None),
            ("/a%", None),
            ("/a%4", None),
            ("/a%zz", None),
            ("/a%00", None),
            ("/a\\b", None),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(normalise(path).as_deref(), expected, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn is_idempotent_and_never_panics(path in "(/|\\.|%2e|%|[a-z0]){0,20}") {
            if let Some(once) = normalise(&path) {
                let twice = normalise(&once);
                proptest::prop_assert_eq!(twice.as_deref(), Some(&*once));
                proptest::prop_assert!(!once.split('/').any(|segment| dots(segment) > 0));
            }
        }
    }
}
