//! Paths are normalised as a plain reading of the rules has it, and only once.

use crate::target::normalise;

pub fn check(data: &[u8]) {
    let Ok(path) = str::from_utf8(data) else { return };
    let normal = normalise(path);
    assert_eq!(normal.as_deref(), plainly(path).as_deref(), "{path:?}");
    if let Some(normal) = normal {
        assert_eq!(normalise(&normal).as_deref(), Some(&*normal), "{path:?} becomes another one twice");
        let decoded = normal.to_lowercase().replace("%2e", ".");
        assert!(decoded.split('/').all(|segment| segment != "." && segment != ".."), "{path:?}: {normal:?}");
    }
}

/// RFC 3986, section 5.2.4, with what is refused.
fn plainly(path: &str) -> Option<String> {
    let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let malformed = |byte: u8| byte <= b' ' || byte == b'\\' || byte == 0x7f;
    if path.bytes().any(malformed) || !path.split('%').skip(1).all(is_escape) {
        return None;
    }
    let mut out = Vec::new();
    for (place, segment) in segments.iter().enumerate() {
        let decoded = segment.replace("%2e", ".").replace("%2E", ".");
        let is_last = place + 1 == segments.len();
        match decoded.as_str() {
            "." => {}
            ".." => _ = out.pop()?,
            _ if seems_to_have_dots(&decoded) => return None,
            _ => out.push(*segment),
        }
        if is_last && matches!(decoded.as_str(), "." | "..") {
            out.push("");
        }
    }
    Some(format!("/{}", out.join("/")))
}

/// Whether it begins with two hexadecimal digits that do not stand for NUL.
fn is_escape(text: &str) -> bool {
    let digits = text.bytes().take(2).filter(u8::is_ascii_hexdigit).count();
    digits == 2 && !text.starts_with("00")
}

fn seems_to_have_dots(segment: &str) -> bool {
    let segment = segment.to_ascii_lowercase().replace("%2f", "/").replace("%5c", "/");
    segment.split('/').any(|part| matches!(part.split(';').next(), Some("." | "..")))
}

#[cfg(test)]
mod tests {
    proptest::proptest! {
        #[test]
        fn paths_have_one_meaning(path in "/?(/|\\.|\\.\\.|%2e|%2E|%2f|%5C|;|%|%00|[a-z0\\\\]|ä){0,12}") {
            super::check(path.as_bytes());
        }
    }
}
