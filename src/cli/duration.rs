//! Lengths of time as people write and read them.

use std::time::Duration;

use jiff::Timestamp;

const UNITS: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Reads `90s`, `12h`, `1h30m` or `365d`.
///
/// # Errors
/// What is expected, for people.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a length of time such as `90s`, `1h30m` or `365d`");
    let mut total = 0_u64;
    let mut number = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let (_, seconds) = UNITS.iter().find(|(unit, _)| *unit == c).ok_or_else(wrong)?;
        let count: u64 = number.parse().map_err(|_| wrong())?;
        total = count.checked_mul(*seconds).and_then(|s| total.checked_add(s)).ok_or_else(wrong)?;
        number.clear();
    }
    if number.is_empty() && !text.is_empty() { Ok(Duration::from_secs(total)) } else { Err(wrong()) }
}

/// `seconds` in one or two units, as kubectl shortens ages.
#[must_use]
pub fn short(seconds: i64) -> String {
    let s = seconds.max(0);
    let (m, h, d) = (s / 60, s / 3_600, s / 86_400);
    let two = |a: i64, unit_a: char, b: i64, unit_b: char| {
        if b == 0 { format!("{a}{unit_a}") } else { format!("{a}{unit_a}{b}{unit_b}") }
    };
    if s < 120 {
        format!("{s}s")
    } else if m < 10 {
        two(m, 'm', s % 60, 's')
    } else if m < 180 {
        format!("{m}m")
    } else if h < 8 {
        two(h, 'h', m % 60, 'm')
    } else if h < 48 {
        format!("{h}h")
    } else if d < 8 {
        two(d, 'd', h % 24, 'h')
    } else {
        format!("{d}d")
    }
}

/// How long ago `then` was; a moment in the future is `0s` ago.
#[must_use]
pub fn age(then: Timestamp, now: Timestamp) -> String {
    short(now.as_second() - then.as_second())
}

/// How long until `then`: `364d`, or `expired 2d ago`.
#[must_use]
pub fn until(then: Timestamp, now: Timestamp) -> String {
    if then > now {
        short(then.as_second() - now.as_second())
    } else {
        format!("expired {} ago", age(then, now))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("90s", 90)]
    #[case("1h30m", 5_400)]
    #[case("365d", 31_536_000)]
    #[case("0s", 0)]
    fn lengths_of_time_are_read(#[case] text: &str, #[case] seconds: u64) {
        assert_eq!(parse(text), Ok(Duration::from_secs(seconds)));
    }

    #[rstest]
    #[case("")]
    #[case("30")]
    #[case("h")]
    #[case("1y")]
    #[case("-5m")]
    #[case("99999999999999999999d")]
    #[case("99999999999999999d")]
    fn anything_else_is_refused_with_an_example(#[case] text: &str) {
        assert!(parse(text).is_err_and(|message| message.contains("such as `90s`")));
    }

    #[rstest]
    #[case(-5, "0s")]
    #[case(119, "119s")]
    #[case(120, "2m")]
    #[case(200, "3m20s")]
    #[case(3_600, "60m")]
    #[case(12_000, "3h20m")]
    #[case(100_000, "27h")]
    #[case(200_000, "2d7h")]
    #[case(31_536_000, "365d")]
    fn ages_read_as_in_kubectl(#[case] seconds: i64, #[case] text: &str) {
        assert_eq!(short(seconds), text);
    }
}
