//! Lets browsers call services of gRPC: a call of gRPC-Web (PROTOCOL-WEB.md of gRPC) goes on as one of
//! gRPC, and the answer comes back as the browser can read it. What else passes is left alone.

mod media;
#[cfg(test)]
mod tests;
mod text;

use wasmgate_sdk::{
    BodyMode, BodyVerdict, LocalResponse, Plugin, Request, Response, Result, Verdict, plugin,
};

use media::Media;

/// What the client is to be answered in: the Content-Type.
const ANSWER: &str = "grpc-web";
/// What was left of the last piece of a body in text: less than four characters.
const REST: &str = "grpc-web-rest";
/// Set where the answer is none of gRPC: nobody is to get its body.
const MUTE: &str = "grpc-web-mute";

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";

/// Marks the trailers among the frames of a body.
const TRAILERS: u8 = 0x80;

/// "Unknown", where a call ends without a word of how.
const UNKNOWN: u8 = 2;

pub struct GrpcWeb;

#[plugin]
impl Plugin for GrpcWeb {
    type Config = ();

    fn new(_: ()) -> Result<Self> {
        Ok(GrpcWeb)
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        let Some(media) = request.header_str("content-type").and_then(|text| Media::parse(&text)) else {
            return Ok(Verdict::Next);
        };
        if request.method() != "POST" {
            return Ok(Verdict::Next);
        }
        let text = media.answers_in_text(request.header_str("accept").as_deref());
        request.set_var(ANSWER, media.of_web(text))?;
        request.set_header("content-type", media.of_grpc())?;
        if media.text {
            request.set_body_mode(BodyMode::Stream)?;
        }
        Ok(Verdict::Next)
    }

    fn on_request_body(&self, request: &Request, chunk: Vec<u8>, end: bool) -> Result<BodyVerdict> {
        let mut text = request.var(REST).unwrap_or_default();
        text.extend(chunk);
        let rest = text.split_off(text.len() - text.len() % 4);
        let decoded = text::decode(&text).filter(|_| !end || rest.is_empty());
        let Some(bytes) = decoded else {
            let answer = LocalResponse::new(400).code("bad_request").detail("The body is not base64.");
            return Ok(answer.into());
        };
        request.set_var(REST, rest)?;
        Ok(BodyVerdict::Replace(bytes))
    }

    fn on_response(&self, request: &Request, response: &Response) -> Result<Verdict> {
        let Some(answer) = request.var(ANSWER) else {
            return Ok(Verdict::Next);
        };
        let [kind, status] = response.headers(["content-type", STATUS]);
        let is_grpc = kind.is_some_and(|kind| kind.starts_with(b"application/grpc"));
        response.set_header("content-type", answer)?;
        if is_grpc && status.is_some() {
            // The call is over with its head.
            return Ok(Verdict::Next);
        }
        response.set_body_mode(BodyMode::Stream)?;
        if !is_grpc {
            let status = response.status();
            response.set_header(STATUS, of_http(status).to_string())?;
            response.set_header(MESSAGE, format!("answered with HTTP status {status}, not by gRPC"))?;
            response.remove_header("content-encoding")?;
            response.set_status(200)?;
            request.set_var(MUTE, "")?;
        }
        Ok(Verdict::Next)
    }

    fn on_response_body(
        &self,
        request: &Request,
        response: &Response,
        chunk: Vec<u8>,
        end: bool,
    ) -> Result<BodyVerdict> {
        if request.var(MUTE).is_some() {
            return Ok(BodyVerdict::Replace(Vec::new()));
        }
        let text = request.var_str(ANSWER).and_then(|answer| Media::parse(&answer)).is_some_and(|m| m.text);
        if !text && !end {
            return Ok(BodyVerdict::Pass);
        }
        let mut bytes = chunk;
        if end {
            bytes.extend(take_trailers(response));
        }
        Ok(BodyVerdict::Replace(if text { text::encode(&bytes) } else { bytes }))
    }
}

/// The trailers as a frame of the body, in whose place it comes.
fn take_trailers(response: &Response) -> Vec<u8> {
    let mut trailers = response.trailers();
    for (name, _) in &trailers {
        // What may not be removed is not sent after a body either.
        let _ = response.remove_trailer(name);
    }
    if !trailers.iter().any(|(name, _)| name == STATUS) {
        trailers.push((STATUS.to_string(), UNKNOWN.to_string().into()));
        trailers.push((MESSAGE.to_string(), b"the answer ended without a status".to_vec()));
    }
    let mut lines = Vec::new();
    for (name, value) in trailers {
        for part in [name.as_bytes(), b": ", &value, b"\r\n"] {
            lines.extend_from_slice(part);
        }
    }
    // A set of trailers is bounded, far below this.
    let length = u32::try_from(lines.len()).unwrap_or(u32::MAX);
    [&[TRAILERS][..], &length.to_be_bytes(), &lines].concat()
}

/// As gRPC maps statuses of HTTP (http-grpc-status-mapping.md).
fn of_http(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => UNKNOWN,
    }
}
