//! The replicas and who of them holds which shard, from their Leases and from when this process saw them say so. Pure.
//!
//! As in `runtime/election.rs`, what clocks show elsewhere decides nothing: a replica is there for [`DURATION`] after its
//! Lease was last seen to change.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;

use super::assign::assign;
use crate::{api::labels, runtime::election::DURATION};

/// How long a Lease stays after its replica was last there.
const FORGOTTEN: Duration = Duration::from_mins(5);

/// A replica, by its Lease.
#[derive(Clone, Debug)]
struct Replica {
    lease: String,
    uid: String,
    renewed: Option<jiff::Timestamp>,
    /// When that was seen first.
    since: Duration,
    unsaid: Unsaid,
}

/// Data planes of which a replica could not publish what it sees, as it says on its Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Unsaid {
    #[default]
    Nothing,
    /// Those of these names.
    These(BTreeSet<String>),
    /// Too many to name.
    Everything,
}

impl Unsaid {
    /// How many are named.
    const NAMED: usize = 100;

    /// Those of these names.
    #[must_use]
    pub fn of(names: BTreeSet<String>) -> Self {
        match names.len() {
            0 => Self::Nothing,
            1..=Self::NAMED => Self::These(names),
            _ => Self::Everything,
        }
    }

    /// As it stands on the Lease; nothing where there is nothing to say.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::These(names) => Some(names.iter().map(String::as_str).collect::<Vec<_>>().join(",")),
            Self::Everything => Some("*".to_owned()),
        }
    }

    fn read(text: Option<&String>) -> Self {
        match text.map(String::as_str) {
            None | Some("") => Self::Nothing,
            Some("*") => Self::Everything,
            Some(names) => Self::These(names.split(',').map(str::to_owned).collect()),
        }
    }

    /// Whether the data plane of that name is one of them.
    #[must_use]
    pub fn covers(&self, data_plane: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::These(names) => names.contains(data_plane),
            Self::Everything => true,
        }
    }
}

/// A shard, by its Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The replica that holds it; empty when it was given back.
    pub holder: String,
    /// How often it has changed hands.
    pub epoch: i32,
}

/// What a Lease stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// That of a replica.
    Replica,
    /// That of the shard of this number.
    Shard(u32),
}

/// What this replica has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardStep {
    /// Take this shard, which nobody holds or whose holder is gone.
    Take(u32),
    /// Give this shard back: another is to hold it.
    GiveBack(u32),
    /// Delete the Lease of this name and uid, whose replica is gone for long.
    Forget(String, String),
}

/// What is known of the Leases. Times are those of a monotonic clock of this process, counted from any moment.
#[derive(Clone, Debug, Default)]
pub struct Table {
    replicas: BTreeMap<String, Replica>,
    shards: BTreeMap<u32, Shard>,
    /// Holders without a Lease of their own, and since when.
    missing: BTreeMap<String, Duration>,
    is_listed: bool,
}

impl Table {
    /// A listing is complete, and named these Leases: no other is there.
    pub fn listed(&mut self, leases: &BTreeSet<(Role, String)>, now: Duration) {
        self.replicas.retain(|_, replica| leases.contains(&(Role::Replica, replica.lease.clone())));
        let shards: BTreeSet<u32> = leases
            .iter()
            .filter_map(|(role, _)| match role {
                Role::Shard(shard) => Some(*shard),
                Role::Replica => None,
            })
            .collect();
        self.shards.retain(|shard, _| shards.contains(shard));
        self.is_listed = true;
        self.note_missing(now);
    }

    /// A Lease is as it is now.
    pub fn note(&mut self, role: &Role, lease: &Lease, now: Duration) {
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        match role {
            Role::Shard(shard) => {
                let epoch = spec.lease_transitions.unwrap_or_default();
                // An answer to a write of ours may come before, or after, what the watch says.
                let is_older = self.shards.get(shard).is_some_and(|known| known.epoch > epoch);
                if !is_older {
                    self.shards.insert(*shard, Shard { holder, epoch });
                }
            }
            Role::Replica if holder.is_empty() => {}
            Role::Replica => {
                let (uid, renewed) = (lease.uid().unwrap_or_default(), spec.renew_time.map(|time| time.0));
                let known = self.replicas.get(&holder).filter(|r| r.uid == uid && r.renewed == renewed);
                let since = known.map_or(now, |known| known.since);
                let unsaid = Unsaid::read(lease.annotations().get(labels::UNPUBLISHED));
                let replica = Replica { lease: lease.name_any(), uid, renewed, since, unsaid };
                self.replicas.insert(holder, replica);
            }
        }
        self.note_missing(now);
    }

    /// A Lease is gone.
    pub fn gone(&mut self, role: &Role, lease: &str, now: Duration) {
        match role {
            Role::Shard(shard) => drop(self.shards.remove(shard)),
            Role::Replica => self.replicas.retain(|_, replica| replica.lease != lease),
        }
        self.note_missing(now);
    }

