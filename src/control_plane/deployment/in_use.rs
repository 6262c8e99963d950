//! Who still refers to a ConfigMap or Secret of ours, asked of the data plane itself right before that is deleted: what a
//! watch has not delivered yet is no proof that nobody does.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    apply::read_all,
    ownership::references::{self, Reference, Referred},
};
use crate::control_plane::data_planes::{
    remote::{CallError, Remote},
    view::ObjectKey,
};

/// The datacenters of a namespace that refer to one of `going`, each with the fields that do.
///
/// # Errors
/// When the data plane did not say: then nothing may be deleted.
pub async fn find(
    remote: &Remote,
    namespace: &str,
    going: &BTreeSet<Referred>,
) -> Result<Vec<(Value, Vec<Reference>)>, CallError> {
    let all = read_all(remote, namespace).await?.into_iter();
    let users = all.map(|datacenter| {
        let references = references::to_any_of(&datacenter, going);
        (datacenter, references)
    });
    Ok(users.filter(|(_, references)| !references.is_empty()).collect())
}

/// Whether a datacenter beside it refers to a Secret.
///
/// # Errors
/// When the data plane did not say.
pub async fn is_secret(remote: &Remote, secret: &ObjectKey) -> Result<bool, CallError> {
    let going = BTreeSet::from([Referred::Secret(secret.name.clone())]);
    Ok(!find(remote, &secret.namespace, &going).await?.is_empty())
}
