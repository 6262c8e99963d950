//! Whatever custom resource an API server lets through, it is read or refused, and what is decided from it is decided
//! without a panic. The objects are made from the definitions themselves; their rules in CEL are not followed, as
//! somebody may have stored an object under a definition without them.

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    api::{
        crds,
        fleet::{DataPlane, FleetBackupJob, FleetBackupSchedule, FleetRestoreJob, FleetTask, limit},
        k8ssandra::K8ssandraCluster,
        medusa::{
            MedusaBackup, MedusaBackupJob, MedusaBackupSchedule, MedusaConfiguration, MedusaRestoreJob,
            MedusaTask,
        },
    },
    control_plane::{
        deployment::{config_map, validate},
        fanout::tests::{datacenter, live, plane},
        runs::select::{self, ClusterLabels},
        schedules::recipe,
        view::{BackupRecord, RunRecord},
    },
};

/// Text with a chance of meaning something.
fn text() -> BoxedStrategy<String> {
    prop_oneof![
        3 => select(vec!["", "dc1", "eu", "shop", "@daily", "*/5 * * * *", "50MB/s", "s3", "Europe/Berlin", "../..", "a b", "*"])
            .prop_map(str::to_owned),
        2 => "\\PC{0,12}",
        1 => ".{0,12}",
        1 => "[a-z.:/*-]{0,300}",
    ]
    .boxed()
}

fn time() -> BoxedStrategy<Value> {
    select(vec!["2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-30T22:00:00.999999Z"])
        .prop_map(Value::from)
        .boxed()
}

/// What an API server lets through where this schema stands.
fn value(schema: &JSONSchemaProps) -> BoxedStrategy<Value> {
    if let Some(words) = &schema.enum_ {
        return select(words.iter().map(|word| word.0.clone()).collect::<Vec<_>>()).boxed();
    }
    let number = prop_oneof![any::<i64>(), -3..90_i64];
    if schema.x_kubernetes_int_or_string == Some(true) {
        return prop_oneof![number.prop_map(Value::from), text().prop_map(Value::from)].boxed();
    }
    match schema.type_.as_deref() {
        Some("string") if schema.format.as_deref() == Some("date-time") => time(),
        Some("string") => text().prop_map(Value::from).boxed(),
        Some("integer") => number.prop_map(Value::from).boxed(),
        Some("number") => any::<f64>().prop_map(|number| json!(number)).boxed(),
        Some("boolean") => any::<bool>().prop_map(Value::from).boxed(),
        Some("array") => match &schema.items {
            Some(JSONSchemaPropsOrArray::Schema(items)) => {
                vec(value(items), 0..3).prop_map(Value::from).boxed()
            }
            Some(JSONSchemaPropsOrArray::Schemas(_)) | None => Just(json!([])).boxed(),
        },
        _ => object(schema),
    }
}

fn object(schema: &JSONSchemaProps) -> BoxedStrategy<Value> {
    let required = schema.required.clone().unwrap_or_default();
    let fields: Vec<BoxedStrategy<Option<(String, Value)>>> = schema
        .properties
        .iter()
        .flatten()
        .map(|(name, schema)| {
            let (name, is_required) = (name.clone(), required.contains(name));
            let field = value(schema).prop_map(move |value| (name.clone(), value));
            if is_required { field.prop_map(Some).boxed() } else { option::of(field).boxed() }
        })
        .collect();
    let more = match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(schema)) => vec((text(), value(schema)), 0..3).boxed(),
        Some(JSONSchemaPropsOrBool::Bool(_)) | None => Just(Vec::new()).boxed(),
    };
    (fields, more)
        .prop_map(|(fields, more)| Value::Object(fields.into_iter().flatten().chain(more).collect()))
        .boxed()
}

fn kind(name: &str) -> impl Strategy<Value = Value> {
    let all = crds::all().unwrap();
    let version = all.iter().find(|crd| crd.spec.names.kind == name).unwrap().spec.versions[0].clone();
    let mut schema = version.schema.unwrap().open_api_v3_schema.unwrap();
    schema.properties.iter_mut().for_each(|fields| drop(fields.remove("metadata")));
    (object(&schema), text(), text(), option::of(time())).prop_map(|(mut object, name, namespace, created)| {
        object["metadata"] = json!({
            "name": name, "namespace": namespace, "uid": "u", "resourceVersion": "1", "creationTimestamp": created,
        });
        object
    })
}

