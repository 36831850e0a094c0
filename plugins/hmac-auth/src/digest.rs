//! Digests of bodies: Content-Digest (RFC 9530) and, of old, Digest (RFC 3230). Those of SHA-256 and SHA-512 count.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sfv::ListEntry;
use wasmgate_sdk::{
    Request,
    crypto::{self, Hash},
};

use crate::{signature::dictionary, signed::Fault};

/// Digests that a body has to have, all of them.
#[derive(Default)]
pub struct Digests(Vec<Vec<u8>>);

impl Digests {
    /// Those of a header.
    pub fn read(&mut self, request: &Request, name: &str) -> Result<(), Fault> {
        let value = request.header_all(name).join(&b", "[..]);
        let found = if name == "digest" { of_old(&value) } else { of_content(&value) };
        // Algorithms that are not known are passed over, so long as one is.
        self.0.extend(found.filter(|found| !found.is_empty()).ok_or("the body's digest cannot be read")?);
        Ok(())
    }

    pub fn are_of(&self, body: &[u8]) -> bool {
        self.0.iter().all(|digest| {
            let hash = if digest.len() == 32 { Hash::Sha256 } else { Hash::Sha512 };
            crypto::equal(crypto::digest(hash, body), digest)
        })
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As bytes, to be kept until the body is there: each with its length before it.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|digest| [&[digest.len() as u8], &digest[..]].concat()).collect()
    }

    pub fn from_bytes(mut bytes: &[u8]) -> Self {
        let mut found = Vec::new();
        while let Some((length, rest)) = bytes.split_first()
            && let Some((digest, rest)) = rest.split_at_checked((*length).into())
        {
            found.push(digest.to_vec());
            bytes = rest;
        }
        Digests(found)
    }
}

/// `sha-256=:BASE64:, sha-512=:BASE64:`; none where one of them is not right.
fn of_content(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for (name, entry) in dictionary(value)? {
        let Some(length) = length(name.as_str()) else { continue };
        let ListEntry::Item(item) = entry else { return None };
        found.push(item.bare_item.as_byte_sequence().filter(|digest| digest.len() == length)?.to_vec());
    }
    Some(found)
}

/// `SHA-256=BASE64,SHA-512=BASE64`; none where one of them is not right, or stands twice.
fn of_old(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    for member in std::str::from_utf8(value).ok()?.split(',') {
        let (name, digest) = member.trim_ascii().split_once('=')?;
        let Some(length) = length(&name.to_ascii_lowercase()) else { continue };
        let digest = STANDARD.decode(digest).ok().filter(|digest| digest.len() == length)?;
        if found.iter().any(|other| other.len() == length) {
            return None;
        }
        found.push(digest);
    }
    Some(found)
}

/// Of a digest in bytes.
fn length(name: &str) -> Option<usize> {
    match name {
        "sha-256" => Some(32),
        "sha-512" => Some(64),
        _ => None,
    }
}
