//! One field of a cron expression: which values it names.

/// What a field may hold.
pub struct Bounds {
    /// The field's name in messages.
    pub name: &'static str,
    /// Its smallest value.
    pub min: u32,
    /// Its largest value.
    pub max: u32,
    /// Words for values; the first one stands for `min`.
    pub words: &'static [&'static str],
}

/// Minutes of an hour.
pub const MINUTE: Bounds = Bounds { name: "minute", min: 0, max: 59, words: &[] };
/// Hours of a day.
pub const HOUR: Bounds = Bounds { name: "hour", min: 0, max: 23, words: &[] };
/// Days of a month.
pub const DAY: Bounds = Bounds { name: "day of month", min: 1, max: 31, words: &[] };
/// Months of a year.
pub const MONTH: Bounds = Bounds {
    name: "month",
    min: 1,
    max: 12,
    words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
/// Days of a week; Sunday is 0, and 7 is none, as in robfig/cron.
pub const WEEKDAY: Bounds =
    Bounds { name: "day of week", min: 0, max: 6, words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// The values a field names. Never empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    bits: u64,
    /// Whether a part of it was `*` or `?` without a step above 1. Of the two fields for days, one with a
    /// star leaves the choice to the other; two without are united (robfig/cron's `starBit`).
    pub star: bool,
}

impl Field {
    /// Reads `text`: values, words, `a-b`, `*` or `?`, each with an optional step `/n`, joined by commas. A
    /// single value with a step means from there to the end.
    ///
    /// # Errors
    /// Which part of which field is wrong, and what is allowed.
    pub fn parse(text: &str, bounds: &Bounds) -> Result<Self, String> {
        let mut field = Self::default();
        for part in text.split(',') {
            field.add(part, bounds).map_err(|why| {
                let inside = if part == text { String::new() } else { format!(" in `{text}`") };
                format!("{} `{part}`{inside}: {why}; allowed are {}", bounds.name, allowed(bounds))
            })?;
        }
        Ok(field)
    }

    fn add(&mut self, part: &str, bounds: &Bounds) -> Result<(), &'static str> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(number(step).ok_or("the step is not a number")?)),
            None => (part, None),
        };
        let (low, high) = if range == "*" || range == "?" {
            self.star |= step.is_none_or(|step| step == 1);
            (bounds.min, bounds.max)
        } else if let Some((low, high)) = range.split_once('-') {
            (value(low, bounds)?, value(high, bounds)?)
        } else {
            let low = value(range, bounds)?;
            (low, if step.is_some() { bounds.max } else { low })
        };
        if low > high {
            return Err("the range ends before it begins");
        }
        let step = usize::try_from(step.unwrap_or(1)).map_err(|_| "the step is too large")?;
        if step == 0 {
            return Err("the step is 0");
        }
        for value in (low..=high).step_by(step) {
            self.bits |= 1 << value;
        }
        Ok(())
    }

    /// Whether `value` is named.
    #[must_use]
    pub fn has(self, value: u32) -> bool {
        value < u64::BITS && self.bits & (1 << value) != 0
    }

    /// The smallest value named that is at least `value`.
    #[must_use]
    pub fn at_least(self, value: u32) -> Option<u32> {
        let rest = self.bits.checked_shr(value)?;
        (rest != 0).then(|| value + rest.trailing_zeros())
    }
}

fn value(text: &str, bounds: &Bounds) -> Result<u32, &'static str> {
    let lower = text.to_ascii_lowercase();
    let word = (bounds.min..).zip(bounds.words).find(|(_, word)| **word == lower).map(|(value, _)| value);
    let value = word.or_else(|| number(text)).ok_or("not a value of this field")?;
    if value == 7 && bounds.max == WEEKDAY.max {
        return Err("Sunday is 0");
    }
    if (bounds.min..=bounds.max).contains(&value) { Ok(value) } else { Err("out of range") }
}

/// Digits only: neither sign nor space.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn allowed(bounds: &Bounds) -> String {
    let words = match (bounds.words.first(), bounds.words.last()) {
        (Some(first), Some(last)) => format!(" or {}-{}", first.to_uppercase(), last.to_uppercase()),
        _ => String::new(),
    };
    format!(
        "{}-{}{words}, `*`, `a-b`, each with an optional step `/n`, and lists of them with commas",
        bounds.min, bounds.max
    )
}
