//! Writes a run's status, at a pace that follows the time and the status's size and never the number of news.

use std::time::Duration;

use kube::{
    Client, ResourceExt as _,
    api::{Api, ObjectMeta, Patch, PatchParams},
};
use serde_json::json;

use super::kind::Run;
use crate::api::labels;

/// Least time between two writes of the status of a run that goes on.
pub const PUBLISH_EVERY: Duration = Duration::from_millis(500);
/// Bytes of status per second that one run may write: a status of a megabyte is written every five seconds.
const BYTES_PER_SECOND: usize = 200_000;

/// Least time between a status write of so many bytes and the next.
pub(super) fn pace(bytes: usize) -> Duration {
    let millis = bytes.saturating_mul(1_000) / BYTES_PER_SECOND;
    PUBLISH_EVERY.max(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
}

/// Writes a status for exactly this object, and over exactly this `version` of it when one is given. Says whether it
/// is written: not when the object is another one by now, or gone.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn publish<K: Run>(
    client: &Client,
    run: &K,
    version: Option<String>,
    status: &K::Status,
) -> Result<bool, kube::Error> {
    let name = run.name_any();
    let api: Api<K> = Api::namespaced(client.clone(), &run.namespace().unwrap_or_default());
    let metadata = ObjectMeta {
        name: Some(name.clone()),
        uid: run.uid(),
        resource_version: version,
        ..ObjectMeta::default()
    };
    let body = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": metadata, "status": status,
    });
    let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE).force();
    match api.patch_status(&name, &params, &Patch::Apply(&body)).await {
        Ok(_) => Ok(true),
        // Deleted, made anew, or changed since: the next event says which.
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_follows_the_size() {
        assert_eq!(pace(2_000), Duration::from_millis(500));
        assert_eq!(pace(1_000_000), Duration::from_secs(5));
    }
}
