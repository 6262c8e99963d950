//! One Medusa, over gRPC: one connection, made on first use and closed when the value is dropped.
//!
//! Answers come back as [`Answer`]s: what they mean is decided elsewhere. Nothing here may wait without a
//! deadline, retry, or decide.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use prometheus_client::metrics::gauge::Gauge;
use tokio::{sync::OnceCell, time::timeout};
use tonic::{
    Code, Request, Status,
    transport::{Channel, ClientTlsConfig, Endpoint},
};

use super::{machine::Answer, timings::Timings, tls::ClientTls};
use crate::api::medusa::BackupType;

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
    BackupRequest, BackupStatusRequest, BackupSummary, GetBackupRequest, StatusType, backup_request::Mode,
    medusa_client::MedusaClient,
};

/// Largest answer accepted, as Medusa's own limit for sending (upstream §3.2).
const MAX_ANSWER: usize = 512 * 1024 * 1024;
/// Below Medusa's limit for what it takes to be too many pings, as no call lasts for three of them.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Longest part of a server's error text that is passed on.
const MAX_DETAIL: usize = 300;

/// Why a summary could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SummaryError {
    /// No connection, or no answer in time.
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
    connection: OnceCell<Connection>,
}

impl Medusa {
    /// A Medusa at `address`; nothing is dialled yet. `open` counts standing connections.
    #[must_use]
    pub fn new(address: SocketAddr, tls: Option<ClientTls>, timings: Timings, open: Gauge) -> Self {
        Self { address, tls, timings, open, connection: OnceCell::new() }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
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
        match timeout(self.timings.call, client.async_backup(request)).await {
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
    pub async fn summary(&self, name: &str) -> Result<BackupSummary, SummaryError> {
        let mut client = self.client().await.map_err(SummaryError::Silent)?;
        let deadline = self.timings.summary_call;
        let request = request(GetBackupRequest { backup_name: name.to_owned() }, deadline);
        match timeout(deadline, client.get_backup(request)).await {
            Err(_) => Err(SummaryError::Silent(format!("GetBackup was not answered within {deadline:?}"))),
            Ok(Ok(response)) => response
                .into_inner()
                .backup
                .ok_or_else(|| SummaryError::Refused("GetBackup answered without a summary".to_owned())),
            Ok(Err(status)) if is_lost(&status) => Err(SummaryError::Silent(describe(&status))),
            Ok(Err(status)) => Err(SummaryError::Refused(describe(&status))),
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
            .tcp_keepalive(Some(KEEP_ALIVE))
            .http2_keep_alive_interval(KEEP_ALIVE)
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

fn describe(status: &Status) -> String {
    let text: String = status.message().chars().take(MAX_DETAIL).collect();
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
}
