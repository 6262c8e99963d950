//! Whether the control plane renews a credential by itself, and when (docs/dataplane.md). Pure.
//!
//! A token's own times are those of another clock than ours, so they only say how long it works altogether; from when on that
//! counts is a moment of our clock, wherever there is one.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::labels,
    runtime::{backoff, kubeconfig::account::Account},
};

/// Shortest and longest life, in seconds, that an API server may be asked for.
const SECONDS: (i64, i64) = (600, 1 << 32);
/// First pause after an attempt that failed, and the bounds of the longest: a twentieth of the token's life.
const PAUSE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(5));
/// The part of its life after which a token is renewed, in a hundred thousandths, and how far those of a fleet are spread.
const PART: (i64, i64) = (75_000, 5_000);
const WHOLE: i64 = 100_000;

/// What is to become of the credential in a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Renewal {
    /// Nobody asked for it to be renewed, or it is in a Secret that we have no business to write.
    #[default]
    Unasked,
    /// Somebody did, and it cannot be: why, and what to do.
    Impossible(String),
    /// It is renewed by us.
    Ours(Renewable),
}

/// A token that is renewed by us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Renewable {
    /// Whose it is.
    pub(super) account: Account,
    /// How long the next one shall work.
    pub(super) seconds: i64,
    /// When we renewed it last.
    pub(super) renewed_at: Option<Timestamp>,
    /// What somebody wrote who wants it renewed now.
    pub(super) asked: Option<String>,
}

impl Renewal {
    /// Of a Secret with these annotations, which the control plane may write if it is `ours`, and whose kubeconfig has the
    /// token of `account`.
    pub(super) fn of(
        is_ours: bool,
        annotations: &BTreeMap<String, String>,
        account: Option<Account>,
        now: Timestamp,
    ) -> Self {
        let annotation = labels::TOKEN_DURATION;
        let Some(duration) = annotations.get(annotation).filter(|_| is_ours) else { return Self::Unasked };
        let Some(seconds) = seconds(duration) else {
            return Self::Impossible(format!(
                "annotation `{annotation}` of its Secret is no number of seconds such as `3600s`; write one"
            ));
        };
        let Some(account) = account else {
            return Self::Impossible(format!(
                "the Secret has annotation `{annotation}`, and its kubeconfig no token of a ServiceAccount that says when \
                 it was made and when it ends, or a client certificate or `as` beside it; put such a token there, or take \
                 the annotation away"
            ));
        };
        let renewed_at = annotations.get(labels::RENEWED_AT).and_then(|text| renewed_at(text, &account));
        let asked = annotations.get(labels::ROTATE).filter(|asked| !asked.is_empty());
        Self::Ours(Renewable {
            account,
            seconds,
            // Of a time to come it would put the renewal off.
            renewed_at: renewed_at.filter(|at| *at <= now),
            asked: asked.cloned(),
        })
    }
}

/// The seconds in an annotation, within what may be asked for.
fn seconds(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('s').filter(|digits| (1..=12).contains(&digits.len()))?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: i64 = digits.parse().ok().filter(|_| is_number)?;
    Some(seconds.clamp(SECONDS.0, SECONDS.1))
}

/// A time as Kubernetes writes it: more would be another one each time it is read.
pub(super) fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// How the Secret says that the token of `account` is there since `now`. Also which token that is: somebody may put another
/// one back, which is older.
pub(super) fn renewal_note(now: Timestamp, account: &Account) -> String {
    format!("{}/{}", whole(now), account.token_hash)
}

/// When the token of `account` was written, where [`renewal_note`] made `text` of that.
fn renewed_at(text: &str, account: &Account) -> Option<Timestamp> {
    let (at, token) = text.split_once('/')?;
    let is_ours = token == account.token_hash && at.len() <= 32 && at.ends_with('Z');
    at.parse().ok().filter(|_| is_ours)
}

impl Renewable {
    /// When it is renewed, at 75 to 80 % of its life: at which part stands in its kubeconfig's `hash`, so that it is the same
    /// one after a restart, and those of a fleet are spread. It counts from our own renewal, else from when the token was
    /// made or first seen, whichever was earlier.
    pub(super) fn due(&self, hash: &str, observed_at: Timestamp) -> Timestamp {
        let begin = self.renewed_at.unwrap_or(self.account.issued_at.min(observed_at));
        let digits = hash.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let part = PART.0 + i64::from(digits.unwrap_or_default()) % (PART.1 + 1);
        let seconds = self.account.life().as_secs().saturating_mul(part) / WHOLE;
        begin.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
    }

