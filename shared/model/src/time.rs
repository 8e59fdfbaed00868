//! How times are read from and written to JSON and query strings: RFC 3339 or Unix seconds in, RFC 3339 with
//! milliseconds in UTC out.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// A time in milliseconds since the Unix epoch, as the JSON API shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// Why a text is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Neither of the two forms.
    #[error("must be RFC 3339 (2026-01-31T12:00:00Z) or Unix seconds")]
    NotATime,
    /// A number that is far too large for seconds.
    #[error("must be Unix seconds; this number looks like milliseconds or finer")]
    NotSeconds,
}

/// The largest number that is read as Unix seconds: the year 9999. Milliseconds since 1978 are larger.
const MAX_UNIX_SECONDS: f64 = 253_402_300_799.0;

impl Timestamp {
    /// Reads RFC 3339 or the decimal text of Unix seconds.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        if let Some(timestamp) = decimal_seconds(text) {
            return Ok(timestamp);
        }
        let numeric = text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        if let Some(seconds) = text.parse::<f64>().ok().filter(|_| numeric) {
            return Self::from_unix_seconds(seconds);
        }
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| TimeError::NotATime)?;
        Ok(Self(time.timestamp_millis()))
    }

    /// Unix seconds with a fraction, rounded to the millisecond.
    ///
    /// # Errors
    /// When the number is not finite or cannot be seconds.
    pub fn from_unix_seconds(seconds: f64) -> Result<Self, TimeError> {
        if !seconds.is_finite() {
            return Err(TimeError::NotATime);
        }
        if seconds.abs() > MAX_UNIX_SECONDS {
            return Err(TimeError::NotSeconds);
        }
        // In range: at most 2.6e14 milliseconds.
        Ok(Self((seconds * 1_000.0).round() as i64))
    }

    /// The time as RFC 3339 with milliseconds and `Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        match DateTime::<Utc>::from_timestamp_millis(self.0) {
            Some(time) => time.to_rfc3339_opts(SecondsFormat::Millis, true),
            // Beyond the year 262142, which no checked input reaches.
            None => format!("{}ms", self.0),
        }
    }
}

/// Reads Unix seconds in plain decimals, exactly: a double holds the milliseconds of today, but its product with 1,000 need
/// not round to them. `None` for any other text, and for seconds out of range.
fn decimal_seconds(text: &str) -> Option<Timestamp> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (seconds, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    if seconds.is_empty() || seconds.len() > 12 || fraction.is_empty() {
        return None;
    }
    let mut ms = 0;
    for digit in seconds.bytes() {
        ms = ms * 10 + digit_value(digit)?;
    }
    if ms > MAX_UNIX_SECONDS as i64 {
        return None;
    }
    let mut fraction = fraction.bytes();
    for _ in 0..3 {
        ms = ms * 10 + fraction.next().map_or(Some(0), digit_value)?;
    }
    for (at, digit) in fraction.enumerate() {
        let digit = digit_value(digit)?;
        // Half a millisecond rounds away from zero.
        if at == 0 && digit >= 5 {
            ms += 1;
        }
    }
    Some(Timestamp(if negative { -ms } else { ms }))
}

fn digit_value(digit: u8) -> Option<i64> {
    digit.is_ascii_digit().then(|| i64::from(digit - b'0'))
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_rfc3339())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum NumberOrText<'a> {
            Number(f64),
            #[serde(borrow)]
            Text(Cow<'a, str>),
        }
        match NumberOrText::deserialize(deserializer).map_err(|_| D::Error::custom(TimeError::NotATime))? {
            NumberOrText::Number(seconds) => Self::from_unix_seconds(seconds),
            NumberOrText::Text(text) => Self::parse(&text),
        }
        .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        assert_eq!(
            Timestamp::parse("2026-01-01T00:00:00Z"),
            Ok(Timestamp(1_767_225_600_000))
        );
        assert_eq!(
            Timestamp::parse("2026-01-01T02:00:00.25+02:00"),
            Ok(Timestamp(1_767_225_600_250))
        );
        assert_eq!(Timestamp::parse("1767225600"), Ok(Timestamp(1_767_225_600_000)));
        assert_eq!(Timestamp::parse("1767225600.0625"), Ok(Timestamp(1_767_225_600_063)));
        assert_eq!(Timestamp::parse("-1.5"), Ok(Timestamp(-1_500)));
    }

    #[test]
    fn each_millisecond_is_read_exactly() {
        for ms in (0..1_000).map(|i| 1_767_225_600_000 + i).chain([253_402_300_799_999]) {
            let text = format!("{}.{:03}", ms / 1_000, ms % 1_000);
            assert_eq!(Timestamp::parse(&text), Ok(Timestamp(ms)));
            assert_eq!(Timestamp::parse(&format!("-{text}")), Ok(Timestamp(-ms)));
            assert_eq!(Timestamp::parse(&format!("{text}4999")), Ok(Timestamp(ms)));
            assert_eq!(Timestamp::parse(&format!("{text}5")), Ok(Timestamp(ms + 1)));
        }
        assert_eq!(Timestamp::parse("1.7672256e9"), Ok(Timestamp(1_767_225_600_000)));
        assert_eq!(Timestamp::parse("1767225600.1"), Ok(Timestamp(1_767_225_600_100)));
    }

    #[test]
    fn milliseconds_are_told_apart_from_seconds() {
        assert_eq!(Timestamp::parse("1767225600000"), Err(TimeError::NotSeconds));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026-01-01",
            "NaN",
            "-inf",
            "2026-13-01T00:00:00Z",
            "1e999",
        ] {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_written_with_milliseconds_in_utc() {
        assert_eq!(Timestamp(1_767_225_600_250).to_rfc3339(), "2026-01-01T00:00:00.250Z");
        assert!(!Timestamp(i64::MAX).to_rfc3339().is_empty());
    }
}
