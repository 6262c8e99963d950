//! What Medusa's purge leaves of a node's backups: its limits, read from the `medusa.ini` the pods run with, and whether a
//! backup survives it. Pure.
//!
//! A purge knows one node and nothing of whole backups. It removes every backup that began more than `max_backup_age`
//! days ago, and then all but the `max_backup_count` that began last. Backups that failed or are not complete count like
//! any other, so a few failed runs are enough to push out the last good one.
//!
//! The file in the ConfigMap is what Medusa reads, whoever deployed it, but not at once: a changed one reaches a pod after
//! a while, and one that is mounted as a single file never does. What may not be in force is unknown, and a limit that is
//! unknown counts as the strictest there is, one day or one backup.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde_json::Value;

use super::{cassandra::MEDUSA_CONTAINER, names::is_object_name};

/// Directory of `medusa.ini` in the container (upstream: Containers).
const CONFIG_DIRECTORY: &str = "/etc/medusa";
/// Its file.
const CONFIG_FILE: &str = "medusa.ini";

/// How much younger than `max_backup_age` a backup must be: a purge that may start now is over by then.
pub const ALLOWANCE: SignedDuration = SignedDuration::from_hours(6);
/// How long a pod may go on with an older ConfigMap: the kubelet looks at it every minute or so and may have it from a
/// cache, and Medusa is started anew when the file has changed.
const TAKES_EFFECT: SignedDuration = SignedDuration::from_mins(5);

/// Why nobody knows what pods run with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doubt {
    /// No ConfigMap is mounted there, it may not be read, or what it says is no number.
    #[default]
    Unreadable,
    /// The file is mounted by `subPath`.
    OneFile,
    /// The file was changed a moment ago.
    ChangedLately,
    /// The pods are being replaced.
    Rolling,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "its medusa.ini could not be read",
            Self::OneFile => {
                "its medusa.ini is mounted by subPath, so that pods may run with an older one; mount the directory"
            }
            Self::ChangedLately => "its medusa.ini was changed less than 5 min ago and may not be in force yet",
            Self::Rolling => "its pods are being replaced, so that some may run with another medusa.ini",
        })
    }
}

/// The limits a purge works by. `None` is a limit nobody knows, zero is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Days after which a backup is removed: `max_backup_age`.
    pub age_days: Option<u32>,
    /// Backups left on each node: `max_backup_count`.
    pub count: Option<u32>,
    /// Why one is not known.
    pub doubt: Doubt,
}

impl Limits {
    /// Nobody knows them.
    #[must_use]
    pub fn unknown(doubt: Doubt) -> Self {
        Self { age_days: None, count: None, doubt }
    }

    /// Whether a purge by them removes nothing but what no backup refers to.
    #[must_use]
    pub fn are_none(&self) -> bool {
        (self.age_days, self.count) == (Some(0), Some(0))
    }
}

/// One backup that the datacenter's nodes hold or may hold, complete or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub name: String,
    /// When its last node had begun at the latest, such as when the last ended; `None` when that is not known.
    pub end: Option<Timestamp>,
}

/// By when every node has begun its part of a backup that began at `start` and never ended: no run goes on for longer than
/// a day. Without that, backups that failed long ago would count for ever.
#[must_use]
pub fn begun_by(start: Timestamp) -> Option<Timestamp> {
    start.checked_add(SignedDuration::from_hours(24)).ok()
}

/// Why a purge may remove a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It is this old, and what is older than so many days goes.
    Age(SignedDuration, u32),
    /// So many backups are left on each node, and so many may have begun later.
    Count(u32, usize),
}

impl Loss {
    /// It in words, about the backup called `what`.
    #[must_use]
    pub fn told(self, what: &str, limits: Limits) -> String {
        let unknown = |limit: Option<u32>| {
            limit.map_or_else(
                || format!(" ({}, so the strictest limit is assumed)", limits.doubt),
                |_| String::new(),
            )
        };
        match self {
            Self::Age(age, days) => format!(
                "{what} is {} h old here, and a purge removes what is older than {days} d{}, {} h allowed for the purge \
                 itself",
                age.as_hours(),
                unknown(limits.age_days),
                ALLOWANCE.as_hours(),
            ),
            Self::Count(count, later) => format!(
                "a purge leaves {count} backups on each node{}, complete or not, and {later} may have begun after {what}",
                unknown(limits.count),
            ),
        }
    }
}