    fn longest_pause(&self) -> Duration {
        (self.account.life().unsigned_abs() / 20).clamp(PAUSE.0, PAUSE.1)
    }

    /// How long to wait before it is renewed: until it is `due`, or not at all once it is `rejected`, or somebody asks for it
    /// who did not ask last time; and never less than a pause after what was `tried`.
    pub(super) fn wait(
        &self,
        due: Timestamp,
        is_rejected: bool,
        tried: Option<&Tried>,
        now: Timestamp,
    ) -> Duration {
        let asked_before = tried.and_then(|tried| tried.asked.as_ref());
        if self.asked.is_some() && self.asked.as_ref() != asked_before {
            return Duration::ZERO;
        }
        let until = |at: Timestamp| at.duration_since(now).max(SignedDuration::ZERO).unsigned_abs();
        let is_owed = self.asked.is_some() && tried.is_some_and(|tried| tried.failures > 0);
        let wait = if is_rejected || is_owed { Duration::ZERO } else { until(due) };
        // After a step back of the clock no pause is known.
        let Some(tried) = tried.filter(|tried| tried.at <= now) else { return wait };
        let longest = self.longest_pause();
        let pause = match tried.failures.checked_sub(1) {
            Some(before) => backoff::delay(before, PAUSE.0, longest),
            None => longest,
        };
        let over = SignedDuration::try_from(pause).ok().and_then(|pause| tried.at.checked_add(pause).ok());
        wait.max(over.map_or(Duration::ZERO, until))
    }
}

