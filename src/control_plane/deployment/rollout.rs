//! Which datacenter of a cluster may be changed in a way that restarts its pods: one at a time, the next when every
//! other one is settled. Read from the objects each time, so that nothing has to be remembered over a crash. Pure.

use jiff::{SignedDuration, Timestamp};

use crate::api::{Reason, Why, cassandra::CassandraDatacenter, labels};

/// Conditions of cass-operator that say that pods come and go (upstream: CassandraDatacenter).
const RESTLESS: [&str; 8] = [
    "Updating",
    "ScalingUp",
    "ScalingDown",
    "RollingRestart",
    "ReplacingNodes",
    "Resuming",
    "Decommission",
    "ResizingVolumes",
];
/// How long after our own change a datacenter without `observedGeneration` is not believed: cass-operator may not
/// have seen the change.
const NOTICE: SignedDuration = SignedDuration::from_secs(60);

/// Whether a datacenter's pods may be left alone with a restart elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stability {
    /// Its pods all serve, and nothing is being done to them.
    Stable,
    /// It is stopped on purpose.
    Stopped,
    /// Its data plane answers, and there is no such datacenter.
    Missing,
    /// It is not ready, or is being changed.
    Unstable(String),
    /// Nobody can say.
    Unknown(String),
}

/// How a datacenter is. `applied` is when we last changed it, as its data plane tells.
#[must_use]
pub fn stability(datacenter: &CassandraDatacenter, applied: Option<Timestamp>, now: Timestamp) -> Stability {
    let meta = &datacenter.metadata;
    let restores = meta.annotations.as_ref().is_some_and(|a| a.contains_key(labels::RESTORE));
    if restores {
        return Stability::Unstable("a restore is at work on it".to_owned());
    }
    if meta.deletion_timestamp.is_some() {
        return Stability::Unstable("it is being deleted".to_owned());
    }
    if datacenter.spec.stopped {
        return Stability::Stopped;
    }
    let Some(status) = &datacenter.status else {
        return Stability::Unstable("cass-operator has not seen it yet".to_owned());
    };
    match (status.observed_generation, meta.generation) {
        (Some(observed), Some(generation)) if observed < generation => {
            return Stability::Unstable("cass-operator has not finished its newest generation".to_owned());
        }
        (None, _) if applied.is_some_and(|at| now.duration_since(at) < NOTICE) => {
            return Stability::Unstable("it was changed less than a minute ago".to_owned());
        }
        _ => {}
    }
    let is_true = |type_: &str| status.conditions.iter().any(|c| c.type_ == type_ && c.status == "True");
    if let Some(restless) = RESTLESS.into_iter().find(|type_| is_true(type_)) {
        return Stability::Unstable(format!("its condition {restless} is True"));
    }
    match status.cassandra_operator_progress.as_deref() {
        Some("Ready") => {}
        progress => {
            let progress = progress.filter(|p| !p.is_empty()).unwrap_or("unknown");
            return Stability::Unstable(format!("cass-operator's progress is {progress}"));
        }
    }
    if is_true("Ready") { Stability::Stable } else { Stability::Unstable("it is not Ready".to_owned()) }
}

/// A datacenter as the others of its cluster have to reckon with it.
#[derive(Clone, Copy, Debug)]
pub struct Neighbour<'a> {
    /// Its name, for people.
    pub name: &'a str,
    /// Whether its pods may be left alone.
    pub stability: &'a Stability,
    /// What its own change waits for, when that comes by itself.
    pub waits: Option<&'a str>,
}

