//! Everything that is checked before a restore stops anything.
//!
//! Reads, and one question to a Medusa. Nothing here may write.

use std::net::SocketAddr;

use futures::future::BoxFuture;

use super::{
    Restoration, names,
    observe::{self, Seen},
    preflight, template, view,
};
use crate::{
    api::medusa::{MedusaRestoreJob, RestoreMapping},
    data_plane::{
        frame::{context::Context, objects, problem::Obstacle},
        medusa::{
            ask_any::AskAny,
            client::{CallError, proto::BackupSummary},
            inputs,
        },
    },
};

/// What is remembered of the checks between two passes.
#[derive(Default)]
pub struct Checks {
    question: AskAny<BackupSummary>,
}

impl Checks {
    /// Every check, in the order in which a person would want to hear of it. Returns which pod gets whose data; nothing while
    /// Medusa is being asked, and then it is to be called again.
    ///
    /// # Errors
    /// When the API server cannot be asked, or something is in the way.
    pub async fn pass(
        &mut self,
        ctx: &Context<Restoration>,
        job: &MedusaRestoreJob,
        seen: &Seen,
    ) -> Result<Option<RestoreMapping>, Obstacle> {
        let (client, namespace) = (&ctx.tools.client, objects::namespace(job));
        let (Some(typed), Some(dc)) = (&seen.typed, &seen.view.datacenter) else {
            return Err(inputs::unknown_datacenter(&job.spec.cassandra_datacenter, namespace).into());
        };
        let template = view::pod_spec(&seen.raw);
        preflight::can_restore(objects::name(typed), template)?;
        let elsewhere = observe::elsewhere(client, job).await?;
        preflight::is_alone(job, &dc.claim, &elsewhere)?;
        let backup = observe::backup(client, job).await?;
        let backup = backup.ok_or_else(|| preflight::unknown_backup(&job.spec.backup, namespace))?;
        let nodes = preflight::of_object(&backup, typed)?;
        let racks = names::racks(typed, nodes.len());
        let mapping = preflight::mapping(&nodes, &racks)?;
        preflight::has_sets(&racks, &seen.view.sets)?;
        if let Some(secret) = template::credentials_secret(template) {
            let keys = observe::secret_keys(client, namespace, &secret).await?;
            preflight::has_credentials(&secret, keys.as_ref())?;
        }
        // A stopped datacenter has no Medusa to ask; should the backup be gone, its pods' records say so.
        if dc.stopped {
            return Ok(Some(mapping));
        }
        let tls = inputs::tls(client, typed).await?;
        let (backup, addresses) = (&job.spec.backup, seen.addresses().collect::<Vec<_>>());
        let ask = |address: &SocketAddr| -> BoxFuture<'static, Result<BackupSummary, CallError>> {
            let (medusa, backup) = (ctx.shared.medusa(*address, tls.as_ref()), backup.clone());
            Box::pin(async move { medusa.summary(&backup).await })
        };
        let summary = match self.question.pass(&ctx.tools.timings, &addresses, ask).await {
            None => return Ok(None),
            Some(Err(_)) if addresses.is_empty() => return Err(preflight::nobody_to_ask().into()),
            Some(answer) => answer.map_err(|error| preflight::unanswered(backup, error))?,
        };
        let nodes = preflight::of_summary(&summary, typed)?;
        Ok(Some(preflight::mapping(&nodes, &racks)?))
    }
}
