//! Finding the next moment whose wall-clock time a set of fields names.
//!
//! A moment is a slot when the clock on the wall then shows a minute the fields name. So a time that a zone
//! skips in spring is no slot that day, and one it repeats in autumn is a slot twice: robfig/cron's rule, and
//! so that of Kubernetes' CronJob.

use jiff::{
    Timestamp, ToSpan as _,
    civil::{Date, DateTime, date, time},
    tz::TimeZone,
};

use super::{
    CronError,
    field::{DAY, Field, HOUR, MINUTE, MONTH, WEEKDAY},
};

/// How far ahead is searched. Leap days are at most eight years apart.
const YEARS: i16 = 10;

/// The five fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

impl Fields {
    /// Reads five fields with white space between them.
    ///
    /// # Errors
    /// Which field is wrong, and what is allowed there; or that no such moment ever comes.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = words.as_slice() else {
            return Err(CronError::Expression(format!(
                "`{text}` has {} fields; five are needed: minute, hour, day of month, month and day of week, or a \
                 descriptor such as `@daily`",
                words.len()
            )));
        };
        let field = |text, bounds| Field::parse(text, bounds).map_err(CronError::Expression);
        let fields = Self {
            minute: field(minute, &MINUTE)?,
            hour: field(hour, &HOUR)?,
            day: field(day, &DAY)?,
            month: field(month, &MONTH)?,
            weekday: field(weekday, &WEEKDAY)?,
        };
        if fields.fires() {
            Ok(fields)
        } else {
            Err(CronError::NeverFires(format!("`{text}` never comes: no such month has a day `{day}`")))
        }
    }

    /// Whether any of the months named has a day named, in a leap year.
    fn fires(&self) -> bool {
        let longest = |month: &i8| date(2024, *month, 1).days_in_month();
        let mut months = (1..=12_i8).filter(|month| self.month.has(number(*month)));
        let first = self.day.at_least(1).unwrap_or(u32::MAX);
        !self.weekday.star || months.any(|month| first <= number(longest(&month)))
    }

    /// The first slot after `after` by the clock of `zone`.
    #[must_use]
    pub fn next_after(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        let second = after.as_nanosecond().div_euclid(1_000_000_000).checked_add(1)?;
        let mut from = Timestamp::from_second(i64::try_from(second).ok()?).ok()?;
        let last = zone.to_datetime(from).year().saturating_add(YEARS);
        // Between two changes of its offset a zone's clock goes evenly: search one such stretch after another.
        loop {
            let offset = zone.to_offset(from);
            let end = zone.following(from).next().map(|change| change.timestamp());
            let local = offset.to_datetime(from);
            let named = self.next_on_the_wall(local, last)?;
            let at = offset.to_timestamp(named).ok()?;
            match end {
                Some(end) if at >= end => from = end,
                _ => return Some(at),
            }
            if zone.to_datetime(from).year() > last {
                return None;
            }
        }
    }

    /// The first minute named that does not begin before `from`, until the end of year `last`.
    fn next_on_the_wall(&self, from: DateTime, last: i16) -> Option<DateTime> {
        let whole = from.with().second(0).subsec_nanosecond(0).build().ok()?;
        let from = if whole < from { whole.checked_add(1.minute()).ok()? } else { whole };
        let mut day = from.date();
        let mut earliest = (number(from.hour()), number(from.minute()));
        while day.year() <= last {
            if !self.month.has(number(day.month())) {
                day = day.last_of_month().tomorrow().ok()?;
            } else if let Some((hour, minute)) = self.has_day(day).then(|| self.time(earliest)).flatten() {
                return Some(day.to_datetime(time(hour, minute, 0, 0)));
            } else {
                day = day.tomorrow().ok()?;
            }
            earliest = (0, 0);
        }
        None
    }

    /// Whether the minute that begins at `wall` is named.
    #[cfg(test)]
    pub fn names(&self, wall: DateTime) -> bool {
        wall.second() == 0
            && self.minute.has(number(wall.minute()))
            && self.hour.has(number(wall.hour()))
            && self.month.has(number(wall.month()))
            && self.has_day(wall.date())
    }

    fn has_day(&self, day: Date) -> bool {
        let of_month = self.day.has(number(day.day()));
        let of_week = self.weekday.has(number(day.weekday().to_sunday_zero_offset()));
        if self.day.star || self.weekday.star { of_month && of_week } else { of_month || of_week }
    }

    /// The first hour and minute named at or after those given.
    fn time(&self, (hour, minute): (u32, u32)) -> Option<(i8, i8)> {
        let now = self.hour.has(hour).then(|| self.minute.at_least(minute)).flatten();
        let (hour, minute) = match now {
            Some(minute) => (hour, minute),
            None => (self.hour.at_least(hour + 1)?, self.minute.at_least(0)?),
        };
        Some((i8::try_from(hour).ok()?, i8::try_from(minute).ok()?))
    }
}

fn number(small: i8) -> u32 {
    u32::try_from(small).unwrap_or_default()
}
