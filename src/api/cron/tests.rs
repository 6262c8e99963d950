//! Expressions against a table of known moments, a walk through every minute, and another implementation.

use jiff::{SignedDuration, Zoned, civil::DateTime};
use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn next(cron: &str, after: &str) -> String {
    let after = at(after);
    CronExpr::parse(cron, None).unwrap().next_after(after, after).unwrap().to_string()
}

fn why(cron: &str) -> String {
    CronExpr::parse(cron, None).unwrap_err().to_string()
}

#[rstest]
#[case("* * * * *", "2026-03-01T10:00:00Z", "2026-03-01T10:01:00Z")]
#[case("* * * * *", "2026-03-01T09:59:59.999999Z", "2026-03-01T10:00:00Z")]
#[case("*/15 * * * *", "2026-03-01T10:45:00Z", "2026-03-01T11:00:00Z")]
#[case("20-35/15 * * * *", "2026-03-01T10:20:00Z", "2026-03-01T10:35:00Z")]
#[case("5/20 * * * *", "2026-03-01T10:05:00Z", "2026-03-01T10:25:00Z")]
#[case("0 22 * * MON-fri", "2026-03-06T22:00:00Z", "2026-03-09T22:00:00Z")]
#[case("0 0 1 Jan,JUL ?", "2026-03-01T00:00:00Z", "2026-07-01T00:00:00Z")]
#[case("0 0 29 2 *", "2026-03-01T00:00:00Z", "2028-02-29T00:00:00Z")]
#[case("0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z")]
#[case("0 0 * * 0", "2026-03-01T00:00:00Z", "2026-03-08T00:00:00Z")]
#[case("@yearly", "2026-03-01T00:00:00Z", "2027-01-01T00:00:00Z")]
#[case("@annually", "2026-03-01T00:00:00Z", "2027-01-01T00:00:00Z")]
#[case("@monthly", "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z")]
#[case("@weekly", "2026-03-02T00:00:00Z", "2026-03-08T00:00:00Z")]
#[case("@daily", "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z")]
#[case("@midnight", "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z")]
#[case("@hourly", "2026-03-01T00:59:59Z", "2026-03-01T01:00:00Z")]
#[case("@every 90m", "2026-03-01T00:00:07Z", "2026-03-01T01:30:07Z")]
#[case("TZ=Asia/Kolkata 0 2 * * *", "2026-03-01T00:00:00Z", "2026-03-01T20:30:00Z")]
#[case("CRON_TZ=Asia/Tokyo  @daily ", "2026-03-01T00:00:00Z", "2026-03-01T15:00:00Z")]
fn slots_are_where_robfig_cron_has_them(#[case] cron: &str, #[case] after: &str, #[case] expected: &str) {
    assert_eq!(next(cron, after), expected);
}

/// A star in one of the two fields for days leaves the choice to the other; otherwise both choose.
#[rstest]
#[case("0 0 13 * FRI", "2026-03-01T00:00:00Z", "2026-03-06T00:00:00Z")]
#[case("0 0 4 * FRI", "2026-03-01T00:00:00Z", "2026-03-04T00:00:00Z")]
#[case("0 0 * * FRI", "2026-03-01T00:00:00Z", "2026-03-06T00:00:00Z")]
#[case("0 0 13 * *", "2026-03-01T00:00:00Z", "2026-03-13T00:00:00Z")]
#[case("0 0 13 * */1", "2026-03-01T00:00:00Z", "2026-03-13T00:00:00Z")]
#[case("0 0 13 * */2", "2026-03-01T00:00:00Z", "2026-03-03T00:00:00Z")]
fn the_two_fields_for_days_are_united(#[case] cron: &str, #[case] after: &str, #[case] expected: &str) {
    assert_eq!(next(cron, after), expected);
}

