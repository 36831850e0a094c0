//! What filters log, in a form in which two runs are the same: without ports and times, with the pairs of a map by
//! name, and without the network's say in how a body is cut into callbacks and which call is answered first.

use std::net::SocketAddr;

/// Lines of a log, in which these addresses go by these names.
pub fn transcript(lines: &[String], names: &[(SocketAddr, &str)]) -> Vec<String> {
    let lines = in_order(lines.iter().map(|line| stable(line, names)).collect());
    let blocks = in_any_order(merged(blocks(lines)));
    blocks.into_iter().flat_map(|block| [vec![block.head], block.inner].concat()).collect()
}

/// A line that a plugin has logged.
#[derive(Clone, Debug)]
pub struct Told {
    pub plugin: String,
    /// With its level in front, unless that is info.
    pub line: String,
}

impl Told {
    pub fn new(level: &str, line: &str, plugin: &str) -> Told {
        let line = match level.to_lowercase().as_str() {
            "info" => line.to_owned(),
            "warning" => format!("warn: {line}"),
            level => format!("{level}: {line}"),
        };
        Told { plugin: plugin.to_owned(), line }
    }
}

/// A line with names in the place of addresses and ports, and without times.
fn stable(line: &str, names: &[(SocketAddr, &str)]) -> String {
    let mut line = line.to_owned();
    for (address, name) in names {
        line = line.replace(&address.to_string(), &format!("({name})"));
    }
    // A port that none of them has is a client's.
    if let Some((front, rest)) = line.split_once("127.0.0.1:") {
        line = format!("{front}(client){}", rest.trim_start_matches(|digit: char| digit.is_ascii_digit()));
    }
    // What Envoy tells of the time: of an answer, and how long a call took.
    for name in ["-service-time: \"", "date: \""] {
        if let Some((front, rest)) = line.split_once(name)
            && let Some((_, back)) = rest.split_once('"')
        {
            line = format!("{front}{name}...\"{back}");
        }
    }
    if let Some((front, port)) = line.split_once(".port = ")
        && let Ok(port) = port.parse::<u16>()
    {
        let known = names.iter().find(|(address, _)| address.port() == port);
        line = format!("{front}.port = ({})", known.map_or("client", |(_, name)| *name));
    }
    line
}

/// What comes from a socket at least where there is more: a packet of the loopback device, without a head.
const ONE_READ: usize = 65_000;

/// A callback and what was logged in it.
struct Block {
    head: String,
    inner: Vec<String>,
}

/// A line such as `http on_request_body(5, false)`.
struct Body<'a> {
    front: &'a str,
    size: usize,
    end: bool,
    back: &'a str,
}

impl Block {
    fn pauses(&self) -> bool {
        self.inner.last().is_some_and(|line| line.starts_with("  -> Pause"))
    }

    /// Whether this is a callback with a part of a body that did nothing else, and the other one is with the next part.
    fn is_continued_by(&self, next: &Block) -> bool {
        let Some((one, other)) = Body::of(&self.head).zip(Body::of(&next.head)) else { return false };
        let same = (one.front, one.back, one.end) == (other.front, other.back, false);
        let gathers = self.pauses() && self.inner.len() == 1;
        let passes = self.inner.is_empty() && !next.pauses();
        same && (gathers || passes)
    }
}

impl Body<'_> {
    fn of(head: &str) -> Option<Body<'_>> {
        let (front, rest) = head.split_once("_body(")?;
        let (numbers, back) = rest.split_once(')')?;
        let (size, end) = numbers.split_once(", ")?;
        Some(Body { front, size: size.parse().ok()?, end: end.parse().ok()?, back })
    }
}

/// Pairs of a map are shown by name: an order among other names means nothing.
fn in_order(mut lines: Vec<String>) -> Vec<String> {
    let is_pair = |line: &String| line.starts_with("    ");
    for pairs in lines.chunk_by_mut(|one, next| is_pair(one) && is_pair(next)) {
        pairs.sort_by_key(|line| line.split(": ").next().map(str::to_owned));
    }
    lines
}

fn blocks(lines: Vec<String>) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for line in lines {
        match blocks.last_mut() {
            Some(block) if line.starts_with("  ") => block.inner.push(line),
            _ => blocks.push(Block { head: line, inner: Vec::new() }),
        }
    }
    blocks
}

