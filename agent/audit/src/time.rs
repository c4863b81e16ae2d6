//! Wall-clock times: RFC 3339 in UTC with nanoseconds, from the kernel's time since boot.
//!
//! Written by hand instead of with a calendar crate: UTC without leap seconds needs one
//! division and no time zone data.

use std::{
    fmt,
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

const NS_PER_S: i128 = 1_000_000_000;
const S_PER_DAY: i128 = 86_400;
/// 9999-12-31T23:59:59.999999999Z: RFC 3339 has four digits for the year.
const LATEST_NS: i128 = 253_402_300_800 * NS_PER_S - 1;

/// An instant in nanoseconds since 1970-01-01T00:00:00Z, between that and the year 9999.
///
/// Its text, and its form in JSON, is `2026-11-20T22:29:11.000000042Z`: always nine decimals, so
/// that texts sort as instants do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp {
    unix_ns: i128,
}

/// A text that is no [`Timestamp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time; expected the form 2026-11-20T22:29:11.000000042Z")]
pub struct TimestampError;

/// The distance between the kernel's time since boot and the wall clock.
///
/// Read anew from time to time: the wall clock may be set while the machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// What to add to a `CLOCK_BOOTTIME` reading, in nanoseconds.
    pub boot_to_wall_offset_ns: i128,
}

// === impl Clock ===

impl Clock {
    /// From two readings at (nearly) one moment: `CLOCK_BOOTTIME` in nanoseconds, and the wall.
    #[must_use]
    pub fn new(boottime_ns: u64, wall: Timestamp) -> Self {
        Self {
            boot_to_wall_offset_ns: wall.unix_ns - i128::from(boottime_ns),
        }
    }

    /// The wall-clock time of a `CLOCK_BOOTTIME` reading in nanoseconds.
    #[must_use]
    pub fn wall(&self, boottime_ns: u64) -> Timestamp {
        let offset_ns = self.boot_to_wall_offset_ns;
        Timestamp::from_unix_ns(offset_ns.saturating_add(i128::from(boottime_ns)))
    }
}

// === impl Timestamp ===

impl Timestamp {
    /// From nanoseconds since 1970; an instant out of range becomes the nearest in range.
    #[must_use]
    pub fn from_unix_ns(unix_ns: i128) -> Self {
        Self {
            unix_ns: unix_ns.clamp(0, LATEST_NS),
        }
    }

    /// Reads any time of RFC 3339 in its usual writing: with or without decimals, in UTC (`Z`) or at a
    /// distance from it, as `2026-11-20T23:29:11+01:00`.
    ///
    /// # Errors
    /// It is another text, or an instant out of range.
    pub fn from_rfc3339(text: &str) -> Result<Self, TimestampError> {
        rfc3339(text).ok_or(TimestampError)
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub const fn unix_ns(self) -> i128 {
        self.unix_ns
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::from_unix_ns(i128::try_from(since.as_nanos()).unwrap_or(LATEST_NS))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, ns) = (self.unix_ns / NS_PER_S, self.unix_ns % NS_PER_S);
        let (days, of_day) = (seconds / S_PER_DAY, seconds % S_PER_DAY);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z"
        )
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        parse(text)
            // What formats back to the same text was a real date and time.
            .filter(|time| time.to_string() == text)
            .ok_or(TimestampError)
    }
}

impl TryFrom<String> for Timestamp {
    type Error = TimestampError;

