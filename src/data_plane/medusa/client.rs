//! One Medusa, over gRPC: one connection, made on first use and closed when the value is dropped.
//!
//! Answers come back as [`Answer`]s: what they mean is decided elsewhere. Nothing here may wait without a
//! deadline, retry, or decide.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use prometheus_client::metrics::gauge::Gauge;
use tokio::{sync::OnceCell, time::timeout};
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, ClientTlsConfig, Endpoint},
};

use super::tls::ClientTls;
use crate::{api::medusa::BackupType, data_plane::frame::timings::Timings, runtime::fence::Fence};

/// The interface as compiled from `proto/medusa.proto`.
pub mod proto {
    #![allow(
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        missing_docs,
        reason = "generated from proto/medusa.proto, where the documentation is"
    )]
    tonic::include_proto!("_");
}

use proto::{
    BackupRequest, BackupStatusRequest, BackupSummary, GetBackupRequest, GetBackupsRequest,
    GetBackupsResponse, PrepareRestoreRequest, PurgeBackupsRequest, PurgeBackupsResponse, StatusType,
    backup_request::Mode, medusa_client::MedusaClient,
};

/// Largest answer accepted, as Medusa's own limit for sending (upstream: Backups).
const MAX_ANSWER: usize = 512 * 1024 * 1024;
/// Idle time after which the kernel asks whether the other machine is still there.
const TCP_KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Between two such questions, of which three go unanswered before the connection is given up.
const TCP_KEEP_ALIVE_PAUSE: Duration = Duration::from_secs(10);
/// Between two HTTP/2 pings while a call is under way. A gRPC server takes more than two pings within five
/// minutes each for an attack and hangs up, which would end every long purge.
const PING: Duration = Duration::from_mins(6);
/// Longest part of a server's error text that is passed on.
const MAX_DETAIL: usize = 300;
/// What Medusa 0.29 answers to a listing that failed, whatever the reason (upstream: Backups).
const UNTOLD: &str = "GetBackupsResponse has no \"status\" field";

/// What became of a call about the backup of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// BackupStatus: going on.
    Running,
    /// BackupStatus: succeeded.
    Done,
    /// BackupStatus: failed; `complete` when it names a finish time, so when the storage holds a manifest.
    Failed {
        /// Whether the storage holds this node's manifest.
        complete: bool,
    },
    /// BackupStatus: no such backup, which is also what a backup that has not written yet looks like.
    Missing,
    /// BackupStatus: no connection.
    Unreachable(String),
    /// BackupStatus: no answer within the deadline.
    TimedOut,
    /// BackupStatus: an error, or an answer that says nothing.
    Error(String),
    /// AsyncBackup: accepted.
    Accepted,
    /// AsyncBackup: certainly not carried out.
    NotSent(String),
    /// AsyncBackup: the answer was lost; it may be carried out, even later.
    PerhapsSent(String),
}

/// Why a question was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// No connection, or no answer in time. What was asked for may still be carried out.
    Silent(String),
    /// Medusa answered that it cannot.
    Refused(String),
}

/// A Medusa at one address.
#[derive(Debug)]
pub struct Medusa {
    address: SocketAddr,
    tls: Option<ClientTls>,
    timings: Timings,
    open: Gauge,
    fence: Fence,
    connection: OnceCell<Connection>,
}

