//! Writes into the fleet's table what a DataPlane's spec and the verdicts on it say. It asks nobody.

use std::sync::Arc;

use kube::ResourceExt as _;

use super::{controller::Registry, health::Twin};
use crate::{
    api::{
        Reason, Why,
        fleet::{DataPlane, limit},
        labels,
    },
    control_plane::data_planes::{fleet::Change, membership::MayJoin, view::Contact},
    runtime::sync::lock,
};

impl Registry {
    /// Writes into the fleet what the spec and the verdicts say.
    pub(super) fn settle(&self, plane: &DataPlane, refusal: Option<&Why>, twin: Option<&Twin>) {
        let (name, uid) = (plane.name_any(), plane.uid().unwrap_or_default());
        let blocked = match (refusal, twin.filter(|twin| !twin.is_allowed)) {
            (Some(refusal), _) => return self.block(plane, refusal),
            (None, Some(twin)) => {
                let message = format!(
                    "it is held for the same cluster as data plane `{}`: {}; see `spec.allowDuplicateClusterId`",
                    twin.name, twin.evidence
                );
                Some(Why::new(Reason::DuplicateCluster, message))
            }
            (None, None) if plane.spec.paused == Some(true) => {
                Some(Why::new(Reason::Paused, "its `spec.paused` is set"))
            }
            (None, None) => None,
        };
        let expires_at = lock(&self.credentials)
            .get(&uid)
            .and_then(|c| c.verdict.as_ref().ok())
            .and_then(|v| v.expires_at);
        let renewal_at = self.prospect(plane).due;
        let limits = plane.spec.limits.as_ref();
        let max_backups = limit(limits.and_then(|limits| limits.max_concurrent_backups));
        let within = self.namespaces_of(plane);
        let mut news = false;
        self.context.fleet.update(&name, &uid, |member| {
            member.credential_expires_at = expires_at;
            member.credential_renewal_at = renewal_at;
            let may_join =
                plane.annotations().get(labels::MAY_JOIN).map(|list| Arc::new(MayJoin::read(list)));
            news = member.blocked != blocked
                || member.labels != *plane.labels()
                || member.may_join != may_join
                || *member.within != within
                || member.max_concurrent_backups != max_backups;
            member.max_concurrent_backups = max_backups;
            member.within = Arc::new(within);
            member.blocked = blocked;
            member.labels.clone_from(plane.labels());
            member.may_join = may_join;
        });
        if news {
            self.context.fleet.announce(Change::contact(&name));
        }
    }

    /// Takes a data plane out of use for a refusal.
    pub(super) fn block(&self, plane: &DataPlane, refusal: &Why) {
        let (name, uid) = (plane.name_any(), plane.uid().unwrap_or_default());
        let blocked = Some(refusal.clone());
        let mut news = false;
        self.context.fleet.update(&name, &uid, |member| {
            news = member.blocked != blocked || member.labels != *plane.labels();
            member.blocked = blocked;
            member.labels.clone_from(plane.labels());
            member.remote = None;
            member.credential_expires_at = None;
            member.credential_renewal_at = None;
            member.view.update(|view| {
                if view.contact == Contact::Live {
                    let why = "its kubeconfig is not accepted".to_owned();
                    view.contact = Contact::Lost { since: self.context.fleet.now(), why };
                }
            });
        });
        if news {
            self.context.fleet.announce(Change::contact(&name));
        }
    }
}
