//! How a copy that nobody wants any more is taken back. It is looked at right before, and nothing is deleted that is not a
//! copy of ours, or that keeps the pods of a datacenter beside it.

use super::{
    apply::{Copied, CopyOutcome},
    content::is_copy_of_ours,
    desired::{CopyKey, CopyKind},
    worker::Shared,
};
use crate::{
    api::{Reason, Why, labels},
    control_plane::{
        data_planes::{
            remote::{CallError, Remote},
            view::ObjectKey,
        },
        deployment::{
            in_use::{self, UsedBy, Uses},
            ownership::references,
        },
    },
};

/// Takes a copy back: this very one, only while it says that it is a copy of ours, and only when no datacenter beside it
/// refers to it any more.
pub(super) async fn remove<K: Copied>(
    key: &CopyKey,
    uid: &str,
    remote: &Remote,
    shared: &Shared,
) -> Result<CopyOutcome, CallError> {
    let Some(meta) = remote.metadata::<K>(&key.object).await? else { return Ok(CopyOutcome::Gone) };
    if meta.uid.as_deref() != Some(uid) {
        return Ok(CopyOutcome::PlanAgain);
    }
    if !is_copy_of_ours(&meta, &shared.context.control_plane) {
        if !shared.context.control_plane.wrote(&meta) {
            return Ok(CopyOutcome::Gone);
        }
        let message = format!(
            "{key} is not wanted any more and is left where it is: its annotations are not those of a copy; delete it, \
             or take label `{}` off it",
            labels::CONTROL_PLANE
        );
        return Ok(CopyOutcome::Failed(Why::new(Reason::NameConflict, message)));
    }
    // A Secret that opens a cluster is taken back whoever uses it.
    let source = meta.annotations.as_ref().and_then(|all| ObjectKey::read(all.get(labels::SOURCE)?));
    let is_way_in = source.is_some_and(|source| shared.context.sources.objects().ways_in().contains(&source));
    if key.kind == CopyKind::Secret
        && !is_way_in
        && let Some(user) = in_use::of_secret(remote, &key.object).await?
    {
        return Ok(CopyOutcome::Failed(still_in_use(key, &user)));
    }
    match remote.delete::<K>(&key.object, meta).await {
        Ok(()) => Ok(CopyOutcome::Gone),
        // It changed since it was looked at.
        Err(error) if error.code() == Some(409) => Ok(CopyOutcome::PlanAgain),
        Err(error) => Err(error),
    }
}

/// Why a copy of a Secret that nobody wants any more stays, and what to do.
fn still_in_use(key: &CopyKey, UsedBy { datacenter, uses }: &UsedBy) -> Why {
    let how = match uses {
        Uses::Fields(references, _) => {
            format!(
                "refers to it and its pods would not start without it: {}",
                references::listed(references)
            )
        }
        Uses::Unknown => "is too large to see whether it refers to it".to_owned(),
    };
    let message = format!(
        "{key} is not wanted any more and is not deleted, because CassandraDatacenter {datacenter} {how}. Take the field out \
         of the datacenter, and it is deleted some minutes later; or take label `{}` off it, and it is yours",
        labels::CONTROL_PLANE
    );
    Why::new(Reason::StillInUse, message)
}
