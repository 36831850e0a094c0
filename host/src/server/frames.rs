//! A look at the raw bytes of HTTP/2 before they are parsed: only so far as to know which frames come (RFC 9113,
//! section 4.1). Frames that carry no message cost the gateway work and the client nothing, so they have to stay in
//! proportion to the messages (RFC 9113, section 10.5). Pure.

use std::{cell::Cell, rc::Rc};

use super::guard::Offence;

/// What a client sends first (RFC 9113, section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Of a frame: length, type, flags, stream.
const HEAD: usize = 9;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// How many frames without a message a client may be ahead.
const MOST: u32 = 1000;

/// Such frames per second that need no message: a client may ask now and then whether the gateway is still there.
const PER_SECOND: u32 = 10;

/// Bytes of a body that pay for one such frame; so each piece pays for the updates of both windows.
const BYTES: usize = 4096;

/// A request that is served, and an answer to it.
const MESSAGE: u32 = 4;

/// A stream that is reset by the client: more than its request has paid, so that clients who end most of their requests
/// come to an end themselves, after 500 of them.
const RESET: u32 = MESSAGE + 2;

/// What a client has left to spend on frames without a message.
pub struct Allowance {
    most: u32,
    left: Cell<u32>,
    /// In seconds, by the caller's clock.
    told: Cell<u64>,
}

impl Allowance {
    /// So many requests may come before the first of them is served.
    pub fn new(streams: u32) -> Self {
        let most = MOST.saturating_add(streams);
        Allowance { most, left: Cell::new(most), told: Cell::new(0) }
    }

    /// A request is served: one that is refused or malformed stays a frame without a message.
    pub fn request(&self) {
        self.earn(MESSAGE + 1);
    }

    /// An answer goes out, or its trailers.
    pub fn answer(&self) {
        self.earn(MESSAGE);
    }

    /// A piece of a body, in either direction.
    pub fn moved(&self, bytes: usize) {
        self.earn(MESSAGE + u32::try_from(bytes / BYTES).unwrap_or(MOST));
    }

    /// Time has passed.
    pub fn at(&self, seconds: u64) {
        let passed = seconds.saturating_sub(self.told.replace(seconds));
        self.earn(u32::try_from(passed).unwrap_or(MOST).saturating_mul(PER_SECOND));
    }

    fn earn(&self, count: u32) {
        self.left.update(|left| left.saturating_add(count).min(self.most));
    }

    fn spend(&self, count: u32) -> bool {
        let left = self.left.get().checked_sub(count);
        self.left.set(left.unwrap_or(0));
        left.is_some()
    }
}

pub struct Frames {
    state: State,
    /// The preface is whole: with SETTINGS (RFC 9113, section 3.4), which the library does not insist on.
    begun: bool,
    /// A block of header fields has begun and not ended.
    block: bool,
    allowance: Rc<Allowance>,
}

enum State {
    /// So many bytes of the preface have come.
    Preface(usize),
    /// A frame's head, and how much of it has come.
    Head([u8; HEAD], usize),
    /// So many bytes of a frame that are not looked at; whether they are header fields.
    Payload(usize, bool),
}

impl Frames {
    pub fn new(allowance: Rc<Allowance>) -> Self {
        Frames { state: State::Preface(0), begun: false, block: false, allowance }
    }

    /// Whether a head has begun and not ended, be it that of the connection.
    pub fn in_head(&self) -> bool {
        self.block || !matches!(self.state, State::Head(_, 0) | State::Payload(_, false))
    }

