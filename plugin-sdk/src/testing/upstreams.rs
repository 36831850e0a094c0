//! The upstreams of the fake host: a function of the test, and what is kept of its answers. It answers at once, so nobody
//! waits for the fetch of another.

use std::time::Duration;

use super::host::current;
use crate::host::http_call::{Answer, Failure, Keep, Kept, Outgoing};
use crate::http;

/// What answers requests.
pub type Upstream = dyn Fn(&http::Call) -> Result<http::Answer, http::Failure>;

/// Longest key in bytes.
const MAX_KEY: usize = 1024;

/// An answer that is kept, and the last failure since.
#[derive(Default)]
pub struct Fetched {
    answer: Option<(Answer, u64)>,
    since: Duration,
    failed: Option<(Failure, Duration)>,
}

pub fn send(request: &Outgoing<'_>) -> Result<Answer, Failure> {
    // Called outside of the host, which it may use.
    let upstream = current(|host| host.upstream.clone()).ok_or(Failure::Unknown)?;
    let answer = upstream(&http::Call {
        upstream: request.upstream.to_string(),
        method: request.method.to_string(),
        path_with_query: request.path_with_query.to_string(),
        authority: request.authority.map(str::to_string),
        headers: request.headers.iter().map(|header| (*header).clone()).collect(),
        body: request.body.to_vec(),
        timeout: Duration::from_millis(request.timeout_ms.into()),
        max_body: request.max_body,
    });
    match answer {
        Ok(answer) if answer.body.len() as u64 > u64::from(request.max_body) => Err(Failure::TooLarge),
        Ok(http::Answer { status, headers, body }) => Ok(Answer { status, headers, body }),
        Err(failure) => Err(raw(failure)),
    }
}

pub fn fetch(key: &str, request: &Outgoing<'_>, keep: Keep, known: Option<u64>) -> Result<Kept, Failure> {
    if key.len() > MAX_KEY {
        return Err(Failure::Invalid);
    }
    let [fresh, stale, negative] =
        [keep.fresh_ms, keep.stale_ms, keep.negative_ms].map(|ms| Duration::from_millis(ms.into()));
    let (age, failed, now) = current(|host| {
        let (now, kept) = (host.elapsed, host.kept.entry(key.to_string()).or_default());
        (kept.answer.as_ref().map(|_| now - kept.since), kept.failed, now)
    });
    let is_barred = failed.is_some_and(|(_, at)| now - at < negative);
    if age.is_none_or(|age| age > fresh) && !is_barred {
        let outcome = send(request).and_then(|answer| match answer.status {
            200..300 => Ok(answer),
            _ if keep.only_success => Err(Failure::Refused),
            _ => Ok(answer),
        });
        current(|host| {
            let version = host.kept.values().filter_map(|kept| Some(kept.answer.as_ref()?.1)).max();
            let kept = host.kept.entry(key.to_string()).or_default();
            match outcome {
                Ok(answer) => {
                    let answer = Some((answer, version.unwrap_or(0) + 1));
                    *kept = Fetched { answer, since: now, failed: None };
                }
                Err(failure) => kept.failed = Some((failure, now)),
            }
        });
    }
    current(|host| {
        let kept = host.kept.entry(key.to_string()).or_default();
        let age = now - kept.since;
        match (&kept.answer, kept.failed) {
            (Some((answer, version)), failed) if failed.is_none() || age <= fresh + stale => Ok(Kept {
                version: *version,
                age_ms: age.as_millis() as u64,
                answer: (known != Some(*version)).then(|| answer.clone()),
            }),
            (_, failed) => Err(failed.map_or(Failure::Broken, |(failure, _)| failure)),
        }
    })
}

fn raw(failure: http::Failure) -> Failure {
    match failure {
        http::Failure::Unknown => Failure::Unknown,
        http::Failure::Invalid => Failure::Invalid,
        http::Failure::TimedOut => Failure::TimedOut,
        http::Failure::Unreachable => Failure::Unreachable,
        http::Failure::Broken => Failure::Broken,
        http::Failure::TooLarge => Failure::TooLarge,
        http::Failure::Exhausted => Failure::Exhausted,
        http::Failure::Refused => Failure::Refused,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::http::{Answer, Call, Failure, Keep};
    use crate::testing::Host;

    #[test]
    fn answers_are_kept_as_in_the_gateway() {
        let (asked, down) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        let (count, is_down) = (asked.clone(), down.clone());
        let host = Host::new().answer(move |_| {
            count.set(count.get() + 1);
            if is_down.get() { Err(Failure::Unreachable) } else { Ok(Answer::new(200)) }
        });
        let second = Duration::from_secs(1);
        let keep = Keep { fresh: second, stale: second, negative: second, only_success: false };
        let fetch = |known| host.enter(|| Call::get("u", "/").fetch("k", keep, known));
        let first = fetch(None).unwrap();
        assert!(first.answer.is_some() && fetch(Some(first.version)).unwrap().answer.is_none());
        assert_eq!(asked.get(), 1);
        down.set(true);
        host.advance(second * 3 / 2);
        assert_eq!(fetch(None).unwrap().version, first.version, "stale");
        host.advance(second * 3 / 4);
        assert_eq!(fetch(None), Err(Failure::Unreachable));
        assert_eq!(asked.get(), 2, "failures are kept");
        down.set(false);
        host.advance(second);
        assert!(fetch(None).unwrap().version > first.version);
    }
}
