//! One question that any Medusa of a datacenter can answer: they are asked one after another, until one answers.
//!
//! What is asked lives in the value and moves only while the reconciler looks at it. Nothing here may write to the API
//! server, or decide what an answer means.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::client::{CallError, Medusa};
use crate::data_plane::frame::timings::Timings;

/// A question under way. `T` is what can be said.
pub struct AskAny<T> {
    attempts: u32,
    call: Option<BoxFuture<'static, Result<T, CallError>>>,
}

impl<T> Default for AskAny<T> {
    fn default() -> Self {
        Self { attempts: 0, call: None }
    }
}

impl<T: Send + 'static> AskAny<T> {
    /// How often somebody was asked to no avail.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The answer was of no use: next time the next one is asked.
    pub fn was_in_vain(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
    }

    /// Spends at most one pass's time on asking one of `medusas`, which are given in turn. Returns nothing while the answer
    /// is outstanding. After a failure the next one is asked next time.
    pub async fn pass(
        &mut self,
        timings: &Timings,
        medusas: &[Arc<Medusa>],
        ask: impl FnOnce(Arc<Medusa>) -> BoxFuture<'static, Result<T, CallError>>,
    ) -> Option<Result<T, CallError>> {
        let mut call = match self.call.take() {
            Some(call) => call,
            None => match self.turn(medusas) {
                Some(medusa) => ask(medusa),
                None => return Some(Err(CallError::Silent("no pod has an address".to_owned()))),
            },
        };
        let Ok(answer) = tokio::time::timeout(timings.pass, &mut call).await else {
            self.call = Some(call);
            return None;
        };
        if answer.is_err() {
            self.was_in_vain();
        }
        Some(answer)
    }

    fn turn(&self, medusas: &[Arc<Medusa>]) -> Option<Arc<Medusa>> {
        let index = usize::try_from(self.attempts).ok()?.checked_rem(medusas.len())?;
        medusas.get(index).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::metrics::gauge::Gauge;

    use super::*;

    fn medusas(count: u16) -> Vec<Arc<Medusa>> {
        let at = |port| ([127, 0, 0, 1], port).into();
        (1..=count)
            .map(|port| Arc::new(Medusa::new(at(port), None, Timings::default(), Gauge::default())))
            .collect()
    }

    #[tokio::test]
    async fn each_is_asked_in_turn_until_one_answers() {
        let (mut question, timings) = (AskAny::<u16>::default(), Timings::default());
        let (mut asked, both) = (Vec::new(), medusas(2));
        for fails in [true, true, true, false, false] {
            let answer = question.pass(&timings, &both, |medusa| {
                Box::pin(async move {
                    let port = medusa.address().port();
                    if fails { Err(CallError::Silent(port.to_string())) } else { Ok(port) }
                })
            });
            asked.push(answer.await.unwrap());
        }
        let silent = |port: &str| Err(CallError::Silent(port.to_owned()));
        assert_eq!(asked, [silent("1"), silent("2"), silent("1"), Ok(2), Ok(2)]);
        question.was_in_vain();
        assert_eq!(question.attempts(), 4);
        let nobody = question.pass(&timings, &[], |_| Box::pin(async { Ok(1) })).await;
        assert!(matches!(nobody, Some(Err(CallError::Silent(_)))));
    }

    #[tokio::test]
    async fn a_slow_answer_is_waited_for_over_passes_and_nobody_else_is_asked() {
        let mut question = AskAny::<u16>::default();
        let timings = Timings { pass: Duration::from_millis(1), ..Timings::default() };
        let (answers, answered) = tokio::sync::oneshot::channel();
        let slow = |_| -> BoxFuture<'static, Result<u16, CallError>> {
            Box::pin(async move { answered.await.map_err(|_| CallError::Silent("dropped".to_owned())) })
        };
        assert_eq!(question.pass(&timings, &medusas(2), slow).await, None);
        let never = |_| -> BoxFuture<'static, Result<u16, CallError>> { panic!("asked twice") };
        assert_eq!(question.pass(&timings, &medusas(2), never).await, None);
        answers.send(7).unwrap();
        assert_eq!(question.pass(&timings, &medusas(2), never).await, Some(Ok(7)));
        assert_eq!(question.attempts(), 0);
    }
}
