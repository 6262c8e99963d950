//! Names of the objects we make, derived only from what they stand for, so that making them again
//! after a crash finds them again.

use std::fmt::Display;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// Hex digits of a fleet job's uid in its children's names (docs/fleetbackupjob.md).
const UID_DIGITS: usize = 8;
/// Longest part of a child's name that comes from the fleet job.
const MAX_JOB: usize = 170;
/// Longest part that comes from the datacenter. 170 + 63 + 8 and two dashes stay below the 248
/// characters that leave room for the snapshot directory `medusa-<name>`.
const MAX_DATACENTER: usize = 63;
/// Longest name of a backup.
const MAX_BACKUP: usize = 248;
/// Longest name Kubernetes accepts.
const MAX_NAME: usize = 253;

/// Hex SHA-256 of `bytes`.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// `text` when it fits, else its beginning and a hash of the whole.
#[must_use]
pub fn shorten(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let hash: String = sha256_hex(text.as_bytes()).chars().take(8).collect();
    let cut = text.floor_char_boundary(max.saturating_sub(9));
    let head = text.get(..cut).unwrap_or_default().trim_end_matches(['-', '.']);
    format!("{head}-{hash}")
}

fn uid_part(uid: &str) -> String {
    uid.chars().filter(char::is_ascii_hexdigit).take(UID_DIGITS).collect::<String>().to_lowercase()
}

/// Name of the object a fleet job makes for one datacenter: `<job>-<dc>-<u>` (docs/fleetbackupjob.md). `u` ends
/// every name with the same number of digits, so none is the beginning of another, which matters
/// because Medusa deletes by prefix.
#[must_use]
pub fn child(job: &str, datacenter: &str, job_uid: &str) -> String {
    format!("{}-{}-{}", shorten(job, MAX_JOB), shorten(datacenter, MAX_DATACENTER), uid_part(job_uid))
}

/// Name of the object of a further attempt (2 and up) at the same datacenter: `<job>-<dc>-r<attempt>x<u>`. The mark
/// stands in the last part and cannot be read as hex digits: no datacenter's name can look like it, no attempt's
/// name is the beginning of another's, and a restore point is found from the name all the same.
#[must_use]
pub fn attempt(job: &str, datacenter: &str, job_uid: &str, attempt: usize) -> String {
    if attempt < 2 {
        return child(job, datacenter, job_uid);
    }
    let (job, datacenter) = (shorten(job, MAX_JOB), shorten(datacenter, MAX_DATACENTER));
    format!("{job}-{datacenter}-r{attempt}x{}", uid_part(job_uid))
}

/// The uid's digits at the end of a name [`attempt`] made; `last` is all after the last dash.
fn uid_digits(last: &str) -> Option<&str> {
    let (mark, uid) = last.split_at_checked(last.len().checked_sub(UID_DIGITS)?)?;
    let number = mark.strip_prefix('r').and_then(|rest| rest.strip_suffix('x'));
    let is_mark = mark.is_empty()
        || number.is_some_and(|n| n.parse::<u32>().is_ok_and(|n| n > 1) && !n.starts_with(['0', '+']));
    let is_uid = uid.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
    (is_mark && is_uid).then_some(uid)
}

/// Name of what a MedusaBackupSchedule makes for one slot: `<schedule>-<unix seconds of the slot>`, upstream's
/// shape (upstream: Schedules), so that a slot's job can only be made once. Long names are shortened with a hash.
#[must_use]
pub fn slot(schedule: &str, slot: Timestamp) -> String {
    let second = slot.as_second().to_string();
    format!("{}-{second}", shorten(schedule, MAX_BACKUP.saturating_sub(second.len() + 1)))
}

/// The slot of `schedule` that `name` is [`slot`]'s name for.
#[must_use]
pub fn slot_of(schedule: &str, name: &str) -> Option<Timestamp> {
    let (_, second) = name.rsplit_once('-')?;
    let at = Timestamp::from_second(second.parse().ok()?).ok()?;
    (name == slot(schedule, at)).then_some(at)
}

/// What the names [`slot`] makes for `schedule` begin with, until its seconds have eleven digits.
#[must_use]
pub fn slots_begin(schedule: &str) -> String {
    format!("{}-", shorten(schedule, MAX_BACKUP.saturating_sub(11)))
}

