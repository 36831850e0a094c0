//! The answer as far as the config decides it, and the configs that make none.

use wasmgate_sdk::{Error, LocalResponse, Result};

use crate::Config;

impl Config {
    /// All of the answer but the dump.
    pub fn answer(&self) -> Result<LocalResponse> {
        self.check()?;
        let mut answer = LocalResponse::new(self.status);
        for (name, value) in &self.headers {
            answer = answer.header(name, header_value(&format!("headers.{name}"), value)?);
        }
        if self.status >= 400 {
            answer = answer.code("terminated");
        }
        answer.detail = self.message.clone();
        match self.body()? {
            Some((content_type, body)) => Ok(answer.header("content-type", content_type).body(body)),
            None => Ok(answer),
        }
    }

    /// The fixed body with its content type.
    fn body(&self) -> Result<Option<(&str, String)>> {
        let (default, body) = match (&self.body, &self.json) {
            (Some(text), _) => ("text/plain; charset=utf-8", text.clone()),
            (_, Some(value)) => ("application/json", value.to_string()),
            _ => return Ok(None),
        };
        let content_type = self.content_type.as_deref().unwrap_or(default);
        Ok(Some((header_value("content_type", content_type)?, body)))
    }

    /// What a schema cannot say.
    fn check(&self) -> Result<()> {
        let has_body = self.body.is_some() || self.json.is_some();
        let has_content = has_body || self.echo;
        let mistakes = [
            (!(200..=599).contains(&self.status), "status: must be 200 to 599"),
            (self.body.is_some() && self.json.is_some(), "json: cannot stand beside `body`"),
            (self.echo && has_body, "echo: cannot stand beside `body` or `json`"),
            (has_content && matches!(self.status, 204 | 205 | 304), "status: an answer with it has no body"),
            (self.message.is_some() && has_content, "message: cannot stand beside a body or `echo`"),
            (self.message.is_some() && self.status < 400, "message: needs a `status` of 400 or more"),
            (self.content_type.is_some() && !has_body, "content_type: needs `body` or `json`"),
            (
                has_content && self.headers.keys().any(|name| &**name == "content-type"),
                "headers.content-type: the body has one, see `content_type`",
            ),
        ];
        match mistakes.into_iter().find(|(made, _)| *made) {
            Some((_, message)) => Err(Error::msg(message)),
            None => Ok(()),
        }
    }
}

/// The value unless no header can hold it (RFC 9110, section 5.5).
fn header_value<'a>(key: &str, value: &'a str) -> Result<&'a str> {
    match value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        true => Err(Error::msg(format_args!("{key}: holds a control character"))),
        false => Ok(value),
    }
}
