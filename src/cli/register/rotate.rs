//! `register --rotate` without a kubeconfig: the control plane is asked for another token, which it makes by itself. No token
//! passes through here.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{look_at_home, show, wait, written};
use crate::{
    api::labels,
    cli::{
        args::Register,
        failure::{Failure, Outcome},
        home::ControlPlaneClient,
        output::Printer,
        views,
    },
    runtime::clock,
};

/// Asks for another token, and waits until it is in use.
///
/// # Errors
/// When the control plane does not renew it by itself, or has not in time.
pub(super) async fn run(printer: Printer, home: &ControlPlaneClient, args: &Register) -> Outcome {
    let name = args.name.as_str();
    if args.context.is_some() || args.server.is_some() {
        return Err(Failure::CouldNotAsk(
            "--context and --server are about the cluster of --from-kubeconfig; give that too, or choose the control plane \
             with --control-plane-context"
                .to_owned(),
        ));
    }
    let before = look_at_home(home, name).await?;
    let secrets = home.api::<Secret>();
    let secret = secrets.get_metadata_opt(name).await;
    let secret = secret.map_err(|error| Failure::reading(&format!("secret `{name}` {home}"), &error))?;
    let Some(secret) = secret.filter(|_| before != wait::Before::Absent) else {
        return Err(Failure::Failed(format!(
            "`{name}` is not registered {home}; register it with --from-kubeconfig FILE"
        )));
    };
    if args.token_duration.is_none() && !secret.annotations().contains_key(labels::TOKEN_DURATION) {
        return Err(Failure::Failed(format!(
            "the control plane does not renew the token in secret `{name}` {home}, which has no annotation `{}`; give \
             --token-duration to have it do so, or --from-kubeconfig FILE",
            labels::TOKEN_DURATION
        )));
    }
    if args.dry_run {
        let object = format!("Secret `{}/{name}`", home.namespace);
        return show(printer, vec![(home.server.clone(), object, "annotate")]);
    }
    let asked = (labels::ROTATE, clock::now().to_string());
    let duration = args.token_duration.map(|duration| (labels::TOKEN_DURATION, written(duration)));
    let annotations: BTreeMap<&str, String> = duration.into_iter().chain([asked]).collect();
    let patch = json!({"metadata": {"annotations": annotations}});
    // Not by server-side apply: that would drop the kubeconfig we own under the same manager.
    let asked = secrets.patch_metadata(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
    asked.map_err(|error| Failure::writing(&format!("annotate secret `{name}` {home}"), &error))?;
    printer.say(&format!("the control plane is asked for another token of `{name}` {home}"))?;
    if args.no_wait {
        return if printer.format().is_for_programs() {
            printer.value(&json!({"name": name}))
        } else {
            Ok(())
        };
    }
    // Any other kubeconfig than the one before is the new one.
    let data_plane = wait::until_ready(printer, home, name, &before, "", args.timeout).await?;
    printer.objects(std::slice::from_ref(&data_plane), |wide| {
        views::data_planes::table(std::slice::from_ref(&data_plane), wide, clock::now())
    })
}
