//! Kinds of content: `application/grpc-web`, its form in text, and what both are to gRPC.

const WEB: &str = "application/grpc-web";
const GRPC: &str = "application/grpc";
const TEXT: &str = "-text";

/// A Content-Type of gRPC-Web.
#[derive(Debug, PartialEq)]
pub struct Media {
    /// The body is base64.
    pub text: bool,
    /// How messages are written, as "+proto", with parameters.
    suffix: String,
}

impl Media {
    /// None for anything else.
    pub fn parse(content_type: &str) -> Option<Media> {
        let (kind, rest) = content_type.split_at_checked(WEB.len())?;
        let text = rest.get(..TEXT.len()).is_some_and(|rest| rest.eq_ignore_ascii_case(TEXT));
        let suffix = if text { &rest[TEXT.len()..] } else { rest };
        let is_kind =
            kind.eq_ignore_ascii_case(WEB) && matches!(suffix.bytes().next(), None | Some(b'+' | b';'));
        is_kind.then(|| Media { text, suffix: suffix.to_string() })
    }

    /// The same of gRPC.
    pub fn of_grpc(&self) -> String {
        format!("{GRPC}{}", self.suffix)
    }

    /// The same of gRPC-Web.
    pub fn of_web(&self, text: bool) -> String {
        format!("{WEB}{}{}", if text { TEXT } else { "" }, self.suffix)
    }

    /// The form that Accept names; the request's own where it names none.
    pub fn answers_in_text(&self, accept: Option<&str>) -> bool {
        let mut wanted = accept.unwrap_or_default().split(',').filter_map(|kind| Media::parse(kind.trim()));
        wanted.next().map_or(self.text, |first| first.text)
    }
}
