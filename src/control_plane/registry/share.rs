//! The data planes of this replica's shards: it connects to what the deciding replica has accepted, and watches it. It
//! writes nothing, neither at home nor there.

use kube::{ResourceExt as _, core::DeserializeGuard, runtime::controller::Action};
use tokio::sync::watch;

use super::{
    controller::{LOOK_EVERY, Registry},
    reports::{Held, Share},
};
use crate::{api::fleet::DataPlane, control_plane::data_planes::fleet::Change, runtime::sync::lock};

/// Connects to a data plane of these shards, or ends the connection to one that is not.
pub(super) async fn look(plane: &DeserializeGuard<DataPlane>, registry: &Registry, share: &Share) -> Action {
    let (name, uid) = (plane.name_any(), plane.uid().unwrap_or_default());
    let Ok(plane) = &plane.0 else {
        registry.disconnect(&uid);
        return Action::await_change();
    };
    if !share.holds(&name) {
        leave(registry, plane, &uid);
        return Action::await_change();
    }
    match registry.reach(plane).await {
        Ok(()) => {
            registry.shell.succeeded(&registry.context.namespace, &name);
            Action::requeue(LOOK_EVERY)
        }
        // Whoever decides says so on the DataPlane. What is connected stays so while its Secret only cannot be read.
        Err(refusal) => {
            tracing::debug!(data_plane = name, reason = %refusal.reason, "not connected: {}", refusal.message);
            if !super::admit::is_passing(&refusal) {
                registry.disconnect(&uid);
            }
            Action::requeue(registry.shell.failed(&plane.metadata))
        }
    }
}

/// Ends the connection to a data plane of another replica's shards: nothing of it is kept.
fn leave(registry: &Registry, plane: &DataPlane, uid: &str) {
    if !lock(&registry.links).contains_key(uid) {
        return;
    }
    registry.disconnect(uid);
    let (fleet, name) = (&registry.context.fleet, plane.name_any());
    fleet.forget_view(&name, uid);
    fleet.announce(Change::contact(&name));
}

/// Waits until other shards are held; for ever where there are none.
pub(super) async fn changed(held: &mut Option<watch::Receiver<Held>>) {
    let told = match held {
        Some(held) => held.changed().await.is_ok(),
        None => false,
    };
    if !told {
        std::future::pending::<()>().await;
    }
}
