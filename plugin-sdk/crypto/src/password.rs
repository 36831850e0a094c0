//! Hashes of passwords: bcrypt and Argon2, and for import what htpasswd writes.

use argon2::{Algorithm, Argon2, Params, Version, password_hash::phc::PasswordHash};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use md5::{Digest, Md5};

use crate::equal;

/// Bytes of a password; a longer one is nobody's.
const MAX_PASSWORD: usize = 4096;
/// Bytes of a hash.
const MAX_HASH: usize = 512;
const MAX_BCRYPT_COST: u32 = 17;
/// KiB of memory.
const MAX_ARGON2_MEMORY: u32 = 1 << 20;
const MAX_ARGON2_PASSES: u32 = 100;

/// What hashes that are made here cost: KiB of memory, and passes (OWASP's least for Argon2id).
const MEMORY: u32 = 19 * 1024;
const PASSES: u32 = 2;
/// Bytes of such a hash.
const OUTPUT: usize = 32;

/// Random bytes of a hash.
pub const SALT: usize = 16;

/// Why a hash cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordFault {
    /// Not one of the kinds that are known.
    Unsupported,
    /// Of a known kind, but not whole.
    Malformed,
    /// It asks for more time or memory than anybody should spend.
    TooCostly,
}

/// A hash that was read, and whose cost is bounded.
pub struct StoredPassword(Kind);

enum Kind {
    Bcrypt(String),
    Argon2 { function: Argon2<'static>, salt: Vec<u8>, output: Vec<u8> },
    Sha1(Vec<u8>),
    Apr1 { salt: String, hash: String },
}

impl StoredPassword {
    pub fn read(hash: &str) -> Result<Self, PasswordFault> {
        if hash.len() > MAX_HASH {
            return Err(PasswordFault::Malformed);
        }
        let kind = match hash {
            _ if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix)) => bcrypt(hash),
            _ if hash.starts_with("$argon2") => argon2(hash),
            _ => match (hash.strip_prefix("$apr1$"), hash.strip_prefix("{SHA}")) {
                (Some(rest), _) => apr1(rest),
                (_, Some(rest)) => sha1(rest),
                _ => Err(PasswordFault::Unsupported),
            },
        };
        kind.map(StoredPassword)
    }

    /// Whether it takes no longer for this password than anything else that a request does.
    pub fn is_cheap(&self, password: &[u8]) -> bool {
        password.len() > MAX_PASSWORD || matches!(self.0, Kind::Sha1(_))
    }

    /// Whether it is the hash of this password. None where there is no memory for that now.
    pub fn verify(&self, password: &[u8]) -> Option<bool> {
        if password.len() > MAX_PASSWORD {
            return Some(false);
        }
        match &self.0 {
            Kind::Bcrypt(hash) => Some(bcrypt::verify(password, hash).unwrap_or(false)),
            Kind::Argon2 { function, salt, output } => {
                let mut found = vec![0; output.len()];
                match function.hash_password_into(password, salt, &mut found) {
                    Ok(()) => Some(equal(&found, output)),
                    Err(argon2::Error::OutOfMemory) => None,
                    Err(_) => Some(false),
                }
            }
            Kind::Sha1(hash) => Some(equal(digest(&SHA1_FOR_LEGACY_USE_ONLY, password).as_ref(), hash)),
            Kind::Apr1 { salt, hash } => {
                Some(equal(md5_crypt(password, salt.as_bytes()).as_bytes(), hash.as_bytes()))
            }
        }
    }
}

/// A hash of a password, with Argon2id. The salt has to be random. None where the password is longer than any may be, or there is
/// no memory for that now.
pub fn hash_password(password: &[u8], salt: [u8; SALT]) -> Option<String> {
    let params = Params::new(MEMORY, PASSES, 1, Some(OUTPUT)).ok()?;
    let function = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut output = [0; OUTPUT];
    let is_short = password.len() <= MAX_PASSWORD;
    is_short.then(|| function.hash_password_into(password, &salt, &mut output).ok()).flatten()?;
    let [salt, output] = [&salt[..], &output].map(|bytes| STANDARD_NO_PAD.encode(bytes));
    Some(format!("$argon2id$v=19$m={MEMORY},t={PASSES},p=1${salt}${output}"))
}

fn bcrypt(hash: &str) -> Result<Kind, PasswordFault> {
    let parts: bcrypt::HashParts = hash.parse().map_err(|_| PasswordFault::Malformed)?;
    match parts.get_cost() {
        0..4 => Err(PasswordFault::Malformed),
        4..=MAX_BCRYPT_COST => Ok(Kind::Bcrypt(hash.to_owned())),
        _ => Err(PasswordFault::TooCostly),
    }
}

