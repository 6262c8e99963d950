//! Writes a DataPlane's status, and an Event when its summary changes its mind.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    controller::{Registry, RegistryError, heartbeat},
    health::{self, Health, Twin},
};
use crate::{
    api::{
        Conditions as _, Reason, Why,
        fleet::{CredentialStatus, DataPlane, DataPlaneStatus},
        labels,
    },
    control_plane::data_planes::{
        fleet::Usable,
        view::{Contact, View},
    },
    runtime::sync::lock,
};

impl Registry {
    /// Publishes what is known, when it is worth a write. `stale` is why the kubeconfig in use could not be read again.
    pub(super) async fn publish(
        &self,
        plane: &DataPlane,
        refusal: Option<&Why>,
        stale: Option<&Why>,
        twin: Option<&Twin>,
        health: &Health,
    ) -> Result<(), RegistryError> {
        let (name, uid) = (plane.name_any(), plane.uid().unwrap_or_default());
        let now = self.context.fleet.now();
        let old = plane.status.clone().unwrap_or_default();
        let member = self.context.fleet.member(&name).filter(|member| member.uid == uid);
        let view = member.as_ref().map_or_else(|| Arc::new(View::unknown()), |member| member.view.get());
        let prospect = self.prospect(plane);
        let credential = lock(&self.credentials).get(&uid).and_then(|c| {
            let vetted = c.verdict.as_ref().ok()?;
            let observed = old.credential.as_ref().filter(|o| o.hash.as_ref() == Some(&vetted.hash));
            Some(CredentialStatus {
                hash: Some(vetted.hash.clone()),
                expires_at: vetted.expires_at.map(Time),
                renewed_at: prospect.renewed_at.map(Time),
                next_renewal_time: prospect.due.map(Time),
                observed_at: observed.and_then(|o| o.observed_at.clone()).or(Some(Time(c.observed_at))),
            })
        });
        let begins = member.is_some_and(|m| self.context.fleet.usable(&m, &view) == Usable::Connecting);
        let stands = begins
            && refusal.is_none()
            && twin.is_none()
            && says_more(&old, plane.metadata.generation, &view);
        if stands {
            // By which credential a data plane is to be reached, who watches it reads there (`share.rs`).
            let hash = |credential: Option<&CredentialStatus>| credential.and_then(|c| c.hash.clone());
            if hash(credential.as_ref()) != hash(old.credential.as_ref()) {
                let status = DataPlaneStatus { credential, ..old.clone() };
                self.write(plane, &old, &status).await?;
            }
            return Ok(());
        }
        let rejected = self.rejected.borrow().get(&name).cloned();
        // Who it is does not change because it is silent, or its Secret gone.
        let mut health = health.clone();
        health.cluster_id = health.cluster_id.or(old.cluster_id.clone());
        let health = &health;
        let facts = health::Facts {
            refusal,
            stale,
            twin,
            rejected: rejected.as_ref(),
            inherited: super::inherited::told(&view, &self.context.control_plane),
            paused: plane.spec.paused == Some(true),
            expires_at: credential.as_ref().and_then(|c| c.expires_at.as_ref()).map(|t| t.0),
            not_renewed: prospect.failure.as_deref(),
            health,
            view: &view,
        };
        let mut status = DataPlaneStatus {
            observed_generation: plane.metadata.generation,
            cluster_id: health.cluster_id.clone(),
            kubernetes_version: health.version.clone().or(old.kubernetes_version.clone()),
            medusa_controller: health.controller.clone().or(old.medusa_controller.clone()),
            credential,
            datacenters: if view.datacenters.trust.is_listed() {
                i64::try_from(view.datacenters.last_known().iter().len()).ok()
            } else {
                old.datacenters
            },
            last_contact_time: health.last_contact.map(Time).or(old.last_contact_time.clone()),
            disconnected_since: health.disconnected_since.map(Time),
            next_attempt_time: health.next_attempt.map(Time),
            conditions: old.conditions.clone(),
        };
        health::conditions(&mut status.conditions, &facts, plane.metadata.generation, now);
        if is_news(&old, &status, heartbeat(plane)) {
            self.write(plane, &old, &status).await?;
        }
        Ok(())
    }

