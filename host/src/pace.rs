//! How slow a client may be: it may keep the gateway waiting for a while, and for longer only as far as it keeps a
//! rate, as with MinRate of Apache's mod_reqtimeout. Only the time in which the client has to act counts. Time is an
//! argument.

use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The longest wait, and what all waits together may take beyond the time that the rate gives.
    pub grace: Duration,
    /// Bytes per second; without one only single waits are held to the limit.
    pub rate: u64,
}

/// What a client has moved, and how long it was waited for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waits {
    moved: u64,
    waited: Duration,
    since: Option<Instant>,
}

impl Waits {
    /// From now on it is the client that has to act, if it was not before.
    pub fn begin(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// The client has acted, and so many bytes moved. The clock is only asked where it was waited for.
    pub fn moved(&mut self, bytes: usize, now: impl FnOnce() -> Instant) {
        self.moved += bytes as u64;
        if let Some(since) = self.since.take() {
            self.waited += now().saturating_duration_since(since);
        }
    }

    /// Another message begins, which has all of its time. A wait that is under way goes on.
    pub fn start_anew(&mut self) {
        *self = Waits { since: self.since, ..Waits::default() };
    }

    /// When the client's time is over; none while nobody waits for it.
    pub fn end(&self, pace: Pace) -> Option<Instant> {
        let overdrawn = match self.moved.saturating_mul(1_000_000).checked_div(pace.rate) {
            None => Duration::ZERO,
            Some(earned) => self.waited.saturating_sub(Duration::from_micros(earned)),
        };
        Some(self.since? + pace.grace.saturating_sub(overdrawn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const PACE: Pace = Pace { grace: Duration::from_secs(10), rate: 100 };

    /// Moves these many bytes after each wait; at which of them the client's time was over.
    fn run(pace: Pace, moves: &[(Duration, usize)]) -> Option<usize> {
        let (mut waits, mut now) = (Waits::default(), Instant::now());
        moves.iter().position(|&(wait, bytes)| {
            waits.begin(now);
            now += wait;
            let over = waits.end(pace).is_some_and(|end| now > end);
            waits.moved(bytes, || now);
            over
        })
    }

    #[test]
    fn a_single_wait_has_its_time_however_much_came_before() {
        assert_eq!(run(PACE, &[(10 * S, 0)]), None);
        assert_eq!(run(PACE, &[(11 * S, 0)]), Some(0));
        assert_eq!(run(PACE, &[(S, 1_000_000), (11 * S, 1)]), Some(1));
        assert_eq!(run(Pace { rate: 0, ..PACE }, &[(10 * S, 1); 100]), None);
    }

    #[test]
    fn a_trickle_ends_and_a_steady_pace_does_not() {
        assert_eq!(run(PACE, &[(S, 1); 100]), Some(10));
        assert_eq!(run(PACE, &[(S, 100); 1000]), None);
        assert_eq!(run(PACE, &[(S, 50); 100]), Some(19), "half of the rate");
    }

    #[test]
    fn only_waits_count() {
        let (mut waits, t) = (Waits::default(), Instant::now());
        waits.begin(t);
        waits.moved(0, || t + 9 * S);
        assert_eq!(waits.end(PACE), None, "nobody waits");
        waits.begin(t + 1000 * S);
        waits.begin(t + 1001 * S);
        assert_eq!(waits.end(PACE), Some(t + 1001 * S), "the first of both counts");
        waits.start_anew();
        assert_eq!(waits.end(PACE), Some(t + 1010 * S));
    }
}
