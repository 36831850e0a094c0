//! Frames of HTTP/2 are told apart wherever the bytes are cut, and no more of those without a message pass than may.

use std::rc::Rc;

use crate::frames::{Allowance, Frames, PREFACE};

/// The first byte says where it is cut; the rest is what a client sends behind its preface.
pub fn check(data: &[u8]) {
    let Some((cut, sent)) = data.split_first() else { return };
    let all = [&PREFACE[..], sent].concat();
    let whole = read(&all, all.len());
    assert_eq!(whole, read(&all, usize::from(*cut).max(1)), "{sent:?}");
    // What the allowance does not cover is not let through, however long it goes on.
    let pings = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let mut frames = Frames::new(Rc::new(Allowance::new(0)));
    let _ = frames.scan(&all);
    assert!((0..2000).any(|_| frames.scan(&pings).is_err()) || frames.in_head() || is_within_payload(sent));
}

/// What was found, and where, when it comes in pieces of this size.
fn read(bytes: &[u8], size: usize) -> (Option<&'static str>, bool, bool) {
    let mut frames = Frames::new(Rc::new(Allowance::new(0)));
    let fault = bytes.chunks(size).find_map(|piece| frames.scan(piece).err());
    (fault.map(|fault| fault.what), frames.in_head(), frames.has_begun())
}

/// Whether what was sent ends in the middle of a frame's payload, which the pings would then belong to.
fn is_within_payload(mut sent: &[u8]) -> bool {
    while let Some((head, rest)) = sent.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if rest.len() < length {
            return true;
        }
        sent = &rest[length..];
    }
    !sent.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_are_told_apart_wherever_they_are_cut(
            cut in any::<u8>(),
            frames in prop::collection::vec((0_u8..12, any::<u8>(), 0_u8..40, 0_usize..45), 0..30),
        ) {
            let mut data = vec![cut, 0, 0, 0, 4, 0, 0, 0, 0, 0];
            for (kind, flags, length, sent) in frames {
                data.extend([0, 0, length, kind, flags, 0, 0, 0, 1]);
                data.extend(vec![b'x'; sent]);
            }
            super::check(&data);
        }
    }
}
