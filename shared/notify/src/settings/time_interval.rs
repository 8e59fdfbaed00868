//! When a mute time is: the texts of a [`TimeInterval`] read, and compared with a time. The forms and their meaning are Alertmanager's: a
//! range includes both ends except for times of the day, and none wraps around (a night is two ranges).

use super::{MuteTime, TimeInterval};
use chrono::{DateTime, Datelike, Months, NaiveDate, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use std::ops::RangeInclusive;
use tidemark_model::Timestamp;

/// The minutes of a day.
const DAY_MINUTES: u32 = 24 * 60;

/// How far ahead [`MuteTime::muted_until`] looks, in minutes: as far as a wake reaches.
const HORIZON_MINUTES: i64 = 15;

/// In the order of chrono's `num_days_from_sunday`.
const WEEKDAYS: [&str; 7] = [
    "sunday",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
];

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// A text of a time interval that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct InvalidInterval {
    /// The field, as in `weekdays[0]` or `times[1].end_time`.
    pub field: String,
    /// What is wrong with it, to be read after the field's name.
    pub reason: String,
}

impl MuteTime {
    /// Whether a time is muted. An interval that cannot be read (none is stored) mutes nothing.
    #[must_use]
    pub fn contains(&self, now: Timestamp) -> bool {
        self.time_intervals
            .iter()
            .filter_map(|interval| Ranges::read(interval).ok())
            .any(|ranges| ranges.contains(now))
    }

    /// Until when it mutes at least, if it mutes now: its end when that is within a quarter of an hour, else the end of that.
    #[must_use]
    pub fn muted_until(&self, now: Timestamp) -> Option<Timestamp> {
        let all: Vec<Ranges> = self
            .time_intervals
            .iter()
            .filter_map(|interval| Ranges::read(interval).ok())
            .collect();
        let muted = |at: Timestamp| all.iter().any(|ranges| ranges.contains(at));
        if !muted(now) {
            return None;
        }
        let minute = |ahead: i64| Timestamp((now.0.div_euclid(60_000) + ahead).saturating_mul(60_000));
        let end = (1..HORIZON_MINUTES).map(minute).find(|at| !muted(*at));
        Some(end.unwrap_or_else(|| minute(HORIZON_MINUTES)))
    }
}

impl TimeInterval {
    /// Whether it can be read.
    ///
    /// # Errors
    /// Names the field and what is wrong with it.
    pub fn check(&self) -> Result<(), InvalidInterval> {
        Ranges::read(self).map(drop)
    }

    /// Whether a time is in it. One that cannot be read contains nothing.
    #[must_use]
    pub fn contains(&self, now: Timestamp) -> bool {
        Ranges::read(self).is_ok_and(|ranges| ranges.contains(now))
    }
}

/// A [`TimeInterval`], read.
struct Ranges {
    /// Minutes of the day.
    times: Vec<std::ops::Range<u32>>,
    weekdays: Vec<RangeInclusive<i64>>,
    /// Not resolved: negative days count from the month's end.
    days_of_month: Vec<RangeInclusive<i64>>,
    months: Vec<RangeInclusive<i64>>,
    years: Vec<RangeInclusive<i64>>,
    location: Tz,
}

impl Ranges {
    fn read(interval: &TimeInterval) -> Result<Self, InvalidInterval> {
        let mut times = Vec::new();
        for (at, range) in interval.times.iter().enumerate() {
            let start =
                minute_of_day(&range.start_time).map_err(|why| invalid(format!("times[{at}].start_time"), why))?;
            let end = minute_of_day(&range.end_time).map_err(|why| invalid(format!("times[{at}].end_time"), why))?;
            if start >= end {
                return Err(invalid(
                    format!("times[{at}]"),
                    "must end after it starts: a range does not wrap around midnight",
                ));
            }
            times.push(start..end);
        }
        let location = match &interval.location {
            None => Tz::UTC,
            Some(name) => name
                .parse()
                .map_err(|_| invalid("location".to_owned(), "must be an IANA time zone, as in Europe/Berlin"))?,
        };
        Ok(Self {
            times,
            weekdays: ranges("weekdays", &interval.weekdays, weekday)?,
            days_of_month: days("days_of_month", &interval.days_of_month)?,
            months: ranges("months", &interval.months, month)?,
            years: ranges("years", &interval.years, year)?,
            location,
        })
    }

