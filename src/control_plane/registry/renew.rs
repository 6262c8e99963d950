//! Renews the credential of a data plane where `renewal` says that it is time, each in a task of its own.
//!
//! The old token works until its end, whatever becomes of this, and a new one takes its place only once it was seen to work
//! and the Secret still is what it was made from. So nothing is lost by an end in between, or by two who do the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, ObjectReference, Secret, ServiceAccount};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    controller::Registry,
    credential::{self, secret_of},
    health::{Answer, Health},
    kubeconfig::{self, Vetted},
    renewal::{Renewable, Renewal, Tried, renewal_note, whole},
};
use crate::{
    api::{
        Reason,
        fleet::{DataPlane, ROLE},
        labels,
    },
    control_plane::data_planes::{
        remote::{CallError, Remote, in_time},
        view::ObjectKey,
    },
    runtime::{
        cause::Kind,
        clock::Clock,
        events::Events,
        fence::Fence,
        guard,
        kubeconfig::{
            account::{Account, token_request},
            own,
        },
        sync::lock,
    },
};

/// How often, and how long apart, a new token is tried: API servers learn of it one after the other.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// The renewals of all DataPlanes, by uid.
#[derive(Clone, Default)]
pub(super) struct Renewals(Arc<Mutex<BTreeMap<String, Renewing>>>);

/// The renewals of one; dropping it ends the one that is under way.
#[derive(Default)]
struct Renewing {
    tried: Option<Tried>,
    /// Why the last one failed, and the hash of the kubeconfig whose token stays.
    failure: Option<(String, String)>,
    under_way: Option<DropGuard>,
}

impl Renewals {
    /// Forgets a DataPlane that is gone.
    pub(super) fn forget(&self, uid: &str) {
        lock(&self.0).remove(uid);
    }

    fn failure(&self, uid: &str, hash: &str) -> Option<String> {
        let all = lock(&self.0);
        let (why, _) = all.get(uid)?.failure.as_ref().filter(|(_, of)| of == hash)?;
        Some(why.clone())
    }
}

/// What is known of a credential that may be renewed.
pub(super) struct Prospect {
    /// Why it is not, although somebody asked for that, and what to do.
    pub(super) failure: Option<String>,
    /// When it was renewed by us.
    pub(super) renewed_at: Option<Timestamp>,
    /// When it will be.
    pub(super) due: Option<Timestamp>,
}

impl Registry {
    /// What is to be said of the renewal of a DataPlane's credential.
    pub(super) fn prospect(&self, plane: &DataPlane) -> Prospect {
        let uid = plane.uid().unwrap_or_default();
        match self.renewal(plane) {
            Some((hash, Renewal::Ours(renewable), observed_at)) => Prospect {
                failure: self.renewals.failure(&uid, &hash),
                renewed_at: renewable.renewed_at.map(whole),
                due: Some(whole(renewable.due(&hash, observed_at))),
            },
            Some((_, Renewal::Impossible(why), _)) => {
                Prospect { failure: Some(why), renewed_at: None, due: None }
            }
            Some((_, Renewal::Unasked, _)) | None => Prospect { failure: None, renewed_at: None, due: None },
        }
    }

    /// The hash of a DataPlane's credential that was accepted, what is to become of it, and when it was first read.
    fn renewal(&self, plane: &DataPlane) -> Option<(String, Renewal, Timestamp)> {
        if plane.spec.local == Some(true) {
            return None;
        }
        let credentials = lock(&self.credentials);
        let known = credentials.get(&plane.uid().unwrap_or_default())?;
        let hash = &known.verdict.as_ref().ok()?.hash;
        let status = plane.status.as_ref().and_then(|status| status.credential.as_ref());
        let before = status.filter(|before| before.hash.as_ref() == Some(hash));
        let observed_at = before.and_then(|before| before.observed_at.as_ref()).map(|time| time.0);
        Some((hash.clone(), known.renewal.clone(), observed_at.unwrap_or(known.observed_at)))
    }

