//! `register`: give the control plane an account in another cluster, and tell it.
//!
//! Everything that can be wrong is looked for before anything is written; every step may be repeated, and
//! doing it all again rotates the token. No message ever holds a token.

pub mod credential;
pub mod grant;
mod remains;
mod rotate;
pub mod source;
pub mod undo;
pub mod wait;

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    ByteString,
    api::core::v1::{Namespace, Secret},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ObjectMeta, Patch, PatchParams},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::{
    args::Register,
    failure::{Failure, Outcome, is_not_found},
    home::ControlPlaneClient,
    output::{Printer, Table},
    views,
};
use crate::{
    api::{
        fleet::{DataPlane, LOCAL},
        labels, names,
    },
    runtime::{
        client::{self, Timeouts},
        clock,
    },
};
use source::Source;

/// Key of the kubeconfig in the Secret (docs/dataplane.md).
const KEY: &str = "kubeconfig";
/// Most namespaces that a message names.
const NAMED: usize = 5;
/// How long a token shall work when nobody says.
const TOKEN_DURATION: Duration = Duration::from_hours(365 * 24);

/// Registers a cluster, or renews its credential.
///
/// # Errors
/// What failed, on which cluster, and the fix.
pub async fn run(printer: Printer, home: &ControlPlaneClient, args: &Register) -> Outcome {
    source::check_name(&args.name)?;
    let Some(file) = &args.from_kubeconfig else { return rotate::run(printer, home, args).await };
    let source = source::read(file, args.context.as_deref())?;
    let server = args.server.as_deref().unwrap_or(&source.server);
    source::check_server(server).map_err(|error| Failure::CouldNotAsk(format!("--server: {error}")))?;
    remark(printer, args, &source, server);
    let before = look_at_home(home, &args.name).await?;
    let there = connect(&source)?;
    refuse_home(home, &there, &source).await?;

    let objects = grant::objects(&args.data_plane_namespace)?;
    if args.dry_run {
        return plan(printer, home, args, &source, &there, &objects).await;
    }
    for object in &objects {
        grant::apply(&there, object, &source.server).await?;
    }
    printer.say(&format!(
        "service account `{}/{}` and its role are in `{}`",
        args.data_plane_namespace,
        grant::ACCOUNT,
        source.server
    ))?;
    let namespace = &args.data_plane_namespace;
    let wanted = args.token_duration.unwrap_or(TOKEN_DURATION);
    let token = credential::request(&there, namespace, wanted, &source.server).await?;
    printer.say(&credential::lifetime(&token, wanted, clock::now()))?;
    // With --server the address may mean something only where the control plane is: try the token here.
    let kubeconfig = credential::kubeconfig(&args.name, &source, server, &token)?;
    let tried = credential::kubeconfig(&args.name, &source, &source.server, &token)?;
    credential::verify(&tried, &source).await?;
    store(home, &args.name, &kubeconfig, wanted).await?;
    printer.say(&format!("secret/{} holds the kubeconfig {home}", args.name))?;

    if args.no_wait {
        if printer.format().is_for_programs() {
            let expires = token.expires_at.to_string();
            return printer.value(&json!({"name": args.name, "server": server, "tokenExpiresAt": expires}));
        }
        return Ok(());
    }
    let hash = names::sha256_hex(kubeconfig.expose_secret().as_bytes());
    let data_plane = wait::until_ready(printer, home, &args.name, &before, &hash, args.timeout).await?;
    printer.objects(std::slice::from_ref(&data_plane), |wide| {
        views::data_planes::table(std::slice::from_ref(&data_plane), wide, clock::now())
    })
}

/// What may surprise later, said now.
fn remark(printer: Printer, args: &Register, source: &Source, server: &str) {
    if source::is_loopback(server) {
        printer.note(&format!(
            "note: `{server}` is this machine's own address; a control plane that runs elsewhere needs --server"
        ));
    }
    if source.through_proxy {
        printer.note(&format!(
            "note: context `{}` uses `proxy-url`, which is not passed on: the control plane connects to `{server}` \
             directly",
            source.context
        ));
    }
    if source.authority.is_none() {
        printer.note(&format!(
            "note: context `{}` names no certificate authority; the control plane will trust the public ones",
            source.context
        ));
    }
    if args.server.is_some() {
        printer.note("note: whether the control plane reaches --server is seen once it tries");
    }
}

