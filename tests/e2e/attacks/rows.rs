//! The rows: for each plugin first what passes, then what must not.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use wasmgate_crypto::{Hash, digest, hmac};

pub struct Row {
    pub plugin: &'static str,
    pub what: &'static str,
    /// All but the last one pass; the last one must not.
    pub asks: Vec<Ask>,
    /// For rows that pass: whose they are.
    pub passes: Option<&'static str>,
}

impl Row {
    /// Whether nobody but its plugin says what is in this header.
    pub fn owns(&self, name: &str) -> bool {
        match (self.plugin, name.to_lowercase().replace('_', "-").as_str()) {
            ("forward-auth", "x-user") | ("jwt", "x-role") => true,
            ("forward-auth" | "ip-restriction" | "rate-limit", _) | (_, "x-user" | "x-role") => false,
            _ => true,
        }
    }
}

/// One request on a connection of its own.
#[derive(Clone)]
pub struct Ask {
    line: String,
    pub host: &'static str,
    /// Lines that end in CRLF.
    pub fields: String,
    body: &'static str,
    pub way: Way,
}

#[derive(Clone, Copy)]
pub enum Way {
    Plain,
    /// From this address; 127.0.0.2 is a trusted proxy.
    From(&'static str),
    /// The same by IPv6, in which this address is a mapped one.
    Mapped(&'static str),
    /// Within TLS, with a certificate for these names, or none; of the authority that is asked for, or of another one.
    Certificate {
        names: &'static [&'static str],
        ours: bool,
    },
}

impl Ask {
    pub fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    pub fn target(&self) -> &str {
        self.line.split(' ').next_back().unwrap_or_default()
    }

    pub fn text(&self, more: &str) -> String {
        let Ask { line, host, fields, body, .. } = self;
        format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}{fields}\r\n{body}")
    }

    fn by(self, way: Way) -> Ask {
        Ask { way, ..self }
    }
}

fn ask(target: &str, fields: impl AsRef<str>) -> Ask {
    let fields = fields.as_ref().lines().map(|line| format!("{line}\r\n")).collect();
    Ask { line: format!("GET {target}"), host: "a.test", fields, body: "", way: Way::Plain }
}

/// Rows of one plugin.
struct Table {
    plugin: &'static str,
    rows: Vec<Row>,
}

impl Table {
    fn of(plugin: &'static str) -> Table {
        Table { plugin, rows: Vec::new() }
    }

    fn passes(&mut self, what: &'static str, consumer: &'static str, ask: Ask) {
        let passes = Some(consumer);
        self.rows.push(Row { plugin: self.plugin, what, asks: vec![ask], passes });
    }

    fn fails(&mut self, what: &'static str, ask: Ask) {
        self.fails_after(what, [], ask);
    }

    fn fails_after<const N: usize>(&mut self, what: &'static str, before: [Ask; N], ask: Ask) {
        let mut asks = before.to_vec();
        asks.push(ask);
        self.rows.push(Row { plugin: self.plugin, what, asks, passes: None });
    }
}

/// `trap` is an address that tokens point to, and nobody may follow.
pub fn all(trap: &SocketAddr) -> Vec<Row> {
    let tables = [
        jwt(trap),
        key_auth(),
        basic_auth(),
        hmac_auth(),
        introspection(),
        forward_auth(),
        mtls_auth(),
        auth_any(),
        acl(),
        ip_restriction(),
        rate_limit(),
    ];
    tables.into_iter().flat_map(|table| table.rows).collect()
}

const SECRET: &[u8] = b"a secret of the tests, of which nobody else knows";

/// Alice's, until 2100.
const CLAIMS: &str = r#"{"iss":"https://idp.test","aud":"api","sub":"alice","exp":4102444800}"#;

/// RFC 7515, appendix A.2: a token, and its key in several forms.
const RSA_HEAD: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const RSA_TAG: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
const RSA_MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
pub const RSA_PEM: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAofgWCuLjybRlzo0tZWJj
NiuSfb4p4fAkd/wWJcyQoTbji9k0l8W26mPddxHmfHQp+Vaw+4qPCJrcS2mJPMEz
P1Pt0Bm4d4QlL+yRT+SFd2lZS+pCgNMsD1W/YpRPEwOWvG6b32690r2jZ47soMZo
9wGzjb/7OMg0LOL+bSf63kpaSHSXndS5z5rexMdbBYUsLA9e+KXBdQOS+UTo7WTB
EMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6/I5IhlJH7aGhyxX
FvUK+DWNmoudF8NAco9/h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXp
oQIDAQAB
-----END PUBLIC KEY-----
";

