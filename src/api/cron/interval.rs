//! The length of time of `@every`, as Go's `time.ParseDuration` reads it: `90m`, `1h30m`, `1.5h`.

/// Units of Go's durations in nanoseconds; longer names first where one begins with another.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
/// Longest length that is taken: what Go's int64 of nanoseconds holds.
const MAX: u128 = i64::MAX as u128;

/// Whole seconds of `text`; fractions of a second are dropped, as robfig/cron does.
///
/// # Errors
/// What is allowed. Lengths below one second, and so negative ones, are errors here, where robfig/cron makes
/// them one second: nobody means a backup a second.
pub fn seconds(text: &str) -> Result<i64, String> {
    let wrong = || {
        format!(
            "`@every {text}` does not end in a length of time of at least 1s; allowed are numbers with the \
             units h, m and s, such as `90m`, `1h30m` or `1.5h`"
        )
    };
    let nanoseconds = nanoseconds(text).filter(|n| *n <= MAX).ok_or_else(wrong)?;
    let seconds = i64::try_from(nanoseconds / 1_000_000_000).map_err(|_| wrong())?;
    if seconds == 0 { Err(wrong()) } else { Ok(seconds) }
}

fn nanoseconds(text: &str) -> Option<u128> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let digits = |s: &str| s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
        let (whole, after) = rest.split_at_checked(digits(rest))?;
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at_checked(digits(after))?,
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let word = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(word)?;
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(*unit)?)?.checked_add(part(fraction, *unit)?)?;
        rest = after;
    }
    Some(total)
}

/// `0.<fraction>` of `unit`. Digits beyond the eighteenth are below a nanosecond of any unit that counts.
fn part(fraction: &str, unit: u128) -> Option<u128> {
    let kept = fraction.get(..fraction.len().min(18))?;
    if kept.is_empty() {
        return Some(0);
    }
    let digits = u32::try_from(kept.len()).ok()?;
    kept.parse::<u128>().ok()?.checked_mul(unit)?.checked_div(10_u128.checked_pow(digits)?)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::seconds;

    #[rstest]
    #[case("1h", 3_600)]
    #[case("1h30m", 5_400)]
    #[case("1.5h", 5_400)]
    #[case(".5h", 1_800)]
    #[case("1.h", 3_600)]
    #[case("+90s", 90)]
    #[case("1500ms", 1)]
    #[case("1m0.9s", 60)]
    #[case("3600000000us", 3_600)]
    #[case("3600000000µs", 3_600)]
    #[case("2000000000ns", 2)]
    fn lengths_are_gos(#[case] text: &str, #[case] expected: i64) {
        assert_eq!(seconds(text), Ok(expected));
    }

    #[rstest]
    fn others_are_refused(
        #[values(
            "",
            "0",
            "0s",
            "999ms",
            "-5m",
            "5",
            "1d",
            "h",
            ".h",
            "1h 30m",
            "1hh",
            "1e3s",
            "9999999h",
            "99999999999999999999999999999999999999999h",
            "0.99999999999999999999999s",
            "\u{661}h"
        )]
        text: &str,
    ) {
        let why = seconds(text).unwrap_err();
        assert!(why.contains("@every") && why.contains("1h30m"), "{why}");
    }
}
