//! A stand-in for Medusa's gRPC server, on loopback, that does as it is told.
//!
//! What it is true to: the protocol, the order in which a backup becomes visible (accepted, then written to
//! the storage, then finished), a memory that dies with the process and a storage that does not, and what a
//! second AsyncBackup of one name does. What it is not: there is no Cassandra, no file and no object store
//! behind it, and time passes as the script says.

#![allow(clippy::pedantic, clippy::unwrap_used, clippy::panic, reason = "test support")]

mod connection;
mod storage;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status,
    transport::{Server, ServerTlsConfig},
};

pub use storage::Storage;

/// The server's half of the interface, compiled for tests only.
#[allow(missing_docs, clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/server/_.rs"));
}

use proto::{
    medusa_server::{Medusa, MedusaServer},
    *,
};

/// What a peer does.
#[derive(Clone, Debug)]
pub struct Script {
    /// From AsyncBackup until BackupStatus knows the name.
    pub visible_after: Duration,
    /// From AsyncBackup until the backup is done.
    pub done_after: Duration,
    /// The backup ends in FAILED.
    pub fails: bool,
    /// AsyncBackup answers INTERNAL and starts nothing.
    pub refuses: bool,
    /// BackupStatus answers an empty message.
    pub answers_empty: bool,
    /// How long each BackupStatus takes.
    pub status_takes: Duration,
    /// How many BackupStatus calls never end.
    pub status_hangs: usize,
    /// How many AsyncBackup calls never end; the backup starts all the same.
    pub start_hangs: usize,
    /// How many GetBackup calls never end.
    pub summary_hangs: usize,
    /// How many GetBackup calls say INTERNAL.
    pub summary_fails: usize,
    /// How many GetBackup calls answer without a summary.
    pub summary_empty: usize,
    /// GetBackups.
    pub list: Call,
    /// PurgeBackups.
    pub purge: Call,
    /// PrepareRestore.
    pub prepare: Call,
}

/// How calls of one kind are answered, besides truthfully at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Call {
    /// How long each takes. What it does it does then, whether or not the caller has waited.
    pub takes: Duration,
    /// How many never end and do nothing.
    pub hangs: usize,
    /// How many then say INTERNAL and do nothing.
    pub fails: usize,
    /// How many then answer an empty message and do nothing.
    pub empty: usize,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            visible_after: Duration::ZERO,
            done_after: Duration::ZERO,
            fails: false,
            refuses: false,
            answers_empty: false,
            status_takes: Duration::ZERO,
            status_hangs: 0,
            start_hangs: 0,
            summary_hangs: 0,
            summary_fails: 0,
            summary_empty: 0,
            list: Call::default(),
            purge: Call::default(),
            prepare: Call::default(),
        }
    }
}

/// One peer: the Medusa of one pod.
pub struct Peer {
    /// Its pod's name.
    pub node: String,
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    tls: Option<ServerTlsConfig>,
    /// Keeps the port, so that no other test's peer is found there while this one is killed.
    _place: TcpSocket,
}

