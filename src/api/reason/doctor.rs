//! Reasons that only `kubectl medusa doctor` says: what no controller can say of itself.

macro_rules! reasons_of_doctor {
    ($next:ident $($rest:ident)*; $($before:tt)*) => {
        $next! {
            $($rest)*; $($before)*

            /// There is no DataPlane at all, not even the control plane's own: no control plane has ever run here.
            ///
            /// See that the control plane runs: `kubectl -n medusa-fleet get pods -l
            /// app.kubernetes.io/component=control-plane`. The runbook's section NobodyLeads goes on from there.
            NeverRan,
            /// No control plane holds the Lease, or the one that did is silent.
            ///
            /// See that the control plane runs: `kubectl -n medusa-fleet get pods -l
            /// app.kubernetes.io/component=control-plane`. The runbook's section NobodyLeads goes on from there.
            NotLed,
            /// DataPlanes say that they are ready, and nothing was reported of them for long.
            ///
            /// See that the control plane runs: `kubectl -n medusa-fleet get pods -l
            /// app.kubernetes.io/component=control-plane`. The runbook's section NobodyLeads goes on from there.
            Stale,
            /// No control plane has looked at the object within two minutes of its creation.
            ///
            /// See that the control plane runs: `kubectl -n medusa-fleet get pods -l
            /// app.kubernetes.io/component=control-plane`. The runbook's section NobodyLeads goes on from there.
            Unseen,
            /// The definition that is installed lacks fields that this version needs; the API server drops them.
            ///
            /// Install those of this version. Where Helm brought the definition, upgrade that release: `doctor` names it.
            /// Elsewhere: `medusa-fleet crds --group fleet.k8ssandra.io | kubectl apply --server-side -f -`.
            DefinitionOutdated,
            /// The control plane, a data plane's controller and this program are not of one version. The first two are made
            /// to work together when no other version came between theirs, whichever of them is newer.
            ///
            /// Upgrade the older one: the control plane first, then the data planes, then `kubectl medusa`.
            VersionSkew,
            /// Nothing has moved in the run for six hours.
            ///
            /// `kubectl medusa describe` says what its datacenters wait for; `kubectl medusa cancel` starts nothing
            /// more of it.
            Stuck,
            /// A kind could not be listed this time.
            ///
            /// Ask again. If it stays, see to the API server, or to what serves that kind.
            NotAnswered,
        }
    };
}