/// Whether `name` can be [`slot`]'s name for a [`child`] or for a shortened name: what a delegated schedule makes.
#[must_use]
pub fn is_slot_of_child(name: &str) -> bool {
    let Some((made, second)) = name.rsplit_once('-') else { return false };
    let ends_in_digits = made.rsplit_once('-').is_some_and(|(_, last)| uid_digits(last) == Some(last));
    ends_in_digits && second.parse::<u64>().is_ok_and(|n| n.to_string() == second)
}

/// Name of the MedusaTask that syncs after the purge of that name (upstream: Tasks).
#[must_use]
pub fn sync_after(purge: &str) -> String {
    format!("{}-sync", shorten(purge, MAX_BACKUP))
}

/// Restore point a backup belongs to, from its name alone: `<job>-<u>` for a name [`attempt`] made for
/// that datacenter, the name itself otherwise. The second value is the job's name, in the first case.
#[must_use]
pub fn restore_point(backup: &str, datacenter: &str) -> (String, Option<String>) {
    let split = || {
        let (rest, last) = backup.rsplit_once('-')?;
        let uid = uid_digits(last)?;
        let job = rest.strip_suffix(&shorten(datacenter, MAX_DATACENTER))?.strip_suffix('-')?;
        (!job.is_empty()).then(|| (format!("{job}-{uid}"), Some(job.to_owned())))
    };
    split().unwrap_or_else(|| (backup.to_owned(), None))
}

/// Name of the FleetBackup of one restore point of one cluster.
#[must_use]
pub fn fleet_backup(point: &str, cluster: &str) -> String {
    shorten(&format!("{point}.{cluster}"), MAX_NAME)
}

/// `text` as a DNS subdomain: lower case, everything else a dash, dots kept. Where anything but the case
/// was changed a hash keeps different texts apart.
#[must_use]
pub fn dns_name(text: &str) -> String {
    let lower = text.to_lowercase();
    let mapped: String = lower
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' { c } else { '-' })
        .collect();
    let clean = mapped
        .split('.')
        .map(|label| label.trim_matches('-'))
        .filter(|label| !label.is_empty())
        .collect::<Vec<_>>()
        .join(".");
    if clean == text && !clean.is_empty() {
        return shorten(&clean, MAX_NAME);
    }
    let hash: String = sha256_hex(text.as_bytes()).chars().take(8).collect();
    let head = shorten(&clean, MAX_NAME - 9);
    if head.is_empty() { hash } else { format!("{head}-{hash}") }
}

/// Whether `text` can be the name of an object: a DNS subdomain of RFC 1123, which is what Kubernetes lets nearly every
/// kind be named. Anything else must never become part of a request's path: `dc1?x` would be read as `dc1`.
#[must_use]
pub fn is_object_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let ends = bytes.first().copied().zip(bytes.last().copied());
        ends.is_some_and(|(first, last)| is_plain(first) && is_plain(last))
            && bytes.iter().all(|byte| is_plain(*byte) || *byte == b'-')
    };
    text.len() <= MAX_NAME && text.split('.').all(is_label)
}

/// Whether `text` can be the name of a namespace: a DNS label of RFC 1123.
#[must_use]
pub fn is_namespace(text: &str) -> bool {
    text.len() <= 63 && !text.contains('.') && is_object_name(text)
}

/// `text` of somebody else as it may stand in a message: escaped, and no longer than `max`.
#[must_use]
pub fn shown(text: &str, max: usize) -> String {
    shorten(&text.chars().take(4 * max).collect::<String>().escape_debug().to_string(), max)
}

