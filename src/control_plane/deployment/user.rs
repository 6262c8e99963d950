//! The Secret of Medusa's user in Cassandra, in the control plane.

use super::{
    apply::{self, Failure},
    pass::Pass,
    plan::{Decision, decide},
    pod::objects,
};
use crate::control_plane::data_planes::{fleet::Usable, view::ObjectKey};
use crate::control_plane::sources::{Copyable, SecretState, user_secret};

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

/// The password in a copy that an earlier installation made of this Secret, where a datacenter of the cluster has one:
/// Cassandra knows it, and another would restart the pods. A data plane that made it up gains nothing, as the user is the
/// same in all datacenters of a cluster. Only one that answers is asked, so that none that is silent holds up the others.
async fn left_behind(pass: &Pass<'_>, key: &ObjectKey) -> Result<Option<String>, Failure> {
    let mut failed = None;
    for target in pass.inputs.targets.iter().filter(|target| target.wanted.is_some()) {
        let Some(plane) = target.plane.as_ref().filter(|plane| plane.usable == Usable::Ready) else {
            continue;
        };
        let copied = ObjectKey::new(&target.place.object.namespace, &key.name);
        let is_left = plane.view.secrets.last(&copied).is_some_and(|copy| {
            copy.source == key.to_string() && pass.context.control_plane.is_earlier(&copy.installation)
        });
        let Some(remote) = plane.remote.as_ref().filter(|_| is_left) else { continue };
        match apply::find_password(remote, &copied).await {
            Ok(Some(password)) => return Ok(Some(password)),
            Ok(None) => {}
            Err(failure) => failed = Some(failure),
        }
    }
    failed.map_or(Ok(None), Err)
}
