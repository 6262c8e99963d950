//! Whatever custom resource an API server lets through, it is read or refused, and what is decided from it is decided
//! without a panic.

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::Value;

use crate::{
    api::{
        arbitrary::{kind, read},
        fleet::{DataPlane, FleetBackupJob, FleetBackupSchedule, FleetRestoreJob, FleetTask, limit},
        k8ssandra::K8ssandraCluster,
        medusa::{
            MedusaBackup, MedusaBackupJob, MedusaBackupSchedule, MedusaConfiguration, MedusaRestoreJob,
            MedusaTask,
        },
    },
    control_plane::{
        data_planes::records::{BackupRecord, RunRecord},
        deployment::config::{config_map, validate},
        fanout::tests::{datacenter, live, plane},
        runs::select::{self, ClusterLabels},
        schedules::recipe,
    },
};

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
            let _ = select::select(&job.spec.run.selector.unwrap_or_default(), &planes, &labels, &known);
        }
        if let Some(task) = read::<FleetTask>(task) {
            let _ = select::select(&task.spec.run.selector.unwrap_or_default(), &planes, &labels, &[]);
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