/// A hash without a version is one of the first, 1.0.
fn argon2(hash: &str) -> Result<Kind, PasswordFault> {
    let hash = PasswordHash::new(hash).map_err(|_| PasswordFault::Malformed)?;
    let algorithm = match hash.algorithm.as_str() {
        "argon2id" => Algorithm::Argon2id,
        "argon2i" => Algorithm::Argon2i,
        _ => return Err(PasswordFault::Unsupported),
    };
    let version = hash.version.map_or(Ok(Version::V0x10), Version::try_from);
    let version = version.map_err(|_| PasswordFault::Unsupported)?;
    let params = Params::try_from(&hash).map_err(|_| PasswordFault::Malformed)?;
    if params.m_cost() > MAX_ARGON2_MEMORY || params.t_cost() > MAX_ARGON2_PASSES {
        return Err(PasswordFault::TooCostly);
    }
    let (Some(salt), Some(output)) = (&hash.salt, &hash.hash) else { return Err(PasswordFault::Malformed) };
    Ok(Kind::Argon2 {
        function: Argon2::new(algorithm, version, params),
        salt: salt.as_ref().to_vec(),
        output: output.as_bytes().to_vec(),
    })
}

fn sha1(rest: &str) -> Result<Kind, PasswordFault> {
    let hash = STANDARD.decode(rest).ok().filter(|hash| hash.len() == SHA1_FOR_LEGACY_USE_ONLY.output_len());
    hash.map(Kind::Sha1).ok_or(PasswordFault::Malformed)
}

fn apr1(rest: &str) -> Result<Kind, PasswordFault> {
    let (salt, hash) = rest.split_once('$').ok_or(PasswordFault::Malformed)?;
    let is_whole = salt.len() <= 8 && hash.len() == 22 && hash.bytes().all(|byte| ALPHABET.contains(&byte));
    is_whole
        .then(|| Kind::Apr1 { salt: salt.to_owned(), hash: hash.to_owned() })
        .ok_or(PasswordFault::Malformed)
}

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// MD5-crypt in Apache's variant (apr_md5_encode): the 22 characters behind the salt.
fn md5_crypt(password: &[u8], salt: &[u8]) -> String {
    let inner = md5(&[password, salt, password]);
    let mut outer = Md5::new();
    outer.update([password, b"$apr1$", salt].concat());
    for start in (0..password.len()).step_by(inner.len()) {
        outer.update(&inner[..inner.len().min(password.len() - start)]);
    }
    let mut length = password.len();
    while length > 0 {
        outer.update(if length % 2 == 1 { &[0] } else { &password[..1] });
        length /= 2;
    }
    let mut hash: [u8; 16] = outer.finalize().into();
    for round in 0..1000 {
        let odd = round % 2 == 1;
        hash = md5(&[
            if odd { password } else { &hash },
            if round % 3 != 0 { salt } else { b"" },
            if round % 7 != 0 { password } else { b"" },
            if odd { &hash } else { password },
        ]);
    }
    let groups = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    let mut text = String::with_capacity(22);
    for [a, b, c] in groups {
        characters(&mut text, u32::from_be_bytes([0, hash[a], hash[b], hash[c]]), 4);
    }
    characters(&mut text, hash[11].into(), 2);
    text
}