/// A port that nobody listens at, and nobody else gets.
fn place(address: SocketAddr) -> TcpSocket {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

struct Shared {
    node: String,
    storage: Storage,
    script: Mutex<Script>,
    /// When each running backup was accepted, in the process's memory.
    memory: Mutex<HashMap<String, Instant>>,
    /// Names that were asked for twice, which the real one answers with FAILED from then on.
    spoiled: Mutex<HashMap<String, ()>>,
    starts: AtomicUsize,
    statuses: AtomicUsize,
    /// How often each of the other calls arrived.
    called: Mutex<HashMap<&'static str, usize>>,
    /// The restores this node was prepared for.
    prepared: Mutex<Vec<PrepareRestoreRequest>>,
    open: Arc<AtomicI64>,
    /// Ends with the process.
    life: Mutex<CancellationToken>,
}

impl Peer {
    /// Starts a peer for `node` that writes into `storage`; `open` counts its connections.
    pub async fn start(node: &str, storage: Storage, script: Script, open: Arc<AtomicI64>) -> Self {
        Self::start_at("127.0.0.1", None, node, storage, script, open).await
    }

    /// The same on another loopback address, and with TLS.
    pub async fn start_at(
        ip: &str,
        tls: Option<ServerTlsConfig>,
        node: &str,
        storage: Storage,
        script: Script,
        open: Arc<AtomicI64>,
    ) -> Self {
        let place = place(SocketAddr::new(ip.parse().unwrap(), 0));
        let address = place.local_addr().unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let shared = Arc::new(Shared {
            node: node.to_owned(),
            storage,
            script: Mutex::new(script),
            memory: Mutex::default(),
            spoiled: Mutex::default(),
            starts: AtomicUsize::new(0),
            statuses: AtomicUsize::new(0),
            called: Mutex::default(),
            prepared: Mutex::default(),
            open,
            life: Mutex::default(),
        });
        let peer = Self { node: node.to_owned(), address, shared, tls, _place: place };
        peer.serve(listener);
        peer
    }

    fn serve(&self, listener: TcpListener) {
        let life = CancellationToken::new();
        *self.shared.life.lock().unwrap() = life.clone();
        let incoming = connection::incoming(listener, life.clone(), Arc::clone(&self.shared.open));
        let service = MedusaServer::new(Service(Arc::clone(&self.shared)));
        let mut server = Server::builder();
        if let Some(tls) = &self.tls {
            server = server.tls_config(tls.clone()).unwrap();
        }
        tokio::spawn(async move {
            let _ = server
                .add_service(service)
                .serve_with_incoming_shutdown(incoming, life.cancelled_owned())
                .await;
        });
    }

    /// Kills the process: connections break, its memory is gone, the port is closed.
    pub fn kill(&self) {
        self.shared.life.lock().unwrap().cancel();
        self.shared.memory.lock().unwrap().clear();
        self.shared.spoiled.lock().unwrap().clear();
    }

    /// Starts the process again on the same port.
    pub async fn revive(&self) {
        for _ in 0..100 {
            match TcpListener::bind(self.address).await {
                Ok(listener) => return self.serve(listener),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        panic!("the port of {} is taken", self.node);
    }

    /// Changes what it does from now on.
    pub fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.shared.script.lock().unwrap());
    }

    /// How often AsyncBackup arrived.
    pub fn starts(&self) -> usize {
        self.shared.starts.load(Ordering::SeqCst)
    }

    /// How often BackupStatus arrived.
    pub fn statuses(&self) -> usize {
        self.shared.statuses.load(Ordering::SeqCst)
    }

    /// How often GetBackup, GetBackups, PurgeBackups or PrepareRestore arrived.
    pub fn called(&self, rpc: &str) -> usize {
        self.shared.called.lock().unwrap().get(rpc).copied().unwrap_or_default()
    }

    /// Backup, datacenter and key of each restore this node was prepared for.
    pub fn prepared(&self) -> Vec<(String, String, String)> {
        let all = self.shared.prepared.lock().unwrap().clone();
        all.into_iter().map(|p| (p.backup_name, p.datacenter, p.restore_key)).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.life.lock().unwrap().cancel();
    }
}

struct Service(Arc<Shared>);

impl Service {
    fn script(&self) -> Script {
        self.0.script.lock().unwrap().clone()
    }

    /// Takes one off a counter of the script; true while there was one.
    fn spend(&self, counter: impl Fn(&mut Script) -> &mut usize) -> bool {
        let mut script = self.0.script.lock().unwrap();
        let left = counter(&mut script);
        let had = *left > 0;
        *left = left.saturating_sub(1);
        had
    }

    /// Plays one call: does `work` once its time has come, which outlives the caller but not the process.
    async fn play<T: Default + Send + 'static>(
        &self,
        rpc: &'static str,
        call: impl Fn(&mut Script) -> &mut Call,
        work: impl FnOnce(&Shared) -> Result<T, Status> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        *self.0.called.lock().unwrap().entry(rpc).or_default() += 1;
        if self.spend(|s| &mut call(s).hangs) {
            for_ever().await;
        }
        if self.spend(|s| &mut call(s).fails) {
            return Err(Status::internal(format!("Failed to do {rpc}: scripted")));
        }
        if self.spend(|s| &mut call(s).empty) {
            return Ok(Response::new(T::default()));
        }
        let takes = call(&mut self.0.script.lock().unwrap()).takes;
        let life = self.0.life.lock().unwrap().clone();
        let shared = Arc::clone(&self.0);
        let done = tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(takes) => work(&shared),
                () = life.cancelled() => Err(Status::unavailable("killed")),
            }
        });
        done.await.unwrap().map(Response::new)
    }

    /// Writes into the storage what a running backup has got to by now.
    fn advance(&self, name: &str) -> Option<bool> {
        let script = self.script();
        let accepted = *self.0.memory.lock().unwrap().get(name)?;
        let age = accepted.elapsed();
        if age >= script.visible_after {
            self.0.storage.begin(&self.0.node, name);
        }
        let done = age >= script.done_after.max(script.visible_after);
        if done && !script.fails {
            self.0.storage.finish(&self.0.node, name);
        }
        Some(done)
    }
}

async fn for_ever() {
    std::future::pending::<()>().await;
}

