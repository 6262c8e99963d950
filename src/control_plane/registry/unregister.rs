//! Takes the copies back before a DataPlane goes. A dead cluster delays that by the grace period at
//! most, and what was left behind is named in an Event (docs/dataplane.md).

use std::time::Duration;

use jiff::SignedDuration;
use kube::{Resource as _, ResourceExt as _, runtime::controller::Action};

use super::controller::{Registry, RegistryError};
use crate::{
    api::{
        Reason, Why,
        fleet::{DataPlane, DeletionPolicy},
        labels,
        medusa::MedusaBackupSchedule,
    },
    control_plane::{
        data_planes::{capabilities::SCHEDULES, fleet::Change, view::View},
        identity::Identity,
    },
};

/// How long an unreachable cluster may delay the deletion of its DataPlane.
const GRACE: SignedDuration = SignedDuration::from_secs(60);
/// Pause between two looks while copies are being taken back; their removal is also announced.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What to do next with a DataPlane that is being deleted.
#[derive(Debug, PartialEq, Eq)]
enum UnregisterStep {
    /// Copies are being taken back, or the cluster may come back.
    Wait,
    /// Let it go; these are left behind.
    LetGo(Vec<String>),
}

/// Whether there is a way to a cluster whose DataPlane is being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WayThere {
    /// There is.
    Yes,
    /// There is none: its kubeconfig is gone, or refused.
    No,
    /// Nobody knows: its Secret cannot be read.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// There is none.
    Absent,
    /// It is not known whether there is.
    Unknown,
    /// There is, and a request is under way: perhaps the writing of another copy.
    Busy,
    /// There is, and nothing is under way.
    Idle,
}

/// Pure decision of one step. `elapsed` is the time since the deletion was asked for. Copies and delegated schedules
/// are taken back by those who made them.
fn decide(
    view: Option<&View>,
    way: Way,
    elapsed: SignedDuration,
    control_plane: &Identity,
) -> UnregisterStep {
    let unknown = || UnregisterStep::LetGo(vec!["whatever was copied there earlier".to_owned()]);
    let Some(view) = view else {
        return if elapsed < GRACE && way != Way::Absent { UnregisterStep::Wait } else { unknown() };
    };
    let secrets = view.secrets.last_known().keys().map(|key| format!("Secret {key}"));
    let configurations =
        view.configurations.last_known().keys().map(|key| format!("MedusaConfiguration {key}"));
    let is_ours = |schedule: &MedusaBackupSchedule| {
        schedule.labels().contains_key(labels::FLEET_SCHEDULE_UID) && control_plane.wrote(&schedule.metadata)
    };
    let schedules = view.schedules.last_known().iter().filter(|(_, schedule)| is_ours(schedule));
    let schedules = schedules.map(|(key, _)| format!("MedusaBackupSchedule {key}"));
    let left: Vec<String> = secrets.chain(configurations).chain(schedules).collect();
    let shows_schedules =
        !view.capabilities.may_serve(SCHEDULES) || view.listing(&view.schedules).known().is_some();
    let shows_all = view.is_live()
        && shows_schedules
        && view.listing(&view.secrets).known().is_some()
        && view.listing(&view.configurations).known().is_some();
    match (shows_all && way == Way::Idle, left.is_empty()) {
        (true, true) => UnregisterStep::LetGo(Vec::new()),
        _ if elapsed < GRACE && way != Way::Absent => UnregisterStep::Wait,
        (false, true) => unknown(),
        (_, false) => UnregisterStep::LetGo(left),
    }
}

/// One reconcile of a DataPlane that is being deleted and carries our finalizer.
pub(super) async fn step(
    plane: &DataPlane,
    found: WayThere,
    registry: &Registry,
) -> Result<Action, RegistryError> {
    let (name, uid) = (plane.name_any(), plane.uid().unwrap_or_default());
    let fleet = &registry.context.fleet;
    if registry.is_twin(plane) {
        // The copies there are those of the other DataPlane of this cluster, which goes on.
        return release(plane, registry).await;
    }
    if plane.spec.deletion_policy == Some(DeletionPolicy::Retain) {
        // Nothing is to be taken back, so that nobody has to know before it is gone.
        return release(plane, registry).await;
    }
    let member = fleet.member(&name).filter(|member| member.uid == uid);
    // Asked before the view is looked at: what has been written by then is in it.
    let way = match (member.as_ref().and_then(|m| m.remote.as_ref()), found) {
        (None, WayThere::Unknown) => Way::Unknown,
        (None, WayThere::Yes | WayThere::No) => Way::Absent,
        (Some(remote), _) if remote.is_busy() => Way::Busy,
        (Some(_), _) => Way::Idle,
    };
    let is_news = member.as_ref().is_some_and(|m| way != Way::Absent && !m.unregistering);
    let told = fleet.update(&name, &uid, |member| {
        member.unregistering |= is_news;
        member.blocked = Some(Why::new(Reason::Unregistering, "it is being unregistered"));
    });
    if told && is_news {
        fleet.announce(Change::contact(&name));
    }
    let now = fleet.now();
    let asked = plane.metadata.deletion_timestamp.as_ref().map_or(now, |t| t.0);
    let view = member.map(|m| m.view.get());
    let elapsed = now.duration_since(asked);
    match decide(view.as_deref(), way, elapsed, &registry.context.control_plane) {
        UnregisterStep::Wait => Ok(Action::requeue(LOOK_AGAIN)),
        UnregisterStep::LetGo(left) => {
            if !left.is_empty() {
                let note = format!(
                    "left behind in data plane `{name}`, which cannot be asked or whose pods use it: {}. Delete what \
                     carries label `{}` once nothing does",
                    left.join(", "),
                    labels::CONTROL_PLANE
                );
                registry.context.events.warning(
                    plane.object_ref(&()),
                    Reason::LeftBehind,
                    "Unregister",
                    note,
                );
            }
            release(plane, registry).await
        }
    }
}

