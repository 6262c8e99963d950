//! MedusaConfiguration: whether its storage secret is there, said in its conditions and taken back when it
//! no longer is.
//!
//! Nothing here may keep or show a secret's values.

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{Api, Resource as _, runtime::controller::Action};
use serde_json::json;

use crate::{
    api::{
        condition::ConditionVerdict,
        medusa::{CREDENTIALS_KEY, MedusaConfiguration, READY, Storage, StorageSecret, readiness},
        names::is_object_name,
        set_condition,
    },
    data_plane::frame::{
        context::{Context, Reconciler, Tools},
        objects,
    },
};

/// Nothing is remembered: the object's own conditions say what was found last.
pub struct Configuration;

impl Reconciler for Configuration {
    type Object = MedusaConfiguration;
    type Shared = ();

    const PART: &'static str = "MedusaConfiguration";
    const CONDITION: &'static str = "Ready";

    fn new(_: Timestamp) -> Self {
        Self
    }

    fn is_over(configuration: &MedusaConfiguration) -> bool {
        configuration.metadata.deletion_timestamp.is_some()
    }

    fn datacenter(_: &MedusaConfiguration) -> Option<&str> {
        None
    }

    /// Secrets are not watched, as that would mean to be allowed to read all of them: the one that is named
    /// is read again after a while.
    async fn pass(
        &mut self,
        ctx: &Context<Self>,
        configuration: &MedusaConfiguration,
    ) -> Result<Action, kube::Error> {
        let tools = &ctx.tools;
        let name = configuration.spec.storage_properties.as_ref().and_then(Storage::secret_name);
        let secret = match name {
            Some(name) => look(tools, objects::namespace(configuration), name).await?,
            None => StorageSecret::Absent,
        };
        let before = configuration.status.as_ref().map(|s| s.conditions.clone()).unwrap_or_default();
        let mut conditions = before.clone();
        let verdicts = readiness(&configuration.spec, objects::namespace(configuration), secret);
        for (type_, (status, reason, message)) in &verdicts {
            let (generation, now) = (configuration.metadata.generation, tools.clock.now());
            set_condition(&mut conditions, type_, *status, *reason, message, generation, now);
        }
        if conditions != before {
            let patch = json!({
                "metadata": {"resourceVersion": configuration.metadata.resource_version},
                "status": {"conditions": conditions},
            });
            objects::patch_status(&tools.client, configuration, &patch).await?;
            let [_, (_, ready)] = &verdicts;
            announce(tools, configuration, &before, ready);
        }
        Ok(if name.is_some() { Action::requeue(tools.timings.secret) } else { Action::await_change() })
    }

    fn meet(&mut self, _: Option<MedusaConfiguration>, _: Timestamp) {}
}

async fn look(tools: &Tools, namespace: &str, name: &str) -> Result<StorageSecret, kube::Error> {
    // What cannot be a Secret's name is told from the spec alone.
    if !is_object_name(name) {
        return Ok(StorageSecret::Absent);
    }
    match Api::<Secret>::namespaced(tools.client.clone(), namespace).get_opt(name).await {
        Ok(Some(secret)) => {
            let data = secret.data.unwrap_or_default();
            let has_credentials = data.get(CREDENTIALS_KEY).is_some_and(|value| !value.0.is_empty());
            Ok(StorageSecret::Present { has_credentials })
        }
        Ok(None) => Ok(StorageSecret::Absent),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(StorageSecret::Forbidden),
        Err(error) => Err(error),
    }
}

/// One Event when the configuration stops being usable, and one when it is usable again.
fn announce(
    tools: &Tools,
    configuration: &MedusaConfiguration,
    before: &[Condition],
    ready: &ConditionVerdict,
) {
    let was = before.iter().find(|c| c.type_ == READY);
    let (status, reason, message) = ready;
    let about = configuration.object_ref(&());
    if *status == Some(true) {
        if was.is_some_and(|was| was.status != "True") {
            tools.events.normal(about, *reason, "CheckConfiguration", message);
        }
    } else if was.is_none_or(|was| was.reason != reason.as_str()) {
        tools.events.warning(about, *reason, "CheckConfiguration", message);
    }
}
