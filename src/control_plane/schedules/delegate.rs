//! The MedusaBackupSchedules of a Delegated schedule: which there should be, and what to do about those there are.
//! Pure.

use jiff::Timestamp;
use kube::{Resource as _, ResourceExt, api::ObjectMeta};
use serde_json::{Value, json};

use super::{recipe::Recipe, scope::Scope};
use crate::{
    api::{
        Reason, Seen, Why,
        cassandra::CassandraDatacenter,
        fleet::{
            CatchUp, ConcurrencyPolicy, DatacenterRun, FleetBackupSchedule, MedusaController,
            ScheduleOperation,
        },
        labels,
        medusa::{MedusaBackupJobSpec, MedusaBackupSchedule, MedusaBackupScheduleSpec, ScheduledOperation},
        names,
    },
    control_plane::{
        data_planes::{
            capabilities::{Capabilities, Feature, SCHEDULES},
            fleet::{Snapshot, Usable},
            view::ObjectKey,
        },
        identity::{Identity, uid_of},
        runs::child::{ExactObject, beside},
    },
};

/// A write in a data plane.
#[derive(Clone, Debug, PartialEq)]
pub enum ScheduleWrite {
    /// Apply an object that must not exist, or must still be the version that was seen.
    Apply {
        data_plane: String,
        key: ObjectKey,
        object: Value,
    },
    Delete(ExactObject),
}

/// A datacenter that is not, or not yet, scheduled as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `dataPlane/namespace/datacenter`, or the data plane alone.
    pub place: String,
    /// Why, and what to do.
    pub problem: Why,
}

/// What there is to do for one schedule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delegation {
    /// Writes, in data planes that answer.
    pub actions: Vec<ScheduleWrite>,
    /// Datacenters the schedule is for.
    pub total: usize,
    /// Those whose MedusaBackupSchedule is as it should be.
    pub there: Vec<(DatacenterRun, ObjectKey)>,
    /// Every MedusaBackupSchedule of it that is known, as asked or not: its data plane and where.
    pub ours: Vec<(String, ObjectKey)>,
    /// Those where it cannot be.
    pub refused: Vec<Refusal>,
    /// Why slots are not spread over the window.
    pub unspread: Option<String>,
    /// MedusaBackupSchedules of it that are known and cannot be deleted for now.
    pub left: Vec<String>,
    /// Data planes of which nobody knows what they hold.
    pub unknown: Vec<String>,
}

impl Delegation {
    /// Whether nothing of the schedule is left in any data plane.
    pub fn is_gone(&self) -> bool {
        self.left.is_empty() && self.unknown.is_empty() && self.actions.is_empty()
    }
}

/// Plans what `schedule` needs in every data plane. Without anything `wanted` all it has is taken back. What is written is as
/// it is since `now`.
#[must_use]
pub fn plan(
    schedule: &FleetBackupSchedule,
    wanted: Option<(&Recipe, &Scope)>,
    planes: &[Snapshot],
    control_plane: &Identity,
    now: Timestamp,
) -> Delegation {
    let none = Scope::default();
    let (recipe, scope) = wanted.map_or((None, &none), |(recipe, scope)| (Some(recipe), scope));
    let total = scope.datacenters.len() + scope.unreadable.len();
    let mut delegation = Delegation { total, ..Delegation::default() };
    for plane in planes {
        let here: Vec<&DatacenterRun> =
            scope.datacenters.iter().filter(|entry| entry.data_plane == plane.name).collect();
        let ours: Vec<(&ObjectKey, &MedusaBackupSchedule)> = plane
            .view
            .schedules
            .last_known()
            .iter()
            .filter(|(_, there)| is_ours(there, schedule, control_plane))
            .map(|(key, there)| (key, &**there))
            .collect();
        delegation.ours.extend(ours.iter().map(|(key, _)| (plane.name.clone(), (*key).clone())));
        // What was listed before holds while the data plane is silent; where they are not served there are none.
        let is_known = if plane.view.schedules.trust.is_settled() {
            plane.view.schedules.trust.doubt().is_none() || !plane.view.capabilities.may_serve(SCHEDULES)
        } else {
            plane.view.schedules.trust.is_listed()
        };
        if !is_known {
            delegation.unknown.push(plane.name.clone());
        }
        if !can_write(plane) {
            delegation.left.extend(ours.iter().map(|(key, _)| format!("{}/{key}", plane.name)));
            delegation.refused.extend(here.iter().map(|entry| refusal(entry, away(plane))));
            continue;
        }
        let mut keep: Vec<ObjectKey> = Vec::new();
        if let Some(recipe) = recipe {
            for entry in here {
                let key = key(schedule, entry);
                keep.push(key.clone());
                place(&mut delegation, schedule, recipe, plane, entry, &key, (control_plane, now));
            }
        }
        for entry in scope.unreadable.iter().filter(|entry| entry.data_plane == plane.name) {
            keep.push(key(schedule, entry));
            let message = entry.message.clone().unwrap_or_default();
            delegation.refused.push(refusal(entry, Why::new(Reason::DatacenterUnreadable, message)));
        }
        for (key, there) in ours.into_iter().filter(|(key, _)| !keep.contains(key)) {
            match ExactObject::of(plane, there) {
                Some(there) => delegation.actions.push(ScheduleWrite::Delete(there)),
                None => delegation.left.push(format!("{}/{key}", plane.name)),
            }
        }
    }
    for plane in &scope.unlisted {
        let message = "its datacenters are not known yet; they get their schedules when it answers";
        let problem = Why::new(Reason::DataPlaneUnreachable, message);
        delegation.refused.push(Refusal { place: plane.clone(), problem });
    }
    delegation
}

