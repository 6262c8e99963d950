//! How many backups Medusa's purge leaves, read from the `medusa.ini` a datacenter's pods mount. Pure.
//!
//! That file is what Medusa itself reads, whoever deployed it; a K8ssandraCluster or MedusaConfiguration may have
//! been changed since, or may not exist.

use serde_json::Value;

use crate::api::cassandra::MEDUSA_CONTAINER;

/// Directory of `medusa.ini` in the container (upstream §2.4).
const CONFIG_DIRECTORY: &str = "/etc/medusa";
/// Its file.
const CONFIG_FILE: &str = "medusa.ini";

/// The limits a purge works by. `None` is a limit nobody could read, zero is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Days after which a backup is removed: `max_backup_age`.
    pub age_days: Option<u32>,
    /// Backups left on each node: `max_backup_count`.
    pub count: Option<u32>,
}

/// A key of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigKey {
    /// Name of the ConfigMap.
    pub config_map: String,
    /// The key that holds `medusa.ini`.
    pub key: String,
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
    let path = sub_path.unwrap_or_else(|| CONFIG_FILE.to_owned());
    let key = match source.get("items").and_then(Value::as_array) {
        Some(items) => items.iter().find(|i| text(i, "path").as_ref() == Some(&path))?,
        None => return Some(ConfigKey { config_map: text(source, "name")?, key: path }),
    };
    Some(ConfigKey { config_map: text(source, "name")?, key: text(key, "key")? })
}

/// The limits in `ini`. A limit that is absent is none, as in Medusa; one that is no number is unknown.
#[must_use]
pub fn parse(ini: &str) -> Limits {
    let mut section = String::new();
    let mut limits = Limits { age_days: Some(0), count: Some(0) };
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
        assert_eq!(parse(ini), Limits { age_days, count });
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
        Some(("demo-medusa", "medusa.ini"))
    )]
    #[case::a_key_of_its_own(
        json!({"name": "c", "mountPath": "/etc/medusa/"}),
        json!({"name": "c", "configMap": {"name": "demo-medusa", "items": [{"key": "dc1.ini", "path": "medusa.ini"}]}}),
        Some(("demo-medusa", "dc1.ini"))
    )]
    #[case::one_file(
        json!({"name": "c", "mountPath": "/etc/medusa/medusa.ini", "subPath": "dc1.ini"}),
        json!({"name": "c", "configMap": {"name": "demo-medusa"}}),
        Some(("demo-medusa", "dc1.ini"))
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
        #[case] expected: Option<(&str, &str)>,
    ) {
        let found = config_key(&datacenter(&mount, &volume));
        let found = found.as_ref().map(|k| (k.config_map.as_str(), k.key.as_str()));
        assert_eq!(found, expected);
        assert_eq!(config_key(&json!({"spec": {}})), None);
    }
}
