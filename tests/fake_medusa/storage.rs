//! What the peers of one bucket have written: which node's part of which backup was begun and finished.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use super::proto::{BackupNode, BackupSummary, StatusType};

/// Bytes and objects each node's part counts for.
const SIZE: i64 = 4_352;
const OBJECTS: i64 = 7;

/// A bucket. Clones share it.
#[derive(Clone, Default)]
pub struct Storage(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    datacenter: String,
    nodes: Vec<String>,
    parts: BTreeMap<(String, String), Part>,
    age: i64,
}

#[derive(Clone, Copy)]
struct Part {
    begun: i64,
    finished: Option<i64>,
}

impl Storage {
    /// A bucket used by `nodes`, which are all of Cassandra datacenter `datacenter`.
    pub fn new(datacenter: &str, nodes: Vec<String>) -> Self {
        let state = State { datacenter: datacenter.to_owned(), nodes, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Claims to be that many seconds in the past.
    pub fn lag(&self, seconds: i64) {
        self.0.lock().unwrap().age = seconds;
    }

    /// Adds a node to the token map, as a scale-up does.
    pub fn add_node(&self, node: &str) {
        self.0.lock().unwrap().nodes.push(node.to_owned());
    }

    /// The token map is another cluster's from now on.
    pub fn replace_nodes(&self, nodes: &[&str]) {
        self.0.lock().unwrap().nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
    }

    /// Whether the node has begun its part.
    pub fn has(&self, node: &str, backup: &str) -> bool {
        self.0.lock().unwrap().parts.contains_key(&key(node, backup))
    }

    /// The node begins its part, unless it has.
    pub fn begin(&self, node: &str, backup: &str) {
        let mut state = self.0.lock().unwrap();
        let begun = now() - state.age;
        state.parts.entry(key(node, backup)).or_insert(Part { begun, finished: None });
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

    /// One backup over all nodes.
    pub fn summary(&self, backup: &str) -> Option<BackupSummary> {
        let state = self.0.lock().unwrap();
        let parts: Vec<Part> =
            state.nodes.iter().filter_map(|node| state.parts.get(&key(node, backup)).copied()).collect();
        let begun = parts.iter().map(|p| p.begun).min()?;
        let finished: Vec<i64> = parts.iter().filter_map(|p| p.finished).collect();
        let whole = finished.len() == state.nodes.len();
        let count = i64::try_from(finished.len()).unwrap();
        Some(BackupSummary {
            backup_name: backup.to_owned(),
            start_time: begun,
            finish_time: if whole { finished.iter().copied().max().unwrap_or_default() } else { 0 },
            total_nodes: i32::try_from(state.nodes.len()).unwrap(),
            finished_nodes: i32::try_from(count).unwrap(),
            nodes: state
                .nodes
                .iter()
                .zip(0_i64..)
                .map(|(node, token)| BackupNode {
                    host: node.clone(),
                    tokens: vec![token * 100],
                    datacenter: state.datacenter.clone(),
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
