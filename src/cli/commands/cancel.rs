//! `cancel KIND/NAME`: nothing more of a run is started.

use kube::api::{Patch, PatchParams};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    api::{
        fleet::{FleetBackupJob, FleetRestoreJob, Phase},
        labels,
    },
    cli::{
        failure::{Failure, Outcome},
        home::Home,
        output::Printer,
    },
};

/// Cancels `object`, such as `job/nightly`.
///
/// # Errors
/// When there is no such kind or object, it is over, or it cannot be written.
pub async fn run(printer: Printer, home: &Home, object: &str) -> Outcome {
    let usage = || Failure::CouldNotAsk(format!("`{object}` is not `job/NAME` or `restore/NAME`"));
    let (kind, name) = object.split_once('/').filter(|(_, name)| !name.is_empty()).ok_or_else(usage)?;
    match kind.to_lowercase().as_str() {
        "job" | "jobs" | "fleetbackupjob" | "fleetbackupjobs" | "fbj" => {
            let phase = |job: &FleetBackupJob| job.status.as_ref().and_then(|status| status.phase);
            cancel(printer, home, ("fleetbackupjob", name), phase).await
        }
        "restore" | "restores" | "fleetrestorejob" | "fleetrestorejobs" | "frj" => {
            let phase = |job: &FleetRestoreJob| job.status.as_ref().and_then(|status| status.phase);
            cancel(printer, home, ("fleetrestorejob", name), phase).await
        }
        _ => Err(usage()),
    }
}

async fn cancel<K>(
    printer: Printer,
    home: &Home,
    (kind, name): (&str, &str),
    phase: impl Fn(&K) -> Option<Phase>,
) -> Outcome
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    let found = home.find::<K>(name).await?;
    let found = found.ok_or_else(|| Failure::Failed(format!("there is no {kind} `{name}` {home}")))?;
    let phase = phase(&found).unwrap_or_default();
    if phase.is_final() && phase != Phase::Cancelled {
        return Err(Failure::Failed(format!("{kind} `{name}` is over already: {}", phase.as_str())));
    }
    let params =
        PatchParams { field_manager: Some(labels::MANAGER_CLI.to_owned()), ..PatchParams::default() };
    let change = Patch::Merge(json!({"spec": {"cancel": true}}));
    let changed = home.api::<K>().patch(name, &params, &change).await;
    let changed =
        changed.map_err(|error| Failure::writing(&format!("cancel {kind} `{name}` {home}"), &error))?;
    printer.say(&format!("{kind}/{name} cancelled: what runs in a datacenter goes on to its end"))?;
    if printer.format().is_for_programs() { printer.value(&changed) } else { Ok(()) }
}
