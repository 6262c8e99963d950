//! Who watches the data planes, and what is said of those that another replica watches (ADR 33). It decides nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, watch};

pub use super::health::{Answer, Health};
use crate::runtime::sync::lock;

/// Who watches the data planes.
#[derive(Clone)]
pub enum Watchers {
    /// This process, all of them, and it decides.
    Alone,
    /// The replicas: each publishes what it sees, and this process decides.
    Replicas(Arc<Reports>),
    /// This process, those of its shards: it publishes what it sees, and another may decide.
    Share(Share),
}

impl Watchers {
    /// What is said of the data planes, where another replica reads it or has written it.
    pub(super) fn reports(&self) -> Option<&Reports> {
        match self {
            Self::Alone => None,
            Self::Replicas(reports) | Self::Share(Share { reports, .. }) => Some(reports),
        }
    }

    /// What this process watches, where it is not all.
    pub(super) fn share(&self) -> Option<&Share> {
        match self {
            Self::Alone | Self::Replicas(_) => None,
            Self::Share(share) => Some(share),
        }
    }
}

/// What one replica watches.
#[derive(Clone)]
pub struct Share {
    /// In how many shards the data planes are.
    pub shards: u32,
    /// The shards it holds, each with how often it had changed hands.
    pub held: watch::Receiver<Held>,
    /// What it sees of them.
    pub reports: Arc<Reports>,
}

/// Shards that are held, each with how often it had changed hands.
pub type Held = BTreeMap<u32, i32>;

impl Share {
    /// Whether the data plane of that name is in a shard that is held.
    #[must_use]
    pub fn holds(&self, data_plane: &str) -> bool {
        self.held.borrow().contains_key(&shard_of(data_plane, self.shards))
    }
}

/// The shard of a data plane: the one of so many that weighs most with its name. Where there is one more, it takes its part
/// of each, and no other moves.
#[must_use]
pub fn shard_of(data_plane: &str, shards: u32) -> u32 {
    let name = digest(data_plane);
    (0..shards).max_by_key(|shard| mixed(name, *shard)).unwrap_or_default()
}

/// What a shard weighs with a replica.
#[must_use]
pub fn weight(replica: &str, shard: u32) -> u64 {
    mixed(digest(replica), shard)
}

/// The beginning of a hash: the same in every replica and version of this program.
fn digest(name: &str) -> u64 {
    let hash = Sha256::digest(name);
    hash.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// Mixes both so that every bit of either changes half of the result's (the finalizer of splitmix64).
fn mixed(name: u64, shard: u32) -> u64 {
    let mut mixed = name ^ u64::from(shard).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What is said of reaching one data plane.
#[derive(Clone)]
pub struct PlaneReport {
    /// Name of the DataPlane.
    pub data_plane: String,
    /// A hash of the address, limits and namespaces by which it is to be reached.
    pub address_hash: String,
    /// What is known about reaching it.
    pub health: Arc<Mutex<Health>>,
}

/// What is said of every data plane that is connected, by the uid of its DataPlane.
#[derive(Default)]
pub struct Reports {
    of: Mutex<BTreeMap<String, PlaneReport>>,
    entered: Mutex<BTreeSet<String>>,
    news: Notify,
}

impl Reports {
    /// A data plane is connected, by another address than before.
    pub(super) fn enter(&self, uid: &str, data_plane: &str, address: &str, health: Arc<Mutex<Health>>) {
        let address_hash = format!("{:x}", Sha256::digest(address));
        let report = PlaneReport { data_plane: data_plane.to_owned(), address_hash, health };
        lock(&self.of).insert(uid.to_owned(), report);
        lock(&self.entered).insert(data_plane.to_owned());
        self.news.notify_one();
    }

    /// It is connected no longer.
    pub(super) fn leave(&self, uid: &str) {
        lock(&self.of).remove(uid);
    }

    /// What is said of the data plane of that uid, while it is connected.
    #[must_use]
    pub fn of(&self, uid: &str) -> Option<PlaneReport> {
        lock(&self.of).get(uid).cloned()
    }

    /// Waits until data planes were connected; returns their names.
    pub async fn entered(&self) -> BTreeSet<String> {
        loop {
            let news = std::mem::take(&mut *lock(&self.entered));
            if !news.is_empty() {
                return news;
            }
            self.news.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_shard_takes_its_part_of_each_and_no_data_plane_moves_between_the_others() {
        let names: Vec<String> = (0..3_000).map(|n| format!("dp-{n}")).collect();
        for shards in 1..8 {
            let moved: Vec<(u32, u32)> = names
                .iter()
                .map(|name| (shard_of(name, shards), shard_of(name, shards + 1)))
                .filter(|(before, after)| before != after)
                .collect();
            assert!(moved.iter().all(|(_, after)| *after == shards), "only into the new one");
            let fair = names.len() / (shards as usize + 1);
            assert!((fair * 4 / 5..=fair * 6 / 5).contains(&moved.len()), "{} of {fair}", moved.len());
        }
    }
}
