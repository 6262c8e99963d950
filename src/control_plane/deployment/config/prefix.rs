//! Clusters that put their backups into the same place of the same bucket: Medusa would mix them up, and a purge of
//! one would delete files of the other. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::storage::Settings;
use crate::control_plane::data_planes::view::ObjectKey;

/// Where a cluster's backups go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackupPlace {
    provider: &'static str,
    host: Option<String>,
    port: Option<i64>,
    bucket: String,
    prefix: String,
}

impl BackupPlace {
    /// The place `settings` name; `None` for `local`, whose volumes nobody shares.
    #[must_use]
    pub fn of(settings: &Settings) -> Option<Self> {
        settings.provider.has_bucket().then(|| Self {
            provider: settings.provider.as_str(),
            host: settings.host.as_ref().map(|host| host.to_lowercase()),
            port: settings.port,
            bucket: settings.bucket.clone(),
            prefix: settings.prefix.clone(),
        })
    }
}

/// Whether a cluster already puts backups into its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// At least one of its datacenters runs Medusa.
    Deployed,
    /// None does.
    New,
    /// Not all its datacenters are known.
    Unknown,
}

/// A cluster and its place.
#[derive(Clone, Debug)]
pub struct Tenant {
    pub cluster: ObjectKey,
    pub place: BackupPlace,
    pub presence: Presence,
    /// When the K8ssandraCluster was made.
    pub created: Option<Timestamp>,
}

/// A cluster's place is another's too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collision {
    /// The others, by name.
    pub with: Vec<ObjectKey>,
    /// The one it must not be deployed over.
    pub behind: Option<ObjectKey>,
}

/// Every collision, by cluster. A cluster that is not deployed stands behind one that is, or may be; of two that
/// are not, the younger stands behind the older. One that is deployed already goes on: it is flagged only.
#[must_use]
pub fn collisions(tenants: &[Tenant]) -> BTreeMap<ObjectKey, Collision> {
    let mut by_place: BTreeMap<&BackupPlace, Vec<&Tenant>> = BTreeMap::new();
    for tenant in tenants {
        by_place.entry(&tenant.place).or_default().push(tenant);
    }
    let mut collisions = BTreeMap::new();
    for mut sharing in by_place.into_values().filter(|sharing| sharing.len() > 1) {
        sharing.sort_by_key(|tenant| (tenant.created, &tenant.cluster));
        for (age, own) in sharing.iter().enumerate() {
            let others = || sharing.iter().enumerate().filter(move |(at, _)| *at != age);
            let behind = others().find(|(at, other)| match (own.presence, other.presence) {
                (Presence::Deployed, _) | (Presence::Unknown, Presence::New) => false,
                (_, Presence::Deployed) | (Presence::New, Presence::Unknown) => true,
                (Presence::New, Presence::New) | (Presence::Unknown, Presence::Unknown) => *at < age,
            });
            let mut with: Vec<ObjectKey> = others().map(|(_, other)| other.cluster.clone()).collect();
            with.sort();
            let behind = behind.map(|(_, other)| other.cluster.clone());
            collisions.insert(own.cluster.clone(), Collision { with, behind });
        }
    }
    collisions
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tenant(name: &str, prefix: &str, presence: Presence, created: i64) -> Tenant {
        Tenant {
            cluster: ObjectKey::new("ns", name),
            place: BackupPlace {
                provider: "s3",
                host: None,
                port: None,
                bucket: "b".to_owned(),
                prefix: prefix.to_owned(),
            },
            presence,
            created: Timestamp::from_second(created).ok(),
        }
    }

    fn behind(tenants: &[Tenant], name: &str) -> Option<String> {
        collisions(tenants)[&ObjectKey::new("ns", name)].behind.as_ref().map(|key| key.name.clone())
    }

    #[test]
    fn the_same_prefix_in_the_same_bucket_is_flagged_on_both() {
        let tenants = [
            tenant("a", "p", Presence::New, 1),
            tenant("b", "p", Presence::New, 2),
            tenant("c", "q", Presence::New, 3),
        ];
        let found = collisions(&tenants);
        assert_eq!(found.len(), 2);
        assert_eq!(found[&ObjectKey::new("ns", "a")].with, [ObjectKey::new("ns", "b")]);
        assert_eq!((behind(&tenants, "a"), behind(&tenants, "b")), (None, Some("a".to_owned())));
    }

    #[test]
    fn who_is_deployed_goes_before_who_is_older() {
        let tenants = [tenant("old", "p", Presence::New, 1), tenant("young", "p", Presence::Deployed, 2)];
        assert_eq!((behind(&tenants, "old"), behind(&tenants, "young")), (Some("young".to_owned()), None));
        let both = [tenant("old", "p", Presence::Deployed, 1), tenant("young", "p", Presence::Deployed, 2)];
        assert_eq!((behind(&both, "old"), behind(&both, "young")), (None, None));
    }

    #[test]
    fn who_may_be_deployed_in_a_silent_data_plane_is_not_deployed_over() {
        let tenants = [tenant("old", "p", Presence::New, 1), tenant("young", "p", Presence::Unknown, 2)];
        assert_eq!((behind(&tenants, "old"), behind(&tenants, "young")), (Some("young".to_owned()), None));
    }

    proptest! {
        #[test]
        fn of_those_that_share_at_most_the_deployed_and_one_other_may_go_on(
            presences in proptest::collection::vec(0..3_u8, 2..6), times in proptest::collection::vec(0..3_i64, 6),
        ) {
            let of = |n: u8| [Presence::Deployed, Presence::New, Presence::Unknown][usize::from(n)];
            let tenants: Vec<Tenant> = presences.iter().enumerate()
                .map(|(n, p)| tenant(&format!("c{n}"), "p", of(*p), times[n])).collect();
            let found = collisions(&tenants);
            let free: Vec<&Tenant> = tenants.iter().filter(|t| found[&t.cluster].behind.is_none()).collect();
            let deployed = tenants.iter().filter(|t| t.presence == Presence::Deployed).count();
            prop_assert!(!free.is_empty());
            if deployed > 0 {
                prop_assert!(free.iter().all(|t| t.presence == Presence::Deployed));
            } else {
                prop_assert_eq!(free.len(), 1);
            }
        }
    }
}