/// Whether `schedule` may have something in data planes: its finalizer is set before anything is written there, and
/// removed when all of it is gone.
#[must_use]
pub fn is_in_data_planes(schedule: &impl ResourceExt) -> bool {
    schedule.finalizers().iter().any(|f| f == labels::DELEGATED)
}

/// Whether `there` was made for `schedule` by this fleet. Two schedules may name one uid, if somebody wrote so in a data plane.
#[must_use]
pub fn is_ours(
    there: &MedusaBackupSchedule,
    schedule: &FleetBackupSchedule,
    control_plane: &Identity,
) -> bool {
    let has = |key: &str, value: &str| there.labels().get(key).is_some_and(|found| found == value);
    control_plane.wrote(&there.metadata)
        && has(labels::FLEET_SCHEDULE, &names::label_value(&schedule.name_any()))
        && has(labels::FLEET_SCHEDULE_UID, uid_of(schedule).unwrap_or_default())
}

/// Where the MedusaBackupSchedule of a datacenter is.
#[must_use]
pub fn key(schedule: &FleetBackupSchedule, entry: &DatacenterRun) -> ObjectKey {
    let uid = uid_of(schedule).unwrap_or_default();
    ObjectKey::new(&entry.namespace, names::child(&schedule.name_any(), &entry.datacenter, uid))
}

/// Whether what a data plane does not show is certainly absent there, and writes can be sent. A data plane that is being
/// unregistered still has to be cleaned up.
#[must_use]
pub fn can_write(plane: &Snapshot) -> bool {
    (plane.usable == Usable::Ready || plane.unregistering) && plane.view.is_live() && plane.remote.is_some()
}

fn away(plane: &Snapshot) -> Why {
    match &plane.usable {
        Usable::NotReady { reason, why } => Why::new(*reason, why.clone()),
        Usable::Unreachable { why, .. } => Why::new(
            Reason::DataPlaneUnreachable,
            format!("{why}; what is scheduled there goes on, and changes arrive when it answers"),
        ),
        Usable::Ready | Usable::Connecting => Why::new(Reason::Connecting, "the connection is being made"),
    }
}

fn refusal(entry: &DatacenterRun, problem: Why) -> Refusal {
    Refusal { place: entry.place(), problem }
}

