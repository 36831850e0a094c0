//! Requests of the guest's own.

use std::time::Duration;

use wasmgate_sdk::{
    config,
    http::{self, Answer, Call, Failure, Keep},
};

#[config]
#[serde(default)]
pub struct Asked {
    upstream: String,
    path: String,
    body: String,
    authority: Option<String>,
    timeout_ms: u64,
    max_body: u32,
    /// So many at the same time.
    times: usize,
}

impl Default for Asked {
    fn default() -> Self {
        Asked {
            upstream: "other".to_string(),
            path: "/called".to_string(),
            body: String::new(),
            authority: None,
            timeout_ms: 20_000,
            max_body: 1000,
            times: 1,
        }
    }
}

#[config]
#[serde(default)]
#[derive(Default)]
pub struct Kept {
    fresh_ms: u64,
    stale_ms: u64,
    negative_ms: u64,
    only_success: bool,
}

impl Asked {
    fn call(&self) -> Call {
        let call = Call::post(&self.upstream, &self.path, self.body.as_str());
        Call {
            authority: self.authority.clone(),
            timeout: Duration::from_millis(self.timeout_ms),
            max_body: self.max_body,
            ..call.header("x-from", "a plugin")
        }
    }

    /// What came of it, in words.
    pub fn send(&self) -> String {
        match self.times {
            1 => told(self.call().send()),
            times => {
                http::send_all(&vec![self.call(); times]).into_iter().map(told).collect::<Vec<_>>().join(", ")
            }
        }
    }

    /// With the age of the answer in whole seconds; twice, and the second time it is known.
    pub fn fetch(&self, kept: &Kept) -> String {
        let keep = Keep {
            fresh: Duration::from_millis(kept.fresh_ms),
            stale: Duration::from_millis(kept.stale_ms),
            negative: Duration::from_millis(kept.negative_ms),
            only_success: kept.only_success,
        };
        let fetched = match self.call().fetch(&self.path, keep, None) {
            Ok(fetched) => fetched,
            Err(failure) => return format!("{failure:?}"),
        };
        let again = self.call().fetch(&self.path, keep, Some(fetched.version));
        let is_known = again.is_ok_and(|again| again.version != fetched.version || again.answer.is_none());
        let answer = fetched.answer.map_or_else(|| "no answer".to_string(), |answer| told(Ok(answer)));
        if is_known { answer } else { format!("{answer}, and again") }
    }
}

fn told(outcome: Result<Answer, Failure>) -> String {
    match outcome {
        Ok(answer) => format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)),
        Err(failure) => format!("{failure:?}"),
    }
}
