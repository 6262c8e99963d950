//! When something recurs: cron expressions as Kubernetes and k8ssandra-operator read them (robfig/cron v3,
//! `ParseStandard`; upstream: Schedules).
//!
//! `field` reads one of the five fields, `interval` the length of time of `@every`, `search` finds moments, `due` says
//! which of them has to run now, `shift` moves all of them by some minutes.
//! Time zones come from the IANA database built into the program, so that every container reads them alike.

mod due;
mod field;
mod interval;
mod search;
mod shift;

use std::{fmt, sync::LazyLock};

use jiff::{
    SignedDuration, Timestamp, ToSpan as _,
    tz::{TimeZone, TimeZoneDatabase},
};

pub use self::due::{Due, MANY, Missed, Past, due, is_ahead};
use self::search::Fields;

/// The zones, without any file of the machine.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// What can be written instead of five fields, and what each stands for.
const DESCRIPTORS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// Why an expression cannot be used; each says what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// The expression cannot be read.
    #[error("{0}")]
    Expression(String),
    /// The time zone given beside the expression cannot be used.
    #[error("{0}")]
    TimeZone(String),
    /// The expression can be read, but names no moment that ever comes.
    #[error("{0}")]
    NeverFires(String),
}

/// A recurring moment: a *slot*. Slots lie on whole seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronExpr {
    text: String,
    zone: TimeZone,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    /// When the clock on the wall shows this.
    Fields(Fields),
    /// Every so many seconds.
    Every(i64),
}

impl CronExpr {
    /// Reads `text`: five fields (minute, hour, day of month, month, day of week with Sunday as 0), or a
    /// descriptor such as `@daily` or `@every 1h30m`, either with an optional prefix `TZ=<zone> ` or
    /// `CRON_TZ=<zone> `. `time_zone` is an IANA name given beside it, and excludes the prefix. Without
    /// either, the zone is UTC.
    ///
    /// # Errors
    /// What is wrong with which part, and what is allowed there.
    pub fn parse(text: &str, time_zone: Option<&str>) -> Result<Self, CronError> {
        let (prefix, rest) = split_zone(text)?;
        let zone = match (prefix, time_zone) {
            (Some(prefix), Some(_)) => {
                return Err(CronError::TimeZone(format!(
                    "a time zone is given twice, here and as `TZ={prefix}` in the expression; give it once"
                )));
            }
            (Some(prefix), None) => zone(prefix).map_err(CronError::Expression)?,
            (None, Some(name)) => zone(name).map_err(CronError::TimeZone)?,
            (None, None) => TimeZone::UTC,
        };
        let rule = rule(rest)?;
        Ok(Self { text: rest.to_owned(), zone, rule })
    }