/// Whether the backup `name`, whose first node began at `start`, survives a purge that begins at `now`:
/// - it must be younger than `max_backup_age` by [`ALLOWANCE`], because pods purge one after the other, by their own
///   clocks;
/// - it must be among the `max_backup_count` newest even if every backup of `held` that may have begun later on some node
///   did: all that did not end before it began.
///
/// # Errors
/// By which limit it may go.
pub fn survives(
    name: Option<&str>,
    start: Timestamp,
    held: &[Held],
    limits: Limits,
    now: Timestamp,
) -> Result<(), Loss> {
    let days = limits.age_days.unwrap_or(1);
    let age = now.duration_since(start);
    if days > 0 && age.saturating_add(ALLOWANCE) >= SignedDuration::from_hours(24 * i64::from(days)) {
        return Err(Loss::Age(age, days));
    }
    let count = limits.count.unwrap_or(1);
    let later = held
        .iter()
        .filter(|held| Some(held.name.as_str()) != name)
        .filter(|held| held.end.is_none_or(|end| end >= start))
        .count();
    if count > 0 && later >= usize::try_from(count).unwrap_or(usize::MAX) {
        return Err(Loss::Count(count, later));
    }
    Ok(())
}

/// The limits that the pods of `datacenter`, a CassandraDatacenter as the API server holds it, run with at `now`. `map` is
/// the ConfigMap that [`config_key`] names, with its `managedFields`; nothing when it cannot be read.
#[must_use]
pub fn in_force(datacenter: &Value, map: Option<&ConfigMap>, now: Timestamp) -> Limits {
    let Some((key, map)) = config_key(datacenter).zip(map) else { return Limits::default() };
    let Some(ini) = map.data.as_ref().and_then(|data| data.get(&key.key)) else { return Limits::default() };
    if key.is_one_file {
        return Limits::unknown(Doubt::OneFile);
    }
    let progress = datacenter.pointer("/status/cassandraOperatorProgress").and_then(Value::as_str);
    if progress == Some("Updating") {
        return Limits::unknown(Doubt::Rolling);
    }
    // Pods that are younger than the file have never seen another.
    let born = datacenter.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
    let born: Option<Timestamp> = born.and_then(|born| born.parse().ok());
    let is_settled = changed(&map.metadata)
        .is_some_and(|at| born.is_some_and(|born| at <= born) || now.duration_since(at) >= TAKES_EFFECT);
    if is_settled { parse(ini) } else { Limits::unknown(Doubt::ChangedLately) }
}

/// When an object was last written, as far as the API server tells.
fn changed(metadata: &ObjectMeta) -> Option<Timestamp> {
    let writes = metadata.managed_fields.iter().flatten().filter_map(|entry| Some(entry.time.as_ref()?.0));
    writes.chain(metadata.creation_timestamp.iter().map(|time| time.0)).max()
}

/// A key of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigKey {
    /// Name of the ConfigMap.
    pub config_map: String,
    /// The key that holds `medusa.ini`.
    pub key: String,
    /// Whether it is mounted by `subPath`, and stays what it was when the container started.
    pub is_one_file: bool,
}

fn named<'a>(list: Option<&'a Value>, name: &str) -> Option<&'a Value> {
    list?.as_array()?.iter().find(|item| item.get("name").and_then(Value::as_str) == Some(name))
}

/// Where the Medusa container of `datacenter`, a CassandraDatacenter as the API server holds it, has its
/// `medusa.ini` from; `None` when that is no ConfigMap.
#[must_use]
pub fn config_key(datacenter: &Value) -> Option<ConfigKey> {
    let pod = datacenter.pointer("/spec/podTemplateSpec/spec")?;
    let mounts = named(pod.get("containers"), MEDUSA_CONTAINER)?.get("volumeMounts")?.as_array()?;
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    let file = format!("{CONFIG_DIRECTORY}/{CONFIG_FILE}");
    let (volume, sub_path) = mounts.iter().find_map(|mount| {
        let path = text(mount, "mountPath")?;
        let path = path.trim_end_matches('/');
        (path == CONFIG_DIRECTORY || path == file).then(|| (text(mount, "name"), text(mount, "subPath")))
    })?;
    let source = named(pod.get("volumes"), &volume?)?.get("configMap")?;
    let sub_path = sub_path.filter(|path| !path.is_empty());
    let is_one_file = sub_path.is_some();
    let path = sub_path.unwrap_or_else(|| CONFIG_FILE.to_owned());
    let key = match source.get("items").and_then(Value::as_array) {
        Some(items) => text(items.iter().find(|i| text(i, "path").as_ref() == Some(&path))?, "key")?,
        None => path,
    };
    let config_map = text(source, "name").filter(|name| is_object_name(name))?;
    Some(ConfigKey { config_map, key, is_one_file })
}