    fn note_missing(&mut self, now: Duration) {
        let replicas = &self.replicas;
        let holders = self.shards.values().map(|shard| &shard.holder);
        let missing: BTreeSet<String> =
            holders.filter(|holder| !holder.is_empty() && !replicas.contains_key(*holder)).cloned().collect();
        self.missing.retain(|holder, _| missing.contains(holder));
        for holder in missing {
            self.missing.entry(holder).or_insert(now);
        }
    }

    /// Whether a replica may still be at work. One without a Lease is for as long as if it had been seen just before.
    #[must_use]
    pub fn is_there(&self, replica: &str, now: Duration) -> bool {
        let since = self.replicas.get(replica).map(|replica| replica.since);
        let since = since.or_else(|| self.missing.get(replica).copied());
        since.is_some_and(|since| now.saturating_sub(since) < DURATION)
    }

    /// The replicas with a Lease that may be at work.
    #[must_use]
    pub fn members(&self, now: Duration) -> BTreeSet<&str> {
        self.replicas.keys().map(String::as_str).filter(|replica| self.is_there(replica, now)).collect()
    }

    /// A shard that a replica holds which may be at work.
    #[must_use]
    pub fn held(&self, shard: u32, now: Duration) -> Option<&Shard> {
        self.shards.get(&shard).filter(|shard| self.is_there(&shard.holder, now))
    }

    /// What a replica says it could not publish.
    #[must_use]
    pub fn unsaid_by(&self, replica: &str) -> Unsaid {
        self.replicas.get(replica).map(|replica| replica.unsaid.clone()).unwrap_or_default()
    }

    /// The shards that `replica` holds, each with its epoch.
    #[must_use]
    pub fn held_by(&self, replica: &str) -> BTreeMap<u32, i32> {
        let own = self.shards.iter().filter(|(_, shard)| shard.holder == replica);
        own.map(|(number, shard)| (*number, shard.epoch)).collect()
    }

