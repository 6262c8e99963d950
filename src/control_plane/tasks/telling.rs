//! Events about a task: that it began, what failed, how it ended.

use kube::Resource as _;

use crate::{
    api::{
        Conditions as _, Reason,
        fleet::{FleetOperation, FleetTask, FleetTaskStatus, Phase},
    },
    runtime::events::Events,
};

/// Says what is new in `new`.
pub(super) fn tell(events: &Events, task: &FleetTask, old: &FleetTaskStatus, new: &FleetTaskStatus) {
    let about = task.object_ref(&());
    let action = match task.spec.operation {
        FleetOperation::Sync => "Sync",
        FleetOperation::Purge => "Purge",
    };
    if old.start_time.is_none() && !new.datacenters.is_empty() {
        let note = format!("{} of {} datacenters", task.spec.operation.as_str(), new.datacenters.len());
        events.normal(about.clone(), Reason::Running, action, note);
    }
    for entry in &new.datacenters {
        let run = &entry.run;
        let place = (&run.data_plane, &run.namespace, &run.datacenter);
        let before = old
            .datacenters
            .iter()
            .map(|e| &e.run)
            .find(|before| (&before.data_plane, &before.namespace, &before.datacenter) == place);
        if run.phase == Phase::Failed && before.is_none_or(|before| before.phase != Phase::Failed) {
            let reason = run.reason.as_deref().and_then(Reason::of).unwrap_or(Reason::Failed);
            let message = run.message.as_deref().unwrap_or("failed");
            let note = format!("{}/{}/{}: {message}", run.data_plane, run.namespace, run.datacenter);
            events.warning(about.clone(), reason, action, note);
        }
    }
    let (Some(phase), Some(complete)) =
        (new.phase.filter(|phase| phase.is_final()), new.conditions.of_type("Complete"))
    else {
        return;
    };
    let reason = Reason::of(&complete.reason).unwrap_or(Reason::Failed);
    if phase == Phase::Succeeded {
        events.normal(about, reason, action, complete.message.clone());
    } else {
        events.warning(about, reason, action, complete.message.clone());
    }
}