impl Medusa {
    /// A Medusa at `address`; nothing is dialled yet. `open` counts standing connections; what changes
    /// something is sent while `fence` lets it pass.
    #[must_use]
    pub fn new(
        address: SocketAddr,
        tls: Option<ClientTls>,
        timings: Timings,
        open: Gauge,
        fence: Fence,
    ) -> Self {
        Self { address, tls, timings, open, fence, connection: OnceCell::new() }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// With what it is spoken to.
    #[must_use]
    pub fn tls(&self) -> Option<&ClientTls> {
        self.tls.as_ref()
    }

    /// Asks how far this node's part of backup `name` is.
    pub async fn backup_status(&self, name: &str) -> Answer {
        let mut client = match self.client().await {
            Ok(client) => client,
            Err(why) => return Answer::Unreachable(why),
        };
        let request = request(BackupStatusRequest { backup_name: name.to_owned() }, self.timings.call);
        match timeout(self.timings.call, client.backup_status(request)).await {
            Err(_) => Answer::TimedOut,
            Ok(Ok(response)) => {
                let response = response.into_inner();
                read_status(response.status(), &response.start_time, &response.finish_time)
            }
            Ok(Err(status)) if status.code() == Code::NotFound => Answer::Missing,
            Ok(Err(status)) if status.code() == Code::DeadlineExceeded => Answer::TimedOut,
            Ok(Err(status)) if is_lost(&status) => Answer::Unreachable(describe(&status)),
            Ok(Err(status)) => Answer::Error(describe(&status)),
        }
    }

    /// Asks for a backup called `name` to be started.
    pub async fn start(&self, name: &str, kind: BackupType) -> Answer {
        let mut client = match self.client().await {
            Ok(client) => client,
            Err(why) => return Answer::NotSent(why),
        };
        let mode = match kind {
            BackupType::Full => Mode::Full,
            BackupType::Differential => Mode::Differential,
        };
        let request = request(BackupRequest { name: name.to_owned(), mode: mode.into() }, self.timings.call);
        match timeout(self.timings.call, self.write(client.async_backup(request))).await {
            Err(_) => Answer::PerhapsSent("AsyncBackup was not answered in time".to_owned()),
            Ok(Ok(_)) => Answer::Accepted,
            // The request may have arrived before the answer was lost.
            Ok(Err(status)) if is_lost(&status) || status.code() == Code::Unknown => {
                Answer::PerhapsSent(describe(&status))
            }
            Ok(Err(status)) => Answer::NotSent(describe(&status)),
        }
    }

    /// What the storage holds of backup `name`, over all nodes.
    ///
    /// # Errors
    /// When Medusa does not answer, or says that it cannot.
    pub async fn summary(&self, name: &str) -> Result<BackupSummary, CallError> {
        let message = GetBackupRequest { backup_name: name.to_owned() };
        let deadline = self.timings.summary_call;
        let answer = self.ask("GetBackup", message, deadline, async |mut c, r| c.get_backup(r).await).await?;
        answer.backup.ok_or_else(|| CallError::Refused("GetBackup answered without a summary".to_owned()))
    }

    /// Every backup under this Medusa's prefix, whatever its datacenter. Reads every manifest.
    ///
    /// # Errors
    /// When Medusa does not answer, or says that it cannot.
    pub async fn summaries(&self) -> Result<Vec<BackupSummary>, CallError> {
        let deadline = self.timings.list_call;
        let message = GetBackupsRequest {};
        let answer =
            self.ask("GetBackups", message, deadline, async |mut c, r| c.get_backups(r).await).await?;
        read_list(answer)
    }

    /// Applies this node's retention to its own backups and removes its orphaned files.
    ///
    /// # Errors
    /// When Medusa does not answer, or says that it cannot.
    pub async fn purge(&self) -> Result<PurgeBackupsResponse, CallError> {
        let deadline = self.timings.purge_call;
        let message = PurgeBackupsRequest {};
        let call = async |mut c: MedusaClient<Channel>, r| self.write(c.purge_backups(r)).await;
        self.ask("PurgeBackups", message, deadline, call).await
    }

    /// Writes this node's mapping for a restore of backup `name` into Cassandra's `datacenter` under `key`.
    ///
    /// # Errors
    /// When Medusa does not answer, or says that it cannot.
    pub async fn prepare_restore(&self, name: &str, datacenter: &str, key: &str) -> Result<(), CallError> {
        let message = PrepareRestoreRequest {
            backup_name: name.to_owned(),
            datacenter: datacenter.to_owned(),
            restore_key: key.to_owned(),
        };
        let deadline = self.timings.summary_call;
        let call = async |mut c: MedusaClient<Channel>, r| self.write(c.prepare_restore(r)).await;
        self.ask("PrepareRestore", message, deadline, call).await?;
        Ok(())
    }

    /// Makes a call that changes something, unless another process may lead: then it reads as unanswered.
    async fn write<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        self.fence.pass(call).await.unwrap_or_else(|down| Err(Status::unavailable(down.to_string())))
    }