    /// Begins to renew the credential of a DataPlane when it is time; else says how long that is away, if it ever comes. It
    /// holds up nobody: a DataPlane is looked at again when its renewal has ended.
    pub(super) fn renew(&self, plane: &DataPlane, health: &Health) -> Option<Duration> {
        let (name, uid) = (plane.name_any(), plane.uid().unwrap_or_default());
        let (hash, Renewal::Ours(renewable), observed_at) = self.renewal(plane)? else { return None };
        let is_rejected = match &health.answer {
            Answer::Answered => false,
            // One API server of several may not know it yet, or any more: the others do.
            Answer::Lost(cause) if cause.kind == Kind::Credential => true,
            Answer::None | Answer::Lost(_) => return None,
        };
        let member = self.context.fleet.member(&name).filter(|member| member.uid == uid)?;
        let remote = member.remote?;
        let reference = plane.spec.kubeconfig_secret_ref.as_ref()?;
        let mut all = lock(&self.renewals.0);
        let renewing = all.entry(uid.clone()).or_default();
        if renewing.under_way.is_some() {
            return None;
        }
        let due = renewable.due(&hash, observed_at);
        let wait = renewable.wait(due, is_rejected, renewing.tried.as_ref(), self.context.fleet.now());
        if !wait.is_zero() {
            return Some(wait);
        }
        let vetted = lock(&self.credentials).get(&uid)?.verdict.as_ref().ok()?.clone();
        let errand = Errand {
            secret: secret_of(reference, &self.context.namespace),
            context: plane.spec.context.clone(),
            home: self.context.client.clone(),
            remote,
            fence: self.context.fence.clone(),
            allow: self.context.allow_unsafe.clone(),
            clock: self.context.fleet.clock(),
            vetted,
            renewable,
        };
        let teller = Teller {
            name,
            uid,
            about: plane.object_ref(&()),
            renewals: self.renewals.clone(),
            events: self.context.events.clone(),
            trigger: self.trigger.clone(),
        };
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = teller.tell_of(errand) => {}
            }
        });
        renewing.under_way = Some(cancel.drop_guard());
        None
    }
}

/// Tells what came of a renewal.
struct Teller {
    name: String,
    uid: String,
    about: ObjectReference,
    renewals: Renewals,
    events: Events,
    trigger: mpsc::Sender<String>,
}

impl Teller {
    async fn tell_of(self, errand: Errand) {
        let late = || Err(format!("it took longer than {} s", PATIENCE.as_secs()));
        let run = async { tokio::time::timeout(PATIENCE, errand.run()).await.unwrap_or_else(|_| late()) };
        let ended =
            guard::work("credential renewal", run).await.unwrap_or_else(|panic| Err(panic.to_string()));
        {
            let mut all = lock(&self.renewals.0);
            let Some(renewing) = all.get_mut(&self.uid) else { return };
            let before = renewing.tried.as_ref().map_or(0, |tried| tried.failures);
            let failures = if ended.is_err() { before.saturating_add(1) } else { 0 };
            let asked = errand.renewable.asked.clone();
            renewing.tried = Some(Tried { at: errand.clock.now(), failures, asked });
            renewing.failure = ended.as_ref().err().map(|why| (why.clone(), errand.vetted.hash.clone()));
            // Not dropped in here: that would end this task.
            drop(renewing.under_way.take().map(DropGuard::disarm));
        }
        match ended {
            Ok(Some(until)) => {
                tracing::info!(data_plane = self.name, %until, "credential renewed");
                let note = format!("the credential was renewed; it works until {until}");
                self.events.normal(self.about, Reason::Renewed, "Renew", note);
            }
            // Its Secret is looked at for what it is now.
            Ok(None) => {
                tracing::info!(data_plane = self.name, "its Secret changed while the credential was renewed");
            }
            Err(why) => {
                tracing::warn!(data_plane = self.name, why, "the credential could not be renewed");
                let note = format!("the credential could not be renewed: {why}");
                self.events.warning(self.about, Reason::RenewalFailed, "Renew", note);
            }
        }
        let _ = self.trigger.send(self.name).await;
    }
}

/// One renewal.
struct Errand {
    secret: ObjectKey,
    context: Option<String>,
    /// The control plane's own cluster, and the data plane.
    home: Client,
    remote: Arc<Remote>,
    fence: Fence,
    allow: BTreeSet<String>,
    clock: Clock,
    vetted: Vetted,
    renewable: Renewable,
}

impl Errand {
    /// Says until when the new token works; nothing when the Secret is another than the one that was to be renewed.
    async fn run(&self) -> Result<Option<Timestamp>, String> {
        let secrets = Api::<Secret>::namespaced(self.home.clone(), &self.secret.namespace);
        let doing = format!("read Secret `{}`", self.secret);
        let secret = in_time(secrets.get_opt(&self.secret.name)).await;
        let Some(secret) = secret.map_err(|error| refused(&doing, &error))? else { return Ok(None) };
        let data = secret.data.as_ref().into_iter().flatten();
        let held: Vec<_> =
            data.filter(|(_, text)| kubeconfig::short_hash(&text.0) == self.vetted.hash).collect();
        let Some((_, text)) = held.first() else { return Ok(None) };
        let (token, account) = self.request().await?;
        let Some(text) = self.vetted.access.with_token(&text.0, &token) else {
            return Err(
                "its token does not stand in the kubeconfig in one piece; write it on one line".to_owned()
            );
        };
        self.try_out(&text, &account).await?;
        let keys: Vec<&String> = held.iter().map(|(key, _)| *key).collect();
        Ok(self.put(&secret, &keys, &text, &account).await?.then_some(account.expires_at))
    }