#[tonic::async_trait]
impl Medusa for Service {
    async fn async_backup(
        &self,
        request: Request<BackupRequest>,
    ) -> Result<Response<BackupResponse>, Status> {
        self.0.starts.fetch_add(1, Ordering::SeqCst);
        let name = request.into_inner().name;
        if self.script().refuses {
            return Err(Status::internal("Failed to create async backup: scripted"));
        }
        let known =
            self.0.memory.lock().unwrap().contains_key(&name) || self.0.storage.has(&self.0.node, &name);
        if known {
            self.0.spoiled.lock().unwrap().insert(name.clone(), ());
        } else {
            self.0.memory.lock().unwrap().insert(name.clone(), Instant::now());
        }
        if self.spend(|s| &mut s.start_hangs) {
            for_ever().await;
        }
        Ok(Response::new(BackupResponse { backup_name: name, status: StatusType::InProgress.into() }))
    }

    async fn backup_status(
        &self,
        request: Request<BackupStatusRequest>,
    ) -> Result<Response<BackupStatusResponse>, Status> {
        self.0.statuses.fetch_add(1, Ordering::SeqCst);
        let name = request.into_inner().backup_name;
        let script = self.script();
        if self.spend(|s| &mut s.status_hangs) {
            for_ever().await;
        }
        tokio::time::sleep(script.status_takes).await;
        if script.answers_empty {
            return Ok(Response::new(BackupStatusResponse::default()));
        }
        let done = self.advance(&name);
        let Some((start_time, finish_time)) = self.0.storage.times(&self.0.node, &name) else {
            return Err(Status::not_found(format!("backup <{name}> does not exist")));
        };
        let spoiled = self.0.spoiled.lock().unwrap().contains_key(&name);
        let status = match done {
            _ if spoiled => StatusType::Failed,
            Some(false) => StatusType::InProgress,
            Some(true) | None if finish_time.is_empty() => StatusType::Failed,
            Some(true) | None => StatusType::Success,
        };
        Ok(Response::new(BackupStatusResponse { start_time, finish_time, status: status.into() }))
    }

    async fn get_backup(
        &self,
        request: Request<GetBackupRequest>,
    ) -> Result<Response<GetBackupResponse>, Status> {
        *self.0.called.lock().unwrap().entry("GetBackup").or_default() += 1;
        if self.spend(|s| &mut s.summary_hangs) {
            for_ever().await;
        }
        let name = request.into_inner().backup_name;
        let unknown = || {
            Status::internal(format!("Failed to get backup due to error: 'The backup {name} does not exist'"))
        };
        if self.spend(|s| &mut s.summary_fails) {
            return Err(unknown());
        }
        if self.spend(|s| &mut s.summary_empty) {
            return Ok(Response::new(GetBackupResponse::default()));
        }
        let summary = self.0.storage.summary(&name).ok_or_else(unknown)?;
        let status = summary.status;
        Ok(Response::new(GetBackupResponse { backup: Some(summary), status }))
    }

    async fn backup(&self, _: Request<BackupRequest>) -> Result<Response<BackupResponse>, Status> {
        Err(Status::unimplemented("not faked"))
    }

    async fn delete_backup(
        &self,
        _: Request<DeleteBackupRequest>,
    ) -> Result<Response<DeleteBackupResponse>, Status> {
        Err(Status::unimplemented("not faked"))
    }

    async fn get_backups(
        &self,
        _: Request<GetBackupsRequest>,
    ) -> Result<Response<GetBackupsResponse>, Status> {
        self.play(
            "GetBackups",
            |s| &mut s.list,
            |shared| {
                let backups = shared.storage.summaries();
                let of = |status: StatusType| backups.iter().any(|b| b.status() == status);
                let overall = if backups.is_empty() {
                    StatusType::Unknown
                } else if of(StatusType::InProgress) {
                    StatusType::InProgress
                } else {
                    StatusType::Success
                };
                Ok(GetBackupsResponse { backups, overall_status: overall.into() })
            },
        )
        .await
    }

    async fn purge_backups(
        &self,
        _: Request<PurgeBackupsRequest>,
    ) -> Result<Response<PurgeBackupsResponse>, Status> {
        self.play("PurgeBackups", |s| &mut s.purge, |shared| Ok(shared.storage.purge(&shared.node))).await
    }

    async fn prepare_restore(
        &self,
        request: Request<PrepareRestoreRequest>,
    ) -> Result<Response<PrepareRestoreResponse>, Status> {
        let request = request.into_inner();
        self.play(
            "PrepareRestore",
            |s| &mut s.prepare,
            move |shared| {
                let name = &request.backup_name;
                if shared.storage.summary(name).is_none() {
                    let why = format!("Failed to prepare restore: 'The backup {name} does not exist'");
                    return Err(Status::internal(why));
                }
                shared.prepared.lock().unwrap().push(request);
                Ok(PrepareRestoreResponse {})
            },
        )
        .await
    }
}
