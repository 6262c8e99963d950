//! Leader election. It only saves work: two leaders at once are harmless, because names are derived and
//! every write says what it expects.

use kube::Client;
use kube_lease_manager::{LeaseCreateMode, LeaseManagerBuilder};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Seconds after which a silent leader is replaced, and the part of it kept for renewing.
const DURATION: (u64, u64) = (15, 5);

/// Leadership held by this process.
pub struct Leadership(watch::Receiver<bool>);

impl Leadership {
    /// Waits until it is lost.
    pub async fn lost(&mut self) {
        // A closed channel means that nobody renews any more.
        let _ = self.0.wait_for(|leading| !leading).await;
    }
}

/// Waits until this process leads under Lease `name`; `None` when `shutdown` comes first.
///
/// # Errors
/// When the Lease cannot be created or read.
pub async fn lead(
    client: Client,
    namespace: &str,
    name: &str,
    manager: &str,
    shutdown: &CancellationToken,
) -> Result<Option<Leadership>, kube_lease_manager::LeaseManagerError> {
    let election = LeaseManagerBuilder::new(client, name)
        .with_namespace(namespace)
        .with_create_mode(LeaseCreateMode::AutoCreate)
        .with_duration(DURATION.0)
        .with_grace(DURATION.1)
        .with_field_manager(manager)
        .build()
        .await?;
    let (mut leading, _task) = election.watch().await;
    tracing::info!(lease = name, "waiting to lead");
    let won = tokio::select! {
        won = leading.wait_for(|leading| *leading) => won.is_ok(),
        () = shutdown.cancelled() => false,
    };
    if won {
        tracing::info!(lease = name, "leading");
    }
    Ok(won.then_some(Leadership(leading)))
}