    /// Another token of the same account, and what it says of itself.
    async fn request(&self) -> Result<(SecretString, Account), String> {
        let account = &self.renewable.account;
        let request = token_request(self.renewable.seconds);
        let answer = self.remote.call(|client| async move {
            let accounts = Api::<ServiceAccount>::namespaced(client, &account.namespace);
            accounts.create_token_request(&account.name, &PostParams::default(), &request).await
        });
        let answer = answer.await.map_err(|error| {
            if error.code() == Some(403) {
                return format!(
                    "its account may not create serviceaccounts/token `{}` in namespace `{}`; apply {ROLE} there, or \
                     register the cluster again with `kubectl medusa register NAME --from-kubeconfig FILE`",
                    account.name, account.namespace
                );
            }
            refused(
                &format!("ask for a token of ServiceAccount `{}/{}`", account.namespace, account.name),
                &error,
            )
        })?;
        let token = answer.status.map(|status| SecretString::from(status.token));
        let token = token.ok_or_else(|| "the API server answered without a token".to_owned())?;
        let is_same = |new: &Account| new.namespace == account.namespace && new.name == account.name;
        match Account::of(token.expose_secret()).filter(is_same) {
            Some(new) => Ok((token, new)),
            None => {
                Err("the API server answered with something else than a token of the same account".to_owned())
            }
        }
    }

    /// Uses the new credential, which has the token of `account`, once.
    async fn try_out(&self, text: &SecretString, account: &Account) -> Result<(), String> {
        let bytes = text.expose_secret().as_bytes();
        let vetted =
            kubeconfig::vet(bytes, self.context.as_deref(), &self.allow, self.clock.now(), own::content);
        let vetted = vetted.map_err(|why| format!("the new token cannot be used: {}", why.message))?;
        if vetted.access.account().as_ref() != Some(account) || vetted.address != self.vetted.address {
            return Err("the kubeconfig with the new token is not the same in all else".to_owned());
        }
        let client = credential::client(vetted, 0).await.map_err(|why| why.message)?;
        let namespaces: Api<Namespace> = Api::all(self.fence.guard(client));
        let mut last = String::new();
        for _ in 0..TRIES {
            match in_time(namespaces.get_metadata("kube-system")).await {
                Ok(_) => return Ok(()),
                Err(error) => match error.code() {
                    // The last ones may be said before anybody asks who it is.
                    Some(401 | 429 | 500..) | None => last = refused("use the new token", &error),
                    Some(_) => return Ok(()),
                },
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(last)
    }

    /// Puts the new kubeconfig into the Secret, under these keys; says whether that was still the same.
    async fn put(
        &self,
        seen: &Secret,
        keys: &[&String],
        text: &SecretString,
        account: &Account,
    ) -> Result<bool, String> {
        // Without them the patch would be for whatever has the name.
        let (Some(uid), Some(version)) = (seen.uid(), seen.resource_version()) else {
            return Err(format!("Secret `{}` was shown without uid or resourceVersion", self.secret));
        };
        let text = STANDARD.encode(text.expose_secret());
        let data: BTreeMap<&String, &String> = keys.iter().map(|key| (*key, &text)).collect();
        let patch = json!({
            "metadata": {
                "uid": uid,
                "resourceVersion": version,
                "annotations": {labels::RENEWED_AT: renewal_note(self.clock.now(), account), labels::ROTATE: null},
            },
            "data": data,
        });
        let secrets = Api::<Secret>::namespaced(self.home.clone(), &self.secret.namespace);
        let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE);
        // A key of a Secret that others have made. Its content does not come back.
        let written =
            in_time(secrets.patch_metadata(&self.secret.name, &params, &Patch::Merge(&patch))).await;
        match written {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(false),
            Err(error) => Err(refused(&format!("write Secret `{}`", self.secret), &error)),
        }
    }
}

/// Why a request failed. What an API server says to one about a token may repeat it.
fn refused(doing: &str, error: &CallError) -> String {
    match error.code() {
        Some(code) => format!("cannot {doing}: the API server answered {code}"),
        None => format!("cannot {doing}: {}", error.cause().words),
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;

    use super::*;
    use crate::{api::fleet::Limits, runtime::kubeconfig::fixtures};

    /// Answers every request with this code, and says nothing else.
    fn answering(code: u16) -> Client {
        let service = tower::service_fn(move |_: Request<Body>| async move {
            let reason = if code == 404 { "NotFound" } else { "Odd" };
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
                "message": "canary-of-the-answer",
            });
            Response::builder().status(code).body(Body::from(status.to_string().into_bytes()))
        });
        Client::new(service, "default")
    }

