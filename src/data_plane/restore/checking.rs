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
        frame::{context::Context, objects, problem::Problem},
        medusa::{
            ask_any::AskAny,
            client::{CallError, proto::BackupSummary},
            inputs,
        },
    },
};

/// What the checks say.
pub enum Checked {
    /// Nothing is in the way; which pod gets whose data.
    Good(RestoreMapping),
    /// Something is.
    Bad(Problem),
    /// Medusa is being asked.
    Asking,
}

/// What is remembered of the checks between two passes.
#[derive(Default)]
pub struct Checks {
    question: AskAny<BackupSummary>,
}

impl Checks {
    /// Every check, in the order in which a person would want to hear of it. It is called again while Medusa is asked.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub async fn pass(
        &mut self,
        ctx: &Context<Restoration>,
        job: &MedusaRestoreJob,
        seen: &Seen,
    ) -> Result<Checked, kube::Error> {
        let (client, namespace) = (&ctx.tools.client, objects::namespace(job));
        let (Some(typed), Some(dc)) = (&seen.typed, &seen.view.datacenter) else {
            return Ok(Checked::Bad(inputs::unknown_datacenter(&job.spec.cassandra_datacenter, namespace)));
        };
        let template = view::pod_spec(&seen.raw);
        if let Err(problem) = preflight::can_restore(objects::name(typed), template) {
            return Ok(Checked::Bad(problem));
        }
        let elsewhere = observe::elsewhere(client, job).await?;
        if let Err(problem) = preflight::is_alone(job, &dc.claim, &elsewhere) {
            return Ok(Checked::Bad(problem));
        }
        let nodes = match observe::backup(client, job).await? {
            None => return Ok(Checked::Bad(preflight::unknown_backup(&job.spec.backup, namespace))),
            Some(backup) => match preflight::of_object(&backup, typed) {
                Ok(nodes) => nodes,
                Err(problem) => return Ok(Checked::Bad(problem)),
            },
        };
        let racks = names::racks(typed, nodes.len());
        if let Err(problem) =
            preflight::mapping(&nodes, &racks).and_then(|_| preflight::has_sets(&racks, &seen.view.sets))
        {
            return Ok(Checked::Bad(problem));
        }
        if let Some(secret) = template::credentials_secret(template) {
            let keys = observe::secret_keys(client, namespace, &secret).await?;
            if let Err(problem) = preflight::has_credentials(&secret, keys.as_ref()) {
                return Ok(Checked::Bad(problem));
            }
        }
        // A stopped datacenter has no Medusa to ask; should the backup be gone, its pods' records say so.
        let nodes = if dc.stopped {
            nodes
        } else {
            let tls = match inputs::tls(client, typed).await? {
                Ok(tls) => tls,
                Err(problem) => return Ok(Checked::Bad(problem)),
            };
            let (backup, addresses) = (&job.spec.backup, seen.addresses().collect::<Vec<_>>());
            let ask = |address: &SocketAddr| -> BoxFuture<'static, Result<BackupSummary, CallError>> {
                let (medusa, backup) = (ctx.shared.medusa(*address, tls.as_ref()), backup.clone());
                Box::pin(async move { medusa.summary(&backup).await })
            };
            let answer = match self.question.pass(&ctx.tools.timings, &addresses, ask).await {
                None => return Ok(Checked::Asking),
                Some(Err(_)) if addresses.is_empty() => return Ok(Checked::Bad(preflight::nobody_to_ask())),
                Some(answer) => answer.map_err(|error| preflight::unanswered(backup, error)),
            };
            match answer.and_then(|summary| preflight::of_summary(&summary, typed)) {
                Ok(nodes) => nodes,
                Err(problem) => return Ok(Checked::Bad(problem)),
            }
        };
        Ok(match preflight::mapping(&nodes, &racks) {
            Ok(mapping) => Checked::Good(mapping),
            Err(problem) => Checked::Bad(problem),
        })
    }
}
