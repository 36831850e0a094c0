//! Answers of the admin listener; errors as problem details (RFC 9457).

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use schemars::JsonSchema;
use serde::Serialize;

use super::Refusal;

pub struct Answer {
    status: StatusCode,
    media_type: &'static str,
    body: String,
    header: Option<(HeaderName, String)>,
    /// What has changed, for the audit, where the path does not say it.
    pub changed: Option<String>,
}

/// What is wrong (RFC 9457, section 3). Its `type` is about:blank: the status says what kind of problem it is.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Problem {
    /// The status in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What is wrong in this case.
    detail: String,
    /// Faults of the files, each with its place in the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    faults: Vec<String>,
    #[serde(skip)]
    header: Option<Box<(HeaderName, String)>>,
}

impl Answer {
    pub fn of(media_type: &'static str, body: String) -> Answer {
        Answer { status: StatusCode::OK, media_type, body, header: None, changed: None }
    }

    /// 204.
    pub fn none() -> Answer {
        Answer::text("").status(StatusCode::NO_CONTENT)
    }

    pub fn text(body: &str) -> Answer {
        Answer::of("text/plain", body.to_owned())
    }

    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Answer, Problem> {
        let body = serde_json::to_string_pretty(value).map_err(|error| Problem::internal(&error))?;
        Ok(Answer::of("application/json", body + "\n"))
    }

    pub fn status(mut self, status: StatusCode) -> Answer {
        self.status = status;
        self
    }

    /// For the audit. No secret.
    pub fn changed(self, what: impl Into<String>) -> Answer {
        Answer { changed: Some(what.into()), ..self }
    }

    pub fn code(&self) -> StatusCode {
        self.status
    }

    pub fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some((name, value)) = self.header
            && let Ok(value) = HeaderValue::try_from(value)
        {
            headers.insert(name, value);
        }
        response
    }
}

impl From<Problem> for Answer {
    fn from(mut problem: Problem) -> Self {
        let header = problem.header.take().map(|header| *header);
        // Strings and a number are always JSON.
        let body = serde_json::to_string_pretty(&problem).unwrap_or_default() + "\n";
        let answer = Answer::of("application/problem+json", body).status(problem.code());
        Answer { header, ..answer }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownPlugin => {
                Problem::new(StatusCode::NOT_FOUND, "No route has a plugin of this name.")
            }
            Refusal::UnknownUpstream => {
                Problem::new(StatusCode::NOT_FOUND, "There is no upstream of this name.")
            }
            Refusal::UnknownEndpoint => {
                Problem::new(StatusCode::NOT_FOUND, "The upstream has no endpoint of this address.")
            }
            Refusal::NoBreaker => Problem::new(StatusCode::CONFLICT, "The upstream has no breaker."),
            Refusal::NoRollout => Problem::new(StatusCode::CONFLICT, "The plugin is not being rolled out."),
            Refusal::Faults(faults) => {
                let detail = "There are faults; what ran before runs on.";
                Problem { faults, ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
            }
        }
    }
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem {
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            faults: Vec::new(),
            header: None,
        }
    }

    pub fn internal(error: &dyn std::error::Error) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }

    pub fn code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Problem {
        self.header = Some(Box::new((name, value.into())));
        self
    }
}
