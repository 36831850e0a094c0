//! Gives every request an id: for the upstream in a header, for the other plugins and the access
//! log in the variable "request-id", for the client in the response.

use wasmgate_sdk::{HeaderName, Plugin, Request, Result, Verdict, clock, config, plugin, random};

/// The variable that the shipped plugins and the access log read.
const VAR: &str = "request-id";

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// How ids are made and where they go.
#[config]
#[serde(default)]
pub struct Config {
    /// Header that carries the id, upstream and back to the client.
    header: HeaderName,
    /// How a new id is made.
    generator: Generator,
    /// Keep an id that the client sent, if it is a valid one.
    trust_incoming: bool,
    /// Longest id that is kept, in bytes.
    max_len: usize,
    /// Put the id into the response, too.
    echo: bool,
}

#[config]
#[serde(rename_all = "lowercase")]
enum Generator {
    /// 122 random bits (RFC 9562, section 5.4).
    Uuid4,
    /// Milliseconds since 1970 and 74 random bits (RFC 9562, section 5.7): ids sort by time.
    Uuid7,
}

impl Default for Config {
    fn default() -> Self {
        Config { header: HEADER, generator: Generator::Uuid4, trust_incoming: true, max_len: 128, echo: true }
    }
}

pub struct RequestId(Config);

#[plugin]
impl Plugin for RequestId {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(RequestId(config))
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        let id = match self.incoming(request) {
            Some(id) => id,
            None => {
                let id = self.0.generator.id();
                request.set_header(&self.0.header, &id)?;
                id
            }
        };
        if self.0.echo {
            request.set_answer_headers(&[(&*self.0.header, &id)])?;
        }
        request.set_var(VAR, id)?;
        Ok(Verdict::Next)
    }
}

impl RequestId {
    /// The client's id, unless it could forge log lines or there is more than one.
    fn incoming(&self, request: &Request) -> Option<String> {
        if !self.0.trust_incoming {
            return None;
        }
        let [id] = <[Vec<u8>; 1]>::try_from(request.header_all(&self.0.header)).ok()?;
        let valid = (1..=self.0.max_len).contains(&id.len()) && id.iter().all(|&byte| is_id_byte(byte));
        String::from_utf8(id).ok().filter(|_| valid)
    }
}

fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._:/#=+-".contains(&byte)
}

impl Generator {
    fn id(&self) -> String {
        let mut bits = u128::from_be_bytes(random::array());
        let version = match self {
            Generator::Uuid4 => 4,
            Generator::Uuid7 => {
                bits = bits & (u128::MAX >> 48) | clock::now().as_millis() << 80;
                7
            }
        };
        bits = bits & !(0xf << 76) | version << 76;
        bits = bits & !(0b11 << 62) | 0b10 << 62;
        hyphenated(bits)
    }
}

/// RFC 9562, section 4.
fn hyphenated(bits: u128) -> String {
    let mut text = format!("{bits:032x}");
    for place in [20, 16, 12, 8] {
        text.insert(place, '-');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wasmgate_sdk::testing::{Host, Outcome, Request};

    use super::*;

    fn send(config: &str, request: Request) -> Outcome {
        Host::new().load::<RequestId>(config).unwrap().send(request)
    }

    fn upstream_id(outcome: &Outcome) -> String {
        outcome.request().header_str("x-request-id").unwrap()
    }

    #[test]
    fn a_new_id_goes_to_the_upstream_the_variable_and_the_client() {
        let outcome = send("null", Request::get("/"));
        let id = upstream_id(&outcome);
        assert_eq!(id.len(), 36);
        assert_eq!(outcome.request().var_str("request-id"), Some(id.clone()));
        assert_eq!(outcome.response().header_str("x-request-id"), Some(id));
    }

    #[test]
    fn a_valid_incoming_id_is_kept() {
        for id in ["a", "Az09._:/#=+-", &"a".repeat(128)] {
            let outcome = send("null", Request::get("/").header("X-Request-Id", id));
            assert_eq!(upstream_id(&outcome), id);
            assert_eq!(outcome.response().header_str("x-request-id").as_deref(), Some(id));
        }
    }

    #[test]
    fn an_invalid_incoming_id_is_replaced() {
        for id in ["", "a b", "a\"b", "caf\u{e9}", &"a".repeat(129)] {
            let outcome = send("null", Request::get("/").header("x-request-id", id));
            assert_eq!(upstream_id(&outcome).len(), 36, "{id}");
        }
        let two = Request::get("/").header("x-request-id", "a").header("x-request-id", "b");
        let outcome = send("null", two);
        assert_eq!(outcome.request().header_all("x-request-id").len(), 1);
        assert_eq!(upstream_id(&outcome).len(), 36);
    }

    #[test]
    fn options_change_the_rules() {
        let incoming = || Request::get("/").header("x-request-id", "mine");
        assert_eq!(upstream_id(&send(r#"{"trust_incoming": false}"#, incoming())).len(), 36);
        assert_eq!(upstream_id(&send(r#"{"max_len": 3}"#, incoming())).len(), 36);
        assert_eq!(send(r#"{"echo": false}"#, incoming()).response().header("x-request-id"), None);
        let outcome = send(r#"{"header": "x-correlation-id"}"#, incoming());
        assert_eq!(outcome.request().header_str("x-correlation-id").map(|id| id.len()), Some(36));
        assert_eq!(upstream_id(&outcome), "mine");
    }

    #[test]
    fn uuids_have_their_version_and_variant() {
        for (config, version) in [("null", "4"), (r#"{"generator": "uuid7"}"#, "7")] {
            for seed in 0..50 {
                let plugin = Host::new().seed(seed).load::<RequestId>(config).unwrap();
                let id = upstream_id(&plugin.send(Request::get("/")));
                let parts: Vec<&str> = id.split('-').collect();
                assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
                assert_eq!(&parts[2][..1], version, "{id}");
                assert!("89ab".contains(&parts[3][..1]), "{id}");
            }
        }
    }

    #[test]
    fn uuid7_begins_with_the_time() {
        let host = Host::new();
        let plugin = host.load::<RequestId>(r#"{"generator": "uuid7"}"#).unwrap();
        host.advance(Duration::from_millis(1));
        let id = upstream_id(&plugin.send(Request::get("/")));
        // 1767225600001 milliseconds since 1970.
        assert_eq!(&id[..13], "019b76da-a801");
    }

    #[test]
    fn an_unknown_option_is_refused() {
        let error = Host::new().load::<RequestId>(r#"{"generator": "uuid9"}"#).err().unwrap();
        assert_eq!(error.to_string(), "generator: unknown variant `uuid9`, expected `uuid4` or `uuid7`");
    }

    #[test]
    fn a_header_that_cannot_be_set_is_refused() {
        for (header, wrong) in [("x id", "is not a header name"), ("Host", "is the gateway's to set")] {
            let config = format!(r#"{{"header": "{header}"}}"#);
            let error = Host::new().load::<RequestId>(&config).err().unwrap().to_string();
            assert!(error.starts_with("header: ") && error.ends_with(wrong), "{error}");
        }
    }
}
