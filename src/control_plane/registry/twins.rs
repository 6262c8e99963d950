//! Who of several DataPlanes has a cluster, as the registry knows them now.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};

use super::{
    controller::Registry,
    health::Twin,
    kubeconfig::Vetted,
    link::Link,
    unique::{self, Claimant, End},
};
use crate::{
    api::{Reason, fleet::DataPlane, names},
    runtime::sync::lock,
};

impl Registry {
    /// The other DataPlane that says it is `plane`'s cluster: the one it gives way to, or one it is used beside because a
    /// person says so. Who is first is remembered, and those for whom it changes are looked at again.
    pub(super) fn twin(&self, plane: &DataPlane) -> Option<Twin> {
        let uid = plane.uid().unwrap_or_default();
        // Two that ask at once are not both first.
        let mut firsts = lock(&self.firsts);
        let own = Claimant::of(plane, self.health(&uid).cluster_id.as_ref(), None);
        let claimants = unique::with_own(self.claimants(plane, &firsts), own);
        let id = claimants.iter().find(|one| one.uid == uid)?.cluster_id.clone();
        if let Some(first) = unique::first(&claimants, &id) {
            let known = firsts.get(&first.uid).filter(|(known, _)| *known == id);
            let since =
                known.map(|(_, since)| *since).or(first.since).unwrap_or_else(|| self.context.fleet.now());
            firsts.insert(first.uid.clone(), (id.clone(), since));
        }
        drop(firsts);
        for other in claimants.iter().filter(|other| other.cluster_id == id && other.uid != uid) {
            let must_give_way = unique::twin_of(&claimants, &other.uid).is_some();
            // Whoever is blocked for another reason learns it when that is over.
            let member = self.context.fleet.member(&other.name);
            let blocked = member.and_then(|member| member.blocked).map(|why| why.reason);
            if (blocked == Some(Reason::DuplicateCluster) && !must_give_way)
                || (blocked.is_none() && must_give_way)
            {
                let _ = self.trigger.try_send(other.name.clone());
            }
        }
        let gives_way = unique::twin_of(&claimants, &uid);
        let other = gives_way.or_else(|| unique::beside(&claimants, &uid))?;
        let credentials = lock(&self.credentials);
        let end = |uid: &String| {
            let verdict = &credentials.get(uid)?.verdict;
            end(verdict.as_ref().ok()?)
        };
        Some(Twin {
            name: other.name.clone(),
            evidence: unique::evidence(end(&uid).as_ref(), end(&other.uid).as_ref()),
            is_allowed: gives_way.is_none(),
        })
    }

    /// Whether another DataPlane goes on with the cluster of one that is being deleted.
    pub(super) fn is_twin(&self, plane: &DataPlane) -> bool {
        let link = self.health(&plane.uid().unwrap_or_default());
        let Some(mine) = Claimant::of(plane, link.cluster_id.as_ref(), None) else { return false };
        let claimants = self.claimants(plane, &lock(&self.firsts));
        let is_other = |other: &&Claimant| other.uid != mine.uid && !other.is_allowed;
        !mine.is_allowed && claimants.iter().filter(is_other).any(|other| other.cluster_id == mine.cluster_id)
    }

    /// Those that say they are the cluster that `one` says it is, itself among them if it stays.
    fn claimants(&self, one: &DataPlane, firsts: &BTreeMap<String, (String, Timestamp)>) -> Vec<Claimant> {
        self.note_cluster(one);
        let Some(id) = self.cluster_id(one) else { return Vec::new() };
        let names: Vec<String> = lock(&self.same_cluster).names(&id).into_iter().map(str::to_owned).collect();
        let namespace = &self.context.namespace;
        let planes = names.iter().filter_map(|name| self.planes.get(&ObjectRef::new(name).within(namespace)));
        let claimants = planes.filter_map(|plane| {
            let plane = plane.0.as_ref().ok().filter(|plane| plane.metadata.deletion_timestamp.is_none())?;
            let uid = plane.metadata.uid.as_ref()?;
            let since = firsts.get(uid).map(|(id, since)| (id.as_str(), *since));
            Claimant::of(plane, self.health(uid).cluster_id.as_ref(), since)
        });
        claimants.collect()
    }

    /// Which cluster a DataPlane says that it is: now, or as it last said.
    fn cluster_id(&self, plane: &DataPlane) -> Option<String> {
        let said = lock(&self.links).get(plane.metadata.uid.as_ref()?).and_then(Link::cluster_id);
        said.or_else(|| plane.status.as_ref()?.cluster_id.clone())
    }

    /// Keeps in mind which cluster a DataPlane says that it is.
    pub(super) fn note_cluster(&self, plane: &DataPlane) {
        let id = self.cluster_id(plane);
        let (name, uid) = (plane.name_any(), plane.metadata.uid.as_deref().unwrap_or_default());
        // Under its lock, as one that goes is forgotten after it is out of the table.
        let mut index = lock(&self.same_cluster);
        if self.is_current(&plane.metadata) {
            index.note(uid, &name, id.as_deref());
        }
    }
}

/// By what a kubeconfig reaches its cluster.
fn end(vetted: &Vetted) -> Option<End> {
    let server = vetted.access.server();
    let port = server.port_u16().map_or_else(String::new, |port| format!(":{port}"));
    let authority = vetted.access.authority_data();
    Some(End {
        server: format!("{}{port}", server.host()?),
        authority: authority.map(|data| names::sha256_hex(data.as_bytes())),
    })
}
