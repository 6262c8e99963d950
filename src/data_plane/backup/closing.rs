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
            retry::{FailureKind, Retry},
            timings::{Timings, after, since},
        },
        medusa::{
            ask_any::AskAny,
            client::{CallError, Medusa, proto::BackupSummary},
        },
    },
};

/// Pause before looking again whether Medusa has answered.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Progress in getting a whole summary.
#[derive(Default)]
pub struct Closing {
    since: Option<Timestamp>,
    next: Option<Timestamp>,
    hung: u32,
    question: AskAny<BackupSummary>,
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
        let ask = |medusa: &Arc<Medusa>| -> BoxFuture<'static, Result<BackupSummary, CallError>> {
            let (medusa, name) = (Arc::clone(medusa), name.to_owned());
            Box::pin(async move { medusa.summary(&name).await })
        };
        let Some(answer) = self.question.pass(&tools.timings, medusas, ask).await else {
            return Closed::Later(LOOK_AGAIN);
        };
        let now = tools.clock.now();
        let (short, kind) = match answer {
            Ok(summary) => match judge(&summary, expected, &tools.timings, now) {
                Ok(status) => return Closed::Whole(Box::new(status)),
                Err(short) => {
                    self.question.was_in_vain();
                    (short, FailureKind::NotWhole)
                }
            },
            Err(CallError::Refused(why)) => (unread(&why), FailureKind::NotWhole),
            Err(CallError::Silent(why)) => {
                self.hung = self.hung.saturating_add(1);
                (unread(&why), FailureKind::Hung)
            }
        };
        if !short.may_heal || since(begun, now) >= Retry::of(kind, &tools.timings).budget {
            return Closed::Short(short.reason, short.message);
        }
        let pause = self.pause(&tools.timings, medusas.len());
        self.next = Some(after(now, pause));
        Closed::Later(pause)
    }

    /// The other nodes are tried at once, then all of them again more and more rarely; most rarely where
    /// calls were not answered, as those keep Medusa's threads busy.
    fn pause(&self, timings: &Timings, nodes: usize) -> Duration {
        let attempts = self.question.attempts();
        let rounds = attempts.checked_div(u32::try_from(nodes).unwrap_or(u32::MAX)).unwrap_or(0);
        let pause = Retry::of(FailureKind::NotWhole, timings).pause(attempts);
        if self.hung > 0 && rounds > 0 {
            pause.max(Retry::of(FailureKind::Hung, timings).pause(rounds))
        } else {
            pause
        }
    }
}

fn unread(why: &str) -> Shortfall {
    Shortfall {
        reason: Reason::BackupIncomplete,
        message: format!("every pod reported success, but Medusa's summary could not be read: {why}"),
        may_heal: true,
    }
}
