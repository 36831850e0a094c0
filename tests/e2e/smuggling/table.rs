//! The tables in tests/golden/http1: what is sent, and what becomes of it.

use std::{fs, str::Chars};

/// One row. Its lines are known by the sign at their beginning.
pub struct Row {
    /// With the section that it is of.
    pub what: String,
    lines: Vec<(char, String)>,
}

impl Row {
    /// All rows of a table.
    pub fn all(table: &str) -> Vec<Row> {
        let file = wasmgate_build::workspace().join("tests/golden/http1").join(table);
        let text = fs::read_to_string(file).expect("the table is there");
        let (mut rows, mut section): (Vec<Row>, &str) = (Vec::new(), "");
        for line in text.lines().filter(|line| !line.is_empty()) {
            match line.split_once(' ') {
                Some(("##", title)) => section = title,
                Some(("#", _)) => {}
                Some((sign @ ("?" | "<" | ">" | "=" | "!"), rest)) => {
                    let row = rows.last_mut().expect("a row before its lines");
                    row.lines.extend(sign.chars().map(|sign| (sign, rest.to_owned())));
                }
                _ if line == "#" => {}
                _ => rows.push(Row { what: format!("{section}: {line}"), lines: Vec::new() }),
            }
        }
        rows
    }

    /// The lines with one of these signs, in their order.
    pub fn lines(&self, signs: &str) -> impl Iterator<Item = (char, &str)> {
        let lines = self.lines.iter().filter(move |(sign, _)| signs.contains(*sign));
        lines.map(|(sign, text)| (*sign, text.as_str()))
    }

    /// What is sent, and whether its sender ends after it.
    pub fn sent(&self) -> (Vec<u8>, bool) {
        let text: String = self.lines("<").map(|(_, text)| text).collect();
        match text.strip_suffix("{end}") {
            Some(text) => (bytes(text), true),
            None => (bytes(&text), false),
        }
    }

    /// Whether it says this of itself.
    pub fn is(&self, word: &str) -> bool {
        self.lines("!").any(|(_, text)| text == word)
    }
}

/// Bytes as the tables write them: `\r`, `\n`, `\t`, `\\`, `\xff`, and `{x*3}` for `xxx`.
pub fn bytes(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.chars());
    while let Some(next) = rest.next() {
        match next {
            '\\' => out.push(escaped(&mut rest)),
            '{' => {
                let inner: String = rest.by_ref().take_while(|next| *next != '}').collect();
                let (part, times) = inner.rsplit_once('*').expect("{part*times}");
                out.extend(bytes(part).repeat(times.parse().expect("a number")));
            }
            _ => out.extend(next.to_string().bytes()),
        }
    }
    out
}

fn escaped(rest: &mut Chars) -> u8 {
    match rest.next() {
        Some('r') => b'\r',
        Some('n') => b'\n',
        Some('t') => b'\t',
        Some('\\') => b'\\',
        Some('x') => {
            let digits: String = rest.by_ref().take(2).collect();
            u8::from_str_radix(&digits, 16).expect("two hexadecimal digits")
        }
        other => panic!("no escape: {other:?}"),
    }
}

#[test]
fn the_tables_are_read_to_the_byte() {
    assert_eq!(bytes(r"a\r\n\x00\\{b\t*2}"), b"a\r\n\0\\b\tb\t");
    let row = Row::all("requests.txt").into_iter().find(|row| row.what.ends_with(": no end")).unwrap();
    assert!(row.what.starts_with("RFC 9112, section 7.1") && row.is("closed") && row.is("begun"));
    assert!(row.sent().0.ends_with(b"abc\r\n") && row.sent().1);
}
