//! An expression all of whose slots come some minutes later: how schedules are spread over a window.
//!
//! Text in, text out, as another program reads the result. Not every expression can be moved: where a part of the
//! slots would pass into another hour or day and the fields cannot say so, the answer is why.

use super::{
    CronExpr, DESCRIPTORS, Rule,
    field::{Bounds, DAY, Field, HOUR, MINUTE, MONTH, WEEKDAY},
};

/// Minutes of a day: no window is longer.
const DAY_MINUTES: u32 = 24 * 60;

impl CronExpr {
    /// The five fields whose slots are those of this expression, each `minutes` later. The time zone is left out.
    ///
    /// # Errors
    /// Why there is no such expression.
    pub fn shifted(&self, minutes: u32) -> Result<String, String> {
        if minutes == 0 {
            return Ok(self.text().to_owned());
        }
        let cannot = |why: &str| format!("`{}` cannot be moved by {minutes} minutes: {why}", self.text());
        if matches!(self.rule, Rule::Every(_)) {
            return Err(cannot("`@every` counts from the creation, not by the clock"));
        }
        if minutes >= DAY_MINUTES {
            return Err(cannot("that is a day or more"));
        }
        shift(self.text(), minutes).map_err(cannot)
    }
}

fn shift(text: &str, minutes: u32) -> Result<String, &'static str> {
    const UNREADABLE: &str = "it cannot be read";
    let text = DESCRIPTORS.iter().find(|(name, _)| *name == text).map_or(text, |(_, fields)| fields);
    let words: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = words.as_slice() else { return Err(UNREADABLE) };
    let read = |word, bounds| Field::parse(word, bounds).map_err(|_| UNREADABLE);
    let (days, weekdays) = (read(day, &DAY)?, read(weekday, &WEEKDAY)?);
    let every_month = is_full(read(month, &MONTH)?, &MONTH);
    let every_day = every_month && days.star && weekdays.star;

    let every_hour = is_full(read(hour, &HOUR)?, &HOUR);
    let (minutes_moved, passed) = moved(read(minute, &MINUTE)?, &MINUTE, minutes % 60);
    let hours = minutes / 60
        + match passed {
            Passed::None => 0,
            Passed::All => 1,
            // With a slot in every hour of every day, the one that leaves an hour meets the one that comes.
            Passed::Some if every_hour && every_day => 0,
            Passed::Some => return Err("some of its slots would pass into the next hour and others not"),
        };
    if every_hour && (hours == 0 || every_day) {
        return Ok(format!("{minutes_moved} {hour} {day} {month} {weekday}"));
    }
    let (hours_moved, passed) = moved(read(hour, &HOUR)?, &HOUR, hours);
    match passed {
        Passed::None => Ok(format!("{minutes_moved} {hours_moved} {day} {month} {weekday}")),
        Passed::Some | Passed::All if every_day => {
            Ok(format!("{minutes_moved} {hours_moved} {day} {month} {weekday}"))
        }
        Passed::All if every_month && days.star => {
            let (weekdays_moved, _) = moved(weekdays, &WEEKDAY, 1);
            Ok(format!("{minutes_moved} {hours_moved} {day} {month} {weekdays_moved}"))
        }
        Passed::Some | Passed::All => Err("some of its slots would pass into the next day"),
    }
}

/// Which values of a field went over its end.
enum Passed {
    None,
    Some,
    All,
}

/// The values of `field`, each `by` larger, begun anew at the end; as text.
fn moved(field: Field, bounds: &Bounds, by: u32) -> (String, Passed) {
    let size = bounds.max - bounds.min + 1;
    let values: Vec<u32> = (bounds.min..=bounds.max).filter(|value| field.has(*value)).collect();
    let over = values.iter().filter(|value| **value + by > bounds.max).count();
    let mut moved: Vec<u32> =
        values.iter().map(|value| bounds.min + (value - bounds.min + by) % size).collect();
    moved.sort_unstable();
    let text = if is_full(field, bounds) {
        "*".to_owned()
    } else {
        moved.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    };
    let passed = match over {
        0 => Passed::None,
        n if n == values.len() => Passed::All,
        _ => Passed::Some,
    };
    (text, passed)
}

fn is_full(field: Field, bounds: &Bounds) -> bool {
    (bounds.min..=bounds.max).all(|value| field.has(value))
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn shifted(text: &str, minutes: u32) -> Result<String, String> {
        CronExpr::parse(text, None).unwrap().shifted(minutes)
    }

    #[rstest]
    #[case("0 2 * * *", 0, "0 2 * * *")]
    #[case("0 2 * * *", 25, "25 2 * * *")]
    #[case("50 2 * * *", 25, "15 3 * * *")]
    #[case("50 23 * * *", 25, "15 0 * * *")]
    #[case("@daily", 90, "30 1 * * *")]
    #[case("@hourly", 7, "7 * * * *")]
    #[case("*/15 * * * *", 20, "5,20,35,50 * * * *")]
    #[case("0,30 1-3 * * MON-FRI", 10, "10,40 1,2,3 * * MON-FRI")]
    #[case("30 23 * * FRI", 45, "15 0 * * 6")]
    #[case("30 23 * * SAT", 45, "15 0 * * 0")]
    #[case("0 22 1 * *", 119, "59 23 1 * *")]
    #[case("* * * * *", 9, "* * * * *")]
    fn slots_are_moved(#[case] text: &str, #[case] minutes: u32, #[case] expected: &str) {
        assert_eq!(shifted(text, minutes).as_deref(), Ok(expected));
    }

    #[rstest]
    #[case("@every 6h", 5, "counts from the creation")]
    #[case("0,50 2 * * *", 15, "next hour")]
    #[case("*/10 * * * MON", 15, "next hour")]
    #[case("50 23 1 * *", 15, "next day")]
    #[case("50 1,23 * * SUN", 15, "next day")]
    #[case("0 0 * * *", 1440, "a day or more")]
    fn what_cannot_be_moved_says_why(#[case] text: &str, #[case] minutes: u32, #[case] why: &str) {
        let message = shifted(text, minutes).unwrap_err();
        assert!(message.contains(text) && message.contains(why), "{message}");
    }

    proptest! {
        /// Where an expression can be moved, every slot comes exactly so much later.
        #[test]
        fn each_slot_comes_as_many_minutes_later(
            minute in prop::sample::select(vec!["0", "17", "59", "0,30", "*/20", "5-50/15", "*"]),
            hour in prop::sample::select(vec!["0", "2", "23", "*", "1-4", "20-23", "*/6"]),
            day in prop::sample::select(vec!["*", "1", "31"]),
            month in prop::sample::select(vec!["*", "2"]),
            weekday in prop::sample::select(vec!["*", "SAT", "1-5", "0"]),
            minutes in 1_u32..1_440,
        ) {
            // 31 February is refused, and what cannot be moved says so.
            let whole = format!("{minute} {hour} {day} {month} {weekday}");
            let Ok(cron) = CronExpr::parse(&whole, None) else { return Ok(()) };
            let Ok(text) = cron.shifted(minutes) else { return Ok(()) };
            let moved = CronExpr::parse(&text, None).unwrap();
            let start: Timestamp = "2026-01-30T00:00:00Z".parse().unwrap();
            let by = SignedDuration::from_mins(i64::from(minutes));
            let expected: Vec<Timestamp> = cron.slots_from(start).take(60).map(|slot| slot + by).collect();
            let found: Vec<Timestamp> = moved.slots_from(start + by).take(60).collect();
            prop_assert_eq!(found, expected, "{}", text);
        }
    }
}
