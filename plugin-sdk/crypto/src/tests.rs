//! Vectors of RFCs and of OpenSSL, and what is refused.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn vectors() -> Value {
    serde_json::from_str(include_str!("tests/vectors.json")).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn algorithm(name: &Value) -> Algorithm {
    Algorithm::named(name.as_str().unwrap()).unwrap()
}

const ALL: [&str; 13] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",
    "ES512", "EdDSA",
];

/// FIPS 180-4.
#[test]
fn digests() {
    let abc = |hash| hex(&digest(hash, b"abc"));
    assert_eq!(abc(Hash::Sha256), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert!(abc(Hash::Sha384).starts_with("cb00753f45a35e8bb5a03d699ac65007272c32ab0eded163"));
    assert!(abc(Hash::Sha512).starts_with("ddaf35a193617abacc417349ae20413112e6fa4e89a97ea2"));
}

/// RFC 4231, cases 1, 2 and 6.
#[test]
fn hmacs() {
    let cases = [
        (
            vec![0x0b; 20],
            "Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6",
            "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
        ),
        (
            b"Jefe".to_vec(),
            "what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
        ),
        (
            vec![0xaa; 131],
            "Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c60c2ef6ab4030fe8296248df163f44952",
            "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
        ),
    ];
    for (key, data, sha256, sha384, sha512) in cases {
        for (hash, expected) in [(Hash::Sha256, sha256), (Hash::Sha384, sha384), (Hash::Sha512, sha512)] {
            let tag = hmac(hash, &key, data.as_bytes());
            assert_eq!(hex(&tag), expected);
            assert!(verify_hmac(hash, &key, data.as_bytes(), &tag));
            assert!(!verify_hmac(hash, &key, data.as_bytes(), &tag[..tag.len() - 1]));
            assert!(!verify_hmac(hash, &key, b"other", &tag));
        }
    }
    assert_eq!(hmac(Hash::Sha256, b"", b"").len(), 32);
}

#[test]
fn equality() {
    assert!(equal(b"", b"") && equal(b"secret", b"secret"));
    assert!(!equal(b"secret", b"secreT") && !equal(b"secret", b"secre") && !equal(b"", b"s"));
}

// Signatures and keys of the RFCs stand in vectors.json by section. Of RFC 7515, A.6 has the signatures of A.2 and A.3, of
// RFC 7520, 4.5 and 4.8.4 that of 4.4, of RFC 7519, 3.1 that of RFC 7515, A.1; RFC 8037, A.5 verifies what A.4 signs. Tokens
// that have to be refused (RFC 7515, A.5 and E, RFC 7519, 6.1, A.1 and A.2) are tests of the plugin jwt. These do not apply:
// - what is encrypted, and agreement on keys (RFC 7517, C, RFC 7518, C, RFC 7520, 5 and 6, RFC 8037, A.6 and A.7): nothing is
//   decrypted here;
// - thumbprints (RFC 8037, A.3): keys are known by `kid`;
// - JSON as a form of signatures (RFC 7515, A.6 and A.7), detached payloads (RFC 7515, F): tokens are compact. What is signed
//   there is verified here.

/// RFC 7515, appendix A, RFC 7520, section 4, RFC 8037, appendix A.
#[test]
fn signatures_of_the_rfcs_are_verified() {
    let vectors = vectors();
    let vectors = vectors["jwk"].as_array().unwrap();
    assert_eq!(vectors.len(), 13);
    for vector in vectors {
        let jwk = vector["jwk"].to_string();
        let key = VerificationKey::from_jwk(&jwk, algorithm(&vector["algorithm"])).unwrap();
        check(vector, &key);
    }
}

/// RFC 7517, appendices A and B, RFC 7520, section 3, RFC 8037, appendix A: what their keys are for, and nothing else.
#[test]
fn keys_of_the_rfcs_are_for_their_algorithms() {
    let vectors = vectors();
    let (keys, signatures) = (vectors["keys"].as_array().unwrap(), vectors["jwk"].as_array().unwrap());
    assert_eq!(keys.len(), 15);
    let mut verified = 0;
    for vector in keys {
        let (jwk, uses) = (&vector["jwk"], vector["algorithms"].as_array().unwrap());
        for name in ALL {
            let made = VerificationKey::from_jwk(&jwk.to_string(), Algorithm::named(name).unwrap());
            assert_eq!(made.is_ok(), uses.contains(&json!(name)), "{} {name}: {made:?}", vector["source"]);
            let Ok(key) = made else { continue };
            let is_own = |member| signatures_by(name, signatures, member, &jwk[member]);
            for signature in ["n", "x", "k"].into_iter().flat_map(is_own) {
                check(signature, &key);
                verified += 1;
            }
        }
    }
    assert_eq!(verified, 16);
}

/// Signatures by this algorithm and a key that has this member.
fn signatures_by<'a>(name: &str, all: &'a [Value], member: &str, value: &Value) -> Vec<&'a Value> {
    let own = |of: &&Value| of["algorithm"] == name && value.is_string() && of["jwk"][member] == *value;
    all.iter().filter(own).collect()
}