    /// What `me`, one of the replicas over which so many shards are spread, has to do.
    #[must_use]
    pub fn steps(&self, me: &str, shards: u32, now: Duration) -> Vec<ShardStep> {
        let members = self.members(now);
        if !self.is_listed || !members.contains(me) {
            return Vec::new();
        }
        let holders = self.shards.iter().filter(|(_, shard)| self.is_there(&shard.holder, now));
        let holders = holders.map(|(number, shard)| (*number, shard.holder.as_str())).collect();
        let assigned = assign(shards, &members, &holders);
        let mine = |shard: u32| assigned.get(&shard).is_some_and(|member| *member == me);
        let free = (0..shards).filter(|shard| mine(*shard) && !holders.contains_key(shard));
        let others = holders.iter().filter(|(shard, holder)| **holder == me && !mine(**shard));
        let long_gone = self.replicas.values().filter(|r| now.saturating_sub(r.since) >= FORGOTTEN);
        free.map(ShardStep::Take)
            .chain(others.map(|(shard, _)| ShardStep::GiveBack(*shard)))
            .chain(long_gone.map(|replica| ShardStep::Forget(replica.lease.clone(), replica.uid.clone())))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{api::coordination::v1::LeaseSpec, apimachinery::pkg::apis::meta::v1::MicroTime};
    use kube::api::ObjectMeta;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn lease(name: &str, holder: &str, renewed: i64, epoch: i32) -> Lease {
        Lease {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                uid: Some(format!("uid-{name}")),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                renew_time: Some(MicroTime(jiff::Timestamp::from_second(renewed).unwrap())),
                lease_transitions: Some(epoch),
                ..LeaseSpec::default()
            }),
        }
    }

    fn listed(table: &mut Table) {
        let replicas = ["m-a", "m-b"].map(|name| (Role::Replica, name.to_owned()));
        let shards = [0, 1].map(|shard| (Role::Shard(shard), format!("s-{shard}")));
        table.listed(&replicas.into_iter().chain(shards).collect(), at(0));
    }

    #[test]
    fn a_replica_whose_lease_stays_as_it_is_for_long_is_gone_and_its_shards_are_taken() {
        let mut table = Table::default();
        table.note(&Role::Replica, &lease("m-a", "a", 100, 0), at(0));
        table.note(&Role::Replica, &lease("m-b", "b", 100, 0), at(0));
        table.note(&Role::Shard(0), &lease("s-0", "b", 0, 7), at(0));
        assert_eq!(table.steps("a", 1, at(0)), [], "nothing is concluded before all are listed");
        listed(&mut table);
        assert_eq!(table.steps("a", 1, at(14)), [], "b may be at work");
        table.note(&Role::Replica, &lease("m-a", "a", 101, 0), at(14));
        // Seen once more as it was: that renews nothing.
        table.note(&Role::Replica, &lease("m-b", "b", 100, 0), at(14));
        assert!(table.held(0, at(14)).is_some() && table.held(0, at(15)).is_none());
        assert_eq!(table.steps("a", 1, at(15)), [ShardStep::Take(0)]);
        assert_eq!(table.steps("b", 1, at(15)), [], "who is not there itself takes nothing");
    }

    #[test]
    fn who_holds_a_shard_without_a_lease_of_its_own_counts_for_a_while() {
        let mut table = Table::default();
        table.note(&Role::Replica, &lease("m-a", "a", 100, 0), at(0));
        table.note(&Role::Replica, &lease("m-b", "b", 100, 0), at(0));
        table.note(&Role::Shard(0), &lease("s-0", "b", 0, 7), at(0));
        listed(&mut table);
        table.gone(&Role::Replica, "m-b", at(5));
        table.note(&Role::Replica, &lease("m-a", "a", 102, 0), at(10));
        assert_eq!(table.steps("a", 1, at(19)), []);
        assert_eq!(table.steps("a", 1, at(20)), [ShardStep::Take(0)]);
        // Given back, it is free at once.
        table.note(&Role::Shard(0), &lease("s-0", "", 0, 7), at(11));
        assert_eq!(table.steps("a", 1, at(11)), [ShardStep::Take(0)]);
    }

    #[test]
    fn one_that_comes_is_given_its_share_and_takes_it_then() {
        let mut table = Table::default();
        table.note(&Role::Replica, &lease("m-a", "a", 100, 0), at(0));
        table.note(&Role::Shard(0), &lease("s-0", "a", 0, 1), at(0));
        table.note(&Role::Shard(1), &lease("s-1", "a", 0, 1), at(0));
        listed(&mut table);
        assert_eq!(table.steps("a", 2, at(1)), []);
        table.note(&Role::Replica, &lease("m-b", "b", 100, 0), at(1));
        let steps = table.steps("a", 2, at(1));
        let [ShardStep::GiveBack(shard)] = steps[..] else { panic!("{steps:?}") };
        assert_eq!(table.steps("b", 2, at(1)), [], "before it is given back nobody takes it");
        table.note(&Role::Shard(shard), &lease("s", "", 0, 1), at(2));
        assert_eq!(table.steps("b", 2, at(2)), [ShardStep::Take(shard)]);
        assert_eq!(table.steps("a", 2, at(2)), []);
    }

    #[test]
    fn an_answer_that_comes_late_does_not_bring_an_earlier_holder_back() {
        let mut table = Table::default();
        table.note(&Role::Shard(0), &lease("s-0", "b", 0, 8), at(0));
        table.note(&Role::Shard(0), &lease("s-0", "a", 0, 7), at(1));
        assert_eq!(table.held_by("b"), [(0, 8)].into());
    }

    #[test]
    fn the_lease_of_a_replica_that_is_gone_for_long_is_deleted_and_one_that_is_there_again_stays() {
        let mut table = Table::default();
        table.note(&Role::Replica, &lease("m-a", "a", 100, 0), at(0));
        table.note(&Role::Replica, &lease("m-b", "b", 100, 0), at(0));
        listed(&mut table);
        table.note(&Role::Replica, &lease("m-a", "a", 101, 0), at(300));
        let forget = ShardStep::Forget("m-b".to_owned(), "uid-m-b".to_owned());
        assert!(table.steps("a", 0, at(300)).contains(&forget));
        table.note(&Role::Replica, &lease("m-b", "b", 101, 0), at(301));
        assert!(!table.steps("a", 0, at(301)).contains(&forget));
    }

    #[test]
    fn while_the_leases_are_listed_anew_they_are_as_they_were_and_then_those_that_are_there() {
        let mut table = Table::default();
        table.note(&Role::Replica, &lease("m-b", "b", 100, 0), at(0));
        table.note(&Role::Shard(0), &lease("s-0", "b", 0, 7), at(0));
        table.note(&Role::Shard(2), &lease("s-2", "b", 0, 7), at(0));
        assert!(table.held(2, at(1)).is_some());
        listed(&mut table);
        assert!(table.held(0, at(1)).is_some() && table.held(2, at(1)).is_none());
    }

    #[test]
    fn what_a_replica_could_not_publish_stands_on_its_lease_for_the_others() {
        let says = |unsaid: &Unsaid| {
            let mut own = lease("m-b", "b", 100, 0);
            if let Some(text) = unsaid.text() {
                own.annotations_mut().insert(labels::UNPUBLISHED.to_owned(), text);
            }
            let mut table = Table::default();
            table.note(&Role::Replica, &own, at(0));
            table.unsaid_by("b")
        };
        let names = |count: usize| (0..count).map(|n| format!("dp-{n}")).collect::<BTreeSet<_>>();
        for (count, covered) in [(0, [false; 2]), (1, [true, false]), (100, [true, false]), (101, [true; 2])]
        {
            let said = says(&Unsaid::of(names(count)));
            assert_eq!(["dp-0", "other"].map(|name| said.covers(name)), covered, "{count}");
        }
    }
}