    async fn write(
        &self,
        plane: &DataPlane,
        old: &DataPlaneStatus,
        status: &DataPlaneStatus,
    ) -> Result<(), RegistryError> {
        let name = plane.name_any();
        let body = json!({
            "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "DataPlane",
            "metadata": {"name": name, "uid": plane.uid(), "resourceVersion": plane.resource_version()},
            "status": status,
        });
        let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE).force();
        match self.api().patch_status(&name, &params, &Patch::Apply(&body)).await {
            Ok(_) => self.tell(plane, old, status),
            // It changed, or was made again, and is looked at again for that.
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => {}
            Err(error) => return Err(RegistryError { name, error }),
        }
        Ok(())
    }

    /// An Event whenever the summary changes its mind.
    pub(super) fn tell(&self, plane: &DataPlane, old: &DataPlaneStatus, new: &DataPlaneStatus) {
        let summary = |status: &DataPlaneStatus| {
            status.conditions.of_type("Ready").map(|c| (c.status.clone(), c.reason.clone()))
        };
        let (before, Some(ready)) = (summary(old), new.conditions.of_type("Ready")) else { return };
        if before == summary(new) {
            return;
        }
        let about = plane.object_ref(&());
        match Reason::of(&ready.reason) {
            Some(Reason::Ready) => {
                self.context.events.normal(about, Reason::Ready, "Connect", ready.message.clone());
            }
            // A connection that is being made is not worth an Event.
            Some(Reason::Connecting | Reason::WatchesStale) | None => {}
            Some(reason) => self.context.events.warning(about, reason, "Connect", ready.message.clone()),
        }
    }
}

/// Whether a status says more than is known of a data plane that is being connected, and nothing else: after a start there is
/// less to say, for some seconds, than what stands there.
fn says_more(status: &DataPlaneStatus, generation: Option<i64>, view: &View) -> bool {
    let ready = status.conditions.of_type("Ready");
    status.observed_generation == generation
        && ready.is_some_and(|ready| ready.reason != Reason::Connecting.as_str())
        && (view.contact == Contact::NotTried || status.conditions.is_true("Reachable"))
}

/// Whether a status is worth a write: times alone only after `heartbeat`, or a little sooner, as they are of before this look.
fn is_news(old: &DataPlaneStatus, new: &DataPlaneStatus, heartbeat: Duration) -> bool {
    let without_times = |status: &DataPlaneStatus| DataPlaneStatus {
        last_contact_time: None,
        next_attempt_time: None,
        ..status.clone()
    };
    if without_times(old) != without_times(new) {
        return true;
    }
    let heartbeat = SignedDuration::try_from(heartbeat.mul_f32(0.9)).unwrap_or(SignedDuration::ZERO);
    match (&old.last_contact_time, &new.last_contact_time) {
        (Some(old), Some(new)) => new.0.duration_since(old.0) >= heartbeat,
        (None, Some(_)) => true,
        (_, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::{condition::set_condition, fleet::DataPlaneSpec};

    #[test]
    fn that_a_cluster_answers_still_is_written_seldom_and_all_else_at_once() {
        let at = |second: i64, datacenters: i64| DataPlaneStatus {
            last_contact_time: Timestamp::from_second(second).ok().map(Time),
            datacenters: Some(datacenters),
            ..DataPlaneStatus::default()
        };
        let plane = |local: Option<bool>| {
            let mut plane = DataPlane::new("eu", DataPlaneSpec::default());
            plane.spec.local = local;
            plane
        };
        let (home, remote) = (heartbeat(&plane(Some(true))), heartbeat(&plane(None)));
        assert!(!is_news(&at(0, 1), &at(50, 1), home) && is_news(&at(0, 1), &at(60, 1), home));
        assert!(!is_news(&at(0, 1), &at(1_000, 1), remote) && is_news(&at(0, 1), &at(1_200, 1), remote));
        assert!(is_news(&at(0, 1), &at(1, 2), remote));
        assert!(is_news(&DataPlaneStatus::default(), &at(0, 1), remote));
    }

    #[test]
    fn what_stands_is_left_for_a_start_unless_it_is_of_another_spec_or_wrong_by_now() {
        let status = |ready: Reason, is_reachable: bool| {
            let mut status = DataPlaneStatus { observed_generation: Some(1), ..DataPlaneStatus::default() };
            let now = Timestamp::UNIX_EPOCH;
            let conditions = &mut status.conditions;
            set_condition(conditions, "Ready", None, ready, "", Some(1), now);
            set_condition(conditions, "Reachable", Some(is_reachable), Reason::Answered, "", Some(1), now);
            status
        };
        let (not_tried, live) = (View::unknown(), View { contact: Contact::Live, ..View::unknown() });
        let ready = status(Reason::Ready, true);
        assert!(says_more(&ready, Some(1), &not_tried) && says_more(&ready, Some(1), &live));
        assert!(!says_more(&ready, Some(2), &not_tried), "another spec");
        assert!(!says_more(&DataPlaneStatus::default(), None, &not_tried), "nothing stands");
        assert!(!says_more(&status(Reason::Connecting, true), Some(1), &live));
        let silent = status(Reason::TimedOut, false);
        assert!(says_more(&silent, Some(1), &not_tried) && !says_more(&silent, Some(1), &live), "it answers");
    }
}