/// What keeps the datacenter at `own` from restarting its pods: the first of the others that is not settled, or that
/// is listed earlier and soon gets its turn. A datacenter whose own pods are not ready may be changed: the change may
/// be what mends it.
#[must_use]
pub fn hold<'a>(own: usize, all: impl IntoIterator<Item = Neighbour<'a>>) -> Option<Why> {
    all.into_iter().enumerate().filter(|(at, _)| *at != own).find_map(
        |(at, Neighbour { name, stability, waits })| match stability {
            Stability::Stable | Stability::Stopped | Stability::Missing => {
                waits.filter(|_| at < own).map(|why| Why {
                    reason: Reason::DatacenterNotReady,
                    message: format!(
                        "its pods restart after those of {name}, which is listed before it: {why}"
                    ),
                })
            }
            Stability::Unstable(why) => Some(Why {
                reason: Reason::DatacenterNotReady,
                message: format!("its pods restart when {name} is settled: {why}"),
            }),
            Stability::Unknown(why) => Some(Why {
                reason: Reason::DataPlaneUnreachable,
                message: format!("its pods restart when {name} is known to be settled: {why}"),
            }),
        },
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn datacenter(meta: Value, stopped: bool, status: Value) -> CassandraDatacenter {
        let mut metadata = json!({"name": "dc1", "namespace": "ns", "generation": 3});
        metadata.as_object_mut().unwrap().extend(meta.as_object().cloned().unwrap());
        serde_json::from_value(json!({
            "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
            "metadata": metadata, "spec": {"clusterName": "shop", "size": 3, "stopped": stopped}, "status": status,
        }))
        .unwrap()
    }

    fn status(conditions: &[(&str, &str)], progress: &str, observed: Option<i64>) -> Value {
        let conditions: Vec<Value> =
            conditions.iter().map(|(type_, status)| json!({"type": type_, "status": status})).collect();
        let mut status = json!({"conditions": conditions, "cassandraOperatorProgress": progress});
        if let Some(observed) = observed {
            status["observedGeneration"] = json!(observed);
        }
        status
    }

    const READY: &[(&str, &str)] = &[("Ready", "True"), ("Updating", "False")];

    #[rstest]
    #[case::ready(status(READY, "Ready", Some(3)), true)]
    #[case::not_ready(status(&[("Ready", "False")], "Ready", Some(3)), false)]
    #[case::unknown(status(&[("Ready", "Unknown")], "Ready", Some(3)), false)]
    #[case::updating(status(&[("Ready", "True"), ("Updating", "True")], "Ready", Some(3)), false)]
    #[case::scaling(status(&[("Ready", "True"), ("ScalingUp", "True")], "Ready", Some(3)), false)]
    #[case::at_work(status(READY, "Updating", Some(3)), false)]
    #[case::no_progress(json!({"conditions": [{"type": "Ready", "status": "True"}], "observedGeneration": 3}), false)]
    #[case::behind(status(READY, "Ready", Some(2)), false)]
    #[case::ahead(status(READY, "Ready", Some(4)), true)]
    #[case::no_status(json!(null), false)]
    fn a_datacenter_is_settled_when_everything_says_so(#[case] status: Value, #[case] settled: bool) {
        let stability = stability(&datacenter(json!({}), false, status), None, at(0));
        assert_eq!(stability == Stability::Stable, settled, "{stability:?}");
    }

    #[test]
    fn without_an_observed_generation_our_own_change_is_given_time_to_be_noticed() {
        let datacenter = datacenter(json!({}), false, status(READY, "Ready", None));
        assert_eq!(stability(&datacenter, None, at(100)), Stability::Stable);
        assert!(matches!(stability(&datacenter, Some(at(50)), at(100)), Stability::Unstable(_)));
        assert_eq!(stability(&datacenter, Some(at(40)), at(100)), Stability::Stable);
        // Its clock is ahead of ours.
        assert!(matches!(stability(&datacenter, Some(at(150)), at(100)), Stability::Unstable(_)));
    }

    #[test]
    fn a_stopped_datacenter_is_at_rest_unless_a_restore_stopped_it() {
        assert_eq!(stability(&datacenter(json!({}), true, json!(null)), None, at(0)), Stability::Stopped);
        let restore = json!({"annotations": {labels::RESTORE: "{}"}});
        assert!(matches!(
            stability(&datacenter(restore, true, json!(null)), None, at(0)),
            Stability::Unstable(_)
        ));
        let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert!(matches!(
            stability(&datacenter(going, true, json!(null)), None, at(0)),
            Stability::Unstable(_)
        ));
    }

    #[test]
    fn a_restart_waits_for_every_other_datacenter_and_not_for_its_own() {
        let sick = Stability::Unstable("it is not Ready".to_owned());
        let silent = Stability::Unknown("no answer".to_owned());
        let hold = |own: usize, all: [&Stability; 3]| {
            let all = ["a", "b", "c"].into_iter().zip(all);
            super::hold(own, all.map(|(name, stability)| Neighbour { name, stability, waits: None }))
        };
        assert_eq!(hold(0, [&sick, &Stability::Stable, &Stability::Stopped]), None);
        assert_eq!(hold(0, [&Stability::Stable, &Stability::Missing, &Stability::Stopped]), None);
        let held = hold(2, [&Stability::Stable, &sick, &Stability::Stable]).unwrap();
        assert_eq!(held.reason, Reason::DatacenterNotReady);
        assert!(held.message.contains("when b is settled: it is not Ready"), "{}", held.message);
        assert_eq!(
            hold(0, [&Stability::Stable, &silent, &sick]).unwrap().reason,
            Reason::DataPlaneUnreachable
        );
    }

    #[test]
    fn a_datacenter_that_soon_gets_its_turn_goes_before_those_listed_after_it() {
        let all = |waits: Option<&'static str>| {
            ["a", "b", "c"].into_iter().map(move |name| Neighbour {
                name,
                stability: &Stability::Stable,
                waits: waits.filter(|_| name == "b"),
            })
        };
        let held = hold(2, all(Some("a Secret is being copied"))).unwrap();
        assert_eq!(held.reason, Reason::DatacenterNotReady);
        assert!(
            held.message.contains("after those of b") && held.message.contains("is being copied"),
            "{held:?}"
        );
        assert_eq!(hold(0, all(Some("a Secret is being copied"))), None);
        assert_eq!(hold(2, all(None)), None);
    }
}