/// What one datacenter needs.
fn place(
    delegation: &mut Delegation,
    schedule: &FleetBackupSchedule,
    recipe: &Recipe,
    plane: &Snapshot,
    entry: &DatacenterRun,
    key: &ObjectKey,
    (control_plane, now): (&Identity, Timestamp),
) {
    let spec = match spec(schedule, recipe, entry, &plane.view.capabilities) {
        Ok((spec, unspread)) => {
            delegation.unspread = delegation.unspread.take().or(unspread);
            spec
        }
        Err(problem) => return delegation.refused.push(refusal(entry, problem)),
    };
    let datacenter = ObjectKey::new(&entry.namespace, &entry.datacenter);
    let Some(datacenter) = plane.view.datacenters.last(&datacenter) else { return };
    let there = match plane.view.seen(&plane.view.schedules, key) {
        Seen::Known(there) => Some(there),
        Seen::Absent => None,
        Seen::Unknown { why, .. } => {
            return delegation.refused.push(refusal(entry, Why::new(Reason::WatchesStale, why)));
        }
    };
    let mut is_as_asked = false;
    if let Some(there) = there {
        if !is_ours(there, schedule, control_plane) {
            let message = format!(
                "a MedusaBackupSchedule `{}` exists there that this schedule has not made; delete or rename it",
                key.name
            );
            return delegation.refused.push(refusal(entry, Why::new(Reason::NameConflict, message)));
        }
        let owner = datacenter.uid().unwrap_or_default();
        let is_owned = there.owner_references().iter().any(|reference| reference.uid == owner);
        is_as_asked = there.spec == spec && is_owned && since(there).is_some();
        if is_as_asked {
            delegation.there.push((entry.clone(), key.clone()));
        }
        if is_as_asked && control_plane.wrote_last(&there.metadata) {
            return;
        }
        if ExactObject::of(plane, &**there).is_none() {
            let message = format!(
                "MedusaBackupSchedule `{}` was shown without uid or resourceVersion, as Kubernetes never does: nothing is \
                 written over it",
                key.name
            );
            return delegation.refused.push(refusal(entry, Why::new(Reason::WatchesStale, message)));
        }
    }
    // What only gets another name goes on as it was.
    let since = there.filter(|_| is_as_asked).and_then(|there| since(there)).unwrap_or(now);
    delegation.actions.push(ScheduleWrite::Apply {
        data_plane: plane.name.clone(),
        key: key.clone(),
        object: object(
            schedule,
            key,
            datacenter,
            &declared(&spec, &plane.view.capabilities),
            (control_plane, since),
            there.map(AsRef::as_ref),
        ),
    });
}

/// Since when a MedusaBackupSchedule is as it is now, as we wrote on it: slots before that are none of its own.
#[must_use]
pub fn since(there: &MedusaBackupSchedule) -> Option<Timestamp> {
    there.annotations().get(labels::SCHEDULED_SINCE)?.parse().ok()
}

fn object(
    schedule: &FleetBackupSchedule,
    key: &ObjectKey,
    datacenter: &CassandraDatacenter,
    spec: &Value,
    (control_plane, now): (&Identity, Timestamp),
    there: Option<&MedusaBackupSchedule>,
) -> Value {
    let own = [
        (labels::FLEET_SCHEDULE, names::label_value(&schedule.name_any())),
        (labels::FLEET_SCHEDULE_UID, uid_of(schedule).unwrap_or_default().to_owned()),
    ];
    let since = (labels::SCHEDULED_SINCE.to_owned(), format!("{now:.0}"));
    let metadata = ObjectMeta {
        annotations: Some([since].into_iter().chain(control_plane.mark()).collect()),
        uid: there.and_then(ResourceExt::uid),
        // No object ever has version 1: the API server then only creates.
        resource_version: there.map_or_else(|| Some("1".to_owned()), ResourceExt::resource_version),
        ..beside(datacenter, key.clone(), own, control_plane)
    };
    json!({
        "apiVersion": MedusaBackupSchedule::api_version(&()), "kind": MedusaBackupSchedule::kind(&()),
        "metadata": metadata, "spec": spec,
    })
}

/// The spec without what the definition there does not declare: an apply of that would be refused as a whole.
fn declared(spec: &MedusaBackupScheduleSpec, capabilities: &Capabilities) -> Value {
    let mut spec = json!(spec);
    if let Some(fields) = spec.as_object_mut()
        && capabilities.schedule_has("operationType") != Some(true)
    {
        fields.remove("operationType");
    }
    spec
}

