//! Reads what the views leave out: other people's jobs beside the datacenters, and the MedusaBackups as they
//! are now. All data planes at once; what cannot be read is not known.

use std::collections::BTreeSet;

use futures::future::join_all;
use kube::{Api, api::ListParams};

use super::{
    checks::{Observed, Works},
    resolve::Target,
};
use crate::{
    api::{
        guarded::{Guarded, readable},
        medusa::MedusaBackup,
        unreadable::UnreadableWork,
    },
    control_plane::data_planes::{
        capabilities::{Feature, TASKS},
        fleet::{Snapshot, Usable},
        records::BackupRecord,
        remote::{CallError, Remote},
        view::ObjectKey,
    },
    runtime::follow::Followed,
};

/// Reads what the checks of `targets` need, in data planes that answer and serve restores.
pub(super) async fn observe(targets: &[Target], planes: &[Snapshot]) -> Observed {
    let spaces: BTreeSet<(&str, &str)> =
        targets.iter().map(|t| (t.place.data_plane.as_str(), t.place.key.namespace.as_str())).collect();
    let reads = spaces.into_iter().filter_map(|(name, namespace)| {
        let plane = planes.iter().find(|p| p.name == name && p.usable == Usable::Ready)?;
        plane.view.capabilities.allow(Feature::Restores).ok()?;
        let remote = plane.remote.as_deref()?;
        let wanted: BTreeSet<&str> = targets
            .iter()
            .filter(|t| t.place.data_plane == name && t.place.key.namespace == namespace)
            .filter_map(|t| t.backup.as_deref())
            .collect();
        Some(async move { (name, namespace, read(plane, remote, namespace, &wanted).await) })
    });
    let mut observed = Observed::default();
    for (name, namespace, read) in join_all(reads).await {
        let works = read.map(|(works, backups)| {
            observed.backups.extend(
                backups
                    .into_iter()
                    .map(|(backup, record)| ((name.to_owned(), ObjectKey::new(namespace, backup)), record)),
            );
            works
        });
        let works = works.map_err(|error| format!("data plane `{name}` could not be read: {error}"));
        observed.works.insert((name.to_owned(), namespace.to_owned()), works);
    }
    observed
}

type Backups = Vec<(String, BackupRecord)>;

async fn read(
    plane: &Snapshot,
    remote: &Remote,
    namespace: &str,
    backups: &BTreeSet<&str>,
) -> Result<(Works, Backups), CallError> {
    let mut unreadable = Vec::new();
    let mut works = Works {
        backups: list(remote, namespace, &mut unreadable).await?,
        restores: list(remote, namespace, &mut unreadable).await?,
        ..Works::default()
    };
    if plane.view.capabilities.watchable(TASKS) == Some(true) {
        works.tasks = list(remote, namespace, &mut unreadable).await?;
    }
    works.unreadable = unreadable;
    let mut found = Vec::new();
    for name in backups {
        let backup =
            remote
                .call(|client| async move {
                    Api::<MedusaBackup>::namespaced(client, namespace).get_opt(name).await
                })
                .await?;
        found.extend(backup.map(|backup| ((*name).to_owned(), BackupRecord::from(&backup))));
    }
    Ok((works, found))
}

/// The objects of a kind; what is known of those that cannot be read is added to `unreadable`.
async fn list<K: Followed>(
    remote: &Remote,
    namespace: &str,
    unreadable: &mut Vec<UnreadableWork>,
) -> Result<Vec<K>, CallError> {
    let api = |client| Api::<Guarded<K, UnreadableWork>>::namespaced(client, namespace);
    let list = remote.call(|client| async move { api(client).list(&ListParams::default()).await }).await?;
    Ok(readable(list.items, unreadable))
}