    fn try_from(text: String) -> Result<Self, TimestampError> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

/// Days from 0000-03-01 to 1970-01-01 in the proleptic Gregorian calendar.
const DAYS_BEFORE_1970: i128 = 719_468;
/// Days of 400 years, after which the calendar repeats.
const DAYS_PER_ERA: i128 = 146_097;

/// Year, month and day of the day `days` (from 0) after 1970-01-01.
///
/// Years are counted from March, so that the leap day is a year's last.
fn date(days: i128) -> (i128, i128, i128) {
    let since = days + DAYS_BEFORE_1970;
    let (era, of_era) = (since / DAYS_PER_ERA, since % DAYS_PER_ERA);
    // Takes away the leap days before the day: one in 4 years, none in 100, one in 400.
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // Months from March have 31, 30, 31, 30, 31 days over and over: 153 days in five.
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let (month, carry) = match march_month {
        0..10 => (march_month + 3, 0),
        _ => (march_month - 9, 1),
    };
    (era * 400 + year + carry, month, day)
}

/// The inverse of [`date`], for month 1 to 12 and any day.
fn days(year: i128, month: i128, day: i128) -> i128 {
    let (year, march_month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    365 * year + leap_days + (153 * march_month + 2) / 5 + day - 1 - DAYS_BEFORE_1970
}

fn parse(text: &str) -> Option<Timestamp> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (time, fraction) = time.split_once('.')?;
    let mut date = date.split('-').map(number);
    let mut time = time.split(':').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let ns = number(fraction)?;
    let seconds = days(year, month, day) * S_PER_DAY + hour * 3600 + minute * 60 + second;
    Some(Timestamp::from_unix_ns(seconds * NS_PER_S + ns))
}

fn rfc3339(text: &str) -> Option<Timestamp> {
    const DATE_AND_TIME: usize = "2026-11-20T22:29:11".len();
    let (local, rest) = text.split_at_checked(DATE_AND_TIME)?;
    let (decimals, zone) = match rest.strip_prefix('.') {
        Some(rest) => {
            let zone = rest.find(|c: char| !c.is_ascii_digit())?;
            let (decimals, zone) = rest.split_at(zone);
            ((1..=9).contains(&decimals.len()).then_some(decimals)?, zone)
        }
        None => ("", rest),
    };
    let local: Timestamp = format!("{local}.{decimals:0<9}Z").parse().ok()?;
    let unix_ns = local.unix_ns - offset_s(zone)? * NS_PER_S;
    (0..=LATEST_NS)
        .contains(&unix_ns)
        .then_some(Timestamp { unix_ns })
}

/// How far the clock of `+01:00` is before that of UTC, in seconds.
fn offset_s(zone: &str) -> Option<i128> {
    if zone == "Z" {
        return Some(0);
    }
    let (sign, distance) = match zone.split_at_checked(1)? {
        ("+", distance) => (1, distance),
        ("-", distance) => (-1, distance),
        _ => return None,
    };
    let (hours, minutes) = distance.split_once(':')?;
    let is_whole = hours.len() == 2 && minutes.len() == 2;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (is_whole && hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// At most nine digits.
fn number(text: &str) -> Option<i128> {
    let plain = !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Clock, LATEST_NS, NS_PER_S, S_PER_DAY, Timestamp, date};

    /// Every day up to the year 9999 against counting, as a calendar on the wall does.
    #[test]
    fn date_agrees_with_counting() {
        let mut day_index = 0;
        for year in 1970..=9999 {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let february = if leap { 29 } else { 28 };
            let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            for (month, length) in (1..).zip(months) {
                for day in 1..=length {
                    assert_eq!(date(day_index), (year, month, day));
                    day_index += 1;
                }
            }
        }
        assert_eq!(day_index * S_PER_DAY * NS_PER_S, LATEST_NS + 1);
    }

    proptest! {
        #[test]
        fn timestamp_round_trips(unix_ns in 0..=LATEST_NS) {
            let time = Timestamp::from_unix_ns(unix_ns);
            let text = time.to_string();
            prop_assert_eq!(text.len(), 30);
            prop_assert_eq!(text.parse(), Ok(time));
        }

        #[test]
        fn timestamp_is_the_same_in_every_zone(
            unix_s in 86_400..4_000_000_000_i128, minutes in 0..24 * 60_i128, is_before in any::<bool>()
        ) {
            let sign = if is_before { 1 } else { -1 };
            let there = Timestamp::from_unix_ns((unix_s + sign * minutes * 60) * NS_PER_S);
            let zone = format!(
                "{}{:02}:{:02}", if is_before { '+' } else { '-' }, minutes / 60, minutes % 60
            );
            let here = Timestamp::from_unix_ns(unix_s * NS_PER_S);
            for text in [
                there.to_string().replace(".000000000Z", &zone),
                there.to_string().replace('Z', &zone),
                there.to_string().replace("00000000Z", &zone),
            ] {
                prop_assert_eq!(Timestamp::from_rfc3339(&text), Ok(here), "{}", text);
            }
        }

        #[test]
        fn timestamp_of_rfc3339_of_any_text_does_not_panic(
            text in "[0-9TZ:.+-]{0,40}|.{0,40}|2026-01-01T00:00:00[.]?[0-9]{0,12}[Z+-]?[0-9:]{0,6}"
        ) {
            if let Ok(time) = Timestamp::from_rfc3339(&text) {
                prop_assert_eq!(time.to_string().parse(), Ok(time));
            }
        }

        #[test]
        fn timestamp_of_any_text_does_not_panic(text in "[0-9TZ:.+-]{0,40}|.{0,40}") {
            if let Ok(time) = text.parse::<Timestamp>() {
                prop_assert_eq!(time.to_string(), text);
            }
        }
    }

    #[test]
    fn timestamp_known_instants_have_their_text() {
        for (unix_s, ns, text) in [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000000001Z"),
            (1_709_164_800, 0, "2024-02-29T00:00:00.000000000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z"),
            (1_735_689_599, 999_999_999, "2024-12-31T23:59:59.999999999Z"),
        ] {
            let time = Timestamp::from_unix_ns(unix_s * NS_PER_S + ns);
            assert_eq!(time.to_string(), text);
        }
    }

    #[test]
    fn timestamp_out_of_form_is_refused() {
        for text in [
            "",
            "2024-02-30T00:00:00.000000000Z",
            "2024-13-01T00:00:00.000000000Z",
            "2024-01-01T24:00:00.000000000Z",
            "2024-01-01T00:00:00Z",
            "2024-01-01T00:00:00.000000000+00:00",
            "1969-12-31T00:00:00.000000000Z",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn timestamp_of_rfc3339_out_of_form_is_refused() {
        for text in [
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00.0000000000Z",
            "2026-01-01T00:00:00.5",
            "2026-01-01T00:00:00+1:00",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00+00:60",
            "2026-01-01T00:00:00 Z",
            "2026-02-29T00:00:00Z",
            "1970-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-00:01",
        ] {
            assert!(Timestamp::from_rfc3339(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn timestamp_out_of_range_is_the_nearest_in_range() {
        assert_eq!(Timestamp::from_unix_ns(-1), Timestamp::from_unix_ns(0));
        let latest = Timestamp::from_unix_ns(i128::MAX);
        assert_eq!(latest.to_string(), "9999-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn clock_adds_the_distance_of_its_two_readings() {
        let clock = Clock::new(5, Timestamp::from_unix_ns(1_000));
        assert_eq!(clock.wall(7), Timestamp::from_unix_ns(1_002));
        let extreme = Clock {
            boot_to_wall_offset_ns: i128::MAX,
        };
        assert_eq!(extreme.wall(u64::MAX), Timestamp::from_unix_ns(LATEST_NS));
    }
}