    /// One call whose answer is all or nothing.
    async fn ask<Q, A>(
        &self,
        call: &str,
        message: Q,
        deadline: Duration,
        make: impl AsyncFnOnce(MedusaClient<Channel>, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, CallError> {
        let client = self.client().await.map_err(CallError::Silent)?;
        match timeout(deadline, make(client, request(message, deadline))).await {
            Err(_) => Err(CallError::Silent(format!("{call} was not answered within {deadline:?}"))),
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) if is_lost(&status) => Err(CallError::Silent(describe(&status))),
            Ok(Err(status)) => Err(CallError::Refused(describe(&status))),
        }
    }

    /// The connection, dialled when there is none yet. Once it stands, the channel redials by itself.
    async fn client(&self) -> Result<MedusaClient<Channel>, String> {
        let connection = self.connection.get_or_try_init(|| self.dial()).await?;
        Ok(connection.client.clone())
    }

    async fn dial(&self) -> Result<Connection, String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.address))
            .map_err(|error| chain(&error))?
            .connect_timeout(self.timings.connect)
            .tcp_keepalive(Some(TCP_KEEP_ALIVE))
            .tcp_keepalive_interval(Some(TCP_KEEP_ALIVE_PAUSE))
            .tcp_keepalive_retries(Some(3))
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(self.timings.call);
        if let Some(tls) = &self.tls {
            let config = ClientTlsConfig::new().identity(tls.identity.clone()).assume_http2(true);
            endpoint = endpoint
                .tls_config_with_verifier(config, Arc::clone(&tls.verifier) as Arc<_>)
                .map_err(|error| chain(&error))?;
        }
        let channel = timeout(self.timings.connect, endpoint.connect())
            .await
            .map_err(|_| format!("no connection to {} within {:?}", self.address, self.timings.connect))?
            .map_err(|error| format!("no connection to {}: {}", self.address, chain(&error)))?;
        self.open.inc();
        let client = MedusaClient::new(channel).max_decoding_message_size(MAX_ANSWER);
        Ok(Connection { client, open: self.open.clone() })
    }
}

/// `message` with its deadline, which the server is told too: it need not work for a caller that has gone.
fn request<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

/// Whether a status says only that the answer did not arrive. One with a cause was made on this side, from
/// a broken connection, whatever its code; the server's own have none.
fn is_lost(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
        || matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded)
}

#[derive(Debug)]
struct Connection {
    client: MedusaClient<Channel>,
    open: Gauge,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// A status as the machine knows it. A real Medusa always says when a backup it knows was started, so an
/// answer without that is an empty message, which would otherwise read as in progress for ever.
fn read_status(status: StatusType, start: &str, finish: &str) -> Answer {
    match status {
        StatusType::Success => Answer::Done,
        StatusType::Failed => Answer::Failed { complete: !finish.is_empty() },
        StatusType::InProgress if start.is_empty() => {
            Answer::Error("it answers without saying when the backup was started".to_owned())
        }
        StatusType::InProgress => Answer::Running,
        StatusType::Unknown => Answer::Error("it says that the backup's status is unknown".to_owned()),
    }
}

/// The backups of a listing. A real Medusa says UNKNOWN of a place that holds none, so an empty list that
/// says otherwise is an empty message, which proves nothing.
fn read_list(answer: GetBackupsResponse) -> Result<Vec<BackupSummary>, CallError> {
    if answer.backups.is_empty() && answer.overall_status() != StatusType::Unknown {
        return Err(CallError::Refused("GetBackups answered with an empty message".to_owned()));
    }
    if answer.backups.iter().any(|backup| backup.backup_name.is_empty()) {
        return Err(CallError::Refused("GetBackups listed a backup without a name".to_owned()));
    }
    Ok(answer.backups)
}

fn describe(status: &Status) -> String {
    let said = if status.message().contains(UNTOLD) {
        "the backups cannot be listed; this Medusa says why in its log only"
    } else {
        status.message()
    };
    let text: String = said.chars().take(MAX_DETAIL).collect();
    format!("gRPC {:?}: {text}", status.code())
}

/// An error with its causes; tonic's own text is only "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text.chars().take(MAX_DETAIL).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::runtime::fence::NotLeading;

    #[tokio::test]
    async fn what_changes_something_is_not_sent_while_the_fence_is_down_and_reads_as_unanswered() {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let open = Gauge::default();
        let mut medusa = Medusa::new(nowhere, None, Timings::default(), open.clone(), Fence::down());
        let mut is_sent = false;
        let call = async {
            is_sent = true;
            Ok(())
        };
        assert!(is_lost(&medusa.write(call).await.unwrap_err()));
        assert!(!is_sent);

        let client = MedusaClient::new(Endpoint::from_static("http://127.0.0.1:1").connect_lazy());
        medusa.connection = OnceCell::from(Connection { client, open });
        let unanswered = format!("gRPC Unavailable: {NotLeading}");
        assert_eq!(medusa.start("b", BackupType::Full).await, Answer::PerhapsSent(unanswered.clone()));
        assert_eq!(medusa.purge().await.unwrap_err(), CallError::Silent(unanswered.clone()));
        let prepared = medusa.prepare_restore("b", "dc1", "key").await;
        assert_eq!(prepared, Err(CallError::Silent(unanswered.clone())));
        assert_ne!(medusa.backup_status("b").await, Answer::Unreachable(unanswered), "a question is asked");
    }