fn rsa_jwk() -> String {
    format!(r#"{{"kty":"RSA","kid":"rsa","n":"{RSA_MODULUS}","e":"AQAB"}}"#)
}

/// The set of the issuer: a public key, and a secret.
pub fn set() -> String {
    let secret = format!(r#"{{"kty":"oct","kid":"secret","k":"{}"}}"#, encoded(SECRET));
    format!(r#"{{"keys":[{},{secret}]}}"#, rsa_jwk())
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Signed with HMAC and SHA-256, whatever the header says.
fn token(header: &str, claims: &str, secret: &[u8]) -> String {
    let signed = format!("{}.{}", encoded(header), encoded(claims));
    let tag = hmac(Hash::Sha256, secret, signed.as_bytes());
    format!("{signed}.{}", encoded(tag))
}

fn bearer(target: &str, token: &str) -> Ask {
    ask(target, format!("Authorization: Bearer {token}"))
}

fn jwt(trap: &SocketAddr) -> Table {
    let mut table = Table::of("jwt");
    let good = token(r#"{"alg":"HS256"}"#, CLAIMS, SECRET);
    let rsa = format!("{RSA_HEAD}.{RSA_TAG}");
    table.passes("a secret", "alice", bearer("/jwt/secret", &good));
    table.passes(
        "the scheme in another case",
        "alice",
        ask("/jwt/secret", format!("authorization: bEARER {good}")),
    );
    table.passes("a public key", "joe", bearer("/jwt/public", &rsa));
    table.passes("a set, its public key", "joe", bearer("/jwt/set", &rsa));
    let named = token(r#"{"alg":"HS256","kid":"secret"}"#, CLAIMS, SECRET);
    table.passes("a set, its secret", "https://idp.test", bearer("/jwt/set", &named));
    jwt_algorithms(&mut table, &good, &rsa);
    jwt_keys(&mut table, trap);
    jwt_claims(&mut table);
    jwt_forms(&mut table, &good);
    table
}

fn jwt_algorithms(table: &mut Table, good: &str, rsa: &str) {
    let secret = |table: &mut Table, what, header: &str| {
        table.fails(what, bearer("/jwt/secret", &token(header, CLAIMS, SECRET)));
    };
    secret(table, "`alg` is `none`, with a signature", r#"{"alg":"none"}"#);
    secret(table, "`alg` is `NoNe`", r#"{"alg":"NoNe"}"#);
    secret(table, "`alg` is in lower case", r#"{"alg":"hs256"}"#);
    secret(table, "`alg` is a list", r#"{"alg":["HS256"]}"#);
    secret(table, "`alg` is not there", r#"{"typ":"JWT"}"#);
    secret(table, "`alg` is there twice", r#"{"alg":"none","alg":"HS256"}"#);
    secret(table, "another algorithm than the config's", r#"{"alg":"HS512"}"#);
    secret(table, "what has to be understood and is not (`crit`)", r#"{"alg":"HS256","crit":["x"],"x":1}"#);
    secret(table, "an unencoded payload (`b64`)", r#"{"alg":"HS256","b64":false}"#);
    secret(table, "another kind of token (`typ`)", r#"{"alg":"HS256","typ":"logout+jwt"}"#);
    let (_, payload) = RSA_HEAD.split_once('.').expect("two parts");
    let none = encoded(r#"{"alg":"none"}"#);
    table.fails(
        "`none` in place of a secret's signature",
        bearer("/jwt/secret", &format!("{none}.{}.", encoded(CLAIMS))),
    );
    table.fails("`none` in place of a key's signature", bearer("/jwt/public", &format!("{none}.{payload}.")));
    table.fails("`none` where keys come from a set", bearer("/jwt/set", &format!("{none}.{payload}.")));
    table.fails("the signature is missing", bearer("/jwt/secret", good.rsplit_once('.').expect("parts").0));
    table.fails("the signature is empty", bearer("/jwt/public", &format!("{RSA_HEAD}.")));
    table.fails(
        "the signature of another token",
        bearer("/jwt/public", &format!("{}.{payload}.{RSA_TAG}", encoded(r#"{"alg":"PS256"}"#))),
    );
    table.fails("RSA's token where a secret is asked for", bearer("/jwt/secret", rsa));
    let (head, _) = good.rsplit_once('.').expect("parts");
    table.fails("a tag of zeros", bearer("/jwt/secret", &format!("{head}.{}", encoded([0; 32]))));
    table.fails("half of the tag", bearer("/jwt/secret", &good[..good.len() - 22]));
}

/// Keys that an attacker has, or would like the gateway to take.
fn jwt_keys(table: &mut Table, trap: &SocketAddr) {
    let (jwk, der) = (rsa_jwk(), RSA_PEM.lines().filter(|line| !line.starts_with('-')).collect::<String>());
    let der = BASE64_STANDARD.decode(der).expect("DER");
    let modulus = BASE64_URL_SAFE_NO_PAD.decode(RSA_MODULUS).expect("a number");
    for (what, target, secret) in [
        ("the public key's PEM as HMAC secret", "/jwt/public", RSA_PEM.as_bytes()),
        ("the public key's PEM without its last line end", "/jwt/public", RSA_PEM.trim_end().as_bytes()),
        ("the public key's DER as HMAC secret", "/jwt/public", &der),
        ("a set: the public key's PEM as HMAC secret", "/jwt/set", RSA_PEM.as_bytes()),
        ("a set: the public key's DER as HMAC secret", "/jwt/set", &der),
        ("a set: the public key's JWK as HMAC secret", "/jwt/set", jwk.as_bytes()),
        ("a set: the modulus as HMAC secret", "/jwt/set", &modulus),
        ("a set: the modulus' text as HMAC secret", "/jwt/set", RSA_MODULUS.as_bytes()),
    ] {
        table.fails(what, bearer(target, &token(r#"{"alg":"HS256","kid":"rsa"}"#, CLAIMS, secret)));
    }
    for (what, kid, secret) in [
        ("`kid` is a path to an empty file", "../../../../dev/null", &b""[..]),
        ("`kid` is a path to a file that is known", "/proc/sys/kernel/ostype", b"Linux\n"),
        ("`kid` is SQL", "x' UNION SELECT 'a' -- ", b"a"),
        ("`kid` is a command", "x; echo a", b"a"),
        ("`kid` is an address", "http://evil.test/key", b"a"),
        ("`kid` is empty", "", b""),
        ("`kid` of nobody", "other", SECRET),
        ("`kid` of the public key, with the secret", "rsa", SECRET),
        ("`kid` in another case", "SECRET", SECRET),
    ] {
        let header = format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#);
        table.fails(what, bearer("/jwt/set", &token(&header, CLAIMS, secret)));
    }
    let own = encoded([7; 32]);
    for (what, member) in [
        ("a key of its own (`jwk`)", format!(r#""jwk":{{"kty":"oct","k":"{own}"}}"#)),
        ("an address of keys (`jku`), which nobody follows", format!(r#""jku":"http://{trap}/jwks.json""#)),
        (
            "an address of certificates (`x5u`), which nobody follows",
            format!(r#""x5u":"http://{trap}/chain.pem""#),
        ),
        ("certificates of its own (`x5c`)", r#""x5c":["MIIB"]"#.to_owned()),
    ] {
        for (place, target) in [("", "/jwt/secret"), (" where keys come from a set", "/jwt/set")] {
            let what = String::leak(format!("{what}{place}"));
            table.fails(
                what,
                bearer(target, &token(&format!(r#"{{"alg":"HS256",{member}}}"#), CLAIMS, &[7; 32])),
            );
        }
    }
}

fn jwt_claims(table: &mut Table) {
    let deep = format!(r#"{{"a":{}{},"sub":"alice","exp":4102444800}}"#, "[".repeat(4000), "]".repeat(4000));
    let huge = format!(r#"{{"a":"{}",{}"#, "x".repeat(20_000), &CLAIMS[1..]);
    for (what, claims) in [
        ("expired", CLAIMS.replace("4102444800", "1300819380")),
        ("not valid yet", CLAIMS.replace('}', r#","nbf":4102444800}"#)),
        ("issued in the future", CLAIMS.replace('}', r#","iat":4102444800}"#)),
        ("without an end", CLAIMS.replace(r#","exp":4102444800"#, "")),
        ("the end is a text", CLAIMS.replace("4102444800", r#""4102444800""#)),
        ("the end is beyond all numbers", CLAIMS.replace("4102444800", "1e999")),
        ("another audience", CLAIMS.replace(r#""api""#, r#""other""#)),
        ("the audience as a part of another one", CLAIMS.replace(r#""api""#, r#"["api.other","apis"]"#)),
        ("no audience", CLAIMS.replace(r#""aud":"api","#, "")),
        ("another issuer", CLAIMS.replace("idp.test", "idp.test.evil.test")),
        ("the issuer in another case", CLAIMS.replace("idp.test", "IDP.test")),
        ("no issuer", CLAIMS.replace(r#""iss":"https://idp.test","#, "")),
        ("no subject", CLAIMS.replace(r#""sub":"alice","#, "")),
        ("a subject of two lines", CLAIMS.replace("alice", r"alice\r\nX-Admin: 1")),
        ("a claim that stands twice", CLAIMS.replace(r#""sub""#, r#""sub":"root","sub""#)),
        ("a claim that stands twice, once escaped", CLAIMS.replace(r#""sub""#, r#""s\u0075b":"root","sub""#)),
        ("claims thousands deep", deep),
        ("a huge token", huge),
        ("claims that are a list", format!("[{CLAIMS}]")),
        ("two objects", format!("{CLAIMS}{CLAIMS}")),
    ] {
        table.fails(what, bearer("/jwt/secret", &token(r#"{"alg":"HS256"}"#, &claims, SECRET)));
    }
}

fn jwt_forms(table: &mut Table, good: &str) {
    let root =
        token(r#"{"alg":"HS256"}"#, &CLAIMS.replace("alice", "root"), b"a secret that is an attacker's own");
    let (head, tag) = good.rsplit_once('.').expect("parts");
    let (first, _) = head.split_once('.').expect("parts");
    let target = "/jwt/secret";
    for (what, ask) in [
        ("no token", ask(target, "")),
        (
            "another payload",
            bearer(target, &format!("{first}.{}.{tag}", encoded(CLAIMS.replace("alice", "root")))),
        ),
        (
            "two headers with tokens, the good one first",
            ask(target, format!("Authorization: Bearer {good}\nAuthorization: Bearer {root}")),
        ),
        (
            "two headers with tokens, the good one last",
            ask(target, format!("Authorization: Bearer {root}\nAuthorization: Bearer {good}")),
        ),
        ("two tokens in one header", bearer(target, &format!("{good}, Bearer {root}"))),
        ("another scheme", ask(target, format!("Authorization: Basic {good}"))),
        ("no scheme", ask(target, format!("Authorization: {good}"))),
        ("another header", ask(target, format!("Proxy-Authorization: Bearer {good}"))),
        ("the token in the query", ask(&format!("{target}?access_token={good}"), "")),
        ("the token in a cookie", ask(target, format!("Cookie: access_token={good}"))),
        ("padding", bearer(target, &format!("{good}="))),
        ("a fourth part", bearer(target, &format!("{good}.{tag}"))),
        ("a token of 60 KiB", bearer(target, &"a".repeat(60_000))),
        (
            "the identity in headers alone",
            ask(target, "X-Consumer-Id: alice\nX_Consumer_Id: alice\nX-Consumer-Username: alice"),
        ),
    ] {
        table.fails(what, ask);
    }
}

fn key_auth() -> Table {
    let mut table = Table::of("key-auth");
    let key = |fields: &str| ask("/key", fields);
    table.passes("a key", "alice", key("X-Api-Key: demo-key"));
    table.passes("the header in another case", "alice", key("x-API-key: demo-key"));
    for (what, fields) in [
        ("no key", ""),
        ("an empty key", "X-Api-Key:"),
        ("a wrong key", "X-Api-Key: demo-kez"),
        ("a part of the key", "X-Api-Key: demo-ke"),
        ("the key in another case", "X-Api-Key: DEMO-KEY"),
        ("the key percent-encoded", "X-Api-Key: demo%2Dkey"),
        ("the key's hash", "X-Api-Key: c48a01f49fd0f2cc404bc3cbbc80e91457a3d41bb429a695243de4c61794155c"),
        (
            "the key's hash in upper case",
            "X-Api-Key: C48A01F49FD0F2CC404BC3CBBC80E91457A3D41BB429A695243DE4C61794155C",
        ),
        ("an expired key", "X-Api-Key: second"),
        ("two keys, the good one first", "X-Api-Key: demo-key\nX-Api-Key: other"),
        ("two keys, the good one last", "X-Api-Key: other\nX-Api-Key: demo-key"),
        ("two keys in one header", "X-Api-Key: demo-key, other"),
        ("the header's twin with underscores", "X_Api_Key: demo-key"),
        ("the key as a token", "Authorization: Bearer demo-key"),
        ("the key in a cookie", "Cookie: x-api-key=demo-key"),
        (
            "the identity in headers alone",
            "X-Consumer-Id: alice\nX_Consumer_Id: alice\nX-Credential-Identifier: demo",
        ),
        ("an anonymous consumer", "X-Anonymous-Consumer: true"),
    ] {
        table.fails(what, key(fields));
    }
    table.fails("the key in the query", ask("/key?x-api-key=demo-key", ""));
    table.fails("a key of 60 KiB", key(&format!("X-Api-Key: {}", "k".repeat(60_000))));
    table.fails(
        "a preflight that is none",
        Ask { line: "OPTIONS /key".to_owned(), ..key("Origin: https://a.test") },
    );
    table
}

fn basic_auth() -> Table {
    let mut table = Table::of("basic-auth");
    let scheme = |scheme: &str, credentials: &str| {
        ask("/basic", format!("Authorization: {scheme} {}", BASE64_STANDARD.encode(credentials)))
    };
    table.passes("name and password", "alice", scheme("Basic", "alice:password"));
    table.passes("the scheme in another case", "alice", scheme("bAsIc", "alice:password"));
    for (what, credentials) in [
        ("a wrong password", "alice:Password"),
        ("no password", "alice:"),
        ("no colon", "alice"),
        ("no name", ":password"),
        ("the name in another case", "Alice:password"),
        ("a name with a space", "alice :password"),
        ("a name of SQL", "alice' OR '1'='1:password"),
        ("a name of two lines", "mallory\nalice:password"),
        (
            "the hash in the password's place",
            "alice:$2y$04$VpjDvTLHNuiiGnl4z8xqROkxQnt4yPkw0WIpsJ1RXXmACDkEREJoK",
        ),
        ("a password with NUL, at which C ends", "alice:password\0other"),
        ("a password with a line end", "alice:password\n"),
        ("a name with NUL", "alice\0:password"),
    ] {
        table.fails(what, scheme("Basic", credentials));
    }
    let (good, other) = ("Authorization: Basic YWxpY2U6cGFzc3dvcmQ=", "Authorization: Basic cm9vdDpyb290");
    for (what, fields) in [
        ("no credentials", String::new()),
        ("two headers, the good one first", format!("{good}\n{other}")),
        ("two headers, the good one last", format!("{other}\n{good}")),
        ("two in one header", format!("{good}, Basic cm9vdDpyb290")),
        ("another scheme", good.replace("Basic", "Bearer")),
        ("the beginning of the scheme", good.replace("Basic", "Bas")),
        ("no scheme", good.replace("Basic ", "")),
        ("credentials that are not encoded", "Authorization: Basic alice:password".to_owned()),
        ("another header", good.replace("Authorization", "Proxy-Authorization")),
        ("the identity in headers alone", "X-Consumer-Id: alice\nX_Consumer_Id: alice".to_owned()),
    ] {
        table.fails(what, ask("/basic", fields));
    }
    table.fails("a password of 40 KiB", scheme("Basic", &format!("alice:{}", "p".repeat(40_000))));
    table
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

const HMAC_SECRET: &[u8] = b"a secret of the tests";

/// A signature with these parameters, over a request with this method and target of a.test and this Content-Digest.
fn signed(method: &str, target: &str, digest: &str, params: &str, secret: &[u8]) -> (String, Vec<u8>) {
    let (names, _) = params.split_once(')').expect("a list of components");
    let mut base = String::new();
    for (name, value) in
        [("@method", method), ("@target-uri", &format!("http://a.test{target}")), ("content-digest", digest)]
    {
        if names.contains(name) {
            base += &format!("\"{name}\": {value}\n");
        }
    }
    base += &format!("\"@signature-params\": {params}");
    (params.to_owned(), hmac(Hash::Sha256, secret, base.as_bytes()))
}

/// The fields of such a signature.
fn fields((params, mac): &(String, Vec<u8>)) -> String {
    format!("Signature-Input: sig={params}\nSignature: sig=:{}:", BASE64_STANDARD.encode(mac))
}

fn hmac_auth() -> Table {
    let mut table = Table::of("hmac-auth");
    let list = "(\"@method\" \"@target-uri\")";
    let params = |created: u64, more: &str| format!("{list};created={created};keyid=\"k1\"{more}");
    let sign = |params: &str| signed("GET", "/hmac", "", params, HMAC_SECRET);
    let with = |params: &str| ask("/hmac", fields(&sign(params)));
    table.passes("a signature", "alice", with(&params(now(), ";nonce=\"1\"")));
    table.passes("a signed body", "alice", body("hello", "hello", "2"));
    let once = with(&params(now(), ";nonce=\"3\""));
    table.fails_after("replay", [once.clone()], once);
    let nonce = |tag: &str| {
        ask(
            "/hmac",
            fields(&signed("GET", "/hmac", "", &params(now(), &format!(";nonce=\"4\"{tag}")), HMAC_SECRET)),
        )
    };
    table.fails_after("replay of a nonce, signed anew", [nonce("")], nonce(";tag=\"x\""));
    let bare = with(&params(now() - 1, ""));
    table.fails_after("replay without a nonce", [bare.clone()], bare);
    for (what, params) in [
        ("older than the window", params(now() - 400, ";nonce=\"5\"")),
        ("newer than the window", params(now() + 400, ";nonce=\"6\"")),
        ("expired", params(now(), &format!(";expires={};nonce=\"7\"", now() - 60))),
        ("without its time", format!("{list};keyid=\"k1\";nonce=\"8\"")),
        ("without the key's name", format!("{list};created={};nonce=\"9\"", now())),
        ("another's key", params(now(), ";nonce=\"10\"").replace("k1", "k2")),
        ("the key's name in another case", params(now(), ";nonce=\"11\"").replace("k1", "K1")),
        ("nobody's key", params(now(), ";nonce=\"12\"").replace("k1", "../k1")),
        ("`alg` is `none`", params(now(), ";alg=\"none\";nonce=\"13\"")),
        ("`alg` is another one", params(now(), ";alg=\"hmac-sha512\";nonce=\"14\"")),
        ("`alg` is for public keys", params(now(), ";alg=\"rsa-v1_5-sha256\";nonce=\"15\"")),
        ("less is signed than has to be", params(now(), ";nonce=\"16\"").replace(" \"@target-uri\"", "")),
        (
            "a component twice",
            params(now(), ";nonce=\"17\"").replace("\"@method\"", "\"@method\" \"@method\""),
        ),
        ("a time that stands twice", params(now() - 400, &format!(";created={};nonce=\"18\"", now()))),
    ] {
        table.fails(what, with(&params));
    }
    let fresh = |nonce: &str| sign(&params(now(), &format!(";nonce=\"{nonce}\"")));
    let mac = |nonce: &str, tell: &dyn Fn(&[u8]) -> String| {
        let (params, mac) = fresh(nonce);
        ask("/hmac", format!("Signature-Input: sig={params}\nSignature: sig=:{}:", tell(&mac)))
    };
    let hex = |mac: &[u8]| mac.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let changed = |line: &str, fields: String| Ask { line: line.to_owned(), ..ask("/hmac", fields) };
    let of = |nonce: &str| fields(&fresh(nonce));
    for (what, ask) in [
        ("no signature", ask("/hmac", "")),
        ("a signature in hex", mac("20", &hex)),
        ("a signature in hex, upper case", mac("21", &|mac| hex(mac).to_uppercase())),
        ("half of the signature", mac("22", &|mac| BASE64_STANDARD.encode(&mac[..16]))),
        ("an empty signature", mac("23", &|_| String::new())),
        ("another path", changed("GET /hmac?admin=1", of("24"))),
        ("another method", changed("DELETE /hmac", of("25"))),
        ("another host", Ask { host: "b.test", ..ask("/hmac", of("26")) }),
        ("two signatures", ask("/hmac", format!("{}\n{}", of("27"), of("28")))),
        (
            "two signatures of two names",
            ask("/hmac", format!("{}\n{}", of("29"), of("30").replace("sig=", "other="))),
        ),
        (
            "the headers' twins with underscores",
            ask("/hmac", of("31").replace("Signature-Input", "Signature_Input")),
        ),
        ("another body", body("hello", "hullo", "32")),
        ("a body that is not signed", {
            let ask = ask("/hmac", format!("{}\nContent-Length: 5", of("33")));
            Ask { line: "GET /hmac".to_owned(), body: "hello", ..ask }
        }),
        ("the old form without a date", ask("/hmac", legacy(&["request-line"], "hmac-sha256", now()))),
        (
            "the old form with an old date",
            ask("/hmac", legacy(&["date", "request-line"], "hmac-sha256", now() - 400)),
        ),
        ("the old form with SHA-1", ask("/hmac", legacy(&["date", "request-line"], "hmac-sha1", now()))),
        (
            "both forms",
            ask(
                "/hmac",
                format!("{}\n{}", of("34"), legacy(&["date", "request-line"], "hmac-sha256", now())),
            ),
        ),
        ("the identity in headers alone", ask("/hmac", "X-Consumer-Id: alice\nX_Consumer_Id: alice")),
    ] {
        table.fails(what, ask);
    }
    table.passes(
        "the old form",
        "alice",
        ask("/hmac", legacy(&["date", "request-line"], "hmac-sha256", now())),
    );
    table
}

/// A POST that is signed with one body and sent with another, as long as that.
fn body(promised: &str, sent: &'static str, nonce: &str) -> Ask {
    let digest = format!("sha-256=:{}:", BASE64_STANDARD.encode(digest(Hash::Sha256, promised.as_bytes())));
    let params = format!(
        "(\"@method\" \"@target-uri\" \"content-digest\");created={};keyid=\"k1\";nonce=\"{nonce}\"",
        now()
    );
    let signature = fields(&signed("POST", "/hmac", &digest, &params, HMAC_SECRET));
    let fields = format!("Content-Digest: {digest}\nContent-Length: {}\n{signature}", sent.len());
    Ask { line: "POST /hmac".to_owned(), body: sent, ..ask("/hmac", fields) }
}

/// A signature of the old form over these lines, at this time.
fn legacy(names: &[&str], algorithm: &str, at: u64) -> String {
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(at));
    let lines: Vec<_> = names
        .iter()
        .map(|name| match *name {
            "date" => format!("date: {date}"),
            _ => "GET /hmac HTTP/1.1".to_owned(),
        })
        .collect();
    let mac = BASE64_STANDARD.encode(hmac(Hash::Sha256, HMAC_SECRET, lines.join("\n").as_bytes()));
    format!(
        "Date: {date}\nAuthorization: hmac username=\"k1\", algorithm=\"{algorithm}\", headers=\"{}\", signature=\"{mac}\"",
        names.join(" ")
    )
}

fn introspection() -> Table {
    let mut table = Table::of("oauth2-introspection");
    let bearer = |token: &str| bearer("/oauth2", token);
    table.passes("a token", "alice", bearer("alice"));
    for (what, token) in [
        ("a token that nobody knows", "other"),
        ("a token in another case", "ALICE"),
        ("an answer in words (`\"active\": \"true\"`)", "words"),
        ("an answer in numbers (`\"active\": 1`)", "number"),
        ("an answer with two opinions", "twice"),
        ("an answer that is a list", "list"),
        ("an answer thousands deep", "deep"),
        ("an answer that is no JSON", "page"),
        ("expired", "expired"),
        ("not valid yet", "early"),
        ("another audience", "elsewhere"),
        ("another issuer", "issued-elsewhere"),
        ("nobody's", "nobody"),
        ("a second token in the question's form", "other&token=alice"),
        ("the same, encoded", "other%26token%3Dalice"),
    ] {
        table.fails(what, bearer(token));
    }
    for (what, fields) in [
        ("no token", ""),
        ("two headers, the good one first", "Authorization: Bearer alice\nAuthorization: Bearer other"),
        ("two headers, the good one last", "Authorization: Bearer other\nAuthorization: Bearer alice"),
        ("another scheme", "Authorization: Basic alice"),
        ("the identity in headers alone", "X-Consumer-Id: alice\nX_Consumer_Id: alice"),
    ] {
        table.fails(what, ask("/oauth2", fields));
    }
    table.fails("a token of 60 KiB", bearer(&"a".repeat(60_000)));
    table
}

fn forward_auth() -> Table {
    let mut table = Table::of("forward-auth");
    table.passes("the service lets it pass", "", ask("/forward", "Cookie: session=good"));
    table.passes("a path that it lets pass", "", ask("/forward/public", ""));
    table.passes("the service fails, and may", "", ask("/open", ""));
    for (what, fields) in [
        ("the service refuses", ""),
        ("another path, as a header says", "X-Forwarded-Uri: /forward/public"),
        ("the same with underscores", "X_Forwarded_Uri: /forward/public"),
        ("another method, as a header says", "X-Forwarded-Method: OPTIONS"),
        ("another host, as a header says", "X-Forwarded-Host: public.test"),
        ("another address, as a header says", "X-Forwarded-For: 10.1.1.1"),
        ("the service's own answer", "X-User: alice\nX-Consumer-Id: alice"),
    ] {
        table.fails(what, ask("/forward", fields));
    }
    table.fails("a path within another one", ask("/forward/x?/forward/public", ""));
    table.fails("the service fails", ask("/forward/broken", "Cookie: session=good"));
    table
}

fn mtls_auth() -> Table {
    let mut table = Table::of("mtls-auth");
    let shows = |names| ask("/mtls", "").by(Way::Certificate { names, ours: true });
    table.passes("a certificate", "user", shows(&["user.test"]));
    table.passes("a certificate with a URI", "web", shows(&["x.test", "spiffe://corp/ns/a/sa/web"]));
    table.fails("no certificate", shows(&[]));
    table.fails("no TLS", ask("/mtls", ""));
    let claims = "X-Forwarded-Client-Cert: Subject=\"CN=user.test\";DNS=user.test\nX-SSL-Client-Verify: SUCCESS\nX-SSL-Client-S-DN: CN=user.test\nX-Consumer-Id: user";
    table.fails("a certificate that a header tells of", ask("/mtls", claims));
    table.fails("the same within TLS", ask("/mtls", claims).by(Way::Certificate { names: &[], ours: true }));
    let other = Way::Certificate { names: &["user.test"], ours: false };
    table.fails("a certificate of another authority with the same name", ask("/mtls", "").by(other));
    for (what, names) in [
        ("another name", &["root.test"][..]),
        ("a name below", &["x.user.test"]),
        ("a name with more behind it", &["user.test.evil.test"]),
        ("a wildcard", &["*.test"]),
        ("the URI as a subject", &["web"]),
        ("a URI with more segments", &["x.test", "spiffe://corp/ns/a/b/sa/web"]),
        ("a URI with an empty segment", &["x.test", "spiffe://corp/ns//sa/web"]),
        ("a URI of another domain", &["x.test", "spiffe://corp.evil.test/ns/a/sa/web"]),
        ("a URI in another case", &["x.test", "spiffe://corp/NS/a/sa/web"]),
        ("a URI with an escaped slash", &["x.test", "spiffe://corp/ns%2Fa/sa/web"]),
    ] {
        table.fails(what, shows(names));
    }
    table
}

fn auth_any() -> Table {
    let mut table = Table::of("auth-any");
    let claims = r#"{"sub":"alice","exp":4102444800}"#;
    let bad = token(r#"{"alg":"HS256"}"#, claims, b"a secret that is an attacker's own");
    table.passes("a key", "alice", ask("/any", "X-Api-Key: demo-key"));
    table.passes("a token", "alice", bearer("/any", &token(r#"{"alg":"HS256"}"#, claims, SECRET)));
    for (what, fields) in [
        ("nothing", String::new()),
        ("a bad token", format!("Authorization: Bearer {bad}")),
        ("a bad key", "X-Api-Key: other".to_owned()),
        ("both bad", format!("Authorization: Bearer {bad}\nX-Api-Key: other")),
        ("the key as a token", "Authorization: Bearer demo-key".to_owned()),
        (
            "`none` and a bad key",
            format!(
                "Authorization: Bearer {}.{}.\nX-Api-Key: other",
                encoded(r#"{"alg":"none"}"#),
                encoded(claims)
            ),
        ),
        (
            "the identity in headers alone",
            "X-Consumer-Id: alice\nX_Consumer_Id: alice\nX-Anonymous-Consumer: false".to_owned(),
        ),
    ] {
        table.fails(what, ask("/any", fields));
    }
    table
}

fn acl() -> Table {
    let mut table = Table::of("acl");
    let alice = |target: &str, more: &str| ask(target, format!("X-Api-Key: demo-key\n{more}"));
    table.passes("what staff may", "alice", alice("/acl/open/1", ""));
    let groups = "X-Consumer-Groups: admins\nX_Consumer_Groups: admins\nX-Consumer-Id: root\nX-Consumer-Username: root";
    table.fails("what admins may", alice("/acl/secret", ""));
    table.fails("groups that the client says", alice("/acl/secret", groups));
    table.fails("groups that nobody says", ask("/nobody", groups));
    for (what, target) in [
        ("dot segments", "/acl/open/../secret"),
        ("escaped dot segments", "/acl/open/%2e%2e/secret"),
        ("escaped slashes", "/acl/open%2f..%2fsecret"),
        ("backslashes", "/acl/open\\..\\secret"),
        ("parameters of a path", "/acl/open;/../secret"),
        ("two slashes", "/acl//secret"),
        ("another case", "/acl/OPEN/1"),
        ("the path in the query", "/acl/secret?/acl/open/1"),
        ("the path in a fragment", "/acl/secret#/acl/open/1"),
        ("a name that begins like it", "/acl/opener"),
    ] {
        table.fails(what, alice(target, ""));
    }
    for (what, field) in [
        ("another path, as a header says", "X-Original-Url: /acl/open/1\nX-Rewrite-Url: /acl/open/1"),
        ("another method, as a header says", "X-Http-Method-Override: GET"),
    ] {
        table.fails(what, alice("/acl/secret", field));
    }
    let changed = |line: &str| Ask { line: line.to_owned(), ..alice("/", "") };
    table.fails("another method", changed("DELETE /acl/open/1"));
    table.fails("a method in lower case", changed("get /acl/open/1"));
    table
}

fn ip_restriction() -> Table {
    let mut table = Table::of("ip-restriction");
    let proxy = |target, fields: &str| ask(target, fields).by(Way::From("127.0.0.2"));
    table.passes("a client behind a trusted proxy", "", proxy("/ip/allow", "X-Forwarded-For: 10.1.1.1"));
    table.passes("the same as mapped IPv6", "", proxy("/ip/allow", "X-Forwarded-For: ::ffff:10.1.1.1"));
    table.passes("who is not denied", "", ask("/ip/deny", ""));
    table.passes("who is not denied, by IPv6", "", ask("/ip/deny", "").by(Way::Mapped("127.0.0.1")));
    table.passes("who is not the proxy", "", ask("/ip/peer", "X-Forwarded-For: 127.0.0.2"));
    for (what, fields) in [
        ("an address that is not allowed", ""),
        ("`X-Forwarded-For` of a client", "X-Forwarded-For: 10.1.1.1"),
        ("`X_Forwarded_For` of a client", "X_Forwarded_For: 10.1.1.1"),
        ("`Forwarded` of a client", "Forwarded: for=10.1.1.1"),
        (
            "further headers of a client",
            "X-Real-Ip: 10.1.1.1\nX-Client-Ip: 10.1.1.1\nTrue-Client-Ip: 10.1.1.1\nCf-Connecting-Ip: 10.1.1.1",
        ),
    ] {
        table.fails(what, ask("/ip/allow", fields));
    }
    for (what, fields) in [
        ("a trusted proxy: the client's own entry first", "X-Forwarded-For: 10.1.1.1, 192.0.2.7"),
        (
            "a trusted proxy: the client's own line first",
            "X-Forwarded-For: 10.1.1.1\nX-Forwarded-For: 192.0.2.7",
        ),
        ("a trusted proxy: something behind it that is no address", "X-Forwarded-For: 10.1.1.1, unknown"),
        ("a trusted proxy: something behind it that is empty", "X-Forwarded-For: 10.1.1.1,"),
        (
            "a trusted proxy: the client's own twin with underscores",
            "X-Forwarded-For: 192.0.2.7\nX_Forwarded_For: 10.1.1.1",
        ),
        (
            "a trusted proxy: the client's own `Forwarded`",
            "X-Forwarded-For: 192.0.2.7\nForwarded: for=10.1.1.1",
        ),
        ("a trusted proxy: the address in octal", "X-Forwarded-For: 012.1.1.1"),
        ("a trusted proxy: nothing is said", ""),
    ] {
        table.fails(what, proxy("/ip/allow", fields));
    }
    for (what, address) in [
        ("denied, and behind a proxy", "10.0.0.1"),
        ("denied, as mapped IPv6", "::ffff:10.0.0.1"),
        ("denied, as mapped IPv6 in hex", "::ffff:a00:1"),
        ("denied, as mapped IPv6 in upper case", "::FFFF:0A00:0001"),
        ("denied, as mapped IPv6 at full length", "0000:0000:0000:0000:0000:ffff:10.0.0.1"),
        ("denied, with a port", "10.0.0.1:4711"),
        ("denied, as mapped IPv6 with a port", "[::ffff:10.0.0.1]:4711"),
    ] {
        table.fails(what, proxy("/ip/deny", &format!("X-Forwarded-For: {address}")));
    }
    table
        .fails("denied, connected", ask("/ip/deny", "X-Forwarded-For: 192.0.2.7").by(Way::From("127.0.0.9")));
    table.fails("denied, connected by mapped IPv6", ask("/ip/deny", "").by(Way::Mapped("127.0.0.9")));
    table.fails("denied as the peer", proxy("/ip/peer", "X-Forwarded-For: 192.0.2.7"));
    table
}

fn rate_limit() -> Table {
    let mut table = Table::of("rate-limit");
    table.passes("the first one", "", ask("/rate", ""));
    for (what, fields) in [
        ("the second one", ""),
        ("`X-Forwarded-For` of a client", "X-Forwarded-For: 192.0.2.1"),
        ("`X_Forwarded_For` of a client", "X_Forwarded_For: 192.0.2.1"),
        ("`Forwarded` of a client", "Forwarded: for=192.0.2.1"),
        (
            "further headers of a client",
            "X-Real-Ip: 192.0.2.1\nX-Client-Ip: 192.0.2.1\nTrue-Client-Ip: 192.0.2.1",
        ),
        ("another consumer, as a header says", "X-Consumer-Id: other\nX_Consumer_Id: other"),
    ] {
        table.fails(what, ask("/rate", fields));
    }
    table.fails("another query", ask("/rate?1", ""));
    table.fails("another way to write the path", ask("/x/../rate", ""));
    table.fails("by mapped IPv6", ask("/rate", "").by(Way::Mapped("127.0.0.1")));
    let proxy = |client: &str| ask("/rate", format!("X-Forwarded-For: {client}")).by(Way::From("127.0.0.2"));
    for (what, first, second) in [
        ("a trusted proxy: the client's own entry first", "192.0.2.10", "198.51.100.1, 192.0.2.10"),
        ("a trusted proxy: mapped IPv6", "192.0.2.11", "::ffff:192.0.2.11"),
        ("a trusted proxy: with a port", "192.0.2.12", "192.0.2.12:4711"),
        ("a trusted proxy: IPv6 written otherwise", "2001:db8::1", "2001:0DB8:0:0::1"),
        ("a trusted proxy: another address of the same network", "2001:db8:1::1", "2001:db8:1::2"),
    ] {
        table.fails_after(what, [proxy(first)], proxy(second));
    }
    table
}
