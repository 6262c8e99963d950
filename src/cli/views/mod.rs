//! Objects in, tables out: pure functions that take `now` as an argument.

pub mod backups;
pub mod clusters;
pub mod data_planes;
pub mod detail;
pub mod doctor;
pub mod plan;
pub mod restore;
pub mod run;
pub mod schedules;
pub mod status;
pub mod task;

#[cfg(test)]
pub(crate) mod fixtures;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};

use super::duration;
use crate::api::Conditions as _;

/// Status of the condition of that type; what nobody has said yet is unknown.
#[must_use]
pub fn state(conditions: &[Condition], type_: &str) -> String {
    conditions.of_type(type_).map_or_else(|| "Unknown".to_owned(), |c| c.status.clone())
}

/// Reason of the condition of that type.
#[must_use]
pub fn reason(conditions: &[Condition], type_: &str) -> String {
    conditions.of_type(type_).map_or_else(String::new, |c| c.reason.clone())
}

/// Message of the condition of that type.
#[must_use]
pub fn message(conditions: &[Condition], type_: &str) -> String {
    conditions.of_type(type_).map_or_else(String::new, |c| c.message.clone())
}

/// Name of an object.
#[must_use]
pub fn name(metadata: &ObjectMeta) -> String {
    metadata.name.clone().unwrap_or_default()
}

/// How long ago something happened; empty when it never did.
#[must_use]
pub fn ago(then: Option<&Time>, now: Timestamp) -> String {
    then.map_or_else(String::new, |then| duration::age(then.0, now))
}

/// A moment, to the second, in UTC.
#[must_use]
pub fn moment(then: Option<&Time>) -> String {
    then.map_or_else(String::new, |then| then.0.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// `n thing` or `n things`.
#[must_use]
pub fn count(n: usize, one: &str) -> String {
    if n == 1 { format!("{n} {one}") } else { format!("{n} {one}s") }
}