    /// The expression without its time zone.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The IANA name of the time zone; none for UTC.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        self.zone.iana_name().filter(|name| *name != "UTC")
    }

    /// The longest time between two slots that follow each other, as far as two weeks or fifty slots from `from` on
    /// show it. `None` where there are not two.
    #[must_use]
    pub fn longest_gap(&self, from: Timestamp) -> Option<SignedDuration> {
        if let Rule::Every(seconds) = self.rule {
            return Some(SignedDuration::from_secs(seconds));
        }
        let slots: Vec<Timestamp> = self.slots_from(from).take(50).collect();
        let near = slots.windows(2).filter_map(|pair| match pair {
            [one, next] => Some(next.duration_since(*one)),
            _ => None,
        });
        // A slot every minute on working days only: fifty slots do not reach the weekend.
        let around = (1..=56).filter_map(|step: i64| {
            let at = from.checked_add((step * 6).hours()).ok()?;
            Some(self.next_after(at, at)?.duration_since(self.latest(from, at)?))
        });
        near.chain(around).max()
    }

    /// The first slot after `after`. `@every` counts from `anchor`, which is an earlier slot or the moment
    /// that counts as one; nothing else looks at it. `None` when there is none in the next ten years.
    #[must_use]
    pub fn next_after(&self, anchor: Timestamp, after: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Fields(fields) => fields.next_after(&self.zone, after),
            Rule::Every(seconds) => {
                let (anchor, after) = (anchor.as_second(), after.as_second());
                let periods = (after - anchor).div_euclid(*seconds).max(0).checked_add(1)?;
                Timestamp::from_second(periods.checked_mul(*seconds)?.checked_add(anchor)?).ok()
            }
        }
    }

    /// Slots from `first` on, `first` included if it is one. `@every` takes `first` for a slot.
    pub fn slots_from(&self, first: Timestamp) -> impl Iterator<Item = Timestamp> {
        let start = match &self.rule {
            Rule::Fields(fields) => {
                just_before(first).and_then(|before| fields.next_after(&self.zone, before))
            }
            Rule::Every(_) => Some(first),
        };
        std::iter::successors(start, move |slot| self.next_after(first, *slot))
    }

    /// The latest of the slots from `first` to `until`, both included.
    #[must_use]
    pub fn latest(&self, first: Timestamp, until: Timestamp) -> Option<Timestamp> {
        if let Rule::Every(seconds) = &self.rule {
            let periods = until.as_second().checked_sub(first.as_second())?.div_euclid(*seconds);
            let slot = periods.checked_mul(*seconds)?.checked_add(first.as_second())?;
            return if periods < 0 { None } else { Timestamp::from_second(slot).ok() };
        }
        // A slot a minute for years must not be walked through: look back further and further.
        let mut window: i64 = 3_600;
        loop {
            let start = until.as_second().saturating_sub(window).max(first.as_second());
            let start = Timestamp::from_second(start).ok()?.max(first);
            let found = self.slots_from(start).take_while(|slot| *slot <= until).last();
            if found.is_some() || start <= first {
                return found;
            }
            window = window.saturating_mul(4);
        }
    }

    /// How many slots there are from `first` up to but without `end`; stops counting at `limit`.
    #[must_use]
    pub fn count(&self, first: Timestamp, end: Timestamp, limit: usize) -> usize {
        self.slots_from(first).take_while(|slot| *slot < end).take(limit).count()
    }
}

impl fmt::Display for CronExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.text)?;
        match self.rule {
            Rule::Fields(_) => write!(f, " ({})", self.zone.iana_name().unwrap_or("UTC")),
            Rule::Every(_) => Ok(()),
        }
    }
}

fn just_before(at: Timestamp) -> Option<Timestamp> {
    at.checked_sub(jiff::SignedDuration::from_nanos(1)).ok()
}

/// The zone of the prefix, if there is one, and what follows it.
fn split_zone(text: &str) -> Result<(Option<&str>, &str), CronError> {
    let text = text.trim();
    let Some(rest) = text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ=")) else {
        return Ok((None, text));
    };
    match rest.split_once(char::is_whitespace) {
        Some((zone, rest)) => Ok((Some(zone), rest.trim())),
        None => Err(CronError::Expression(format!(
            "`{text}` is only a time zone; a space and five fields or a descriptor such as `@daily` must follow"
        ))),
    }
}

fn zone(name: &str) -> Result<TimeZone, String> {
    // "Local" would be the container's zone, which nobody means and nobody sees.
    if name.eq_ignore_ascii_case("local") {
        return Err(
            "time zone `Local` is not allowed; give an IANA name such as `Europe/Berlin`, or `UTC`".into()
        );
    }
    ZONES.get(name).map_err(|_| {
        format!("time zone `{name}` is not known; give an IANA name such as `Europe/Berlin`, or `UTC`")
    })
}

fn rule(text: &str) -> Result<Rule, CronError> {
    if !text.starts_with('@') {
        return Fields::parse(text).map(Rule::Fields);
    }
    if let Some((_, fields)) = DESCRIPTORS.iter().find(|(name, _)| *name == text) {
        return Fields::parse(fields).map(Rule::Fields);
    }
    if let Some((_, length)) = text.split_once(char::is_whitespace).filter(|(word, _)| *word == "@every") {
        return interval::seconds(length.trim()).map(Rule::Every).map_err(CronError::Expression);
    }
    let names: Vec<&str> = DESCRIPTORS.iter().map(|(name, _)| *name).collect();
    Err(CronError::Expression(format!(
        "`{text}` is not one of {} and `@every <length>` such as `@every 1h30m`",
        names.join(", ")
    )))
}

#[cfg(test)]
mod tests;
