//! Whatever stands in a schedule, a datacenter, a pod's log or a Secret with certificates: what is decided from it in the
//! data plane is decided without a panic, within bounds, and says nothing of what is secret.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value, json};

use super::{restore, schedule::arbitrary::follow};
use crate::{
    api::{
        arbitrary::{kind, read, text},
        cassandra::CassandraDatacenter,
        cron::CronExpr,
        medusa::MedusaBackupSchedule,
        names, retention,
    },
    data_plane::{
        frame::problem,
        medusa::{inputs, tls::ClientTls},
    },
    runtime::kubeconfig::fixtures::pem as fixture,
};

fn clock() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        select(vec![Timestamp::MIN, Timestamp::MAX, Timestamp::UNIX_EPOCH]),
        (1_767_225_000_i64..1_767_300_000).prop_map(|second| Timestamp::from_second(second).unwrap()),
    ]
}

/// A JSON value of any shape, as `config`, pod templates and annotations are.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    let keys = select(vec![
        "spec",
        "podTemplateSpec",
        "initContainers",
        "containers",
        "name",
        "env",
        "value",
        "volumes",
        "volumeMounts",
        "mountPath",
        "secret",
        "secretName",
        "configMap",
        "items",
        "key",
        "path",
        "subPath",
        "metadata",
        "annotations",
    ]);
    let names = select(vec![
        "medusa",
        "medusa-restore",
        "BACKUP_NAME",
        "RESTORE_KEY",
        "RESTORE_MAPPING",
        "/etc/medusa-secrets",
    ]);
    let leaf = prop_oneof![leaf, names.prop_map(Value::from)];
    leaf.prop_recursive(6, 48, 5, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((keys.clone(), inner), 0..5).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    })
}

/// PEM as people make it, and what they make of it.
fn pem() -> impl Strategy<Value = Vec<u8>> {
    let block = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    let labels = select(vec!["CERTIFICATE", "PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "X"]);
    prop_oneof![
        vec(any::<u8>(), 0..200),
        (labels, "[A-Za-z0-9+/=\n]{0,200}").prop_map(move |(label, body)| block(label, &body).into_bytes()),
        select(vec!["ca.crt", "p256.crt", "p256.sec1.key", "p521.pkcs8.key", "expired.crt"])
            .prop_map(fixture),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_schedule_is_due_or_says_why_not(schedule in kind("MedusaBackupSchedule"), now in clock()) {
        if let Some(schedule) = read::<MedusaBackupSchedule>(schedule) {
            follow(&schedule, now);
        }
    }

    #[test]
    fn any_cron_expression_is_read_or_refused(
        expression in prop_oneof![
            "[-0-9*/,?LW# ]{0,24}", "(\\*|\\*/[0-9]{1,3}|[0-9]{1,3}(-[0-9]{1,3})?)( (\\*|[0-9]{1,2}|[A-Za-z]{3})){4}", text(),
        ],
        zone in option::of(prop_oneof![Just("Europe/Berlin".to_owned()), text()]),
        first in clock(), until in clock(),
    ) {
        if let Ok(cron) = CronExpr::parse(&expression, zone.as_deref()) {
            let _ = (cron.longest_gap(first), cron.next_after(first, until), cron.latest(first, until));
            let _ = cron.count(first, until, 50);
        }
    }

    #[test]
    fn any_name_makes_names_that_are_some(job in text(), datacenter in text(), uid in text(), attempt in 0..=1000_usize, at in clock()) {
        let child = names::attempt(&job, &datacenter, &uid, attempt);
        prop_assert!(child.len() <= 253, "{child}");
        prop_assert!(names::label_value(&job).len() <= 63 && names::sync_after(&job).len() <= 253);
        let slot = names::slot(&job, at);
        let _ = (names::slot_of(&job, &slot), names::slot_of(&datacenter, &job), names::is_slot_of_child(&job));
        let _ = (names::restore_point(&child, &datacenter), names::restore_point(&slot, &datacenter));
        prop_assert!(names::fleet_backup(&job, &datacenter).len() <= 253);
        let named = problem::named("spec.cassandraDatacenter", &job);
        prop_assert_eq!(named.is_ok(), names::is_object_name(&job));
    }

    #[test]
    fn any_pod_template_and_log_is_read(object in anything(), log in ".{0,200}", backup in text(), key in text(), now in clock()) {
        restore::arbitrary::look_at(&object, &log, &backup, &key);
        let _ = (retention::config_key(&object), retention::in_force(&object, None, now));
    }

    #[test]
    fn any_size_of_a_datacenter_is_counted_within_bounds(size in any::<i32>(), racks in vec(text(), 0..4), listed in 0..40_usize) {
        let racks: Vec<Value> = racks.iter().map(|rack| json!({"name": rack})).collect();
        let dc = json!({"metadata": {"name": "dc1"}, "spec": {"size": size, "racks": racks, "clusterName": "shop"}});
        let dc: CassandraDatacenter = serde_json::from_value(dc).unwrap();
        let pods = restore::arbitrary::pods(&dc, listed);
        prop_assert_eq!(pods, listed);
        prop_assert!(inputs::check(&dc, &[]).is_err());
    }

    #[test]
    fn any_certificates_are_used_or_refused_in_words(ca in option::of(pem()), cert in option::of(pem()), key in option::of(pem())) {
        let data: BTreeMap<String, ByteString> = [("ca.crt", ca), ("tls.crt", cert), ("tls.key", key)]
            .into_iter()
            .filter_map(|(name, bytes)| Some((name.to_owned(), ByteString(bytes?))))
            .collect();
        if let Err(why) = ClientTls::from_secret(&data) {
            prop_assert!(why.starts_with("key `") && why.len() < 200, "{why}");
        }
    }
}
