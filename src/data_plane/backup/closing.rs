//! The end of a run whose nodes all succeeded: Medusa's own summary, asked of one node after another until
//! it is whole or the time for that is over.
//!
//! Nothing here may write to the API server.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;

use super::summary::{Expected, Shortfall, judge};
use crate::{
    api::{Reason, medusa::MedusaBackupStatus},
    data_plane::{
        frame::{
            context::Tools,
            timings::{Timings, after, since},
        },
        medusa::client::{CallError, Medusa, proto::BackupSummary},
    },
    runtime::backoff,
};

/// Progress in getting a whole summary.
#[derive(Default)]
pub struct Closing {
    since: Option<Timestamp>,
    next: Option<Timestamp>,
    attempts: u32,
    hung: u32,
    call: Option<BoxFuture<'static, Result<BackupSummary, CallError>>>,
}

/// What came of a pass.
#[derive(Debug, PartialEq)]
pub enum Closed {
    /// The MedusaBackup's status.
    Whole(Box<MedusaBackupStatus>),
    /// There will be none.
    Short(Reason, String),
    /// Ask again after this long.
    Later(Duration),
}

impl Closing {
    /// Spends at most one pass's time on asking. `medusas` are the nodes to ask, in turn.
    pub async fn pass(
        &mut self,
        tools: &Tools,
        name: &str,
        medusas: &[Arc<Medusa>],
        expected: Expected<'_>,
    ) -> Closed {
        let now = tools.clock.now();
        let begun = *self.since.get_or_insert(now);
        if let Some(next) = self.next.filter(|next| *next > now) {
            return Closed::Later(since(now, next));
        }
        let mut call: BoxFuture<'static, _> = match self.call.take() {
            Some(call) => call,
            None => match pick(medusas, self.attempts) {
                Some(medusa) => {
                    let (medusa, name) = (Arc::clone(medusa), name.to_owned());
                    Box::pin(async move { medusa.summary(&name).await }) as BoxFuture<'static, _>
                }
                None => Box::pin(async { Err(CallError::Silent("no pod has an address".to_owned())) }),
            },
        };
        let Ok(answer) = tokio::time::timeout(tools.timings.pass, &mut call).await else {
            self.call = Some(call);
            return Closed::Later(Duration::from_millis(200));
        };
        let now = tools.clock.now();
        let (short, budget) = match answer {
            Ok(summary) => match judge(&summary, expected, &tools.timings, now) {
                Ok(status) => return Closed::Whole(Box::new(status)),
                Err(short) => (short, tools.timings.summary),
            },
            Err(CallError::Refused(why)) => (unread(&why), tools.timings.summary),
            Err(CallError::Silent(why)) => {
                self.hung = self.hung.saturating_add(1);
                (unread(&why), tools.timings.silence)
            }
        };
        if !short.may_heal || since(begun, now) >= budget {
            return Closed::Short(short.reason, short.message);
        }
        let pause = self.pause(&tools.timings, medusas.len());
        self.next = Some(after(now, pause));
        Closed::Later(pause)
    }

    /// The other nodes are tried at once, then all of them again more and more rarely; most rarely where
    /// calls were not answered, as those keep Medusa's threads busy.
    fn pause(&mut self, timings: &Timings, nodes: usize) -> Duration {
        self.attempts = self.attempts.saturating_add(1);
        let rounds = self.attempts.checked_div(u32::try_from(nodes).unwrap_or(u32::MAX)).unwrap_or(0);
        let pause = backoff::delay(self.attempts.min(16), timings.poll_first, timings.poll_max);
        if self.hung > 0 && rounds > 0 {
            pause.max(backoff::delay(rounds.min(8), timings.hung_first, timings.hung_max))
        } else {
            pause
        }
    }
}

fn pick(medusas: &[Arc<Medusa>], attempt: u32) -> Option<&Arc<Medusa>> {
    let index = usize::try_from(attempt).ok()?.checked_rem(medusas.len())?;
    medusas.get(index)
}

fn unread(why: &str) -> Shortfall {
    Shortfall {
        reason: Reason::BackupIncomplete,
        message: format!("every pod reported success, but Medusa's summary could not be read: {why}"),
        may_heal: true,
    }
}
