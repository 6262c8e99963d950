//! One question that any Medusa of a datacenter can answer: they are asked one after another, until one answers.
//!
//! What is asked lives in the value and moves only while the reconciler looks at it. Nothing here may write to the API
//! server, or decide what an answer means.

use futures::future::BoxFuture;

use super::client::CallError;
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
    pub async fn pass<M>(
        &mut self,
        timings: &Timings,
        medusas: &[M],
        ask: impl FnOnce(&M) -> BoxFuture<'static, Result<T, CallError>>,
    ) -> Option<Result<T, CallError>> {
        let under_way = self.call.take();
        let Some(mut call) = under_way.or_else(|| self.turn(medusas).map(ask)) else {
            self.was_in_vain();
            return Some(Err(CallError::Silent("no pod has an address".to_owned())));
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

    fn turn<'a, M>(&self, medusas: &'a [M]) -> Option<&'a M> {
        medusas.get(usize::try_from(self.attempts).ok()?.checked_rem(medusas.len())?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn each_is_asked_in_turn_until_one_answers() {
        let (mut question, timings) = (AskAny::<u16>::default(), Timings::default());
        let (mut asked, both) = (Vec::new(), [1, 2]);
        for fails in [true, true, true, false, false] {
            let answer = question.pass(&timings, &both, |medusa| {
                let medusa = *medusa;
                Box::pin(async move {
                    if fails { Err(CallError::Silent(medusa.to_string())) } else { Ok(medusa) }
                })
            });
            asked.push(answer.await.unwrap());
        }
        let silent = |port: &str| Err(CallError::Silent(port.to_owned()));
        assert_eq!(asked, [silent("1"), silent("2"), silent("1"), Ok(2), Ok(2)]);
        question.was_in_vain();
        assert_eq!(question.attempts(), 4);
        let nobody = question.pass(&timings, &[0_u16; 0], |_| Box::pin(async { Ok(1) })).await;
        assert!(matches!(nobody, Some(Err(CallError::Silent(_)))));
        assert_eq!(question.attempts(), 5, "the pause grows");
    }

    #[tokio::test]
    async fn a_slow_answer_is_waited_for_over_passes_and_nobody_else_is_asked() {
        let mut question = AskAny::<u16>::default();
        let timings = Timings { pass: Duration::from_millis(1), ..Timings::default() };
        let (answers, answered) = tokio::sync::oneshot::channel();
        let slow = |_: &u16| -> BoxFuture<'static, Result<u16, CallError>> {
            Box::pin(async move { answered.await.map_err(|_| CallError::Silent("dropped".to_owned())) })
        };
        assert_eq!(question.pass(&timings, &[1, 2], slow).await, None);
        let never = |_: &u16| -> BoxFuture<'static, Result<u16, CallError>> { panic!("asked twice") };
        assert_eq!(question.pass(&timings, &[1, 2], never).await, None);
        answers.send(7).unwrap();
        assert_eq!(question.pass(&timings, &[1, 2], never).await, Some(Ok(7)));
        assert_eq!(question.attempts(), 0);
    }
}
