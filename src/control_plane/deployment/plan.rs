//! What has to be done for each datacenter of a K8ssandraCluster, before anything is read from it. Pure.

use super::{
    Problem,
    config::{prefix::Collision, storage::Settings, validate},
    observe::{ClusterInputs, DatacenterTarget},
};
use crate::{
    api::{Reason, Seen, Why, cassandra::CassandraDatacenter, fleet::DeploymentState, labels, names},
    control_plane::{
        data_planes::{capabilities::Feature, fleet::Usable},
        identity::{Identity, deployer, is_name},
    },
};
use kube::ResourceExt as _;

/// What has to be done for one datacenter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing can or may be done; this is why.
    Leave(DeploymentState, Why),
    /// It shall run Medusa as asked.
    Deploy,
    /// It shall run none of our Medusa.
    Remove,
}

/// Decides for one datacenter. `settings` are the cluster's, or what is wrong with them.
#[must_use]
pub fn decide(
    inputs: &ClusterInputs,
    target: &DatacenterTarget,
    settings: &Result<Settings, Vec<Problem>>,
    collision: Option<&Collision>,
    control_plane: &Identity,
) -> Decision {
    if let (Some(why), Some(_)) = (target.refused, &target.wanted) {
        let (namespace, plane) = (&target.place.object.namespace, &target.place.plane);
        let message = format!(
            "nothing is copied into namespace `{namespace}` of data plane `{plane}`: {why}; put the datacenter into \
             another namespace (spec.cassandra.datacenters)"
        );
        let (state, why) = refused(Reason::TargetRefused, message);
        return Decision::Leave(state, why);
    }
    match reach(target) {
        Err((state, why)) => Decision::Leave(state, why),
        Ok(datacenter) => {
            let decided = match &target.wanted {
                None => may_remove(inputs, datacenter, control_plane),
                Some(_) => may_deploy(inputs, target, datacenter, settings, collision, control_plane),
            };
            decided.unwrap_or_else(|(state, why)| Decision::Leave(state, why))
        }
    }
}

type Obstacle = (DeploymentState, Why);

fn refused(reason: Reason, message: impl Into<String>) -> Obstacle {
    (DeploymentState::Refused, Why::new(reason, message))
}

fn waiting(reason: Reason, message: impl Into<String>) -> Obstacle {
    (DeploymentState::Waiting, Why::new(reason, message))
}

/// The datacenter, when its data plane answers and it may be touched at all.
fn reach(target: &DatacenterTarget) -> Result<&CassandraDatacenter, Obstacle> {
    let unknown = |why: &str| {
        let message = format!("data plane `{}` does not answer: {why}", target.place.plane);
        (DeploymentState::Unknown, Why::new(Reason::DataPlaneUnreachable, message))
    };
    let Some(plane) = &target.plane else {
        return Err(refused(
            Reason::UnknownDataPlane,
            format!(
                "data plane `{}` (k8sContext) is not registered; register it, or correct the name",
                target.place.plane
            ),
        ));
    };
    match &plane.usable {
        Usable::Ready => {}
        Usable::Connecting => return Err(unknown("the connection is being made")),
        Usable::Unreachable { why, .. } => return Err(unknown(why)),
        Usable::NotReady { reason, why } => {
            return Err(waiting(*reason, format!("data plane `{}` is not ready: {why}", plane.name)));
        }
    }
    let datacenter = match &target.datacenter {
        Seen::Known(datacenter) => datacenter,
        Seen::Absent => {
            let message = format!(
                "there is no CassandraDatacenter {} in data plane `{}`",
                target.place.object, plane.name
            );
            return Err((DeploymentState::NotFound, Why::new(Reason::DatacenterNotFound, message)));
        }
        Seen::Unknown { why, .. } => return Err(unknown(why)),
    };
    if datacenter.is_managed_by_k8ssandra_operator() {
        return Err((
            DeploymentState::HandsOff,
            Why::new(
                Reason::ManagedElsewhere,
                "k8ssandra-operator manages the datacenter, and deploys Medusa there",
            ),
        ));
    }
    if datacenter.metadata.deletion_timestamp.is_some() {
        return Err(waiting(Reason::DatacenterNotFound, "the datacenter is being deleted"));
    }
    if datacenter.annotations().contains_key(labels::RESTORE) {
        return Err(waiting(Reason::RestoreRunning, "a restore of the datacenter has to end first"));
    }
    plane.view.capabilities.allow(Feature::Deployment).map_err(|lack| {
        if lack.reason == Reason::Connecting {
            waiting(lack.reason, lack.message)
        } else {
            refused(lack.reason, lack.message)
        }
    })?;
    Ok(datacenter)
}

