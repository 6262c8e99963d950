//! `describe KIND/NAME`: everything known about one object.

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    cli::{
        failure::{Failure, Outcome},
        home::ControlPlaneClient,
        output::Printer,
        views::{detail, restore},
    },
    runtime::{clock, follow::Followed},
};

/// Shows `object`, such as `dataplane/eu-1`.
///
/// # Errors
/// When there is no such kind or object, or it cannot be read.
pub async fn run(printer: Printer, home: &ControlPlaneClient, object: &str) -> Outcome {
    let usage = || {
        Failure::CouldNotAsk(format!(
            "`{object}` is not `dataplane/NAME`, `cluster/NAME`, `backup/NAME`, `job/NAME`, `task/NAME`, `restore/NAME` or `schedule/NAME`"
        ))
    };
    let (kind, name) = object.split_once('/').filter(|(_, name)| !name.is_empty()).ok_or_else(usage)?;
    let typed = (object, name);
    match kind.to_lowercase().as_str() {
        "dataplane" | "dataplanes" | "dp" => show(printer, home, typed, detail::data_plane).await,
        "cluster" | "clusters" | "fleetcluster" | "fleetclusters" | "fc" => {
            show(printer, home, typed, detail::cluster).await
        }
        "backup" | "backups" | "fleetbackup" | "fleetbackups" | "fb" => {
            show(printer, home, typed, detail::backup).await
        }
        "job" | "jobs" | "fleetbackupjob" | "fleetbackupjobs" | "fbj" => {
            show(printer, home, typed, detail::job).await
        }
        "task" | "tasks" | "fleettask" | "fleettasks" | "ft" => {
            show(printer, home, typed, detail::task).await
        }
        "schedule" | "schedules" | "fleetbackupschedule" | "fleetbackupschedules" | "fbs" => {
            show(printer, home, typed, detail::schedule).await
        }
        "restore" | "restores" | "fleetrestorejob" | "fleetrestorejobs" | "frj" => {
            show(printer, home, typed, restore::page).await
        }
        _ => Err(usage()),
    }
}

/// Shows the object called `name`: to programs as it is, to people as `page` has it.
async fn show<K: Followed + Serialize>(
    printer: Printer,
    home: &ControlPlaneClient,
    (typed, name): (&str, &str),
    page: fn(&K, Timestamp) -> String,
) -> Outcome {
    let found = home.find::<K>(name).await?;
    let found = found.ok_or_else(|| Failure::Failed(format!("there is no `{typed}` {home}")))?;
    if printer.format().is_for_programs() {
        printer.value(&found)
    } else {
        printer.text(&page(&found, clock::now()))
    }
}