/// The first of `all`, at most `most`, and how many more there are, for a message: `a, b and 7 more`.
#[must_use]
pub fn listed<T: Display>(all: impl IntoIterator<Item = T>, most: usize) -> String {
    let mut all = all.into_iter();
    let named = all.by_ref().take(most).map(|one| one.to_string()).collect::<Vec<_>>().join(", ");
    match all.count() {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// `text` as a label value of at most 63 characters, shortened with a hash.
#[must_use]
pub fn label_value(text: &str) -> String {
    shorten(text, 63)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_names_the_first_and_counts_the_others() {
        assert_eq!(listed(["a", "b"], 2), "a, b");
        assert_eq!(listed(["a", "b", "c", "d"], 2), "a, b and 2 more");
        assert_eq!(listed(Vec::<String>::new(), 2), "");
    }

    #[test]
    fn a_context_means_the_data_plane_of_its_name_and_no_other_context_does() {
        for name in ["eu-west", "a.b-c", "0", "local"] {
            assert_eq!(dns_name(name), name, "a good name stays");
        }
        let contexts = ["prod-eu", "prod_eu", "Prod-EU", "_prod-eu_", "local", "Local", "_local_", "_", "/"];
        let named: std::collections::BTreeSet<String> = contexts.map(dns_name).into();
        assert_eq!(named.len(), contexts.len(), "{named:?}");
        assert!(dns_name("gke_proj_europe-west1-b").starts_with("gke-proj-europe-west1-b-"));
    }

    const UID: &str = "0B1C2D3E-aaaa-bbbb-cccc-000000000000";

    #[test]
    fn a_child_is_named_after_job_datacenter_and_uid() {
        assert_eq!(child("nightly", "dc1", UID), "nightly-dc1-0b1c2d3e");
    }

    #[test]
    fn a_restore_point_is_found_from_the_name_alone() {
        let expected = ("nightly-0b1c2d3e".to_owned(), Some("nightly".to_owned()));
        assert_eq!(restore_point("nightly-dc1-0b1c2d3e", "dc1"), expected);
        assert_eq!(restore_point("nightly-dc1-0b1c2d3e", "dc2").0, "nightly-dc1-0b1c2d3e");
        assert_eq!(restore_point("medusa-backup1", "dc1"), ("medusa-backup1".to_owned(), None));
        assert_eq!(restore_point("medusa-backup-schedule-1658626200", "dc1").1, None);
        assert_eq!(restore_point("dc1-0b1c2d3e", "dc1").1, None);
    }

    #[test]
    fn every_attempt_belongs_to_the_same_restore_point() {
        assert_eq!(attempt("nightly", "dc1", UID, 1), child("nightly", "dc1", UID));
        let second = attempt("nightly", "dc1", UID, 2);
        assert_eq!(second, "nightly-dc1-r2x0b1c2d3e");
        assert_eq!(restore_point(&second, "dc1"), restore_point("nightly-dc1-0b1c2d3e", "dc1"));
        for other in ["r1x", "r02x", "rx", "r+2x", "r2", "2x"] {
            assert_eq!(restore_point(&format!("nightly-dc1-{other}0b1c2d3e"), "dc1").1, None, "{other}");
        }
    }

    #[test]
    fn a_slot_has_one_name_however_long_the_schedules_is() {
        let at = Timestamp::from_second(1_658_626_200).unwrap();
        assert_eq!(slot("medusa-backup-schedule", at), "medusa-backup-schedule-1658626200");
        let (a, b) = (slot(&format!("{}a", "x".repeat(252)), at), slot(&format!("{}b", "x".repeat(252)), at));
        assert!(a.len() <= 248 && a.ends_with("-1658626200") && a != b);
        assert_eq!(slot_of(&format!("{}a", "x".repeat(252)), &a), Some(at));
        assert_eq!(slot_of("nightly", "nightly-1658626200"), Some(at));
        for long in ["nightly".to_owned(), format!("{}a", "x".repeat(252))] {
            assert!(slot(&long, at).starts_with(&slots_begin(&long)));
            assert!(is_slot_of_child(&slot(&child(&long, "dc1", UID), at)));
        }
        for other in ["nightly-1658626200", "nightly-dc1-0b1c2d3e", "nightly-dc1-0b1c2d3e-1658626200-sync"] {
            assert!(!is_slot_of_child(other), "{other}");
        }
        for other in ["nightly", "other-1658626200", "nightly-01658626200", "nightly-1658626200-sync"] {
            assert_eq!(slot_of("nightly", other), None, "{other}");
        }
    }

    #[test]
    fn what_no_object_can_be_named_is_no_reference() {
        for good in ["dc1", "0", "a-b.c-0", &"x".repeat(253)] {
            assert!(is_object_name(good), "{good}");
        }
        let long = "x".repeat(254);
        for bad in [
            "",
            " ",
            "dc 1",
            " dc1",
            "dc1\n",
            ".",
            "..",
            "a..b",
            ".a",
            "a.",
            "-a",
            "a-",
            "a.-b",
            "a-.b",
            "dc1?x",
            "dc%31",
            "dc1#x",
            "a/b",
            "../dc1",
            "DC1",
            "dc_1",
            "dç1",
            "dc1\0",
            "𝔡𝔠1",
            &long,
        ] {
            assert!(!is_object_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_namespace_is_one_label_and_what_is_shown_is_short_and_plain() {
        assert!(is_namespace("kube-system") && is_namespace(&"n".repeat(63)));
        for bad in ["", "a.b", "A", "*", "a/b", &"n".repeat(64)] {
            assert!(!is_namespace(bad), "{bad:?}");
        }
        assert_eq!(shown("a\u{1b}[31m\n", 80), "a\\u{1b}[31m\\n");
        assert!(shown(&"\u{202e}".repeat(10_000), 80).len() <= 80);
    }

    #[test]
    fn dns_names_keep_different_texts_apart() {
        assert_eq!(dns_name("shop"), "shop");
        assert_ne!(dns_name("Shop"), dns_name("shop"));
        assert_ne!(dns_name("my shop"), dns_name("my-shop"));
        assert_eq!(dns_name("é").len(), 8);
    }

    proptest! {
        #[test]
        fn a_data_planes_name_is_an_objects_name_and_names_itself(
            context in proptest::prop_oneof!["\\PC{0,300}", any::<String>(), "[a-z.-]{0,300}"],
        ) {
            let name = dns_name(&context);
            prop_assert!(name.len() <= MAX_NAME);
            for part in name.split('.') {
                prop_assert!(!part.is_empty() && !part.starts_with('-') && !part.ends_with('-'));
                prop_assert!(part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            }
            prop_assert_eq!(dns_name(&name), name);
        }

        #[test]
        fn children_fit_and_are_grouped_again(
            job in "[a-z][a-z0-9-]{0,240}[a-z0-9]", dc in "[a-z][a-z0-9-]{0,240}[a-z0-9]", uid in "[0-9a-f]{8}",
            number in 1_usize..=101,
        ) {
            let name = attempt(&job, &dc, &uid, number);
            prop_assert!(name.len() <= 248);
            let (point, from) = restore_point(&name, &dc);
            prop_assert_eq!(&point, &format!("{}-{uid}", shorten(&job, MAX_JOB)));
            prop_assert_eq!(from, Some(shorten(&job, MAX_JOB)));
        }

        #[test]
        fn no_child_of_a_job_is_the_beginning_of_another(
            job in "[a-z]{1,8}", a in "[a-z0-9]{1,8}(-r[0-9])?", b in "[a-z0-9]{1,8}(-r[0-9])?", uid in "[0-9a-f]{8}",
            (n, m) in (1_usize..30, 1_usize..30),
        ) {
            prop_assume!((&a, n) != (&b, m));
            let (a, b) = (attempt(&job, &a, &uid, n), attempt(&job, &b, &uid, m));
            prop_assert!(!a.starts_with(&b) && !b.starts_with(&a));
        }

        #[test]
        fn an_objects_name_is_its_own_path_and_what_we_make_of_names_is_one(
            text in "\\PC{0,40}|[a-z0-9.-]{0,260}", job in "[a-z]([a-z0-9-]{0,200}[a-z0-9])?",
        ) {
            if is_object_name(&text) {
                let uri: http::Uri = format!("/api/{text}").parse().unwrap();
                prop_assert_eq!(uri.path(), format!("/api/{text}"));
                prop_assert!(uri.query().is_none());
            }
            prop_assert!(is_object_name(&dns_name(&text)));
            prop_assert!(is_object_name(&child(&job, &job, "0b1c2d3e")));
        }

        #[test]
        fn dns_names_are_valid(text in ".{0,300}") {
            let name = dns_name(&text);
            prop_assert!(name.len() <= 253 && !name.is_empty());
            prop_assert!(name.split('.').all(|l| !l.is_empty() && !l.starts_with('-') && !l.ends_with('-')));
        }
    }
}
