//! Which connections a process has, as Linux tells: who holds one that is left over.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use crate::harness::Result;

/// How many connections of a process lead to each port of 127.0.0.1, in whatever state they are.
pub fn by_port(pid: u32) -> Result<BTreeMap<u16, i64>> {
    let files = fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
    let inodes: BTreeSet<String> = files
        .filter_map(|file| {
            let target = fs::read_link(file.path()).ok()?.to_string_lossy().into_owned();
            Some(target.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(format!("/proc/{pid}/net/tcp"))?.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(remote), Some(inode)) = (fields.get(2), fields.get(9)) else { continue };
        let port = remote.split_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        if let Some(port) = port.filter(|_| inodes.contains(*inode)) {
            *counts.entry(port).or_insert(0) += 1;
        }
    }
    Ok(counts)
}