fn may_remove(
    inputs: &ClusterInputs,
    datacenter: &CassandraDatacenter,
    control_plane: &Identity,
) -> Result<Decision, Obstacle> {
    if !inputs.may_remove {
        return Err(waiting(Reason::Connecting, "whether Medusa is still asked for here is not known"));
    }
    let installation = deployer(&datacenter.metadata).map(|(_, installation)| installation);
    match installation.filter(|of| inputs.cluster.is_none() && control_plane.is_earlier(of)) {
        None => Ok(Decision::Remove),
        // It may be created again, and Medusa stays until then.
        Some(installation) => {
            let message = format!(
                "an earlier installation of this fleet, `{installation}`, deployed Medusa here for K8ssandraCluster {}, \
                 which is not here: create it again, or give it up with `kubectl medusa adopt --forget {installation}`, \
                 which removes Medusa",
                inputs.key
            );
            Err(waiting(Reason::Inherited, message))
        }
    }
}

fn may_deploy(
    inputs: &ClusterInputs,
    target: &DatacenterTarget,
    datacenter: &CassandraDatacenter,
    settings: &Result<Settings, Vec<Problem>>,
    collision: Option<&Collision>,
    control_plane: &Identity,
) -> Result<Decision, Obstacle> {
    if let Some(error) = &inputs.unreadable {
        return Err(refused(
            Reason::InvalidObject,
            format!("K8ssandraCluster {} cannot be read: {error}", inputs.key),
        ));
    }
    if let Some(other) = &target.claimed_by {
        let message =
            format!("K8ssandraCluster {other} has the datacenter; take it out of one of the two lists");
        return Err(refused(Reason::NameConflict, message));
    }
    let fleet = deployer(&datacenter.metadata).map(|(fleet, _)| fleet);
    if let Some(foreign) = fleet.filter(|fleet| !control_plane.is_own(fleet)) {
        // Anybody may write there: nothing that is no name becomes a part of a command.
        let gone = if is_name(foreign) {
            format!("`kubectl medusa adopt --from {foreign}`")
        } else {
            format!("take annotation `{}` off", labels::MEDUSA_FOR_CONTROL_PLANE)
        };
        let message = format!(
            "fleet `{}` deploys Medusa here; have it removed there, or, when that fleet's control plane is gone, {gone}",
            names::shown(foreign, 63)
        );
        return Err(refused(Reason::NameConflict, message));
    }
    if let Err(problems) = settings {
        return Err(wrong(problems));
    }
    let own: Vec<Problem> = match (&inputs.cluster, &target.wanted) {
        (Some(cluster), Some(template)) => validate::datacenter(cluster, template),
        _ => Vec::new(),
    };
    if !own.is_empty() {
        return Err(wrong(&own));
    }
    if let Some(other) = collision.and_then(|collision| collision.behind.as_ref()) {
        let message = format!(
            "K8ssandraCluster {other} has its backups under the same prefix of the same bucket; choose another \
             `storageProperties.prefix`"
        );
        return Err(refused(Reason::PrefixInUse, message));
    }
    Ok(Decision::Deploy)
}

fn wrong(problems: &[Problem]) -> Obstacle {
    let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    let reason = problems.first().map_or(Reason::InvalidSpec, |problem| problem.reason);
    refused(reason, messages.join("; "))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