/// RFC 7518, section 3.2: secrets are as long as the hash at least. 3.3 and 3.5: RSA keys have 2048 bits at least.
#[test]
fn keys_have_the_sizes_of_rfc_7518() {
    for (name, least) in [("HS256", 32), ("HS384", 48), ("HS512", 64)] {
        let fault =
            |length| VerificationKey::from_secret(&vec![7; length], Algorithm::named(name).unwrap()).err();
        assert_eq!(fault(least - 1).map(|error| error.fault), Some(Fault::Weak), "{name}");
        assert_eq!(fault(least), None, "{name}");
    }
    let short = changed(RSA, "n", json!(URL_SAFE_NO_PAD.encode([127; 256])));
    for name in ALL.into_iter().filter(|name| name.starts_with("RS") || name.starts_with("PS")) {
        assert_eq!(refusal(&short, Algorithm::named(name).unwrap()).0, Fault::Weak, "{name}");
    }
}

/// RFC 7518, section 3.4: both numbers, each as long as the curve's; not the DER of other protocols.
#[test]
fn signatures_of_curves_have_the_form_of_rfc_7518() {
    let vectors = vectors();
    let all = vectors["pem"].as_array().unwrap().iter();
    let of_curves: Vec<_> =
        all.filter(|vector| vector["algorithm"].as_str().unwrap().starts_with("ES")).collect();
    assert_eq!(of_curves.len(), 4);
    for vector in of_curves {
        let signature = URL_SAFE_NO_PAD.decode(vector["signature"].as_str().unwrap()).unwrap();
        let length = match vector["algorithm"].as_str().unwrap() {
            "ES256" => 64,
            "ES384" => 96,
            _ => 132,
        };
        assert_eq!(signature.len(), length);
        let key = VerificationKey::from_pem(vector["pem"].as_str().unwrap(), algorithm(&vector["algorithm"]))
            .unwrap();
        let input = vector["input"].as_str().unwrap().as_bytes();
        assert!(key.verify(input, &signature));
        let (r, s) = signature.split_at(length / 2);
        let numbers = [integer(r), integer(s)].concat();
        let long: &[u8] = if numbers.len() > 127 { &[0x81] } else { &[] };
        assert!(!key.verify(input, &[&[0x30], long, &[numbers.len() as u8], &numbers].concat()));
    }
}

/// A number in DER.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let bytes: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    let sign: &[u8] = if bytes[0] > 127 { &[0] } else { &[] };
    [&[2, (sign.len() + bytes.len()) as u8], sign, &bytes].concat()
}

/// Made with OpenSSL: every kind of key and of PEM.
#[test]
fn signatures_of_pem_keys_are_verified() {
    let vectors = vectors();
    for vector in vectors["pem"].as_array().unwrap() {
        let pem = vector["pem"].as_str().unwrap();
        let key = VerificationKey::from_pem(pem, algorithm(&vector["algorithm"])).unwrap();
        check(vector, &key);
        for other in ALL.into_iter().filter(|name| *name != vector["algorithm"]) {
            // The same RSA key may be one for another algorithm; its signature is not.
            let signature = URL_SAFE_NO_PAD.decode(vector["signature"].as_str().unwrap()).unwrap();
            let other = VerificationKey::from_pem(pem, Algorithm::named(other).unwrap());
            assert!(!other.is_ok_and(|key| key.verify(b"wasmgate", &signature)));
        }
    }
}

