//! Sizes as upstream prints them, and back.

const UNITS: [&str; 6] = ["B", "KB", "MB", "GB", "TB", "PB"];

/// Bytes for people, 1024-based with two decimals, capped at PB (upstream: Backups).
#[must_use]
pub fn humanize(bytes: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
    let mut value = bytes.max(0) as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.2} {}", UNITS.get(unit).copied().unwrap_or("PB"))
}

/// Sum of sizes, which others wrote: it stops at the largest number instead of overflowing.
#[must_use]
pub fn total(bytes: &[i64]) -> i64 {
    bytes.iter().fold(0, |sum, size| sum.saturating_add(*size))
}

/// The sum of those sizes that are known, for people, with how many they are when some are not; `None` when none is.
#[must_use]
pub fn of_known(sizes: &[Option<i64>]) -> Option<String> {
    let known: Vec<i64> = sizes.iter().copied().flatten().collect();
    match known.len() {
        0 => None,
        n if n == sizes.len() => Some(humanize(total(&known))),
        n => Some(format!("{} ({n} of {})", humanize(total(&known)), sizes.len())),
    }
}

/// Bytes meant by a human size such as `127.67 KB`; `None` when it is not one. The two decimals limit
/// the precision.
#[must_use]
pub fn parse(human: &str) -> Option<i64> {
    let (number, unit) = human.trim().split_once(' ')?;
    let power = UNITS.iter().position(|u| *u == unit.trim())?;
    let value: f64 = number.parse().ok()?;
    let bytes = value * 1024_f64.powi(i32::try_from(power).ok()?);
    if !bytes.is_finite() || bytes < 0.0 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "saturates; 2^63 bytes is out of reach")]
    let bytes = bytes.round() as i64;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_sum_that_lacks_sizes_says_so() {
        assert_eq!(of_known(&[]), None);
        assert_eq!(of_known(&[None]), None);
        assert_eq!(of_known(&[Some(1024), Some(1024)]).as_deref(), Some("2.00 KB"));
        assert_eq!(of_known(&[Some(1024), None]).as_deref(), Some("1.00 KB (1 of 2)"));
    }

    #[rstest]
    #[case(0, "0.00 B")]
    #[case(1, "1.00 B")]
    #[case(42, "42.00 B")]
    #[case(1024, "1.00 KB")]
    #[case(130_557, "127.50 KB")]
    #[case(4_325_130_557, "4.03 GB")]
    #[case(8_434_729_356_343, "7.67 TB")]
    #[case(1_234_567_890_123_456_790, "1096.52 PB")]
    fn sizes_read_as_upstream_prints_them(#[case] bytes: i64, #[case] human: &str) {
        assert_eq!(humanize(bytes), human);
    }

    #[rstest]
    #[case("1.00 KB", Some(1024))]
    #[case("127.50 KB", Some(130_560))]
    #[case("", None)]
    #[case("many KB", None)]
    #[case("1.00 QB", None)]
    fn human_sizes_are_read_back(#[case] human: &str, #[case] bytes: Option<i64>) {
        assert_eq!(parse(human), bytes);
    }

    #[test]
    fn absurd_sizes_do_not_overflow() {
        assert_eq!(super::total(&[i64::MAX, i64::MAX, 1]), i64::MAX);
        assert_eq!(super::total(&[1, 2]), 3);
    }
}
