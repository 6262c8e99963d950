//! IO: the writes of runs into the data planes. They go on in the background, so that a data plane that hangs holds up
//! nothing but its own part.

use std::sync::Arc;

use kube::ResourceExt as _;
use tokio::task::JoinHandle;

use super::{
    Engine, Runs,
    adapter::{Adapter as _, Admitted},
    plan::{Action, Work},
};
use crate::{
    api::{Reason, Seen},
    control_plane::{
        data_planes::fleet::Usable,
        runs::{
            Fanned, RunContext,
            child::place,
            claims::Claim,
            in_flight::UnderWay,
            outcome::Outcome,
            write::{CreatedChild, delete, make, not_now, show},
        },
    },
};

/// What the writes of one pass share.
struct Shared<E: Engine> {
    engine: Arc<E>,
    context: RunContext,
    run: E::Run,
}

/// Begins writes. Each wakes the run when it is done; a claim is let go then.
pub(super) fn begin<E: Engine>(
    runs: &Runs<E>,
    run: &E::Run,
    actions: Vec<(Action, Option<Claim>)>,
) -> Vec<JoinHandle<()>> {
    if actions.is_empty() {
        return Vec::new();
    }
    let (engine, context) = (runs.engine.clone(), runs.frame.context.clone());
    let shared = Arc::new(Shared { engine, context, run: run.clone() });
    let name = run.name_any();
    let writes = actions.into_iter().map(|(action, claim)| {
        let what = UnderWay {
            data_plane: action.entry.data_plane.clone(),
            key: action.key.clone(),
            place: place(&action.entry),
            run_uid: run.uid().unwrap_or_default(),
            makes: action.work == Work::Start,
        };
        let shared = shared.clone();
        let write = async move {
            let outcome = shared.apply(&action).await;
            drop(claim);
            outcome
        };
        (what, write)
    });
    runs.in_flight.begin(writes, || {
        let (waker, name) = (runs.frame.waker.clone(), name.clone());
        async move { waker.wake(&name).await }
    })
}

impl<E: Engine> Shared<E> {
    /// Does one thing. What was made is put into the views at once.
    async fn apply(&self, action: &Action) -> Outcome {
        let (fleet, run, entry) = (&self.context.fleet, &self.run, &action.entry);
        let unusable = |why: &str| {
            let message = format!("data plane `{}` {why}", entry.data_plane);
            Outcome::NotNow(Reason::DataPlaneNotReady, message)
        };
        let Some(member) = fleet.member(&entry.data_plane) else { return unusable("is not registered") };
        let view = member.view.get();
        if fleet.usable(&member, &view) != Usable::Ready {
            return unusable("is not ready");
        }
        let Some(remote) = &member.remote else { return unusable("cannot be asked") };
        let admission = match &action.work {
            Work::Withdraw(object) => {
                let deleted = delete::<<E::Run as Fanned>::Child>(remote, object).await;
                return deleted.map_or_else(
                    |error| {
                        let (reason, message) = not_now(&error);
                        Outcome::NotNow(reason, message)
                    },
                    |()| Outcome::Withdrawn,
                );
            }
            Work::FollowUp => Ok(Admitted::default()),
            Work::Start => self.engine.admit(run, action, remote).await,
        };
        let admitted = match admission {
            Ok(admitted) => admitted,
            Err(outcome) => return outcome,
        };
        if run.run().is_dry_run() {
            return Outcome::Would(admitted.keeps);
        }
        let datacenter = match view.seen(&view.datacenters, &place(entry)) {
            Seen::Known(datacenter) => datacenter,
            Seen::Absent => {
                let message = format!("CassandraDatacenter {} does not exist any more", place(entry));
                return Outcome::Refused(Reason::DatacenterNotFound, message);
            }
            Seen::Unknown { why, .. } => return Outcome::NotNow(Reason::WatchesStale, why),
        };
        let key = action.key.clone();
        let wanted = run.child(key, &action.work, datacenter, &admitted, &self.context.control_plane);
        match make(remote, &wanted).await {
            CreatedChild::Ours(made) => {
                // The other kind of work sees the child before the claim is let go.
                show(fleet, &entry.data_plane, *made);
                drop(admitted.claim);
                Outcome::There(admitted.keeps)
            }
            CreatedChild::Foreign => Outcome::Conflict,
            CreatedChild::NotNow(reason, message) => Outcome::NotNow(reason, message),
        }
    }
}
