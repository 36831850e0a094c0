//! What a line of the access log tells, and how.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem::nearest;

/// The form of a line.
#[derive(Clone, Debug, PartialEq)]
pub enum LineFormat {
    /// A JSON object with these fields in this order.
    Json(Vec<Field>),
    /// Combined log format, and more behind it.
    Combined,
    Template(Vec<Piece>),
}

/// A part of a line that is written by a template.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Literal(String),
    Field(Field),
}

/// What can be told of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    Time,
    Client,
    Method,
    Host,
    Path,
    Protocol,
    Status,
    /// Why the gateway or a plugin answered.
    Code,
    Route,
    Upstream,
    Endpoint,
    /// Requests to the upstream that it took.
    Attempts,
    DurationMs,
    BytesIn,
    BytesOut,
    UserAgent,
    Referer,
    RequestId,
    Consumer,
    /// Where traces are on.
    TraceId,
}

impl Field {
    pub const ALL: [Field; 20] = [
        Field::Time,
        Field::Client,
        Field::Method,
        Field::Host,
        Field::Path,
        Field::Protocol,
        Field::Status,
        Field::Code,
        Field::Route,
        Field::Upstream,
        Field::Endpoint,
        Field::Attempts,
        Field::DurationMs,
        Field::BytesIn,
        Field::BytesOut,
        Field::UserAgent,
        Field::Referer,
        Field::RequestId,
        Field::Consumer,
        Field::TraceId,
    ];

    /// As config and log call it.
    pub fn name(self) -> &'static str {
        match self {
            Field::Time => "time",
            Field::Client => "client",
            Field::Method => "method",
            Field::Host => "host",
            Field::Path => "path",
            Field::Protocol => "protocol",
            Field::Status => "status",
            Field::Code => "code",
            Field::Route => "route",
            Field::Upstream => "upstream",
            Field::Endpoint => "endpoint",
            Field::Attempts => "attempts",
            Field::DurationMs => "duration_ms",
            Field::BytesIn => "bytes_in",
            Field::BytesOut => "bytes_out",
            Field::UserAgent => "user_agent",
            Field::Referer => "referer",
            Field::RequestId => "request_id",
            Field::Consumer => "consumer",
            Field::TraceId => "trace_id",
        }
    }
}

/// Text with fields in braces; `{{` and `}}` are braces. The error is the reason.
pub fn template(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}', '\n', '\r']) {
        literal.push_str(&rest[..at]);
        let found = &rest[at..];
        rest = if let Some(after) = found.strip_prefix("{{").or_else(|| found.strip_prefix("}}")) {
            literal.push_str(&found[..1]);
            after
        } else if let Some(inner) = found.strip_prefix('{') {
            let (name, after) =
                inner.split_once('}').ok_or_else(|| format!("`{found}` is never closed by `}}`"))?;
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            pieces.push(Piece::Field(field(name)?));
            after
        } else if found.starts_with('}') {
            return Err("`}` closes nothing; a brace is written `}}`".to_owned());
        } else {
            return Err("a line of the log is one line".to_owned());
        };
    }
    literal.push_str(rest);
    pieces.push(Piece::Literal(literal));
    pieces.retain(|piece| *piece != Piece::Literal(String::new()));
    Ok(pieces)
}

fn field(name: &str) -> Result<Field, String> {
    let known = Field::ALL.into_iter().find(|field| field.name() == name);
    known.ok_or_else(|| match nearest(name, Field::ALL.into_iter().map(Field::name)) {
        Some(near) => format!("unknown field `{name}`, did you mean `{near}`?"),
        None => format!("unknown field `{name}`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_config() {
        for field in Field::ALL {
            assert_eq!(serde_json::to_value(field).unwrap(), field.name());
        }
    }

    #[test]
    fn templates() {
        let literal = |text: &str| Piece::Literal(text.to_owned());
        let pieces = template("{client} {{x}} {status}").unwrap();
        let expected = [Piece::Field(Field::Client), literal(" {x} "), Piece::Field(Field::Status)];
        assert_eq!(pieces, expected);
        assert_eq!(template("").unwrap(), []);
        for (text, told) in [
            ("{clint}", "unknown field `clint`, did you mean `client`?"),
            ("{client", "never closed"),
            ("a } b", "closes nothing"),
            ("a\nb", "one line"),
        ] {
            assert!(template(text).unwrap_err().contains(told), "{text}");
        }
    }
}
