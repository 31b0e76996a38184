//! How long a registry may take, and how the pauses between repetitions are made.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

/// The limits in time of a [`Client`](super::Client); none of them limits a whole transfer.
#[derive(Clone, Debug)]
pub struct Limits {
    /// For a connection, TLS included. 10 s.
    pub connect: Duration,
    /// From a request to the end of the answer's headers, and between two pieces of a body. 20 s.
    pub silence: Duration,
    /// Over which time waiting for a body the rate is taken; time that the reader spends elsewhere does not count. 20 s.
    pub window: Duration,
    /// Below this rate over [`window`](Self::window), the transfer has stalled. 1024 bytes per second.
    pub slowest: u64,
    /// The longest Retry-After that is waited for. 60 s.
    pub retry_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(20),
            window: Duration::from_secs(20),
            slowest: 1024,
            retry_after: Duration::from_secs(60),
        }
    }
}

/// How long an answer asks to wait: seconds or a date (RFC 9110, section 10.2.3); a date that has passed is zero.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

/// The pause before repetition `attempt` (from 1): `first`, doubled each time up to 64 times, with full jitter.
pub(super) fn pause(first: Duration, attempt: u32) -> Duration {
    let mut random = [0; 2];
    // Without random bytes the pause is only less jittered.
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    let longest = first.saturating_mul(1 << attempt.min(6));
    longest.mul_f64(f64::from(u16::from_ne_bytes(random)) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:30 GMT").unwrap();
        for (text, expected) in [
            ("0", Some(0)),
            (" 61 ", Some(61)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:29 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            assert_eq!(retry_after(&headers, now), expected.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn pauses_double_and_stay_below_their_bound() {
        for attempt in 1..=9 {
            let bound = Duration::from_millis(10) * (1 << attempt.min(6));
            assert!((0..100).all(|_| pause(Duration::from_millis(10), attempt) <= bound), "{attempt}");
        }
    }
}