/// The signature is the key's of these bytes, and nothing else is.
fn check(vector: &Value, key: &VerificationKey) {
    let input = vector["input"].as_str().unwrap().as_bytes();
    let signature = URL_SAFE_NO_PAD.decode(vector["signature"].as_str().unwrap()).unwrap();
    assert!(key.verify(input, &signature), "{vector}");
    for at in 0..signature.len() {
        let mut changed = signature.clone();
        changed[at] ^= 1;
        assert!(!key.verify(input, &changed));
    }
    assert!(!key.verify(&input[1..], &signature));
    assert!(!key.verify(input, &signature[1..]));
    assert!(!key.verify(input, &[&signature[..], &[0]].concat()));
    assert!(!key.verify(input, &[]));
    // The form of X.509 is not that of JOSE; and nothing is signed by zeros.
    assert!(!key.verify(input, &vec![0; signature.len()]));
}

#[test]
fn algorithms_have_the_names_of_jose() {
    for name in ALL {
        assert_eq!(Algorithm::named(name).unwrap().name(), name);
    }
    assert_eq!(Algorithm::named("Ed25519"), Some(Algorithm::EdDsa));
    for unknown in ["none", "None", "", "hs256", "ES256K", "RS1"] {
        assert_eq!(Algorithm::named(unknown), None);
    }
}

fn refusal(jwk: &Value, algorithm: Algorithm) -> (Fault, String) {
    let error = VerificationKey::from_jwk(&jwk.to_string(), algorithm).unwrap_err();
    (error.fault, error.detail)
}

/// A vector's JWK with a member changed.
fn changed(at: usize, member: &str, value: Value) -> Value {
    let mut jwk = vectors()["jwk"][at]["jwk"].clone();
    jwk[member] = value;
    jwk
}

const HMAC: usize = 0;
const RSA: usize = 1;
const EC: usize = 2;
const ED25519: usize = 12;

#[test]
fn jwks_have_to_be_whole() {
    use Algorithm::{EdDsa, Es256, Hs256, Rs256};
    let short = |bytes: &[u8]| json!(URL_SAFE_NO_PAD.encode(bytes));
    let cases = [
        (changed(RSA, "kty", json!("rsa")), Rs256, Fault::Unsupported, "kty: \"rsa\" is not supported"),
        (changed(RSA, "n", Value::Null), Rs256, Fault::Malformed, "n is missing"),
        (changed(RSA, "n", json!("a+b/")), Rs256, Fault::Malformed, "n is not base64url without padding"),
        (
            changed(RSA, "n", short(&[255; 128])),
            Rs256,
            Fault::Weak,
            "the modulus has 1024 bits, and at least 2048 are needed",
        ),
        (
            changed(RSA, "n", short(&[127; 256])),
            Rs256,
            Fault::Weak,
            "the modulus has 2047 bits, and at least 2048 are needed",
        ),
        (
            changed(RSA, "n", short(&[255; 1025])),
            Rs256,
            Fault::Unsupported,
            "the modulus has 8200 bits, and at most 8192 are supported",
        ),
        (changed(RSA, "n", short(&[254; 256])), Rs256, Fault::Malformed, "the modulus is even"),
        (changed(RSA, "e", short(&[])), Rs256, Fault::Malformed, "the exponent is even"),
        (changed(RSA, "e", short(&[1])), Rs256, Fault::Weak, "the exponent is less than 65537"),
        (changed(RSA, "e", short(&[3])), Rs256, Fault::Weak, "the exponent is less than 65537"),
        (changed(RSA, "e", short(&[1, 0, 0])), Rs256, Fault::Malformed, "the exponent is even"),
        (
            changed(RSA, "e", short(&[1, 0, 0, 0, 1])),
            Rs256,
            Fault::Unsupported,
            "the exponent has more than 32 bits",
        ),
        (
            changed(EC, "crv", json!("secp256k1")),
            Es256,
            Fault::Unsupported,
            "crv: \"secp256k1\" is not supported",
        ),
        (changed(EC, "crv", json!("P-384")), Es256, Fault::Malformed, "x has 32 bytes and not 48"),
        (changed(EC, "x", short(&[1; 31])), Es256, Fault::Malformed, "x has 31 bytes and not 32"),
        (changed(EC, "x", short(&[1; 32])), Es256, Fault::Malformed, "the point is not on the curve"),
        (
            changed(ED25519, "crv", json!("Ed448")),
            EdDsa,
            Fault::Unsupported,
            "crv: \"Ed448\" is not supported",
        ),
        (
            changed(ED25519, "crv", json!("X25519")),
            EdDsa,
            Fault::Unsupported,
            "crv: \"X25519\" is not supported",
        ),
        (changed(ED25519, "x", short(&[1; 33])), EdDsa, Fault::Malformed, "x has 33 bytes and not 32"),
        (
            changed(HMAC, "k", short(&[1; 31])),
            Hs256,
            Fault::Weak,
            "the secret has 31 bytes, and at least 32 are needed",
        ),
        (changed(HMAC, "use", json!("enc")), Hs256, Fault::WrongUse, "use: the key is not for signatures"),
        (
            changed(HMAC, "key_ops", json!(["sign"])),
            Hs256,
            Fault::WrongUse,
            "key_ops: the key is not for verifying",
        ),
        (
            changed(HMAC, "alg", json!("HS512")),
            Hs256,
            Fault::WrongUse,
            "alg: the key is for another algorithm than HS256",
        ),
        (
            changed(HMAC, "alg", json!("none")),
            Hs256,
            Fault::WrongUse,
            "alg: the key is for another algorithm than HS256",
        ),
        (
            changed(RSA, "alg", json!("RS512")),
            Rs256,
            Fault::WrongUse,
            "alg: the key is for another algorithm than RS256",
        ),
    ];
    for (jwk, algorithm, fault, detail) in cases {
        assert_eq!(refusal(&jwk, algorithm), (fault, detail.to_owned()), "{jwk}");
    }
    for accepted in [
        changed(HMAC, "key_ops", json!(["sign", "verify"])),
        changed(HMAC, "alg", json!("HS256")),
        changed(HMAC, "x5c", json!(["unread"])),
    ] {
        assert!(VerificationKey::from_jwk(&accepted.to_string(), Hs256).is_ok());
    }
    assert!(VerificationKey::from_jwk(&changed(ED25519, "alg", json!("Ed25519")).to_string(), EdDsa).is_ok());
    assert!(VerificationKey::from_jwk(&changed(ED25519, "d", json!("private")).to_string(), EdDsa).is_ok());
}

