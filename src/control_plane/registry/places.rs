//! Places for data planes that are asked for the first time: of a thousand that begin at once none would be answered in time.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::sync::{Semaphore, oneshot};

/// Waits for one of these places. It is let go when what is returned is dropped, or when it was held for `longest`: whoever
/// answers slowly, or half, costs the others no more.
pub(super) async fn take_place(
    places: &Arc<Semaphore>,
    longest: Duration,
) -> Option<oneshot::Sender<Infallible>> {
    let place = places.clone().acquire_owned().await.ok()?;
    let (held, let_go) = oneshot::channel();
    tokio::spawn(async move {
        let _ = tokio::time::timeout(longest, let_go).await;
        drop(place);
    });
    Some(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_answers_slowly_holds_a_place_at_the_start_for_a_bounded_time() {
        let places = Arc::new(Semaphore::new(1));
        let quick = take_place(&places, Duration::from_hours(1)).await;
        drop(quick);
        let slow = take_place(&places, Duration::from_millis(50)).await;
        let next =
            tokio::time::timeout(Duration::from_secs(30), take_place(&places, Duration::from_hours(1)));
        assert!(next.await.is_ok_and(|place| place.is_some()) && slow.is_some());
    }
}
