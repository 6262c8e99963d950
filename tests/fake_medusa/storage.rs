//! What the peers of one bucket have written: which node's part of which backup was begun and finished.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use super::proto::{BackupNode, BackupSummary, PurgeBackupsResponse, StatusType};

/// Bytes and objects each node's part counts for.
const SIZE: i64 = 4_352;
const OBJECTS: i64 = 7;
/// Objects of each purged part that are kept because they are young.
const WITHIN_GRACE: i32 = 2;

/// A bucket. Clones share it.
#[derive(Clone, Default)]
pub struct Storage(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Every node's name and Cassandra datacenter.
    nodes: Vec<(String, String)>,
    /// Of nodes that are added later.
    datacenter: String,
    parts: BTreeMap<(String, String), Part>,
    /// Backups written by nodes nobody here plays.
    planted: BTreeMap<String, BackupSummary>,
    /// How many backups of a node a purge keeps.
    keep: Option<usize>,
    age: i64,
    written: u64,
}

#[derive(Clone, Copy)]
struct Part {
    begun: i64,
    finished: Option<i64>,
    /// Which part this is, counted over the bucket: seconds are too coarse to tell the older one.
    number: u64,
}

impl Storage {
    /// A bucket used by `nodes`, which are all of Cassandra datacenter `datacenter`.
    pub fn new(datacenter: &str, nodes: Vec<String>) -> Self {
        let storage = Self::default();
        datacenter.clone_into(&mut storage.0.lock().unwrap().datacenter);
        storage.share(datacenter, nodes);
        storage
    }

    /// Another datacenter writes under the same prefix.
    pub fn share(&self, datacenter: &str, nodes: Vec<String>) {
        let nodes = nodes.into_iter().map(|node| (node, datacenter.to_owned()));
        self.0.lock().unwrap().nodes.extend(nodes);
    }

    /// A backup that was written by somebody else, as Medusa describes it.
    pub fn plant(&self, summary: BackupSummary) {
        self.0.lock().unwrap().planted.insert(summary.backup_name.clone(), summary);
    }

    /// Everything under the prefix is gone, or the prefix is another.
    pub fn clear(&self) {
        let mut state = self.0.lock().unwrap();
        state.parts.clear();
        state.planted.clear();
    }

    /// Medusa's `max_backup_count`: a purge leaves that many backups of each node.
    pub fn keep(&self, count: usize) {
        self.0.lock().unwrap().keep = Some(count);
    }

    /// Claims to be that many seconds in the past.
    pub fn lag(&self, seconds: i64) {
        self.0.lock().unwrap().age = seconds;
    }

    /// Adds a node to the token map, as a scale-up does.
    pub fn add_node(&self, node: &str) {
        let mut state = self.0.lock().unwrap();
        let datacenter = state.datacenter.clone();
        state.nodes.push((node.to_owned(), datacenter));
    }

    /// Whether the node has begun its part.
    pub fn has(&self, node: &str, backup: &str) -> bool {
        self.0.lock().unwrap().parts.contains_key(&key(node, backup))
    }

    /// The node begins its part, unless it has.
    pub fn begin(&self, node: &str, backup: &str) {
        let mut state = self.0.lock().unwrap();
        let begun = now() - state.age;
        state.written += 1;
        let number = state.written;
        state.parts.entry(key(node, backup)).or_insert(Part { begun, finished: None, number });
    }

    /// The node finishes its part, unless it has.
    pub fn finish(&self, node: &str, backup: &str) {
        let mut state = self.0.lock().unwrap();
        let finished = now() - state.age;
        if let Some(part) = state.parts.get_mut(&key(node, backup)) {
            part.finished.get_or_insert(finished);
        }
    }

    /// Start and finish as BackupStatus prints them.
    pub fn times(&self, node: &str, backup: &str) -> Option<(String, String)> {
        let part = *self.0.lock().unwrap().parts.get(&key(node, backup))?;
        let print = |second: i64| format!("2026-01-01 00:00:{:02}", second % 60);
        Some((print(part.begun), part.finished.map(print).unwrap_or_default()))
    }

    /// One backup over all nodes of the datacenter that began it first: its token map is the backup's.
    pub fn summary(&self, backup: &str) -> Option<BackupSummary> {
        self.0.lock().unwrap().summary(backup)
    }

    /// All backups, as GetBackups lists them.
    pub fn summaries(&self) -> Vec<BackupSummary> {
        let state = self.0.lock().unwrap();
        let mut names: Vec<&String> = state.parts.keys().map(|(_, name)| name).collect();
        names.extend(state.planted.keys());
        names.sort();
        names.dedup();
        names.into_iter().filter_map(|name| state.summary(name)).collect()
    }

    /// Removes the node's oldest finished parts but for as many as are to be kept.
    pub fn purge(&self, node: &str) -> PurgeBackupsResponse {
        let mut state = self.0.lock().unwrap();
        let mut own: Vec<(u64, (String, String))> = state
            .parts
            .iter()
            .filter(|((of, _), part)| of == node && part.finished.is_some())
            .map(|(key, part)| (part.number, key.clone()))
            .collect();
        own.sort();
        own.truncate(own.len().saturating_sub(state.keep.unwrap_or(usize::MAX)));
        for (_, key) in &own {
            state.parts.remove(key);
        }
        let count = i32::try_from(own.len()).unwrap();
        PurgeBackupsResponse {
            nb_backups_purged: count,
            nb_objects_purged: count * i32::try_from(OBJECTS).unwrap(),
            total_purged_size: i64::from(count) * SIZE,
            total_objects_within_gc_grace: count * WITHIN_GRACE,
        }
    }
}

impl State {
    fn summary(&self, backup: &str) -> Option<BackupSummary> {
        if let Some(planted) = self.planted.get(backup) {
            return Some(planted.clone());
        }
        let part = |node: &str| self.parts.get(&key(node, backup)).copied();
        let first = self.nodes.iter().filter_map(|(node, dc)| Some((part(node)?.number, dc))).min()?;
        let nodes: Vec<&(String, String)> = self.nodes.iter().filter(|(_, dc)| dc == first.1).collect();
        let parts: Vec<Part> = nodes.iter().filter_map(|(node, _)| part(node)).collect();
        let begun = parts.iter().map(|p| p.begun).min()?;
        let finished: Vec<i64> = parts.iter().filter_map(|p| p.finished).collect();
        let whole = finished.len() == nodes.len();
        let count = i64::try_from(finished.len()).unwrap();
        Some(BackupSummary {
            backup_name: backup.to_owned(),
            start_time: begun,
            finish_time: if whole { finished.iter().copied().max().unwrap_or_default() } else { 0 },
            total_nodes: i32::try_from(nodes.len()).unwrap(),
            finished_nodes: i32::try_from(count).unwrap(),
            nodes: nodes
                .into_iter()
                .zip(0_i64..)
                .map(|((node, datacenter), token)| BackupNode {
                    host: node.clone(),
                    tokens: vec![token * 100],
                    datacenter: datacenter.clone(),
                    rack: "default".to_owned(),
                })
                .collect(),
            status: if whole { StatusType::Success } else { StatusType::InProgress }.into(),
            backup_type: "differential".to_owned(),
            total_size: SIZE * count,
            total_objects: OBJECTS * count,
        })
    }
}

fn key(node: &str, backup: &str) -> (String, String) {
    (node.to_owned(), backup.to_owned())
}

#[allow(clippy::disallowed_methods, reason = "the storage has a clock of its own")]
fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}
