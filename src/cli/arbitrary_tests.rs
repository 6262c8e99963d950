//! Whatever objects stand in the control plane's cluster, every view and `doctor` show them without a panic, and no cell
//! of a table holds a control character; what is around tables the printer tames.

use jiff::Timestamp;
use proptest::{collection::vec, prelude::*, sample::select};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    commands::run::FleetRun,
    doctor::{DoctorInput, Read, findings},
    duration,
    output::{Table, one_line},
    views::{backups, clusters, data_planes, detail, doctor, plan, restore, run, schedules, status, task},
};
use crate::api::{
    arbitrary::{kind, read, text},
    fleet::{FleetBackup, FleetBackupJob, FleetCluster, FleetRestoreJob, FleetTask},
};

fn clock() -> impl Strategy<Value = Timestamp> {
    select(vec![
        "2026-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "9999-12-30T22:00:00Z",
        "-009999-01-02T01:59:59Z",
    ])
    .prop_map(|text| text.parse().unwrap())
}

fn some(of: &'static str) -> impl Strategy<Value = Vec<Value>> {
    vec(kind(of), 0..3)
}

fn all<K: DeserializeOwned>(objects: &[Value]) -> Vec<K> {
    objects.iter().cloned().filter_map(read).collect()
}

fn is_clean(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() && c != '\n')
}

fn shown(table: &Table) -> bool {
    is_clean(&table.render(2))
}

fn told<K: FleetRun>(runs: &[K]) {
    for (before, after) in runs.iter().zip(runs.iter().rev()) {
        let _ = (after.phase(), after.summary(), after.parts().len());
        let _ = (K::changes(None, after), K::changes(Some(before), after));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_fleet_is_shown_and_judged(
        planes in some("DataPlane"), found in some("FleetCluster"), points in some("FleetBackup"),
        nightly in some("FleetBackupSchedule"), now in clock(), wide in any::<bool>(),
    ) {
        let (mut points, found) = (all::<FleetBackup>(&points), all::<FleetCluster>(&found));
        backups::sort(&mut points);
        prop_assert!(shown(&backups::table(&points, wide, now)) && shown(&clusters::table(&found, wide, now)));
        prop_assert!(shown(&data_planes::table(&all(&planes), wide, now)));
        prop_assert!(shown(&schedules::table(&all(&nightly), wide, now)));
        prop_assert!(is_clean(&plan::screen(&plan::deployments(&found, None), wide)));
        let _ = status::screen(&status::assess(&all(&planes), &found, &[], now), now);
        let pages = all(&planes).iter().map(|one| detail::data_plane(one, now)).collect::<Vec<_>>();
        let pages = pages.into_iter().chain(found.iter().map(|one| detail::cluster(one, now)));
        let pages = pages.chain(points.iter().map(|one| detail::backup(one, now)));
        prop_assert!(pages.chain(all(&nightly).iter().map(|one| detail::schedule(one, now))).all(|page| !page.is_empty()));
    }

    #[test]
    fn any_runs_are_shown_and_judged(
        jobs in some("FleetBackupJob"), tasks in some("FleetTask"), restores in some("FleetRestoreJob"),
        planes in some("DataPlane"), found in some("FleetCluster"), nightly in some("FleetBackupSchedule"),
        asked in (some("K8ssandraCluster"), some("MedusaConfiguration")), now in clock(), wide in any::<bool>(),
    ) {
        let (runs, purges) = (all::<FleetBackupJob>(&jobs), all::<FleetTask>(&tasks));
        let recoveries = all::<FleetRestoreJob>(&restores);
        told(&runs);
        told(&purges);
        told(&recoveries);
        for one in &runs {
            prop_assert!(!detail::job(one, now).is_empty());
            let _ = one.status.as_ref().map(run::summary);
        }
        for one in &purges {
            let status = one.status.clone().unwrap_or_default();
            prop_assert!(shown(&task::table(&status.datacenters)) && !detail::task(one, now).is_empty());
            let _ = task::summary(&status);
        }
        for one in &recoveries {
            let status = one.status.clone().unwrap_or_default();
            prop_assert!(shown(&restore::plan(&status.plan)) && !restore::page(one, now).is_empty());
        }
        let evidence = DoctorInput {
            data_planes: Read::All(all(&planes)),
            clusters: Read::All(all(&found)),
            k8ssandra_clusters: Read::All(all(&asked.0)),
            configurations: Read::All(all(&asked.1)),
            schedules: Read::All(all(&nightly)),
            jobs: Read::All(runs),
            tasks: Read::All(purges),
            restores: Read::All(recoveries),
            ..DoctorInput::default()
        };
        prop_assert!(shown(&doctor::table(&findings(&evidence, now), wide, now)));
    }

    #[test]
    fn any_length_of_time_is_read_or_refused(typed in prop_oneof!["[0-9wdhms]{0,30}", text()], seconds in any::<i64>()) {
        if let Err(why) = duration::parse(&typed) {
            prop_assert!(why.contains("length of time"));
        }
        prop_assert!(!duration::short(seconds).is_empty() && is_clean(&one_line(&typed)));
    }
}