/// The spec for one datacenter, as its data plane's definition can hold it; and, where its slots cannot be spread over the
/// window, why not.
fn spec(
    schedule: &FleetBackupSchedule,
    recipe: &Recipe,
    entry: &DatacenterRun,
    capabilities: &Capabilities,
) -> Result<(MedusaBackupScheduleSpec, Option<String>), Why> {
    capabilities.allow(Feature::Schedules)?;
    let wanted = &schedule.spec;
    let has = |field: &str| capabilities.schedule_has(field) == Some(true);
    let lacks = |field: &str, meant: &str| match capabilities.schedule_has(field) {
        Some(_) => Why::new(
            Reason::NotServed,
            format!(
                "its definition of MedusaBackupSchedules has no spec.{field}, so {meant}; install ours or a newer one"
            ),
        ),
        None => Why::new(
            Reason::NotServed,
            format!("it does not say whether its MedusaBackupSchedules have spec.{field}; without, {meant}"),
        ),
    };
    let operation_type = match wanted.operation {
        ScheduleOperation::Backup => ScheduledOperation::Backup,
        ScheduleOperation::Purge if has("operationType") => ScheduledOperation::Purge,
        ScheduleOperation::Purge => {
            return Err(lacks("operationType", "it would back up instead of purging"));
        }
        ScheduleOperation::Sync => {
            return Err(Why::new(Reason::InvalidSpec, "spec.operation: a MedusaBackupSchedule cannot sync"));
        }
    };
    // Without the field a run waits for the one before, which is what Forbid means.
    let policy = wanted.concurrency_policy;
    if policy != ConcurrencyPolicy::Forbid && !has("concurrencyPolicy") {
        return Err(lacks("concurrencyPolicy", &format!("runs would not follow `{}`", policy.as_str())));
    }
    let window = u32::try_from(wanted.window_seconds.unwrap_or_default()).unwrap_or_default() / 60;
    let (fields, unspread) =
        match recipe.cron.shifted(offset(uid_of(schedule).unwrap_or_default(), entry, window)) {
            Ok(fields) => (fields, None),
            Err(why) => (recipe.cron.text().to_owned(), Some(why)),
        };
    // k8ssandra-operator reads a zone from the expression only, also where our definition is installed.
    let is_upstreams = capabilities.controller.as_ref().is_some_and(|c| c.name == MedusaController::UPSTREAM);
    let (cron_schedule, time_zone) = match recipe.cron.zone() {
        Some(zone) if has("timeZone") && !is_upstreams => (fields, Some(zone.to_owned())),
        Some(zone) => (format!("TZ={zone} {fields}"), None),
        None => (fields, None),
    };
    let template = wanted.template.clone().unwrap_or_default();
    let optional = |field: &str, value: Option<i64>| value.filter(|_| has(field));
    let deadline = match wanted.catch_up {
        CatchUp::None => recipe.deadline.and_then(|deadline| i64::try_from(deadline.as_secs()).ok()),
        CatchUp::Latest => wanted.starting_deadline_seconds,
    };
    let spec = MedusaBackupScheduleSpec {
        cron_schedule,
        disabled: Some(wanted.suspend == Some(true)),
        backup_spec: MedusaBackupJobSpec {
            cassandra_datacenter: entry.datacenter.clone(),
            backup_type: template.backup_type.unwrap_or_default(),
            ttl_seconds_after_finished: None,
        },
        concurrency_policy: has("concurrencyPolicy").then(|| policy.as_str().to_owned()),
        operation_type,
        time_zone,
        starting_deadline_seconds: optional("startingDeadlineSeconds", deadline),
        successful_jobs_history_limit: optional(
            "successfulJobsHistoryLimit",
            wanted.successful_jobs_history_limit,
        ),
        failed_jobs_history_limit: optional("failedJobsHistoryLimit", wanted.failed_jobs_history_limit),
    };
    Ok((spec, unspread))
}

/// By how many minutes a cluster's slots are moved inside a window of `window` minutes: always by the same number, and the same
/// for all its datacenters, as their backups of one slot are one restore point.
fn offset(uid: &str, entry: &DatacenterRun, window: u32) -> u32 {
    let hash = names::sha256_hex(format!("{uid}/{}", entry.cluster).as_bytes());
    let digits = hash.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or_default();
    digits.checked_rem(window).unwrap_or_default()
}

#[cfg(test)]
#[path = "delegate_tests.rs"]
pub(super) mod tests;