    #[test]
    fn a_listing_that_fails_without_a_reason_is_told_with_where_the_reason_is() {
        let said = "Unexpected <class 'AttributeError'>: Protocol message GetBackupsResponse has no \"status\" field.";
        let told = "gRPC Internal: the backups cannot be listed; this Medusa says why in its log only";
        assert_eq!(describe(&Status::internal(said)), told);
        assert_eq!(describe(&Status::internal("no such bucket")), "gRPC Internal: no such bucket");
    }

    #[rstest]
    #[case(StatusType::InProgress, "2026-01-01 00:00:00", "", Answer::Running)]
    #[case(StatusType::Success, "2026-01-01 00:00:00", "2026-01-01 00:00:09", Answer::Done)]
    #[case(StatusType::Failed, "2026-01-01 00:00:00", "", Answer::Failed { complete: false })]
    #[case(StatusType::Failed, "2026-01-01 00:00:00", "2026-01-01 00:00:09", Answer::Failed { complete: true })]
    fn clear_answers_are_taken_as_they_are(
        #[case] status: StatusType,
        #[case] start: &str,
        #[case] finish: &str,
        #[case] expected: Answer,
    ) {
        assert_eq!(read_status(status, start, finish), expected);
    }

    #[rstest]
    #[case(StatusType::InProgress)]
    #[case(StatusType::Unknown)]
    fn an_empty_message_is_not_a_running_backup(#[case] status: StatusType) {
        assert!(matches!(read_status(status, "", ""), Answer::Error(_)));
    }

    #[test]
    fn an_empty_message_is_not_an_empty_storage() {
        assert!(read_list(GetBackupsResponse::default()).is_err());
        let none = GetBackupsResponse { backups: Vec::new(), overall_status: StatusType::Unknown.into() };
        assert_eq!(read_list(none), Ok(Vec::new()));
        let nameless = GetBackupsResponse { backups: vec![BackupSummary::default()], ..Default::default() };
        assert!(read_list(nameless).is_err());
    }

    /// A summary as large clusters have it: tokens are most of it, and long ones.
    fn large(nodes: i64) -> BackupSummary {
        let node = |n: i64| proto::BackupNode {
            host: format!("orders-dc1-r1-sts-{n}"),
            tokens: (0..256).map(|t| -(1 << 62) + n * 1_000_003 + t).collect(),
            datacenter: "dc1".to_owned(),
            rack: "r1".to_owned(),
        };
        BackupSummary {
            backup_name: "b".to_owned(),
            nodes: (0..nodes).map(node).collect(),
            ..BackupSummary::default()
        }
    }

    /// What is decoded of an answer is at most twice as large as the answer, and both are there while it is read.
    #[test]
    fn the_shipped_memory_limit_holds_the_largest_answer_and_what_is_decoded_of_it() {
        use prost::Message as _;

        let wire = GetBackupsResponse { backups: vec![large(600)], overall_status: 1 }.encode_to_vec();
        let read = GetBackupsResponse::decode(wire.as_slice()).unwrap();
        let nodes = &read.backups[0].nodes;
        let each = |node: &proto::BackupNode| {
            node.tokens.capacity() * 8
                + node.host.capacity()
                + node.datacenter.capacity()
                + node.rack.capacity()
        };
        let decoded =
            nodes.iter().map(each).sum::<usize>() + nodes.capacity() * size_of::<proto::BackupNode>();
        assert!(decoded <= 2 * wire.len(), "{decoded} of {}", wire.len());
        let deployed = include_str!("../../../deploy/data-plane.yaml");
        let limit = deployed.split("limits:").nth(1).unwrap().split("memory: ").nth(1).unwrap();
        let limit = limit.split_whitespace().next().unwrap().strip_suffix("Gi").unwrap();
        let limit = limit.parse::<usize>().unwrap() * 1024 * 1024 * 1024;
        assert!(limit >= 3 * MAX_ANSWER + MAX_ANSWER / 2, "{limit}");
    }
}