/// Moments that a zone's change of time makes special (robfig/cron's own table has these).
#[rstest]
// Skipped in spring: not that day.
#[case("30 2 11 Mar ?", "2012-03-11T00:00:00-05:00", "2013-03-11T02:30:00-04:00")]
#[case("30 2 * * *", "2012-03-10T03:00:00-05:00", "2012-03-12T02:30:00-04:00")]
#[case("0 * * * *", "2012-03-11T01:00:00-05:00", "2012-03-11T03:00:00-04:00")]
// Repeated in autumn: twice.
#[case("0 1 * * *", "2012-11-04T00:00:00-04:00", "2012-11-04T01:00:00-04:00")]
#[case("0 1 * * *", "2012-11-04T01:00:00-04:00", "2012-11-04T01:00:00-05:00")]
#[case("0 1 * * *", "2012-11-04T01:00:00-05:00", "2012-11-05T01:00:00-05:00")]
#[case("0 2 * * *", "2012-11-04T00:00:00-04:00", "2012-11-04T02:00:00-05:00")]
fn a_change_of_time_skips_and_repeats(#[case] cron: &str, #[case] after: &str, #[case] expected: &str) {
    let zoned = |text: &str| at(text);
    let cron = CronExpr::parse(cron, Some("America/New_York")).unwrap();
    assert_eq!(cron.next_after(zoned(after), zoned(after)), Some(zoned(expected)));
}

#[test]
fn a_midnight_that_does_not_exist_is_skipped() {
    let cron = CronExpr::parse("0 0 * * *", Some("America/Sao_Paulo")).unwrap();
    let after = at("2018-11-03T12:00:00-03:00");
    assert_eq!(cron.next_after(after, after), Some(at("2018-11-05T00:00:00-02:00")));
}

#[rstest]
#[case("", "0 fields")]
#[case("* * * *", "4 fields")]
#[case("0 * * * * *", "6 fields")]
#[case("60 * * * *", "minute `60`: out of range; allowed are 0-59")]
#[case("* 24 * * *", "hour `24`")]
#[case("* * 0 * *", "day of month `0`")]
#[case("* * * 13 *", "1-12 or JAN-DEC")]
#[case("* * * * 7", "Sunday is 0; allowed are 0-6 or SUN-SAT")]
#[case("* * * foo *", "month `foo`")]
#[case("*/0 * * * *", "the step is 0")]
#[case("*/x * * * *", "the step is not a number")]
#[case("5-1 * * * *", "ends before it begins")]
#[case("1-2-3 * * * *", "minute `1-2-3`")]
#[case("1/2/3 * * * *", "minute `1/2/3`")]
#[case("*-5 * * * *", "minute `*-5`")]
#[case("1,,2 * * * *", "minute `` in `1,,2`")]
#[case("-1 * * * *", "minute `-1`")]
#[case("+1 * * * *", "minute `+1`")]
#[case("99999999999 * * * *", "minute `99999999999`")]
#[case("@fortnightly", "@yearly")]
#[case("@Daily", "@yearly")]
#[case("@every", "@every")]
#[case("@every 1 fortnight", "1h30m")]
#[case("TZ=UTC", "only a time zone")]
#[case("TZ=Mars/Phobos * * * * *", "`Mars/Phobos` is not known")]
#[case("TZ=Local * * * * *", "`Local` is not allowed")]
#[case("TZ= * * * * *", "time zone ``")]
fn garbage_is_refused_with_what_is_allowed(#[case] cron: &str, #[case] mentions: &str) {
    assert!(why(cron).contains(mentions), "{}", why(cron));
}

#[test]
fn a_time_zone_is_given_once() {
    let twice = CronExpr::parse("TZ=UTC * * * * *", Some("Europe/Berlin")).unwrap_err();
    assert!(matches!(&twice, CronError::TimeZone(why) if why.contains("twice")), "{twice}");
    let unknown = CronExpr::parse("* * * * *", Some("Berlin")).unwrap_err();
    assert!(matches!(unknown, CronError::TimeZone(_)));
}

#[rstest]
fn what_never_comes_is_found_out(
    #[values("0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "* * 31 6 ?", "TZ=Asia/Tokyo 0 0 30-31 FEB */1")]
    cron: &str,
) {
    assert!(matches!(CronExpr::parse(cron, None), Err(CronError::NeverFires(_))));
}

/// A year in which the zone skipped a day: that day is no slot, and the search goes on.
#[test]
fn days_a_zone_has_skipped_are_no_slots() {
    let cron = CronExpr::parse("0 12 30 12 *", Some("Pacific/Apia")).unwrap();
    let after = at("2011-01-01T00:00:00Z");
    assert_eq!(cron.next_after(after, after), Some(at("2012-12-30T12:00:00+14:00")));
}

#[test]
fn there_is_an_end_of_time() {
    let cron = CronExpr::parse("0 0 29 2 *", None).unwrap();
    assert_eq!(cron.next_after(Timestamp::MAX, Timestamp::MAX), None);
    let every = CronExpr::parse("@every 2540400h", None).unwrap();
    assert_eq!(every.next_after(Timestamp::MAX, Timestamp::MAX), None);
    assert_eq!(every.latest(Timestamp::MIN, Timestamp::MAX).map(|s| s > Timestamp::UNIX_EPOCH), Some(true));
}