    fn contains(&self, now: Timestamp) -> bool {
        let Some(utc) = DateTime::<Utc>::from_timestamp_millis(now.0) else {
            return false;
        };
        let local = self.location.from_utc_datetime(&utc.naive_utc());
        let minute = local.hour() * 60 + local.minute();
        let day = i64::from(local.day());
        let last = last_day(local.year(), local.month());
        (self.times.is_empty() || self.times.iter().any(|range| range.contains(&minute)))
            && any(&self.weekdays, i64::from(local.weekday().num_days_from_sunday()))
            && (self.days_of_month.is_empty()
                || self.days_of_month.iter().any(|range| {
                    let from_end = |day: i64| if day < 0 { last + day + 1 } else { day };
                    (from_end(*range.start())..=from_end(*range.end())).contains(&day)
                }))
            && any(&self.months, i64::from(local.month()))
            && any(&self.years, i64::from(local.year()))
    }
}

fn any(ranges: &[RangeInclusive<i64>], value: i64) -> bool {
    ranges.is_empty() || ranges.iter().any(|range| range.contains(&value))
}

/// The number of days in a month.
fn last_day(year: i32, month: u32) -> i64 {
    let next = NaiveDate::from_ymd_opt(year, month, 1).and_then(|first| first.checked_add_months(Months::new(1)));
    let last = next.and_then(|next| next.pred_opt());
    last.map_or(31, |last| i64::from(last.day()))
}

fn invalid(field: String, reason: impl Into<String>) -> InvalidInterval {
    InvalidInterval {
        field,
        reason: reason.into(),
    }
}

const BAD_TIME: &str = "must be a time of the day from 00:00 to 24:00, written HH:MM";

fn minute_of_day(text: &str) -> Result<u32, &'static str> {
    let digits = |text: &str| (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok());
    let (hours, minutes) = text.split_once(':').ok_or(BAD_TIME)?;
    let hours: u32 = digits(hours).flatten().ok_or(BAD_TIME)?;
    let minutes: u32 = digits(minutes).flatten().ok_or(BAD_TIME)?;
    let minute = hours * 60 + minutes;
    if minutes >= 60 || minute > DAY_MINUTES {
        return Err(BAD_TIME);
    }
    Ok(minute)
}

fn weekday(text: &str) -> Result<i64, &'static str> {
    named(text, &WEEKDAYS).ok_or("must be a weekday or a range of weekdays, as in monday:friday")
}

fn month(text: &str) -> Result<i64, &'static str> {
    let number = text.parse().ok().filter(|number| (1..=12).contains(number));
    let named = || named(text, &MONTHS).map(|index| index + 1);
    number
        .or_else(named)
        .ok_or("must be a month or a range of months, as in january:march or 1:3")
}

fn year(text: &str) -> Result<i64, &'static str> {
    let number = text.parse().ok().filter(|number| (1..=9_999).contains(number));
    number.ok_or("must be a year or a range of years, as in 2026:2027")
}

fn named(text: &str, names: &[&str]) -> Option<i64> {
    let at = names.iter().position(|name| text.eq_ignore_ascii_case(name))?;
    i64::try_from(at).ok()
}

fn split(text: &str) -> (&str, &str) {
    let (start, end) = text.split_once(':').unwrap_or((text, text));
    (start.trim(), end.trim())
}

fn ranges(
    field: &str,
    texts: &[String],
    read: fn(&str) -> Result<i64, &'static str>,
) -> Result<Vec<RangeInclusive<i64>>, InvalidInterval> {
    let one = |(at, text): (usize, &String)| {
        let (start, end) = split(text);
        let ends = read(start).and_then(|start| Ok((start, read(end)?)));
        let (start, end) = ends.map_err(|why| invalid(format!("{field}[{at}]"), why))?;
        if start > end {
            return Err(invalid(
                format!("{field}[{at}]"),
                "must not end before it starts: a range does not wrap around",
            ));
        }
        Ok(start..=end)
    };
    texts.iter().enumerate().map(one).collect()
}

fn days(field: &str, texts: &[String]) -> Result<Vec<RangeInclusive<i64>>, InvalidInterval> {
    let number = |text: &str| {
        let number = text.parse::<i64>().ok();
        number.filter(|day| (1..=31).contains(&day.abs()))
    };
    let one = |(at, text): (usize, &String)| {
        let (start, end) = split(text);
        let (Some(start), Some(end)) = (number(start), number(end)) else {
            return Err(invalid(
                format!("{field}[{at}]"),
                "must be a day or a range of days, from 1 or back from -1, the month's last, as in 1:5 or -3:-1",
            ));
        };
        if start < 0 && end > 0 {
            return Err(invalid(
                format!("{field}[{at}]"),
                "must end with a negative day when it starts with one",
            ));
        }
        // Of one with two signs it depends on the month which end is first.
        if start.signum() == end.signum() && start > end {
            return Err(invalid(
                format!("{field}[{at}]"),
                "must not end before it starts: a range does not wrap around",
            ));
        }
        Ok(start..=end)
    };
    texts.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests;
