//! `describe KIND/NAME`: everything known about one object.

use crate::{
    api::fleet::{
        DataPlane, FleetBackup, FleetBackupJob, FleetBackupSchedule, FleetCluster, FleetRestoreJob, FleetTask,
    },
    cli::{
        failure::{Failure, Outcome},
        home::Home,
        output::Printer,
        views::{detail, restore},
    },
    runtime::clock,
};

/// Shows `object`, such as `dataplane/eu-1`.
///
/// # Errors
/// When there is no such kind or object, or it cannot be read.
pub async fn run(printer: Printer, home: &Home, object: &str) -> Outcome {
    let usage = || {
        Failure::CouldNotAsk(format!(
            "`{object}` is not `dataplane/NAME`, `cluster/NAME`, `backup/NAME`, `job/NAME`, `task/NAME`, `restore/NAME` or `schedule/NAME`"
        ))
    };
    let (kind, name) = object.split_once('/').filter(|(_, name)| !name.is_empty()).ok_or_else(usage)?;
    let now = clock::now();
    match kind.to_lowercase().as_str() {
        "dataplane" | "dataplanes" | "dp" => {
            let found = found(home.find::<DataPlane>(name).await?, home, object)?;
            show(printer, &found, || detail::data_plane(&found, now))
        }
        "cluster" | "clusters" | "fleetcluster" | "fleetclusters" | "fc" => {
            let found = found(home.find::<FleetCluster>(name).await?, home, object)?;
            show(printer, &found, || detail::cluster(&found, now))
        }
        "backup" | "backups" | "fleetbackup" | "fleetbackups" | "fb" => {
            let found = found(home.find::<FleetBackup>(name).await?, home, object)?;
            show(printer, &found, || detail::backup(&found, now))
        }
        "job" | "jobs" | "fleetbackupjob" | "fleetbackupjobs" | "fbj" => {
            let found = found(home.find::<FleetBackupJob>(name).await?, home, object)?;
            show(printer, &found, || detail::job(&found, now))
        }
        "task" | "tasks" | "fleettask" | "fleettasks" | "ft" => {
            let found = found(home.find::<FleetTask>(name).await?, home, object)?;
            show(printer, &found, || detail::task(&found, now))
        }
        "schedule" | "schedules" | "fleetbackupschedule" | "fleetbackupschedules" | "fbs" => {
            let found = found(home.find::<FleetBackupSchedule>(name).await?, home, object)?;
            show(printer, &found, || detail::schedule(&found, now))
        }
        "restore" | "restores" | "fleetrestorejob" | "fleetrestorejobs" | "frj" => {
            let found = found(home.find::<FleetRestoreJob>(name).await?, home, object)?;
            show(printer, &found, || restore::page(&found, now))
        }
        _ => Err(usage()),
    }
}

fn found<K>(object: Option<K>, home: &Home, typed: &str) -> Outcome<K> {
    object.ok_or_else(|| Failure::Failed(format!("there is no `{typed}` {home}")))
}

fn show<K: serde::Serialize>(printer: Printer, object: &K, text: impl FnOnce() -> String) -> Outcome {
    if printer.format().is_for_programs() { printer.value(object) } else { printer.text(&text()) }
}