/// Calls that run at the same time are answered in any order, and of what is in a queue a root context is told at any
/// moment: answers in a row are sorted, and queues come last.
fn in_any_order(mut blocks: Vec<Block>) -> Vec<Block> {
    let is_answer = |block: &Block| block.head.contains(" on_http_call_response(");
    for answers in blocks.chunk_by_mut(|one, next| is_answer(one) && is_answer(next)) {
        // Not by their heads: gateways differ in how many fields there are.
        answers.sort_by(|one, other| one.inner.cmp(&other.inner));
    }
    blocks.sort_by_key(|block| block.head.starts_with("root on_queue_ready"));
    blocks
}

/// How a body is cut into callbacks depends on the network. Of callbacks in a row that only gather, the last one is
/// told; what only lets pass counts as part of the next one.
fn merged(blocks: Vec<Block>) -> Vec<Block> {
    let mut merged: Vec<Block> = Vec::new();
    for mut block in blocks {
        // Those of other plugins of the chain may lie between.
        let bodies = merged.iter().rev().take_while(|block| Body::of(&block.head).is_some()).count();
        let last = merged.iter().skip(merged.len() - bodies).rposition(|last| last.is_continued_by(&block));
        if let Some(last) = last.map(|at| merged.len() - bodies + at)
            && let Some((one, next)) = Body::of(&merged[last].head).zip(Body::of(&block.head))
        {
            if merged[last].inner.is_empty() {
                let size = one.size + next.size;
                block.head = format!("{}_body({size}, {}){}", next.front, next.end, next.back);
            }
            merged.remove(last);
        }
        merged.push(block);
    }
    for block in &mut merged {
        if let Some(body) = Body::of(&block.head)
            && (block.pauses(), body.end, body.size > ONE_READ) == (true, false, true)
        {
            block.head = format!("{}_body(many, false){}", body.front, body.back);
        }
    }
    merged
}

/// Undoes how wasmgate writes a message into its log.
pub fn unescaped(message: &str) -> String {
    let mut text = String::new();
    let mut chars = message.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            text.push(char);
            continue;
        }
        match chars.next() {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('u') => {
                let digits: String = chars.by_ref().skip(1).take_while(|char| *char != '}').collect();
                text.extend(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32));
            }
            Some(other) => text.push(other),
            None => text.push('\\'),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Vec<String> {
        let lines: Vec<_> = lines.iter().map(|line| (*line).to_owned()).collect();
        transcript(&lines, &[("127.0.0.1:80".parse().unwrap(), "app")])
    }

    #[test]
    fn bodies_are_told_once() {
        assert_eq!(of(&["on_body(5, false)", "on_body(0, true)"]), ["on_body(5, true)"]);
        assert_eq!(
            of(&["on_body(5, false)", "  -> Pause", "on_body(9, true)", "  got"]),
            ["on_body(9, true)", "  got"]
        );
        assert_eq!(of(&["on_body(5, false)", "  got", "on_body(0, true)"]).len(), 3, "what it did is told");
        let chain =
            ["b_body(1, false) @b", "b_body(1, false) @a", "b_body(1, true) @b", "b_body(1, true) @a"];
        assert_eq!(of(&chain), ["b_body(2, true) @b", "b_body(2, true) @a"]);
    }

    #[test]
    fn answers_and_queues_come_in_any_order() {
        let answer = |size| format!("http on_http_call_response(4, {size}, 0)");
        let (one, two) = (answer(2), answer(1));
        let queue = ["root on_queue_ready", "  dequeue"];
        let late = [&two[..], "  b", &one, "  a", "end", &one].map(str::to_owned);
        let told = [&one[..], "  a", &two, "  b", "end", &one];
        let lines: Vec<_> = queue.iter().copied().chain(late.iter().map(String::as_str)).collect();
        assert_eq!(of(&lines), [&told[..], &queue].concat());
    }

    #[test]
    fn pairs_are_by_name_and_ports_have_names() {
        let lines =
            ["get", "    b: \"1\"", "    a: \"2\"", "    b: \"0\"", "  at 127.0.0.1:80 and 127.0.0.1:81"];
        let told = ["get", "    a: \"2\"", "    b: \"1\"", "    b: \"0\"", "  at (app) and (client)"];
        assert_eq!(of(&lines), told);
    }

    #[test]
    fn what_a_log_escapes_is_undone() {
        assert_eq!(unescaped("a\\nb \\u{e9} \\'x\\' \\\\"), "a\nb \u{e9} 'x' \\");
    }
}