#[test]
fn a_key_is_for_its_kind_of_algorithm() {
    for (at, kinds) in [(HMAC, "HS"), (RSA, "RS PS"), (EC, "ES256"), (ED25519, "Ed")] {
        let jwk = &vectors()["jwk"][at]["jwk"];
        for name in ALL.into_iter().filter(|name| !kinds.split(' ').any(|kind| name.starts_with(kind))) {
            let (fault, detail) = refusal(jwk, Algorithm::named(name).unwrap());
            assert_eq!(fault, Fault::WrongKind, "{detail}");
            assert!(detail.ends_with(&format!("not one for {name}")), "{detail}");
        }
    }
}

#[test]
fn a_public_key_is_no_secret() {
    let vectors = vectors();
    let fault = |secret: &[u8]| VerificationKey::from_secret(secret, Algorithm::Hs256).unwrap_err().fault;
    for vector in vectors["pem"].as_array().unwrap() {
        let pem = vector["pem"].as_str().unwrap();
        assert_eq!(fault(pem.as_bytes()), Fault::WrongKind);
        assert_eq!(fault(format!("\n  {pem}").as_bytes()), Fault::WrongKind);
        let der = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap().1.contents;
        assert_eq!(fault(&der), Fault::WrongKind);
        assert_eq!(VerificationKey::from_pem(pem, Algorithm::Hs256).unwrap_err().fault, Fault::WrongKind);
        let inside = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(pem) });
        assert_eq!(refusal(&inside, Algorithm::Hs256).0, Fault::WrongKind);
    }
    for vector in vectors["jwk"].as_array().unwrap() {
        assert_eq!(fault(vector["jwk"].to_string().as_bytes()), Fault::WrongKind);
    }
    assert_eq!(fault(b"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ"), Fault::WrongKind);
    assert_eq!(fault(&[7; 31]), Fault::Weak);
    assert!(VerificationKey::from_secret(&[7; 32], Algorithm::Hs256).is_ok());
    assert_eq!(VerificationKey::from_secret(&[7; 32], Algorithm::Rs256).unwrap_err().fault, Fault::WrongKind);
}