/// The object, when it is one: what cannot be read is told of elsewhere.
fn read<K: DeserializeOwned>(object: Value) -> Option<K> {
    serde_json::from_value(object).ok()
}

fn now() -> Timestamp {
    Timestamp::from_second(1_767_225_600).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_k8ssandra_cluster_and_configuration_are_deployed_or_refused(
        cluster in kind("K8ssandraCluster"), configuration in kind("MedusaConfiguration"),
    ) {
        let configuration = read::<MedusaConfiguration>(configuration);
        if let Some(cluster) = read::<K8ssandraCluster>(cluster) {
            let templates = cluster.spec.cassandra.iter().flat_map(|cassandra| &cassandra.datacenters);
            for template in templates.clone() {
                let _ = validate::datacenter(&cluster, template);
            }
            for configuration in [None, configuration.as_ref()] {
                if let Ok(settings) = validate::settings(&cluster, configuration) {
                    prop_assert!(!config_map::data(&cluster, templates.clone(), &settings).is_empty());
                }
            }
        }
    }

    #[test]
    fn any_run_selects_datacenters_or_says_why_not(
        job in kind("FleetBackupJob"), task in kind("FleetTask"), restore in kind("FleetRestoreJob"),
    ) {
        let planes = [plane("eu", live(&[datacenter("dc1", 3)]))];
        let labels = ClusterLabels::new();
        if let Some(job) = read::<FleetBackupJob>(job) {
            let known = job.status.map(|status| status.datacenters).unwrap_or_default();
            let _ = select::select(&job.spec.selector.unwrap_or_default(), &planes, &labels, &known);
        }
        if let Some(task) = read::<FleetTask>(task) {
            let _ = select::select(&task.spec.selector.unwrap_or_default(), &planes, &labels, &[]);
        }
        let _ = read::<FleetRestoreJob>(restore);
    }

    #[test]
    fn any_schedule_has_slots_or_says_why_not(
        fleet in kind("FleetBackupSchedule"), medusa in kind("MedusaBackupSchedule"),
    ) {
        if let Some(schedule) = read::<FleetBackupSchedule>(fleet)
            && let Ok(recipe) = recipe::read(&schedule.spec)
        {
            let _ = recipe.cron.latest(now(), Timestamp::MAX);
            let _ = recipe.cron.next_after(Timestamp::MIN, now());
        }
        let _ = read::<MedusaBackupSchedule>(medusa);
    }

    #[test]
    fn any_object_of_a_data_plane_is_kept_or_left(
        backup in kind("MedusaBackup"), job in kind("MedusaBackupJob"), task in kind("MedusaTask"),
        restore in kind("MedusaRestoreJob"), data_plane in kind("DataPlane"),
    ) {
        let _ = read::<MedusaBackup>(backup).map(|backup| BackupRecord::from(&backup));
        let _ = read::<MedusaBackupJob>(job).map(|job| RunRecord::from(&job));
        let _ = read::<MedusaTask>(task).map(|task| RunRecord::from(&task));
        let _ = read::<MedusaRestoreJob>(restore);
        if let Some(limits) = read::<DataPlane>(data_plane).and_then(|plane| plane.spec.limits) {
            prop_assert!(limit(limits.max_concurrent_backups).is_none_or(|most| most > 0));
        }
    }
}

#[test]
fn most_objects_of_each_kind_can_be_read() {
    // Otherwise the tests above would look at nothing.
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let mut read_of = |name: &str, is_read: fn(Value) -> bool| {
        let objects = kind(name);
        let read = (0..100).filter(|_| is_read(objects.new_tree(&mut runner).unwrap().current())).count();
        assert!(read > 10, "{read} of 100 {name}");
    };
    read_of("FleetBackupJob", |object| read::<FleetBackupJob>(object).is_some());
    read_of("FleetTask", |object| read::<FleetTask>(object).is_some());
    read_of("FleetBackupSchedule", |object| read::<FleetBackupSchedule>(object).is_some());
    read_of("DataPlane", |object| read::<DataPlane>(object).is_some());
    read_of("K8ssandraCluster", |object| read::<K8ssandraCluster>(object).is_some());
    read_of("MedusaConfiguration", |object| read::<MedusaConfiguration>(object).is_some());
    read_of("MedusaBackup", |object| read::<MedusaBackup>(object).is_some());
}
