//! Waiting until the control plane has taken a new credential up.

use std::{pin::pin, time::Duration};

use futures::StreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};

use crate::{
    api::{Conditions as _, Reason, fleet::DataPlane},
    cli::{
        failure::{Failure, Outcome},
        home::ControlPlaneClient,
        output::{Printer, one_line},
    },
};

/// Digits of the kubeconfig's hash that the data plane's status shows.
const HASH_DIGITS: usize = 16;

/// What was known about the data plane before its Secret was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    /// There was none.
    Absent,
    /// There was one, with the credential of this hash.
    Hash(Option<String>),
}

impl Before {
    /// What `data_plane` says.
    #[must_use]
    pub fn of(data_plane: &DataPlane) -> Self {
        Self::Hash(hash(data_plane))
    }
}

fn hash(data_plane: &DataPlane) -> Option<String> {
    data_plane.status.as_ref()?.credential.as_ref()?.hash.clone()
}

/// `None` once the data plane is ready with the new credential, else what is still missing.
#[must_use]
fn missing(data_plane: &DataPlane, before: &Before, new_hash: &str) -> Option<String> {
    let hash = hash(data_plane);
    let short = new_hash.get(..HASH_DIGITS).unwrap_or(new_hash);
    // Readiness that was there before says nothing about the new credential.
    let is_new = match before {
        Before::Absent => true,
        Before::Hash(old) => hash.as_deref() == Some(short) || hash != *old,
    };
    let conditions = data_plane.status.as_ref().map_or(&[][..], |status| &status.conditions);
    if !is_new {
        let said = conditions.of_type("Authenticated");
        return Some(match said.filter(|said| said.reason == Reason::RenewalFailed.as_str()) {
            Some(said) => one_line(&said.message),
            None => "the control plane has not read the new credential yet; is it running?".to_owned(),
        });
    }
    match conditions.of_type("Ready") {
        None => Some("the control plane has not looked at it yet; is it running?".to_owned()),
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(one_line(&format!("{}: {}", ready.reason, ready.message))),
    }
}

/// Watches the data plane until it is ready with the new credential.
///
/// # Errors
/// When the time is up, with what is still missing.
pub async fn until_ready(
    printer: Printer,
    home: &ControlPlaneClient,
    name: &str,
    before: &Before,
    new_hash: &str,
    timeout: Duration,
) -> Outcome<DataPlane> {
    let mut seen = pin!(watcher::watch_object(home.api::<DataPlane>(), name).default_backoff());
    let mut time_up = pin!(tokio::time::sleep(timeout));
    let mut last = "no DataPlane has appeared; is a control plane running?".to_owned();
    loop {
        let event = tokio::select! {
            event = seen.next() => event,
            () = &mut time_up => {
                return Err(Failure::Failed(format!(
                    "dataplane `{name}` is registered but not ready: {last}; {} shows more",
                    printer.command(&format!("describe dataplane/{name}"))
                )));
            }
        };
        match event {
            Some(Ok(Some(data_plane))) => match missing(&data_plane, before, new_hash) {
                None => return Ok(data_plane),
                Some(why) => {
                    if why != last {
                        printer.note(&format!("waiting: {why}"));
                    }
                    last = why;
                }
            },
            Some(Ok(None)) => {}
            Some(Err(error)) => last = one_line(&format!("cannot watch it: {error}")),
            None => return Err(Failure::CouldNotAsk(format!("cannot watch dataplane `{name}` {home}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::views::fixtures::{data_planes, ready_data_plane};

    const OLD: &str = "00112233aabbccdd";

    #[test]
    fn a_rotation_is_over_only_when_the_new_credential_is_in_use() {
        let ready = ready_data_plane();
        let before = Before::of(&ready);
        assert_eq!(before, Before::Hash(Some(OLD.to_owned())));
        assert!(missing(&ready, &before, "ffff").is_some_and(|why| why.contains("new credential")));
        assert_eq!(missing(&ready, &Before::Hash(Some("eeee".to_owned())), "ffff"), None);
        assert_eq!(missing(&ready, &before, &format!("{OLD}0123")), None);
        assert_eq!(missing(&ready, &Before::Absent, "ffff"), None);
    }

    #[test]
    fn a_token_that_could_not_be_renewed_says_why() {
        let mut plane = ready_data_plane();
        let before = Before::of(&plane);
        assert!(missing(&plane, &before, "").is_some_and(|why| why.contains("is it running?")));
        let status = plane.status.as_mut().unwrap();
        let mut said = status.conditions[0].clone();
        (said.type_, said.reason) = ("Authenticated".to_owned(), "RenewalFailed".to_owned());
        said.message = "it may not".to_owned();
        status.conditions.push(said);
        assert_eq!(missing(&plane, &before, "").as_deref(), Some("it may not"));
    }

    #[test]
    fn what_is_missing_is_the_reason_of_the_data_plane() {
        let why = |index: usize| missing(&data_planes()[index], &Before::Absent, "ffff").unwrap();
        assert!(why(1).contains("is it running?"));
        assert_eq!(why(2), "Unreachable: https://10.0.0.7:6443 does not answer: connection refused");
    }
}
