//! The Secret of Medusa's user in Cassandra, in the control plane.

use super::{
    apply::{self, Failure},
    pass::Pass,
    plan::{Decision, decide},
    pod::objects,
};
use crate::{
    control_plane::data_planes::view::ObjectKey,
    control_plane::sources::{Copyable, SecretState, user_secret},
};

/// Makes the Secret of Medusa's user when nobody has, once there is a datacenter to use it. Returns the Secret made,
/// of which `pass` does not know yet.
pub(super) async fn make_user(pass: &Pass<'_>) -> Result<Option<ObjectKey>, Failure> {
    let Some(cluster) = &pass.inputs.cluster else { return Ok(None) };
    let Some(name) = user_secret(cluster) else { return Ok(None) };
    let deploys = pass.inputs.targets.iter().any(|target| {
        let decision =
            decide(pass.inputs, target, &pass.settings, pass.collision, &pass.context.control_plane);
        decision == Decision::Deploy
    });
    let key = ObjectKey::new(&pass.inputs.key.namespace, &name);
    let is_never = matches!(pass.sources.copyable(&key), Copyable::Never { .. });
    if !deploys || is_never || pass.sources.secrets.get(&key) != Some(&SecretState::Absent) {
        return Ok(None);
    }
    let left = left_behind(pass, &key).await?;
    let made = || apply::random::<{ objects::ENTROPY }>().and_then(|bytes| objects::password(&bytes));
    let Some(password) = left.or_else(made) else {
        return Err(Failure::Silent("the system gave too few random bytes".to_owned()));
    };
    let secret = objects::user(cluster, &pass.inputs.key.namespace, &name, &password);
    apply::make_user(pass.context.client.clone(), &secret).await?;
    Ok(Some(key))
}

/// The password in a copy that an earlier installation made of this Secret, where a datacenter of the cluster has one: Cassandra
/// knows that, and another would restart its pods. A data plane that made it up learns nothing by it, as the user is the same in
/// all datacenters of a cluster.
async fn left_behind(pass: &Pass<'_>, key: &ObjectKey) -> Result<Option<String>, Failure> {
    for target in &pass.inputs.targets {
        let Some(plane) = target.plane.as_ref().filter(|_| target.wanted.is_some()) else { continue };
        let copied = ObjectKey::new(&target.place.object.namespace, &key.name);
        let copy = plane.view.secrets.last(&copied);
        let is_left = copy.is_some_and(|copy| {
            copy.source == key.to_string() && pass.context.control_plane.is_earlier(&copy.installation)
        });
        let Some(remote) = plane.remote.as_ref().filter(|_| is_left) else { continue };
        if let Some(password) = apply::find_password(remote, &copied).await? {
            return Ok(Some(password));
        }
    }
    Ok(None)
}
