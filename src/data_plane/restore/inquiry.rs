//! Medusa's own word on a backup, asked of one pod after another until one answers.
//!
//! Nothing here may write to the API server, or hold a worker for longer than a pass.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::preflight;
use crate::{
    api::Reason,
    data_plane::{
        frame::{context::Tools, problem::Problem},
        medusa::{
            client::{CallError, Medusa, proto::BackupSummary},
            pods::PodView,
            tls::ClientTls,
        },
    },
};

/// A question under way.
#[derive(Default)]
pub struct Inquiry {
    attempts: usize,
    call: Option<BoxFuture<'static, Result<BackupSummary, CallError>>>,
}

impl Inquiry {
    /// Spends at most one pass's time on asking. Returns nothing while the answer is outstanding; after a
    /// silence the next call asks the next pod.
    pub async fn pass(
        &mut self,
        tools: &Tools,
        backup: &str,
        pods: &[PodView],
        tls: Option<ClientTls>,
    ) -> Option<Result<BackupSummary, Problem>> {
        let mut call = match self.call.take() {
            Some(call) => call,
            None => match self.pick(pods) {
                Some(address) => {
                    let open = tools.metrics.medusa_connections.clone();
                    let medusa = Arc::new(Medusa::new(address, tls, tools.timings, open));
                    let name = backup.to_owned();
                    Box::pin(async move { medusa.summary(&name).await }) as BoxFuture<'static, _>
                }
                None => return Some(Err(nobody())),
            },
        };
        let Ok(answer) = tokio::time::timeout(tools.timings.pass, &mut call).await else {
            self.call = Some(call);
            return None;
        };
        Some(answer.map_err(|error| match error {
            CallError::Refused(why) => preflight::refused(backup, &why),
            CallError::Silent(why) => {
                self.attempts = self.attempts.wrapping_add(1);
                Problem::new(
                    Reason::NodeUnreachable,
                    format!("GetBackup: no Medusa has confirmed backup `{backup}` yet: {why}"),
                )
            }
        }))
    }

    fn pick(&self, pods: &[PodView]) -> Option<std::net::SocketAddr> {
        let all: Vec<_> = pods.iter().filter(|p| p.has_medusa).filter_map(|p| p.address).collect();
        all.get(self.attempts.checked_rem(all.len())?).copied()
    }
}

fn nobody() -> Problem {
    Problem::new(
        Reason::NodeUnreachable,
        "no pod of the datacenter has a Medusa with an address, so nobody can confirm the backup; start the \
         datacenter, or stop it (spec.stopped) to restore it by its MedusaBackup alone"
            .to_owned(),
    )
}
