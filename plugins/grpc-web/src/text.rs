//! Base64 as gRPC-Web has it: pieces that were encoded by themselves, one after the other.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Decodes whole groups of four characters; padding may stand at the end of any.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let mut rest = text;
    while !rest.is_empty() {
        let padded = rest.iter().position(|&byte| byte == b'=').unwrap_or(rest.len() - 1);
        let (piece, after) = rest.split_at_checked((padded / 4 + 1) * 4)?;
        STANDARD.decode_vec(piece, &mut bytes).ok()?;
        rest = after;
    }
    Some(bytes)
}

pub fn encode(bytes: &[u8]) -> Vec<u8> {
    STANDARD.encode(bytes).into_bytes()
}