    /// Whether the preface was one.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Looks at what comes next.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<(), Offence> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = bytes.len() - rest.len();
            match &mut self.state {
                // The library compares it.
                State::Preface(have) => {
                    let count = (PREFACE.len() - *have).min(rest.len());
                    (*have, rest) = (*have + count, &rest[count..]);
                    if *have == PREFACE.len() {
                        self.state = State::Head([0; HEAD], 0);
                    }
                }
                State::Head(head, have) => {
                    let count = (HEAD - *have).min(rest.len());
                    head[*have..*have + count].copy_from_slice(&rest[..count]);
                    (*have, rest) = (*have + count, &rest[count..]);
                    if *have == HEAD {
                        let head = *head;
                        let within = self.frame(head).map_err(|what| Offence { at, what })?;
                        self.state = match length(head) {
                            0 => State::Head([0; HEAD], 0),
                            length => State::Payload(length, within),
                        };
                    }
                }
                State::Payload(left, _) => {
                    let count = (*left).min(rest.len());
                    (*left, rest) = (*left - count, &rest[count..]);
                    if *left == 0 {
                        self.state = State::Head([0; HEAD], 0);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether its payload belongs to a block of header fields.
    fn frame(&mut self, head: [u8; HEAD]) -> Result<bool, &'static str> {
        let [_, _, _, kind, flags, ..] = head;
        if !self.begun {
            self.begun = kind == 4 && flags & ACK == 0;
            return self.begun.then_some(false).ok_or("no SETTINGS after the preface");
        }
        let (cost, what) = match kind {
            // DATA
            0 if length(head) > 0 => {
                self.allowance.moved(length(head));
                (0, "")
            }
            0 if flags & END_STREAM != 0 => (0, ""),
            0 => (1, "too many empty DATA frames"),
            // HEADERS
            1 => {
                self.block = flags & END_HEADERS == 0;
                (1, "too many HEADERS frames of requests that are not served")
            }
            2 => (1, "too many PRIORITY frames"),
            3 => (RESET, "too many RST_STREAM frames"),
            4 => (1, "too many SETTINGS frames"),
            6 => (1, "too many PING frames"),
            8 => (1, "too many WINDOW_UPDATE frames"),
            // CONTINUATION
            9 => {
                self.block = flags & END_HEADERS == 0;
                (1, "too many CONTINUATION frames")
            }
            _ => (1, "too many frames of unknown kinds"),
        };
        match self.allowance.spend(cost) {
            true => Ok(matches!(kind, 1 | 9)),
            false => Err(what),
        }
    }
}

/// That of the frame's payload.
fn length(head: [u8; HEAD]) -> usize {
    let [a, b, c, ..] = head;
    u32::from_be_bytes([0, a, b, c]) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![0, (length >> 8) as u8, length as u8, kind, flags, 0, 0, 0, 1];
        frame.resize(HEAD + length, b'x');
        frame
    }

    fn frames() -> Frames {
        let mut frames = Frames::new(Rc::new(Allowance::new(0)));
        frames.scan(PREFACE).unwrap();
        frames.scan(&frame(4, 0, 6)).unwrap();
        frames
    }

    /// How many times these may come in a row, at most 100,000, while all requests are served.
    fn bearable(sequence: &[Vec<u8>]) -> usize {
        let (mut frames, requests) = (frames(), sequence.iter().filter(|frame| frame[3] == 1).count());
        let sequence = sequence.concat();
        let bears = |_: &i32| {
            let is_bearable = frames.scan(&sequence).is_ok();
            (0..requests).for_each(|_| frames.allowance.request());
            is_bearable
        };
        (0..100_000).take_while(bears).count()
    }

    #[test]
    fn floods_end() {
        for kind in [2, 4, 6, 8, 9, 200] {
            assert_eq!(bearable(&[frame(kind, 0, 4)]), MOST as usize, "{kind}");
        }
        let mut frames = frames();
        let refused = frame(1, END_STREAM | END_HEADERS, 20);
        assert_eq!((0..100_000).take_while(|_| frames.scan(&refused).is_ok()).count(), MOST as usize);
        assert_eq!(bearable(&[frame(0, 0, 0)]), MOST as usize, "empty DATA");
        let (request, reset) = (frame(1, END_STREAM | END_HEADERS, 20), frame(3, 0, 4));
        assert!((MOST / RESET..MOST).contains(&(bearable(&[request.clone(), reset.clone()]) as u32)));
        assert_eq!(bearable(&[request.clone(), frame(6, 0, 8)]), 100_000, "in proportion");
        assert_eq!(bearable(&[request.clone(), request, reset]), 100_000, "every other request ends early");
        assert_eq!(bearable(&[frame(0, 0, 100), frame(8, 0, 4), frame(8, 0, 4)]), 100_000, "an upload");
    }

    #[test]
    fn settings_belong_to_the_preface() {
        for (first, is_good) in [(frame(4, 0, 0), true), (frame(4, ACK, 0), false), (frame(1, 5, 20), false)]
        {
            let mut frames = Frames::new(Rc::new(Allowance::new(0)));
            frames.scan(PREFACE).unwrap();
            assert_eq!((frames.scan(&first).is_ok(), frames.has_begun()), (is_good, is_good), "{first:?}");
        }
    }

    #[test]
    fn answers_and_time_pay() {
        let mut frames = frames();
        let ping = frame(6, 0, 8);
        for second in 0..10_000 {
            frames.allowance.at(second);
            assert_eq!(frames.scan(&ping), Ok(()), "one a second");
        }
        let updates = [frame(8, 0, 4), frame(8, 0, 4)].concat();
        for _ in 0..10_000 {
            frames.allowance.moved(10);
            assert_eq!(frames.scan(&updates), Ok(()), "both windows with each piece");
        }
        while frames.scan(&ping).is_ok() {}
        frames.allowance.answer();
        assert!(frames.scan(&ping).is_ok());
    }

    #[test]
    fn an_offence_begins_with_its_frame() {
        let mut frames = frames();
        frames.allowance.left.set(1);
        let ping = frame(6, 0, 8);
        let offence = frames.scan(&[ping.clone(), ping].concat()).err().unwrap();
        assert_eq!((offence.at, offence.what), (17, "too many PING frames"));
    }

    #[test]
    fn knows_when_it_is_in_a_head() {
        let mut frames = Frames::new(Rc::new(Allowance::new(0)));
        assert!(frames.in_head(), "before the preface");
        frames.scan(PREFACE).unwrap();
        frames.scan(&frame(4, 0, 0)).unwrap();
        assert!(!frames.in_head());
        let headers = frame(1, 0, 20);
        frames.scan(&headers[..4]).unwrap();
        assert!(frames.in_head());
        frames.scan(&headers[4..12]).unwrap();
        assert!(frames.in_head());
        frames.scan(&headers[12..]).unwrap();
        assert!(frames.in_head(), "more fields are to come");
        frames.scan(&frame(9, END_HEADERS, 3)).unwrap();
        assert!(!frames.in_head());
        frames.scan(&frame(0, 0, 30)[..20]).unwrap();
        assert!(!frames.in_head(), "bodies have limits of their own");
    }

    proptest::proptest! {
        /// The cuts between reads make no difference.
        #[test]
        fn reads_may_be_cut_anywhere(
            kinds in proptest::collection::vec((0u8..12, 0u8..8, 0usize..30), 0..40),
            cuts in proptest::collection::vec(0usize..1000, 0..6),
            left in 0u32..20,
        ) {
            let text: Vec<u8> = kinds.iter().flat_map(|(kind, flags, length)| frame(*kind, *flags, *length)).collect();
            let run = |cuts: &[usize]| {
                let mut frames = frames();
                frames.allowance.left.set(left);
                let pieces = cuts.windows(2).try_for_each(|cut| frames.scan(&text[cut[0]..cut[1]]));
                (pieces.map_err(|offence| offence.what), frames.allowance.left.get(), frames.in_head())
            };
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            proptest::prop_assert_eq!(run(&[0, text.len()]), run(&cuts));
        }
    }
}