fn md5(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Md5::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// Six bits each, the lowest first.
fn characters(text: &mut String, value: u32, count: u32) {
    for place in 0..count {
        text.push(char::from(ALPHABET[(value >> (6 * place)) as usize % 64]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify(hash: &str, password: &str) -> Result<bool, PasswordFault> {
        Ok(StoredPassword::read(hash)?.verify(password.as_bytes()).unwrap())
    }

    /// Made with htpasswd's, OpenSSL's and the reference implementations.
    const HASHES: [&str; 8] = [
        "$2b$04$VpjDvTLHNuiiGnl4z8xqROkxQnt4yPkw0WIpsJ1RXXmACDkEREJoK",
        "$2y$04$VpjDvTLHNuiiGnl4z8xqROkxQnt4yPkw0WIpsJ1RXXmACDkEREJoK",
        "$2a$04$hqd1c1upuO1Hqu9rxirrHeF.fKEygAZ6wjqcvEoLMJRwMuK7v2cRa",
        "$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHQ$FqGkmHNGCd0BRW2kBt6fPZ2pPmyGwwChL8FGUhTOSSI",
        "$argon2i$v=19$m=64,t=2,p=2$c29tZXNhbHQ$u3EC2QpYDSqhwag4F/JKsYx8yBDM0sKg0MgMlK0pkWc",
        "$argon2i$v=16$m=64,t=2,p=1$c29tZXNhbHQ$Bh21/eJH8YBDyij2rzNMFBJxlNjZOXgA8TmVH6qMZno",
        "$apr1$abcdefgh$FBwExRW4dCc8aL.OvjpIE1",
        "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
    ];

    #[test]
    fn every_kind_knows_its_password() {
        for hash in HASHES {
            assert_eq!(verify(hash, "password"), Ok(true), "{hash}");
            for other in ["Password", "password ", "passwor", "", &"p".repeat(5000)] {
                assert_eq!(verify(hash, other), Ok(false), "{hash}");
            }
        }
        let unversioned = HASHES[5].replace("v=16$", "");
        assert_eq!(verify(&unversioned, "password"), Ok(true));
    }

    #[test]
    fn a_hash_that_is_made_is_one_of_the_password() {
        let hash = hash_password(b"password", [7; SALT]).unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$BwcHBwcHBwcHBwcHBwcHBw$"), "{hash}");
        assert_eq!([verify(&hash, "password"), verify(&hash, "Password")], [Ok(true), Ok(false)]);
        assert_ne!(hash_password(b"password", [8; SALT]).unwrap(), hash);
        assert_eq!(hash_password(&[b'x'; MAX_PASSWORD + 1], [7; SALT]), None);
    }

    #[test]
    fn apr1_of_any_length() {
        for (hash, password) in [
            ("$apr1$xyz$Pix4eE3fQHxJjb6LqtyMK1", String::new()),
            ("$apr1$r31.....$yDNCfb0j32b80ztTpjubw.", "x".repeat(40)),
        ] {
            assert_eq!(verify(hash, &password), Ok(true));
        }
    }

    #[test]
    fn what_is_no_hash_is_an_error() {
        use PasswordFault::{Malformed, TooCostly, Unsupported};
        let argon2 = |params: &str| {
            format!("$argon2id$v=19${params}$c29tZXNhbHQ$FqGkmHNGCd0BRW2kBt6fPZ2pPmyGwwChL8FGUhTOSSI")
        };
        let bcrypt = |cost: &str| HASHES[0].replace("$04$", cost);
        let cases = [
            ("", Unsupported),
            ("password", Unsupported),
            ("$1$abcdefgh$FBwExRW4dCc8aL.OvjpIE1", Unsupported),
            ("$6$salt$hash", Unsupported),
            ("{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", Unsupported),
            (&HASHES[0].replace("$2b$", "$2x$"), Unsupported),
            (&HASHES[3].replace("argon2id", "argon2d"), Unsupported),
            (&HASHES[3].replace("v=19", "v=20"), Unsupported),
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9", Malformed),
            ("{SHA}aaaa", Malformed),
            ("$apr1$abcdefgh", Malformed),
            ("$apr1$abcdefghi$FBwExRW4dCc8aL.OvjpIE1", Malformed),
            ("$apr1$abcdefgh$FBwExRW4dCc8aL.OvjpIE!", Malformed),
            (&HASHES[0][..59], Malformed),
            (&bcrypt("$03$"), Malformed),
            (&bcrypt("$18$"), TooCostly),
            (&bcrypt("$99$"), TooCostly),
            (&argon2("m=1048577,t=1,p=1"), TooCostly),
            (&argon2("m=4294967295,t=1,p=1"), TooCostly),
            (&argon2("m=64,t=101,p=1"), TooCostly),
            (&argon2("m=64,t=2,p=0"), Malformed),
            (&argon2("m=64,t=2,p=16777215"), Malformed),
            (&argon2("m=64,t=x"), Malformed),
            ("$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHQ", Malformed),
            ("$argon2id", Malformed),
            (&"$argon2id$".repeat(100), Malformed),
        ];
        for (hash, fault) in cases {
            assert_eq!(verify(hash, "password"), Err(fault), "{hash}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_hash_panics(start in 0..8_usize, text: String, place: proptest::sample::Index) {
            let hash = HASHES[start];
            let cut = &hash[..place.index(hash.len())];
            for text in [&text, &format!("{cut}{text}")] {
                // Only cheap ones: garbage may ask for any cost.
                let read = StoredPassword::read(text);
                if let Ok(StoredPassword(Kind::Sha1(_) | Kind::Apr1 { .. })) = &read {
                    proptest::prop_assert_eq!(read.ok().and_then(|read| read.verify(b"password")), Some(false));
                }
            }
        }
    }
}