/// The limits in `ini`. A limit that is absent is none, as in Medusa; one that is no number is unknown.
#[must_use]
pub fn parse(ini: &str) -> Limits {
    let mut section = String::new();
    let mut limits = Limits { age_days: Some(0), count: Some(0), ..Limits::default() };
    for line in ini.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
            continue;
        }
        let Some((key, value)) = line.split_once(['=', ':']).filter(|_| section == "storage") else {
            continue;
        };
        let limit = match key.trim().to_lowercase().as_str() {
            "max_backup_age" => &mut limits.age_days,
            "max_backup_count" => &mut limits.count,
            _ => continue,
        };
        // Medusa takes a negative number for no limit.
        *limit = value.trim().parse::<i64>().ok().and_then(|number| u32::try_from(number.max(0)).ok());
    }
    limits
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::both("[storage]\nmax_backup_age = 7\nmax_backup_count = 3\n", Some(7), Some(3))]
    #[case::none_given("[storage]\nbucket_name = b\n", Some(0), Some(0))]
    #[case::no_file("", Some(0), Some(0))]
    #[case::as_python_reads_it("[storage]\n  Max_Backup_Age: 2\n# max_backup_count = 1\n", Some(2), Some(0))]
    #[case::another_section(
        "[cassandra]\nmax_backup_age = 7\n[storage]\nmax_backup_count=1",
        Some(0),
        Some(1)
    )]
    #[case::no_limit("[storage]\nmax_backup_age = -1\nmax_backup_count = 0\n", Some(0), Some(0))]
    #[case::no_number("[storage]\nmax_backup_age = a week\nmax_backup_count =\n", None, None)]
    fn limits_are_read_as_medusa_reads_them(
        #[case] ini: &str,
        #[case] age_days: Option<u32>,
        #[case] count: Option<u32>,
    ) {
        assert_eq!(parse(ini), Limits { age_days, count, ..Limits::default() });
    }

    fn datacenter(mount: &Value, volume: &Value) -> Value {
        json!({"spec": {"podTemplateSpec": {"spec": {
            "containers": [
                {"name": "cassandra", "volumeMounts": [{"name": "other", "mountPath": "/etc/medusa"}]},
                {"name": "medusa", "volumeMounts": [{"name": "server-data", "mountPath": "/var/lib/cassandra"}, mount]},
            ],
            "volumes": [{"name": "server-data", "emptyDir": {}}, volume],
        }}}})
    }

    #[rstest]
    #[case::upstream(
        json!({"name": "c", "mountPath": "/etc/medusa"}),
        json!({"name": "c", "configMap": {"name": "demo-medusa"}}),
        Some(("demo-medusa", "medusa.ini", false))
    )]
    #[case::a_key_of_its_own(
        json!({"name": "c", "mountPath": "/etc/medusa/"}),
        json!({"name": "c", "configMap": {"name": "demo-medusa", "items": [{"key": "dc1.ini", "path": "medusa.ini"}]}}),
        Some(("demo-medusa", "dc1.ini", false))
    )]
    #[case::one_file(
        json!({"name": "c", "mountPath": "/etc/medusa/medusa.ini", "subPath": "dc1.ini"}),
        json!({"name": "c", "configMap": {"name": "demo-medusa"}}),
        Some(("demo-medusa", "dc1.ini", true))
    )]
    #[case::no_name(
        json!({"name": "c", "mountPath": "/etc/medusa"}),
        json!({"name": "c", "configMap": {"name": "demo-medusa?x"}}),
        None
    )]
    #[case::from_a_secret(
        json!({"name": "c", "mountPath": "/etc/medusa"}),
        json!({"name": "c", "secret": {"secretName": "demo-medusa"}}),
        None
    )]
    #[case::elsewhere(
        json!({"name": "c", "mountPath": "/etc/other"}),
        json!({"name": "c", "configMap": {"name": "demo-medusa"}}),
        None
    )]
    fn the_file_is_found_where_the_container_mounts_it(
        #[case] mount: Value,
        #[case] volume: Value,
        #[case] expected: Option<(&str, &str, bool)>,
    ) {
        let found = config_key(&datacenter(&mount, &volume));
        let found = found.as_ref().map(|k| (k.config_map.as_str(), k.key.as_str(), k.is_one_file));
        assert_eq!(found, expected);
        assert_eq!(config_key(&json!({"spec": {}})), None);
    }

    /// The datacenter was made at 00:00, the ConfigMap as said.
    fn found(mount: &Value, map: &Value, status: &Value, now: &str) -> Limits {
        let volume = json!({"name": "c", "configMap": {"name": "demo-medusa"}});
        let mut datacenter = datacenter(mount, &volume);
        datacenter["metadata"] = json!({"name": "dc1", "creationTimestamp": "2026-01-01T00:00:00Z"});
        datacenter["status"] = status.clone();
        let mut object =
            json!({"data": {"medusa.ini": "[storage]\nmax_backup_age = 7\nmax_backup_count = 5\n"}});
        object["metadata"] = map.clone();
        let map: ConfigMap = serde_json::from_value(object).unwrap();
        in_force(&datacenter, Some(&map), now.parse().unwrap())
    }

    fn written(created: &str, changed: &str) -> Value {
        json!({"creationTimestamp": created, "managedFields": [
            {"manager": "a", "operation": "Update", "time": created},
            {"manager": "b", "operation": "Apply", "time": changed},
        ]})
    }

    const BEFORE: &str = "2025-12-31T23:59:00Z";
    const LATER: &str = "2026-01-01T10:00:00Z";

    #[rstest]
    #[case::as_old_as_the_datacenter(written(BEFORE, BEFORE), "2026-01-01T00:00:01Z", None)]
    #[case::changed_lately(written(BEFORE, LATER), "2026-01-01T10:04:59Z", Some(Doubt::ChangedLately))]
    #[case::changed_a_while_ago(written(BEFORE, LATER), "2026-01-01T10:05:00Z", None)]
    #[case::made_anew_lately(written(LATER, LATER), "2026-01-01T10:01:00Z", Some(Doubt::ChangedLately))]
    #[case::by_a_clock_that_is_ahead(
        written(BEFORE, LATER),
        "2026-01-01T09:59:00Z",
        Some(Doubt::ChangedLately)
    )]
    #[case::nobody_says_when(json!({}), LATER, Some(Doubt::ChangedLately))]
    fn a_change_counts_once_the_pods_run_with_it(
        #[case] map: Value,
        #[case] now: &str,
        #[case] doubt: Option<Doubt>,
    ) {
        let mount = json!({"name": "c", "mountPath": "/etc/medusa"});
        let expected = doubt.map_or_else(
            || Limits { age_days: Some(7), count: Some(5), ..Limits::default() },
            Limits::unknown,
        );
        assert_eq!(found(&mount, &map, &json!({"cassandraOperatorProgress": "Ready"}), now), expected);
    }

    #[test]
    fn what_pods_may_not_have_seen_is_unknown_and_says_why() {
        let old = written(BEFORE, BEFORE);
        let one_file = json!({"name": "c", "mountPath": "/etc/medusa/medusa.ini", "subPath": "medusa.ini"});
        let limits = found(&one_file, &old, &json!({}), LATER);
        assert_eq!(limits, Limits::unknown(Doubt::OneFile));
        let start: Timestamp = BEFORE.parse().unwrap();
        let loss = survives(None, start, &[], limits, start + SignedDuration::from_hours(20)).unwrap_err();
        assert!(
            loss.told("`p`", limits).contains("older than 1 d (its medusa.ini is mounted by subPath"),
            "{loss:?}"
        );
        let mount = json!({"name": "c", "mountPath": "/etc/medusa"});
        let rolling = found(&mount, &old, &json!({"cassandraOperatorProgress": "Updating"}), LATER);
        assert_eq!(rolling, Limits::unknown(Doubt::Rolling));
        assert_eq!(in_force(&json!({"spec": {}}), None, start), Limits::default());
    }
}