    fn errand(home: u16, there: u16) -> Errand {
        let account = "system:serviceaccount:medusa-fleet:medusa-fleet-control-plane";
        let token = fixtures::jwt(&json!({"sub": account, "iat": 100, "exp": 3700}));
        let text = fixtures::file("server: 'https://eu:6443'", &format!("token: {token}"));
        let vetted = kubeconfig::vet(text.as_bytes(), None, &BTreeSet::new(), fixtures::now(), |_| {
            Err(std::io::ErrorKind::Unsupported.into())
        })
        .unwrap();
        let account = vetted.access.account().unwrap();
        Errand {
            secret: ObjectKey::new("medusa-fleet", "eu"),
            context: None,
            home: answering(home),
            remote: Arc::new(Remote::new(answering(there), &Limits::default())),
            fence: Fence::open(),
            allow: BTreeSet::new(),
            clock: Clock::of(fixtures::now),
            vetted,
            renewable: Renewable { account, seconds: 3600, renewed_at: None, asked: None },
        }
    }

    #[tokio::test]
    async fn a_secret_that_is_another_by_now_stays_as_it_is() {
        let key = "kubeconfig".to_owned();
        let put = async |code, seen: &Secret| {
            let errand = errand(code, 200);
            errand.put(seen, &[&key], &"text".to_owned().into(), &errand.renewable.account).await
        };
        let seen: Secret =
            serde_json::from_value(json!({"metadata": {"uid": "u", "resourceVersion": "7"}})).unwrap();
        for code in [404, 409] {
            assert_eq!(put(code, &seen).await, Ok(false), "{code}");
        }
        assert_eq!(errand(404, 200).run().await, Ok(None));
        let refused = "cannot write Secret `medusa-fleet/eu`: the API server answered 422";
        assert_eq!(put(422, &seen).await, Err(refused.to_owned()));
        let nameless = put(409, &Secret::default()).await.unwrap_err();
        assert!(nameless.contains("without uid"), "{nameless}");
    }

    /// What a data plane answers stands in the control plane's Secret afterwards.
    #[tokio::test]
    async fn nothing_but_a_token_of_the_same_account_is_taken_from_a_data_plane() {
        let account = "system:serviceaccount:medusa-fleet:medusa-fleet-control-plane";
        let token = |subject: &str| fixtures::jwt(&json!({"sub": subject, "iat": 200, "exp": 3800}));
        let asked = async |token: String| {
            let service = tower::service_fn(move |_: Request<Body>| {
                let body = json!({
                    "metadata": {}, "spec": {"audiences": []},
                    "status": {"token": token, "expirationTimestamp": "2026-01-01T00:00:00Z"},
                });
                async move { Response::builder().body(Body::from(body.to_string().into_bytes())) }
            });
            let remote = Remote::new(Client::new(service, "default"), &Limits::default());
            Errand { remote: Arc::new(remote), ..errand(200, 200) }.request().await
        };
        assert_eq!(asked(token(account)).await.unwrap().1.expires_at.as_second(), 3800);
        let other = token("system:serviceaccount:kube-system:admin");
        for odd in [String::new(), other, token(account) + "\ncontexts: []", token(account) + "}, x: {"] {
            let why = asked(odd).await.map(drop).unwrap_err();
            assert!(why.contains("of the same account"), "{why}");
        }
    }

    #[tokio::test]
    async fn why_there_is_no_new_token_is_said_in_our_words() {
        let said = async |code| errand(200, code).request().await.map(drop).unwrap_err();
        let forbidden = said(403).await;
        for part in
            ["serviceaccounts/token `medusa-fleet-control-plane`", "`medusa-fleet`", "data-plane-rbac.yaml"]
        {
            assert!(forbidden.contains(part), "{forbidden}");
        }
        for code in [401, 404, 429, 500] {
            let why = said(code).await;
            assert!(why.contains(&code.to_string()) && !why.contains("canary"), "{why}");
        }
    }
}
