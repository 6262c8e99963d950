//! Makes the children, all data planes at once; one outcome each.

use std::{collections::HashMap, sync::Arc};

use futures::{StreamExt as _, stream::FuturesUnordered};
use kube::{Api, ResourceExt as _, api::PostParams};

use super::plan::Action;
use crate::{
    api::{Reason, labels, medusa::MedusaBackupJob},
    control_plane::{
        fleet::{Fleet, Snapshot},
        registry::remote::{CallError, Remote},
        view::ObjectKey,
    },
};

/// What became of one child.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// It is there, and ours.
    There(Box<MedusaBackupJob>),
    /// An object of that name is there and is not ours.
    Conflict,
    /// It could not be made for now.
    NotNow(Reason, String),
}

/// Outcomes by data plane and child.
pub(super) type Outcomes = HashMap<(String, ObjectKey), Outcome>;

/// Makes every planned child. What was made is put into the views at once.
pub(super) async fn apply(actions: Vec<Action>, planes: &[Snapshot], fleet: &Fleet) -> Outcomes {
    let mut writes: FuturesUnordered<_> = actions
        .into_iter()
        .filter_map(|action| {
            let remote = planes.iter().find(|p| p.name == action.data_plane)?.remote.clone()?;
            Some(async move {
                let key = ObjectKey::of(&action.child);
                let outcome = make(&remote, &action.child).await;
                ((action.data_plane, key), outcome)
            })
        })
        .collect();
    let mut outcomes = Outcomes::new();
    while let Some(((plane, key), outcome)) = writes.next().await {
        if let (Outcome::There(child), Some(member)) = (&outcome, fleet.member(&plane)) {
            member.view.update(|view| {
                view.jobs.items.entry(key.clone()).or_insert_with(|| Arc::new((**child).clone()));
            });
        }
        outcomes.insert((plane, key), outcome);
    }
    outcomes
}

async fn make(remote: &Remote, child: &MedusaBackupJob) -> Outcome {
    let namespace = child.namespace().unwrap_or_default();
    let params =
        PostParams { field_manager: Some(labels::MANAGER_CONTROL_PLANE.to_owned()), ..PostParams::default() };
    let made = remote
        .call(|client| async move { Api::namespaced(client, &namespace).create(&params, child).await })
        .await;
    match made {
        Ok(made) => Outcome::There(Box::new(made)),
        Err(error) if error.code() == Some(409) => adopt(remote, child).await,
        Err(error) => not_now(&error),
    }
}

/// The name is in use: by our own child, made before a crash or by another leader, or by a stranger.
async fn adopt(remote: &Remote, child: &MedusaBackupJob) -> Outcome {
    let namespace = child.namespace().unwrap_or_default();
    let found = remote
        .call(|client| async move {
            Api::<MedusaBackupJob>::namespaced(client, &namespace).get_opt(&child.name_any()).await
        })
        .await;
    match found {
        Ok(Some(found)) if found.labels().get(labels::JOB_UID) == child.labels().get(labels::JOB_UID) => {
            Outcome::There(Box::new(found))
        }
        Ok(Some(_)) => Outcome::Conflict,
        Ok(None) => Outcome::NotNow(Reason::Pending, "the name was in use a moment ago".to_owned()),
        Err(error) => not_now(&error),
    }
}

fn not_now(error: &CallError) -> Outcome {
    match error.status() {
        Some(status) => {
            Outcome::NotNow(Reason::WriteRefused, format!("the API server answered: {}", status.message))
        }
        None => Outcome::NotNow(Reason::DataPlaneUnreachable, error.to_string()),
    }
}