/// Makes sure that the control plane is one, and that the names we need there are free or ours.
async fn look_at_home(home: &ControlPlaneClient, name: &str) -> Outcome<wait::Before> {
    let data_plane = home.find::<DataPlane>(name).await?;
    let namespaces: Api<Namespace> = Api::all(home.client.clone());
    if namespaces.get_metadata(&home.namespace).await.is_err_and(|error| is_not_found(&error)) {
        return Err(Failure::CouldNotAsk(format!(
            "there is no namespace `{}` in `{}`; is this the control plane? Choose with --control-plane-context and \
             --namespace, or install it with deploy/",
            home.namespace, home.server
        )));
    }
    match home.api::<Secret>().get_metadata(name).await {
        Err(error) if is_not_found(&error) => {}
        Err(error) => return Err(Failure::reading(&format!("secret `{name}` {home}"), &error)),
        Ok(secret) if secret.labels().contains_key(labels::REGISTER) => {}
        Ok(_) => {
            return Err(Failure::Failed(format!(
                "there is a secret `{name}` {home} without the label `{}`; it is somebody else's and stays as it is: \
                 choose another name for the data plane, or label the secret",
                labels::REGISTER
            )));
        }
    }
    let Some(data_plane) = data_plane else { return Ok(wait::Before::Absent) };
    let reference = data_plane.spec.kubeconfig_secret_ref.as_ref();
    let secret = reference.map(|reference| reference.name.as_str());
    if secret != Some(name) || reference.is_some_and(|reference| reference.namespace.is_some()) {
        let from = secret.map_or_else(|| "its own cluster".to_owned(), |secret| format!("secret `{secret}`"));
        return Err(Failure::Failed(format!(
            "dataplane `{name}` exists {home} and is about {from}; choose another name, or unregister it first"
        )));
    }
    if !data_plane.spec.namespaces.is_empty() {
        return Err(Failure::Failed(format!(
            "dataplane `{name}` is worked with in {} only (spec.namespaces), and this would grant rights in all namespaces: \
             apply kubeconfigs/data-plane-rbac-namespaced.yaml there, and renew its token with `kubectl medusa register \
             {name} --rotate`; or take spec.namespaces out first",
            names::listed(&data_plane.spec.namespaces, NAMED)
        )));
    }
    Ok(wait::Before::of(&data_plane))
}

/// The control plane's own cluster is registered as `local`; under a second name it would be backed up twice,
/// and its controller's own account would be changed.
async fn refuse_home(home: &ControlPlaneClient, there: &Client, source: &Source) -> Outcome {
    let identity = async |client: &Client| {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.get_metadata("kube-system").await
    };
    let answer = identity(there).await.map_err(|error| {
        Failure::reading(&format!("namespace `kube-system` in `{}`", source.server), &error)
    })?;
    // Who may not look at the control plane's cluster is not kept from registering others.
    let Ok(own) = identity(&home.client).await else { return Ok(()) };
    if own.metadata.uid.is_some() && own.metadata.uid == answer.metadata.uid {
        return Err(Failure::CouldNotAsk(format!(
            "`{}` is the control plane's own cluster, which is registered as `{LOCAL}` by itself; give the kubeconfig \
             of another one, or choose its context with --context",
            source.server
        )));
    }
    Ok(())
}

/// A client with the person's own credentials.
fn connect(source: &Source) -> Outcome<Client> {
    client::connect(source.access.config(), Timeouts::HOME).map_err(|error| {
        Failure::CouldNotAsk(format!(
            "cannot use context `{}` for `{}`: {error}",
            source.context, source.server
        ))
    })
}

/// How the Secret says for how long the control plane asks when it renews the token.
fn written(duration: Duration) -> String {
    format!("{}s", duration.as_secs())
}

/// Writes the labelled Secret that registers the cluster.
async fn store(
    home: &ControlPlaneClient,
    name: &str,
    kubeconfig: &SecretString,
    duration: Duration,
) -> Outcome {
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(home.namespace.clone()),
            labels: Some(BTreeMap::from([(labels::REGISTER.to_owned(), "true".to_owned())])),
            annotations: Some(BTreeMap::from([(labels::TOKEN_DURATION.to_owned(), written(duration))])),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(
            KEY.to_owned(),
            ByteString(kubeconfig.expose_secret().as_bytes().to_vec()),
        )])),
        ..Secret::default()
    };
    // By force: a kubeconfig that was put there by hand gives way to the new one.
    let params = PatchParams::apply(labels::MANAGER_CLI).force();
    home.api::<Secret>()
        .patch(name, &params, &Patch::Apply(&secret))
        .await
        .map(drop)
        .map_err(|error| Failure::writing(&format!("write secret `{name}` {home}"), &error))
}

/// Says what would be written where.
async fn plan(
    printer: Printer,
    home: &ControlPlaneClient,
    args: &Register,
    source: &Source,
    there: &Client,
    objects: &[kube::api::DynamicObject],
) -> Outcome {
    let mut steps = Vec::new();
    for object in objects {
        let verb = if grant::exists(there, object, &source.server).await? { "update" } else { "create" };
        steps.push((source.server.clone(), grant::title(object), verb));
    }
    steps.push((source.server.clone(), format!("token of ServiceAccount `{}`", grant::ACCOUNT), "request"));
    let secret = home.api::<Secret>().get_metadata(&args.name).await;
    let verb = if secret.is_ok() { "update" } else { "create" };
    steps.push((home.server.clone(), format!("Secret `{}/{}`", home.namespace, args.name), verb));
    show(printer, steps)
}

/// Shows steps that are not taken: where, what, and how.
fn show(printer: Printer, steps: Vec<(String, String, &str)>) -> Outcome {
    if printer.format().is_for_programs() {
        let steps: Vec<_> =
            steps.iter().map(|(c, o, v)| json!({"cluster": c, "object": o, "action": v})).collect();
        return printer.value(&json!({"dryRun": true, "steps": steps}));
    }
    let mut table = Table::new(&["CLUSTER", "OBJECT", "WOULD"]);
    for (cluster, object, verb) in steps {
        table.row([cluster, object, verb.to_owned()]);
    }
    printer.text(&table.render(0))
}