#[test]
fn pems_have_to_be_public_keys() {
    let vectors = vectors();
    let refused = |pem: &str, algorithm| {
        let error = VerificationKey::from_pem(pem, algorithm).unwrap_err();
        (error.fault, error.detail)
    };
    let named = |name: &str| vectors["refused"][name].as_str().unwrap();
    assert_eq!(refused(named("private"), Algorithm::EdDsa).0, Fault::WrongKind);
    assert_eq!(refused(named("rsa_1024"), Algorithm::Rs256).0, Fault::Weak);
    assert_eq!(refused(named("rsa_exponent_3"), Algorithm::Rs256).0, Fault::Weak);
    assert_eq!(refused(named("secp256k1"), Algorithm::Es256).0, Fault::Unsupported);
    let one = vectors["pem"][0]["pem"].as_str().unwrap();
    let (malformed, unsupported) = (Fault::Malformed, Fault::Unsupported);
    for (pem, fault, detail) in [
        (String::new(), malformed, "there is no PEM in it"),
        (one.repeat(2), malformed, "the PEM holds more than one key"),
        (one[..one.len() / 2].to_owned(), malformed, "the PEM cannot be read"),
        (one.replace("PUBLIC", "SECRET"), unsupported, "the PEM is neither a public key nor a certificate"),
        (one.replace("PUBLIC", "RSA PUBLIC"), malformed, "RSA PUBLIC KEY: not the DER of one"),
    ] {
        assert_eq!(refused(&pem, Algorithm::Rs256), (fault, detail.to_owned()));
    }
}

#[test]
fn errors_quote_no_secret() {
    for text in [
        r#"{"kty":"oct","k":"hush-hush"#,
        r#"{"kty":"oct","k":["hush-hush"]}"#,
        r#"{"kty":"oct","k":"hush hush"}"#,
    ] {
        let error = VerificationKey::from_jwk(text, Algorithm::Hs256).unwrap_err();
        assert!(error.fault == Fault::Malformed && !error.detail.contains("hush"), "{error}");
    }
}

/// A JWK in which anything may be wrong.
fn jwks() -> impl Strategy<Value = Value> {
    let member = prop_oneof![
        Just("kty"),
        Just("use"),
        Just("alg"),
        Just("crv"),
        Just("n"),
        Just("e"),
        Just("x"),
        Just("y"),
        Just("k"),
        Just("key_ops"),
    ];
    let value = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| json!(URL_SAFE_NO_PAD.encode(bytes))),
        any::<String>().prop_map(|text| json!(text)),
        any::<i32>().prop_map(|number| json!(number)),
        Just(Value::Null),
    ];
    (0..13_usize, member, value).prop_map(|(at, member, value)| changed(at, member, value))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in any::<String>(), jwk in jwks(), at in 0..13_usize) {
        let algorithm = Algorithm::named(ALL[at]).unwrap();
        let wrapped = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            base64::engine::general_purpose::STANDARD.encode(&bytes)
        );
        let keys = [
            VerificationKey::from_jwk(&text, algorithm),
            VerificationKey::from_jwk(&jwk.to_string(), algorithm),
            VerificationKey::from_pem(&text, algorithm),
            VerificationKey::from_pem(&wrapped, algorithm),
            VerificationKey::from_secret(&bytes, algorithm),
        ];
        for key in keys.into_iter().flatten() {
            prop_assert!(!key.verify(&bytes, text.as_bytes()) && !key.verify(text.as_bytes(), &bytes));
        }
        let sealer = Sealer::new(&[unhex(&"0123456789abcdef".repeat(4))]).unwrap();
        prop_assert!(sealer.open(&bytes, text.as_bytes()).is_none());
    }

    /// Keys in DER that are one byte off.
    #[test]
    fn no_changed_key_panics(at in 0..12_usize, place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let vectors = vectors();
        let vector = &vectors["pem"][at];
        let mut pem = x509_parser::pem::parse_x509_pem(vector["pem"].as_str().unwrap().as_bytes()).unwrap().1;
        let place = place.index(pem.contents.len());
        pem.contents[place] = byte;
        let text = format!(
            "-----BEGIN {0}-----\n{1}\n-----END {0}-----\n",
            pem.label,
            base64::engine::general_purpose::STANDARD.encode(&pem.contents)
        );
        if let Ok(key) = VerificationKey::from_pem(&text, algorithm(&vector["algorithm"])) {
            key.verify(b"wasmgate", &pem.contents);
        }
    }
}
