//! The trace of one request: whose it is, whether it is recorded, and the spans of what happens on
//! its way (W3C Trace Context, levels 1 and 2). It must not know where spans go.

use std::{
    fmt,
    sync::Arc,
    time::{Instant, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Spans that a request may have beside its own: the pieces of a body can be any number.
const MAX_SPANS: usize = 128;

/// Which requests are recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Share of the traces that begin here, 0 to 1.
    pub ratio: f64,
    /// What a client says of its trace holds. Otherwise every request begins one.
    pub trust_parent: bool,
}

#[derive(Clone, Debug)]
pub struct Trace {
    pub id: TraceId,
    /// The request's own span.
    pub span: u64,
    /// The client's span.
    pub parent: Option<u64>,
    /// What the client has decided, or the ratio.
    pub sampled: bool,
    /// The id is a random number in its last 56 bits (level 2, section 3.2.2.3).
    random: bool,
    /// Somebody wants to have the spans.
    pub recorded: bool,
    /// The same moment on two clocks: spans are told by the first, in terms of the second.
    pub began: Instant,
    pub began_at: SystemTime,
    /// In the order in which they ended.
    pub spans: Vec<Span>,
    /// Spans that were too many.
    pub dropped: u32,
    call: Option<Called>,
    attempts: Vec<Attempt>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(pub u128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A part of the way that has ended.
#[derive(Clone, Debug)]
pub struct Span {
    pub id: u64,
    pub began: Instant,
    pub ended: Instant,
    pub what: What,
    /// Why it failed.
    pub error: Option<String>,
}

#[derive(Clone, Debug)]
pub enum What {
    Call { plugin: Arc<str>, phase: &'static str },
    Attempt { upstream: Arc<str>, endpoint: Arc<str>, status: Option<u16> },
}

/// A call that has not come back.
#[derive(Clone, Debug)]
struct Called {
    began: Instant,
    plugin: Arc<str>,
    phase: &'static str,
}

/// A request that an upstream has not answered yet.
#[derive(Clone, Debug)]
struct Attempt {
    id: u64,
    began: Instant,
    upstream: Arc<str>,
    endpoint: Arc<str>,
}

impl Trace {
    /// Goes on with the client's trace, or begins one, whose spans are recorded if it is sampled and somebody
    /// is `interested`. From here on `traceparent` names the request's own
    /// span; a `tracestate` without a trace to belong to goes.
    pub fn begin(
        headers: &mut HeaderMap,
        sampling: &Sampling,
        interested: bool,
        random: impl Fn() -> u64,
    ) -> Trace {
        let parent = Parent::of(headers).filter(|_| sampling.trust_parent);
        let (id, sampled, random_id) = match &parent {
            Some(parent) => (parent.trace, parent.sampled, parent.random),
            None => {
                headers.remove(TRACESTATE);
                let id = u128::from(random()) << 64 | u128::from(random());
                (TraceId(id), chosen(id, sampling.ratio), true)
            }
        };
        let trace = Trace {
            id,
            span: random(),
            parent: parent.map(|parent| parent.span),
            sampled,
            random: random_id,
            recorded: sampled && interested,
            began: Instant::now(),
            began_at: SystemTime::now(),
            spans: Vec::new(),
            dropped: 0,
            call: None,
            attempts: Vec::new(),
        };
        trace.name(trace.span, headers);
        trace
    }

    /// A plugin is called; no other one is before [`Self::end_call`].
    pub fn begin_call(&mut self, plugin: &Arc<str>, phase: &'static str) {
        if self.recorded {
            self.call = Some(Called { began: Instant::now(), plugin: plugin.clone(), phase });
        }
    }

    /// It has come back, or will not. Without a call under way nothing happens.
    pub fn end_call(&mut self, error: Option<String>) {
        if let Some(Called { began, plugin, phase }) = self.call.take() {
            let what = What::Call { plugin, phase };
            self.record(rand::random(), began, what, error);
        }
    }

    /// An upstream is asked, with these headers: unless a plugin took the trace out of them, they name the
    /// attempt's span. Returns what [`Self::end_attempt`] is told.
    pub fn begin_attempt(
        &mut self,
        upstream: &Arc<str>,
        endpoint: &Arc<str>,
        headers: &mut HeaderMap,
    ) -> Option<u64> {
        if !self.recorded {
            return None;
        }
        let (upstream, endpoint) = (upstream.clone(), endpoint.clone());
        let attempt = Attempt { id: rand::random(), began: Instant::now(), upstream, endpoint };
        if headers.contains_key(TRACEPARENT) {
            self.name(attempt.id, headers);
        }
        let id = attempt.id;
        self.attempts.push(attempt);
        Some(id)
    }

    /// Its answer has come, or will not.
    pub fn end_attempt(&mut self, id: u64, status: Option<u16>, error: Option<String>) {
        let place = self.attempts.iter().position(|attempt| attempt.id == id);
        if let Some(Attempt { id, began, upstream, endpoint }) =
            place.map(|place| self.attempts.remove(place))
        {
            let what = What::Attempt { upstream, endpoint, status };
            self.record(id, began, what, error);
        }
    }

    /// Those that are under way were cut off.
    pub fn cut_attempts(&mut self, why: impl Fn() -> Option<String>) {
        while let Some(attempt) = self.attempts.last() {
            self.end_attempt(attempt.id, None, why());
        }
    }

    fn record(&mut self, id: u64, began: Instant, what: What, error: Option<String>) {
        if self.spans.len() < MAX_SPANS {
            self.spans.push(Span { id, began, ended: Instant::now(), what, error });
        } else {
            self.dropped += 1;
        }
    }

    /// Writes `traceparent` for this span.
    fn name(&self, span: u64, headers: &mut HeaderMap) {
        let text =
            format!("00-{}-{span:016x}-{:02x}", self.id, u8::from(self.random) << 1 | u8::from(self.sampled));
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(TRACEPARENT, value);
        }
    }
}

/// By the digits that are random in every trace id (level 2, section 5.1), so that all who ask agree.
fn chosen(id: u128, ratio: f64) -> bool {
    const DIGITS: u64 = 1 << 56;
    let point = id as u64 % DIGITS;
    (point as f64) < ratio * DIGITS as f64
}

/// What a client says of its trace.
#[derive(Debug, PartialEq)]
struct Parent {
    trace: TraceId,
    span: u64,
    sampled: bool,
    random: bool,
}

impl Parent {
    /// None where it says nothing, or something else than the standard has (section 3.2).
    fn of(headers: &HeaderMap) -> Option<Parent> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        let text = value.to_str().ok()?;
        let (version, rest) = text.split_once('-')?;
        let version = hex(version, 2)?;
        let mut parts = rest.splitn(4, '-');
        let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
        let (trace, span, flags) = (hex(trace, 32)?, hex(span, 16)?, hex(flags, 2)?);
        // Later versions may say more, the first one may not.
        let strange = version == 0xff || version == 0 && parts.next().is_some();
        if strange || trace == 0 || span == 0 {
            return None;
        }
        let (sampled, random) = (flags & 1 != 0, flags & 2 != 0);
        Some(Parent { trace: TraceId(trace), span: u64::try_from(span).ok()?, sampled, random })
    }
}

/// A number of so many lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let valid = text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    valid.then(|| u128::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const SAMPLING: Sampling = Sampling { ratio: 0.0, trust_parent: true };

    fn headers(parent: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_str(parent).unwrap());
        headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        headers
    }

    #[test]
    fn a_trace_is_gone_on_with() {
        let mut headers = headers(PARENT);
        let trace = Trace::begin(&mut headers, &SAMPLING, true, || 7);
        assert_eq!(trace.id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!((trace.parent, trace.span, trace.sampled), (Some(0xb7ad_6b71_6920_3331), 7, true));
        assert_eq!(headers[TRACEPARENT], "00-0af7651916cd43dd8448eb211c80319c-0000000000000007-01");
        assert_eq!(headers[TRACESTATE], "vendor=1");
    }

    #[test]
    fn what_the_standard_has_not_begins_a_new_trace() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        for text in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            let mut headers = headers(text);
            let trace = Trace::begin(&mut headers, &SAMPLING, true, || 7);
            assert!(trace.parent.is_none() && trace.id.to_string() != id, "{text}");
            assert!(!headers.contains_key(TRACESTATE), "{text}");
        }
        let mut twice = headers(PARENT);
        twice.append(TRACEPARENT, HeaderValue::from_static(PARENT));
        assert_eq!(Parent::of(&twice), None);
        let later = headers("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more");
        assert!(Parent::of(&later).is_some_and(|parent| !parent.sampled));
    }

    #[test]
    fn a_client_that_is_not_trusted_decides_nothing() {
        let sampling = Sampling { ratio: 0.0, trust_parent: false };
        let mut headers = headers(PARENT);
        let trace = Trace::begin(&mut headers, &sampling, true, || 7);
        assert!(trace.parent.is_none() && !trace.sampled);
        assert!(headers[TRACEPARENT].to_str().unwrap().ends_with("-02"), "random, not sampled");
    }

    #[test]
    fn the_ratio_is_kept() {
        for (ratio, range) in [(0.0, 0..=0), (0.1, 800..=1200), (1.0, 10_000..=10_000)] {
            let sampling = Sampling { ratio, trust_parent: true };
            let begin = |_| Trace::begin(&mut HeaderMap::new(), &sampling, true, rand::random).sampled;
            let sampled = (0..10_000).filter(|number| begin(*number)).count();
            assert!(range.contains(&sampled), "{ratio}: {sampled}");
        }
    }

    #[test]
    fn spans_are_bounded_and_only_of_sampled_requests() {
        let plugin = Arc::from("p");
        let mut trace = Trace::begin(&mut headers(PARENT), &SAMPLING, true, || 7);
        for _ in 0..MAX_SPANS + 3 {
            trace.begin_call(&plugin, "request");
            trace.end_call(None);
        }
        assert_eq!((trace.spans.len(), trace.dropped), (MAX_SPANS, 3));
        let mut other = Trace::begin(&mut HeaderMap::new(), &SAMPLING, true, || 7);
        other.begin_call(&plugin, "request");
        other.end_call(None);
        assert_eq!(other.begin_attempt(&plugin, &plugin, &mut HeaderMap::new()), None);
        assert!(other.spans.is_empty());
    }
}
