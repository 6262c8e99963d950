//! `cancel KIND/NAME`: nothing more of a run or restore is started.

use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::run::FleetRun;
use crate::{
    api::{
        fleet::{FleetBackupJob, FleetRestoreJob, FleetTask, Phase},
        labels,
    },
    cli::{
        failure::{Failure, Outcome},
        home::ControlPlaneClient,
        output::Printer,
    },
};

/// Cancels `object`, such as `job/nightly`.
///
/// # Errors
/// When there is no such kind or object, it is over, or it cannot be written.
pub async fn run(printer: Printer, home: &ControlPlaneClient, object: &str) -> Outcome {
    let usage =
        || Failure::CouldNotAsk(format!("`{object}` is not `job/NAME`, `task/NAME` or `restore/NAME`"));
    let (kind, name) = object.split_once('/').filter(|(_, name)| !name.is_empty()).ok_or_else(usage)?;
    let goes_on = "what runs in a datacenter goes on to its end";
    match kind.to_lowercase().as_str() {
        "job" | "jobs" | "fleetbackupjob" | "fleetbackupjobs" | "fbj" => {
            cancel::<FleetBackupJob>(printer, home, name, goes_on).await
        }
        "task" | "tasks" | "fleettask" | "fleettasks" | "ft" => {
            cancel::<FleetTask>(printer, home, name, goes_on).await
        }
        "restore" | "restores" | "fleetrestorejob" | "fleetrestorejobs" | "frj" => {
            let told = "a datacenter that was stopped for it is restored to the end";
            cancel::<FleetRestoreJob>(printer, home, name, told).await
        }
        _ => Err(usage()),
    }
}

/// Sets `spec.cancel`; `told` tells the person what goes on all the same.
async fn cancel<K: FleetRun>(printer: Printer, home: &ControlPlaneClient, name: &str, told: &str) -> Outcome {
    let kind = K::kind_word();
    let found = home.find::<K>(name).await?;
    let found =
        found.ok_or_else(|| Failure::Failed(format!("there is no `{}/{name}` {home}", K::DESCRIBED)))?;
    let phase = found.phase().unwrap_or_default();
    if phase.is_final() && phase != Phase::Cancelled {
        return Err(Failure::Failed(format!("{kind} `{name}` is over already: {}", phase.as_str())));
    }
    let params =
        PatchParams { field_manager: Some(labels::MANAGER_CLI.to_owned()), ..PatchParams::default() };
    let change = Patch::Merge(json!({"spec": {"cancel": true}}));
    let changed = home.api::<K>().patch(name, &params, &change).await;
    let changed =
        changed.map_err(|error| Failure::writing(&format!("cancel {kind} `{name}` {home}"), &error))?;
    printer.say(&format!("{kind}/{name} cancelled: {told}"))?;
    if printer.format().is_for_programs() { printer.value(&changed) } else { Ok(()) }
}