#[test]
fn every_counts_from_its_anchor() {
    let cron = CronExpr::parse("@every 10m", None).unwrap();
    let anchor = at("2026-03-01T10:00:07Z");
    assert_eq!(cron.next_after(anchor, at("2026-03-01T10:25:00Z")), Some(at("2026-03-01T10:30:07Z")));
    assert_eq!(cron.next_after(anchor, at("2026-03-01T10:30:07Z")), Some(at("2026-03-01T10:40:07Z")));
    assert_eq!(cron.next_after(anchor, at("2026-03-01T09:00:00Z")), Some(at("2026-03-01T10:10:07Z")));
    assert_eq!(cron.latest(anchor, at("2026-03-01T10:25:00Z")), Some(at("2026-03-01T10:20:07Z")));
    assert_eq!(cron.latest(anchor, at("2026-03-01T10:00:06Z")), None);
    assert_eq!(cron.count(anchor, at("2026-03-01T10:25:00Z"), 100), 3);
}

#[test]
fn the_latest_slot_is_found_without_walking_through_all() {
    let minutely = CronExpr::parse("* * * * *", None).unwrap();
    let (first, now) = (at("1990-01-01T00:00:00Z"), at("2026-03-01T10:00:30Z"));
    assert_eq!(minutely.latest(first, now), Some(at("2026-03-01T10:00:00Z")));
    assert_eq!(minutely.count(first, now, 100), 100);
    let leap = CronExpr::parse("0 0 29 2 *", None).unwrap();
    assert_eq!(leap.latest(first, now), Some(at("2024-02-29T00:00:00Z")));
    assert_eq!(leap.latest(at("2024-02-29T00:00:00Z"), now), Some(at("2024-02-29T00:00:00Z")));
    assert_eq!(leap.latest(at("2024-02-29T00:00:01Z"), now), None);
}

#[test]
fn an_expression_says_what_it_is() {
    let shown = |cron: &str, zone| CronExpr::parse(cron, zone).unwrap().to_string();
    assert_eq!(shown("0 2 * * *", Some("Europe/Berlin")), "`0 2 * * *` (Europe/Berlin)");
    assert_eq!(shown("CRON_TZ=Asia/Tokyo @daily", None), "`@daily` (Asia/Tokyo)");
    assert_eq!(shown("@hourly", None), "`@hourly` (UTC)");
    assert_eq!(shown("@every 1h", None), "`@every 1h`");
}

