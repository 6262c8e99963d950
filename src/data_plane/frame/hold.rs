//! An object that cannot begin says why, and is looked at again until its time is up.

use std::{fmt::Debug, time::Duration};

use kube::{Resource, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    context::Tools,
    objects,
    outcome::{self, RunStatus},
    problem::{Problem, Waiting},
};

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The object has failed; its `finishTime` is written.
    Ended,
    /// Look again after this long.
    Later(Duration),
}

/// Tells `problem` in the status of `object`, which is `status` now, and in an Event about `action`. Once the
/// waiting is over the object fails, after `give_up` has put its lists in order. `patch` makes a patch of a
/// status that holds to a version.
///
/// # Errors
/// When the API server refuses, among others because the object has changed.
pub async fn hold<K, S>(
    tools: &Tools,
    object: &K,
    mut status: S,
    (waiting, problem): (&mut Waiting, &Problem),
    action: &str,
    give_up: impl FnOnce(&mut S),
    patch: impl Fn(&str, &S) -> Value,
) -> Result<Held, kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    S: RunStatus + Clone + PartialEq,
{
    let now = tools.clock.now();
    let meta = object.meta();
    let (generation, version) = (meta.generation, meta.resource_version.clone().unwrap_or_default());
    if waiting.is_over(problem, &tools.timings, now) {
        give_up(&mut status);
        outcome::fail(&mut status, problem.reason, &problem.message, generation, now);
        objects::patch_status(&tools.client, object, &patch(&version, &status)).await?;
        tools.events.warning(object.object_ref(&()), problem.reason, action, &problem.message);
        return Ok(Held::Ended);
    }
    if waiting.is_news(problem) {
        let before = status.clone();
        outcome::wait(&mut status, problem, generation, now);
        if before != status {
            objects::patch_status(&tools.client, object, &patch(&version, &status)).await?;
        }
        tools.events.warning(object.object_ref(&()), problem.reason, action, &problem.message);
        waiting.reported(problem);
    }
    Ok(Held::Later(waiting.pause(problem, &tools.timings, now)))
}

/// The pods that a run which ends before its time has failed: those the problem is about, else all that were
/// not done.
#[must_use]
pub fn given_up(problem: &Problem, failed: &[String], in_progress: &[String]) -> Vec<String> {
    if problem.pods.is_empty() { [failed, in_progress].concat() } else { problem.pods.clone() }
}