async fn release(plane: &DataPlane, registry: &Registry) -> Result<Action, RegistryError> {
    let name = plane.name_any();
    let rest: Vec<String> = plane.finalizers().iter().filter(|f| *f != labels::FINALIZER).cloned().collect();
    if let Err(error) = registry.set_finalizers(plane, &rest).await {
        return Err(RegistryError { name, error });
    }
    registry.forget(&name, &plane.uid().unwrap_or_default());
    Ok(Action::await_change())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::control_plane::data_planes::{records::CopyRecord, view::ObjectKey};

    fn view(live: bool, copies: usize) -> View {
        let mut view = View::unknown();
        if live {
            view.set_synced();
        }
        for n in 0..copies {
            view.secrets.put(ObjectKey::new("ns", format!("s{n}")), Arc::new(CopyRecord::default()));
        }
        view
    }

    #[test]
    fn copies_are_awaited_while_the_cluster_answers_and_no_longer_than_the_grace_otherwise() {
        let (soon, late) = (SignedDuration::from_secs(1), GRACE);
        let go = |left: &[&str]| UnregisterStep::LetGo(left.iter().map(|l| (*l).to_owned()).collect());
        let delete = |view: &View, way, elapsed| decide(Some(view), way, elapsed, &Identity::named("cp"));
        assert_eq!(delete(&view(true, 1), Way::Idle, soon), UnregisterStep::Wait);
        assert_eq!(delete(&view(true, 0), Way::Idle, soon), go(&[]));
        assert_eq!(delete(&view(false, 1), Way::Idle, soon), UnregisterStep::Wait);
        assert_eq!(delete(&view(false, 1), Way::Idle, late), go(&["Secret ns/s0"]));
        assert!(matches!(delete(&view(false, 0), Way::Idle, late), UnregisterStep::LetGo(l) if l.len() == 1));
        // A copy that is just being written is not in the view yet.
        assert_eq!(delete(&view(true, 0), Way::Busy, soon), UnregisterStep::Wait);
        assert!(matches!(delete(&view(true, 0), Way::Busy, late), UnregisterStep::LetGo(l) if l.len() == 1));
        // Its Secret may become readable again.
        assert_eq!(delete(&view(false, 0), Way::Unknown, soon), UnregisterStep::Wait);
        assert!(
            matches!(delete(&view(false, 0), Way::Unknown, late), UnregisterStep::LetGo(l) if l.len() == 1)
        );
        assert_eq!(decide(None, Way::Unknown, soon, &Identity::named("cp")), UnregisterStep::Wait);
        // Without a kubeconfig there is nothing to wait for, but what is there is still named.
        assert_eq!(delete(&view(true, 1), Way::Absent, soon), go(&["Secret ns/s0"]));
        assert!(
            matches!(delete(&view(false, 0), Way::Absent, soon), UnregisterStep::LetGo(l) if l.len() == 1)
        );
        assert!(
            matches!(decide(None, Way::Absent, soon, &Identity::named("cp")), UnregisterStep::LetGo(l) if l.len() == 1)
        );
    }

    #[test]
    fn delegated_schedules_are_awaited_too_and_other_peoples_are_not() {
        let with = |control_plane: &str| {
            let mut view = view(true, 0);
            let schedule = serde_json::json!({
                "metadata": {"labels": {
                    labels::CONTROL_PLANE: control_plane, labels::FLEET_SCHEDULE_UID: "uid"
                }},
                "spec": {"cronSchedule": "@daily", "backupSpec": {"cassandraDatacenter": "dc1"}}
            });
            let schedule = Arc::new(serde_json::from_value(schedule).unwrap());
            view.schedules.put(ObjectKey::new("ns", "nightly"), schedule);
            decide(Some(&view), Way::Idle, SignedDuration::ZERO, &Identity::named("cp"))
        };
        assert_eq!(with("cp"), UnregisterStep::Wait);
        assert_eq!(with("another"), UnregisterStep::LetGo(Vec::new()));
    }
}