/// What came of the last attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tried {
    /// When it ended.
    pub(super) at: Timestamp,
    /// How many have failed, one after the other.
    pub(super) failures: u32,
    /// What somebody had written who wanted it.
    pub(super) asked: Option<String>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const HASH: &str = "0000000000000000";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn account(issued: i64, life: i64) -> Account {
        Account {
            namespace: "medusa-fleet".to_owned(),
            name: "medusa-fleet-control-plane".to_owned(),
            issued_at: at(issued),
            expires_at: at(issued + life),
            token_hash: "0123456789abcdef".to_owned(),
        }
    }

    fn renewable(issued: i64, life: i64) -> Renewable {
        Renewable { account: account(issued, life), seconds: life, renewed_at: None, asked: None }
    }

    fn of(pairs: &[(&str, &str)]) -> Renewal {
        let annotations = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Renewal::of(true, &annotations, Some(account(0, 3600)), at(1_000_000))
    }

    #[rstest]
    #[case("3600s", Some(3600))]
    #[case("1s", Some(600))]
    #[case("999999999999s", Some(1 << 32))]
    #[case("3600", None)]
    #[case("1h", None)]
    #[case("-3600s", None)]
    #[case("+3600s", None)]
    #[case("s", None)]
    #[case("", None)]
    #[case("9999999999999999999999s", None)]
    fn a_duration_is_a_number_of_seconds(#[case] text: &str, #[case] expected: Option<i64>) {
        assert_eq!(seconds(text), expected);
    }

    #[rstest]
    #[case("1970-01-01T00:10:00Z/0123456789abcdef", Some(600))]
    #[case::of_another_token("1970-01-01T00:10:00Z/fedcba9876543210", None)]
    #[case::of_no_token("1970-01-01T00:10:00Z", None)]
    #[case::to_come("2030-01-01T00:00:00Z/0123456789abcdef", None)]
    #[case::elsewhere("1970-01-01T00:10:00+02:00/0123456789abcdef", None)]
    #[case::words("yesterday/0123456789abcdef", None)]
    #[case::nothing("", None)]
    fn when_it_was_renewed_is_a_time_that_has_been(#[case] text: &str, #[case] expected: Option<i64>) {
        let renewal = of(&[(labels::TOKEN_DURATION, "3600s"), (labels::RENEWED_AT, text)]);
        let Renewal::Ours(renewable) = renewal else { panic!("{renewal:?}") };
        assert_eq!(renewable.renewed_at.map(Timestamp::as_second), expected);
    }

    #[test]
    fn only_what_was_asked_for_is_renewed_and_what_cannot_be_is_said() {
        assert_eq!(of(&[]), Renewal::Unasked);
        assert_eq!(of(&[(labels::ROTATE, "now")]), Renewal::Unasked);
        let annotations = BTreeMap::from([(labels::TOKEN_DURATION.to_owned(), "3600s".to_owned())]);
        assert_eq!(Renewal::of(false, &annotations, Some(account(0, 3600)), at(0)), Renewal::Unasked);
        let others = [
            (of(&[(labels::TOKEN_DURATION, "long")]), "no number of seconds"),
            (Renewal::of(true, &annotations, None, at(0)), "no token of a ServiceAccount"),
        ];
        for (renewal, says) in others {
            let Renewal::Impossible(why) = renewal else { panic!("{renewal:?}") };
            assert!(why.contains(says), "{why}");
        }
    }

    #[test]
    fn it_counts_from_our_renewal_and_else_from_the_earlier_of_made_and_seen() {
        let token = renewable(1000, 100_000);
        let begins = |token: &Renewable, observed: i64| token.due(HASH, at(observed)).as_second() - 75_000;
        assert_eq!(begins(&token, 5000), 1000, "seen later than made");
        assert_eq!(begins(&token, 400), 400, "their clock is ahead of ours");
        let renewed = Renewable { renewed_at: Some(at(7000)), ..token.clone() };
        assert_eq!(begins(&renewed, 7001), 7000, "their clock is behind ours");
        let note = renewal_note(at(7000), &token.account);
        assert_eq!(renewed_at(&note, &token.account), Some(at(7000)));
        let put_back = Account { token_hash: "fedcba9876543210".to_owned(), ..token.account.clone() };
        assert_eq!(renewed_at(&note, &put_back), None, "somebody put the old token back");
    }

    #[test]
    fn after_an_attempt_there_is_a_pause_that_grows_with_its_failures() {
        let token = renewable(0, 3600);
        let pause = |failures: u32, asked: Option<&str>| {
            let tried = Tried { at: at(3000), failures, asked: asked.map(str::to_owned) };
            token.wait(at(2800), false, Some(&tried), at(3000)).as_secs()
        };
        assert_eq!(
            [0, 1, 2, 3, 5, 6, 60].map(|failures| pause(failures, None)),
            [180, 10, 20, 40, 160, 180, 180]
        );
        let year = renewable(0, 365 * 86_400);
        let tried = Tried { at: at(9), failures: 40, asked: None };
        assert_eq!(year.wait(at(0), true, Some(&tried), at(9)), Duration::from_mins(5));
        assert_eq!(year.wait(at(0), false, Some(&tried), at(0)), Duration::ZERO, "the clock stepped back");
    }

    #[test]
    fn who_asks_is_heard_once_without_a_pause() {
        let asked = Renewable { asked: Some("now".to_owned()), ..renewable(0, 3600) };
        let tried =
            |failures: u32, asked: &str| Tried { at: at(10), failures, asked: Some(asked.to_owned()) };
        let wait = |tried: Option<&Tried>| asked.wait(at(2800), false, tried, at(10)).as_secs();
        assert_eq!(wait(None), 0);
        assert_eq!(wait(Some(&tried(0, "before"))), 0);
        assert_eq!(wait(Some(&tried(1, "now"))), 10, "it failed, and is still owed");
        assert_eq!(wait(Some(&tried(0, "now"))), 2790, "whoever writes it again asks for nothing new");
    }

    proptest! {
        /// Whatever the clocks say, a token is renewed between 75 and 80 % of its life after it came into use, and a fleet's
        /// not all at once.
        #[test]
        fn a_token_is_renewed_in_time(
            issued in 0_i64..4_000_000_000,
            life in 600_i64..400_000_000,
            skew in -100_000_i64..100_000,
            hash in "[0-9a-f]{16}",
        ) {
            let token = renewable(issued, life);
            let observed = (issued + skew).max(0);
            let after = token.due(&hash, at(observed)).as_second() - issued.min(observed);
            prop_assert!(after >= life * 3 / 4 - 1 && after <= life * 4 / 5, "{after} of {life}");
        }

        #[test]
        fn nothing_an_annotation_or_a_token_holds_breaks_it(
            text in any::<String>(),
            renewed in any::<String>(),
            issued in -377_705_000_000_i64..253_402_000_000,
            life in 1_i64..253_402_000_000,
            now in 0_i64..253_402_000_000,
        ) {
            prop_assume!(Timestamp::from_second(issued + life).is_ok() && Timestamp::from_second(issued).is_ok());
            let annotations = BTreeMap::from([
                (labels::TOKEN_DURATION.to_owned(), text),
                (labels::RENEWED_AT.to_owned(), renewed),
            ]);
            drop(Renewal::of(true, &annotations, Some(account(issued, life)), at(now)));
            let token = renewable(issued, life);
            let tried = Tried { at: at(now), failures: u32::MAX, asked: None };
            let wait = token.wait(token.due("", at(now)), true, Some(&tried), at(now));
            prop_assert!(wait >= PAUSE.0 && wait <= PAUSE.1);
        }
    }
}
