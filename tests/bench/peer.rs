//! Medusas that answer at once: what a data plane's controller costs by itself.
//!
//! What is real: the gRPC interface, one listener per pod on the pod's own address and Medusa's port,
//! and the order of answers: a backup is unknown until it was asked for and done from then on. What is
//! faked: everything behind it. There is no Cassandra, no file, no object store, and no node that takes
//! its time; one pod's Medusa sees the others' parts as if they shared a bucket.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use medusa_fleet::runtime::clock;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use crate::harness::Result;

/// The server's half of the interface.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
mod proto {
    include!(concat!(env!("OUT_DIR"), "/server/_.rs"));
}

use proto::{
    BackupNode, BackupRequest, BackupResponse, BackupStatusRequest, BackupStatusResponse, BackupSummary,
    DeleteBackupRequest, DeleteBackupResponse, GetBackupRequest, GetBackupResponse, GetBackupsRequest,
    GetBackupsResponse, PrepareRestoreRequest, PrepareRestoreResponse, PurgeBackupsRequest,
    PurgeBackupsResponse, StatusType,
    medusa_server::{Medusa, MedusaServer},
};

/// Medusa's port.
const PORT: u16 = 50051;
/// Bytes and objects of each node's part.
const PART: (i64, i64) = (4_352, 7);

/// Calls that arrived at all peers.
#[derive(Debug, Default)]
pub struct Calls {
    /// AsyncBackup.
    pub start: AtomicUsize,
    /// BackupStatus.
    pub status: AtomicUsize,
    /// GetBackup.
    pub summary: AtomicUsize,
}

/// The Medusas of one datacenter.
pub struct Peers {
    /// Where each listens, in order.
    pub addresses: Vec<Ipv4Addr>,
    /// What arrived.
    pub calls: Arc<Calls>,
    _servers: JoinSet<()>,
}

/// What the nodes of a datacenter have written: the nodes that have a part of each backup.
type Parts = Mutex<BTreeMap<String, (i64, BTreeSet<String>)>>;

struct Node {
    name: String,
    datacenter: String,
    all: Vec<String>,
    parts: Arc<Parts>,
    calls: Arc<Calls>,
}

impl Peers {
    /// Starts one peer for each of `nodes`, on loopback addresses that nobody else listens on.
    pub async fn start(datacenter: &str, nodes: &[String]) -> Result<Self> {
        let (parts, calls) = (Arc::new(Parts::default()), Arc::new(Calls::default()));
        let mut servers = JoinSet::new();
        let mut addresses = Vec::new();
        let [low, high, ..] = std::process::id().to_le_bytes();
        let mut free = (1..=250_u8).map(|last| Ipv4Addr::new(127, 64 | (high & 63), low, last));
        for name in nodes {
            let listener = loop {
                let address = free.next().ok_or("no loopback address is free for another Medusa")?;
                if let Ok(listener) = TcpListener::bind(SocketAddr::from((address, PORT))).await {
                    addresses.push(address);
                    break listener;
                }
            };
            let node = Node {
                name: name.clone(),
                datacenter: datacenter.to_owned(),
                all: nodes.to_vec(),
                parts: parts.clone(),
                calls: calls.clone(),
            };
            let server = Server::builder().add_service(MedusaServer::new(node));
            servers.spawn(
                async move { drop(server.serve_with_incoming(TcpListenerStream::new(listener)).await) },
            );
        }
        Ok(Self { addresses, calls, _servers: servers })
    }

    /// Connections to the peers that stand now, from the kernel's table.
    pub fn connections(&self) -> Result<usize> {
        let table = std::fs::read_to_string("/proc/net/tcp")?;
        let ours: BTreeSet<String> = self
            .addresses
            .iter()
            // The table has addresses as the machine's own integers, in hexadecimal.
            .map(|address| format!("{:08X}:{PORT:04X}", u32::from_ne_bytes(address.octets())))
            .collect();
        let established = table.lines().skip(1).filter(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, _, state) = (fields.next(), fields.next(), fields.next());
            state == Some("01") && local.is_some_and(|local| ours.contains(local))
        });
        Ok(established.count())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_faked<T>() -> std::result::Result<Response<T>, Status> {
    Err(Status::unimplemented("this stand-in only backs up"))
}

type Answer<T> = std::result::Result<Response<T>, Status>;

#[tonic::async_trait]
impl Medusa for Node {
    async fn async_backup(&self, request: Request<BackupRequest>) -> Answer<BackupResponse> {
        self.calls.start.fetch_add(1, Ordering::Relaxed);
        let backup_name = request.into_inner().name;
        let now = clock::now().as_second();
        let mut parts = lock(&self.parts);
        parts
            .entry(backup_name.clone())
            .or_insert_with(|| (now, BTreeSet::new()))
            .1
            .insert(self.name.clone());
        Ok(Response::new(BackupResponse { backup_name, status: StatusType::InProgress.into() }))
    }

    async fn backup_status(&self, request: Request<BackupStatusRequest>) -> Answer<BackupStatusResponse> {
        self.calls.status.fetch_add(1, Ordering::Relaxed);
        let name = request.into_inner().backup_name;
        if !lock(&self.parts).get(&name).is_some_and(|(_, nodes)| nodes.contains(&self.name)) {
            return Err(Status::not_found(format!("backup <{name}> does not exist")));
        }
        let time = clock::now().strftime("%Y-%m-%d %H:%M:%S").to_string();
        let status = StatusType::Success.into();
        Ok(Response::new(BackupStatusResponse { start_time: time.clone(), finish_time: time, status }))
    }

    async fn get_backup(&self, request: Request<GetBackupRequest>) -> Answer<GetBackupResponse> {
        self.calls.summary.fetch_add(1, Ordering::Relaxed);
        let backup_name = request.into_inner().backup_name;
        let parts = lock(&self.parts).get(&backup_name).cloned();
        let Some((begun, done)) = parts else {
            return Err(Status::internal(format!("The backup {backup_name} does not exist")));
        };
        let finished = i32::try_from(done.len()).unwrap_or(i32::MAX);
        let whole = done.len() == self.all.len();
        let status = if whole { StatusType::Success } else { StatusType::InProgress };
        let nodes = self.all.iter().map(|host| BackupNode {
            host: host.clone(),
            tokens: vec![0; 16],
            datacenter: self.datacenter.clone(),
            rack: "default".to_owned(),
        });
        let backup = BackupSummary {
            backup_name,
            start_time: begun,
            finish_time: if whole { clock::now().as_second() } else { 0 },
            total_nodes: i32::try_from(self.all.len()).unwrap_or(i32::MAX),
            finished_nodes: finished,
            nodes: nodes.collect(),
            status: status.into(),
            backup_type: "differential".to_owned(),
            total_size: PART.0 * i64::from(finished),
            total_objects: PART.1 * i64::from(finished),
        };
        Ok(Response::new(GetBackupResponse { backup: Some(backup), status: status.into() }))
    }

    async fn backup(&self, _: Request<BackupRequest>) -> Answer<BackupResponse> {
        not_faked()
    }

    async fn delete_backup(&self, _: Request<DeleteBackupRequest>) -> Answer<DeleteBackupResponse> {
        not_faked()
    }

    async fn get_backups(&self, _: Request<GetBackupsRequest>) -> Answer<GetBackupsResponse> {
        not_faked()
    }

    async fn purge_backups(&self, _: Request<PurgeBackupsRequest>) -> Answer<PurgeBackupsResponse> {
        not_faked()
    }

    async fn prepare_restore(&self, _: Request<PrepareRestoreRequest>) -> Answer<PrepareRestoreResponse> {
        not_faked()
    }
}