/// Zones with changes by an hour, by half an hour, at midnight, and by a whole day.
const PLACES: [&str; 6] =
    ["UTC", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Beirut", "Pacific/Apia"];

fn part(min: u32, max: u32) -> impl Strategy<Value = String> {
    let value = min..=max;
    prop_oneof![
        4 => Just("*".to_owned()),
        1 => (2..=max.max(2)).prop_map(|step| format!("*/{step}")),
        3 => value.clone().prop_map(|v| v.to_string()),
        2 => (value.clone(), value.clone()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (value.clone(), value, 1..9_u32).prop_map(|(a, b, s)| format!("{}-{}/{s}", a.min(b), a.max(b))),
    ]
}

fn field(min: u32, max: u32) -> impl Strategy<Value = String> {
    prop::collection::vec(part(min, max), 1..3).prop_map(|parts| parts.join(","))
}

/// A list with a star in it, such as `*,5`, is all values to croner too, but only to robfig/cron also a star.
fn star_or_list(min: u32, max: u32) -> impl Strategy<Value = String> {
    let starless = part(min, max).prop_map(move |part| part.replace('*', &format!("{min}-{max}")));
    prop_oneof![part(min, max), prop::collection::vec(starless, 2..4).prop_map(|parts| parts.join(","))]
}

fn fields_for_both() -> impl Strategy<Value = String> {
    let days = (star_or_list(1, 31), star_or_list(1, 12), star_or_list(0, 6));
    (star_or_list(0, 59), star_or_list(0, 23), days)
        .prop_map(|(minute, hour, (day, month, weekday))| format!("{minute} {hour} {day} {month} {weekday}"))
}

fn fields() -> impl Strategy<Value = String> {
    (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6))
        .prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
}

/// Whether the clock on the wall shows what `cron` names: the definition, without any search.
fn is_slot(cron: &Fields, moment: &Zoned) -> bool {
    let wall: DateTime = moment.datetime();
    cron.names(wall)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever a person or a neighbour writes there: it is read, or refused in words.
    #[test]
    fn any_text_is_a_schedule_or_refused(
        text in proptest::prop_oneof![any::<String>(), "[0-9*/,@a-zA-Z? -]{0,40}", "([0-9*/,-]{1,12} ){4}[0-9*/,-]{1,12}"],
        zone in proptest::option::of(proptest::prop_oneof![any::<String>(), "[A-Z][a-z]{2,8}/[A-Z][a-z]{2,8}"]),
    ) {
        match CronExpr::parse(&text, zone.as_deref()) {
            Ok(cron) => {
                let now = Timestamp::from_second(1_800_000_000).unwrap();
                prop_assert!(cron.next_after(now, now).is_none_or(|next| next > now));
                let _ = (cron.longest_gap(now), cron.count(now, now + SignedDuration::from_hours(24), 100));
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    /// The next slot is the first of the following minutes that is one; none before it was left out.
    #[test]
    fn no_slot_is_left_out_and_none_invented(
        cron in fields(), place in 0..PLACES.len(), start in 1_200_000_000_i64..1_900_000_000,
    ) {
        let zone = ZONES.get(PLACES[place]).unwrap();
        let Ok(CronExpr { rule: Rule::Fields(fields), .. }) = CronExpr::parse(&cron, None) else {
            return Ok(());
        };
        let start = Timestamp::from_second(start).unwrap();
        let end = start + SignedDuration::from_hours(24 * 3);
        let mut walked = Vec::new();
        let mut moment = Timestamp::from_second(start.as_second().div_euclid(60) * 60 + 60).unwrap();
        while moment <= end {
            if is_slot(&fields, &moment.to_zoned(zone.clone())) {
                walked.push(moment);
            }
            moment += SignedDuration::from_mins(1);
        }
        let found: Vec<Timestamp> =
            std::iter::successors(fields.next_after(&zone, start), |slot| fields.next_after(&zone, *slot))
                .take_while(|slot| *slot <= end)
                .collect();
        prop_assert_eq!(found, walked);
    }

    /// Where croner means the same, it finds the same: in UTC, as it treats changes of time otherwise.
    #[test]
    fn croner_finds_the_same(cron in fields_for_both(), start in 1_200_000_000_i64..1_900_000_000) {
        let start = Timestamp::from_second(start).unwrap();
        let ours = match CronExpr::parse(&cron, None) {
            Ok(cron) => cron.next_after(start, start),
            Err(CronError::NeverFires(_)) => None,
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        let theirs = cron.parse::<croner::Cron>().unwrap();
        let theirs = theirs.find_next_occurrence(&start.to_zoned(TimeZone::UTC), false).ok();
        // Beyond our ten years nothing is compared.
        if ours.is_some() {
            prop_assert_eq!(ours, theirs.map(|zoned| zoned.timestamp()));
        }
    }

    #[test]
    fn the_latest_slot_is_the_last_of_all(
        cron in fields(), start in 1_200_000_000_i64..1_900_000_000, days in 0_i64..40,
    ) {
        let Ok(cron) = CronExpr::parse(&cron, Some("America/New_York")) else { return Ok(()) };
        let first = Timestamp::from_second(start).unwrap();
        let until = first + SignedDuration::from_hours(24 * days);
        let last = cron.slots_from(first).take_while(|slot| *slot <= until).last();
        prop_assert_eq!(cron.latest(first, until), last);
    }

    #[test]
    fn no_text_makes_it_panic_or_hang(text in "(TZ=)?[-0-9*,/?@a-zA-Z. ]{0,40}", zone in prop::option::of("[A-Za-z/_]{0,20}")) {
        if let Ok(cron) = CronExpr::parse(&text, zone.as_deref()) {
            let now = at("2026-03-01T00:00:00Z");
            let _ = (cron.next_after(now, now), cron.latest(at("2020-01-01T00:00:00Z"), now));
        }
    }

    #[test]
    fn five_fields_of_anything_are_read_or_refused(text in "([-0-9*,/?]{1,6} ){4}[-0-9*,/?A-Z]{1,6}") {
        if let Ok(cron) = CronExpr::parse(&text, None) {
            let now = at("2026-03-01T00:00:00Z");
            prop_assert!(cron.next_after(now, now).is_some(), "{text} is accepted, so it must come");
        }
    }
}
