//! Which versions run where, and whether they are made to work together: a control plane and a data plane's controller
//! of the same version, or of two that follow each other, whichever is newer (docs/upgrade.md). Pure.

use jiff::Timestamp;

use super::{DoctorInput, Finding, Severity, home, object};
use crate::api::{
    Conditions as _, Reason,
    fleet::{DataPlane, MedusaController},
};

/// Versions of which one or the other is behind: the first two numbers, by which releases are counted.
type Release = (u64, u64);

/// Versions that differ, and what that means for `found`, what is wrong with definitions.
pub(super) fn versions(evidence: &DoctorInput, found: &mut [Finding], now: Timestamp) -> Vec<Finding> {
    let leads = home::version(evidence.leases.objects(), now);
    let program = evidence.program.as_str();
    let mut skewed = Vec::new();
    if let Some(leads) = &leads
        && let (Some(one), Some(other)) = (release(program), release(leads))
        && one != other
    {
        skewed.push(of_program(program, leads));
        if one > other {
            excuse(found, program, leads);
        }
    }
    // Without an election nobody says which version works: this program is taken for it.
    let other = leads.map_or(("this program is", program.to_owned()), |leads| ("the control plane", leads));
    skewed.extend(evidence.data_planes.objects().iter().filter_map(|plane| of_data_plane(plane, &other)));
    skewed
}

/// The first two numbers of a version such as `1.2.3-rc.1`; `None` for anything else.
fn release(version: &str) -> Option<Release> {
    let mut numbers = version.strip_prefix('v').unwrap_or(version).split('.').map(str::parse::<u64>);
    match (numbers.next()?, numbers.next()?) {
        (Ok(major), Ok(minor)) => Some((major, minor)),
        (Ok(_) | Err(_), _) => None,
    }
}

/// Whether nothing was released between the two, as far as their numbers tell.
fn are_next_to_each_other(one: Release, other: Release) -> bool {
    let (low, high) = (one.min(other), one.max(other));
    if low.0 == high.0 { high.1.abs_diff(low.1) <= 1 } else { high == (low.0.saturating_add(1), 0) }
}

/// This program, beside a control plane of another version.
fn of_program(program: &str, leads: &str) -> Finding {
    let what = format!(
        "it is version {leads} and this program {program}, which compares definitions with those of its own version"
    );
    let fix =
        format!("use `kubectl medusa` of version {leads}, or upgrade the control plane (docs/upgrade.md)");
    Finding::new(Severity::Notice, "control-plane".to_owned(), Reason::VersionSkew, what, fix)
}

/// An older control plane need not lack what this program misses in a definition.
fn excuse(found: &mut [Finding], program: &str, leads: &str) {
    for finding in found.iter_mut().filter(|f| f.reason == Reason::DefinitionOutdated.as_str()) {
        finding.severity = Severity::Notice;
        finding.what = format!(
            "{}. Definitions of this program's version {program} have it; whether the control plane's version {leads} \
             needs it, a program of that version says",
            finding.what
        );
    }
}

/// A data plane's controller of ours, beside a control plane (`other`: who, and its version) of another version. That
/// of one that is not ready may be another by now.
fn of_data_plane(plane: &DataPlane, other: &(&str, String)) -> Option<Finding> {
    let status = plane.status.as_ref()?;
    let is_ready = status.conditions.of_type("Ready").is_some_and(|ready| ready.status == "True");
    let controller = status.medusa_controller.as_ref()?;
    let version = controller.version.as_deref()?;
    let (who, other) = other;
    let (here, there) = (release(version)?, release(other)?);
    if !is_ready || controller.name != MedusaController::OURS || here == there {
        return None;
    }
    let fix = if here < there {
        "upgrade its controller, the release or manifest of the data plane in that cluster (docs/upgrade.md)"
    } else {
        "upgrade the control plane (docs/upgrade.md), and use `kubectl medusa` of its version"
    };
    let (severity, both) = if are_next_to_each_other(here, there) {
        (Severity::Notice, "they work together, as during an upgrade")
    } else {
        (Severity::Warning, "only versions that follow each other are made to work together")
    };
    let what = format!("its controller is version {version}, {who} {other}: {both}");
    Some(Finding::new(severity, object("dataplane", &plane.metadata), Reason::VersionSkew, what, fix))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::Lease;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::{crds, labels},
        cli::{
            doctor::{
                Read, findings,
                tests::{all, condition, fine, object, words},
            },
            views::fixtures::now,
        },
    };

    /// A Lease of a control plane that leads, of this version.
    fn led_by(version: &str) -> Read<Lease> {
        all(json!([{
            "metadata": {
                "name": "medusa-fleet-control-plane",
                "annotations": {labels::LEADER: format!("a {version}")},
            },
            "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-11-02T11:59:50.000000Z"},
        }]))
    }

    fn plane(name: &str, version: &str, ready: &str) -> Value {
        let controller = json!({"name": name, "version": version});
        let conditions = [condition("Ready", ready, "Paused")];
        object("p", json!({}), json!({"medusaController": controller, "conditions": conditions}))
    }

    #[rstest]
    #[case::same("0.2.0", "0.2.1", &[])]
    #[case::before("0.1.9", "0.2.0", &["Notice dataplane/p VersionSkew"])]
    #[case::after("0.3.0", "0.2.0", &["Notice dataplane/p VersionSkew"])]
    #[case::too_old("0.1.0", "0.3.0", &["Warning dataplane/p VersionSkew"])]
    #[case::too_new("1.4.0", "1.2.0", &["Warning dataplane/p VersionSkew"])]
    #[case::another_row("0.9.0", "1.0.0", &["Notice dataplane/p VersionSkew"])]
    #[case::two_rows("0.9.0", "1.1.0", &["Warning dataplane/p VersionSkew"])]
    #[case::candidate("v0.3.0-rc.1", "0.2.0", &["Notice dataplane/p VersionSkew"])]
    #[case::no_version("latest", "0.2.0", &[])]
    #[case::nobody_says("0.1.0", "", &[])]
    fn a_data_plane_is_of_the_version_of_the_control_plane_or_of_one_next_to_it(
        #[case] there: &str,
        #[case] here: &str,
        #[case] expected: &[&str],
    ) {
        let planes = || all(json!([plane("medusa-fleet", there, "True")]));
        let program = here.to_owned();
        // With an election the leader counts, without one this program.
        let led = DoctorInput { leases: led_by(here), data_planes: planes(), ..fine() };
        let alone = DoctorInput { program, data_planes: planes(), ..fine() };
        for evidence in [led, alone] {
            assert_eq!(words(&findings(&evidence, now())), expected);
        }
    }

    #[rstest]
    #[case::upstream("k8ssandra-operator", "True")]
    #[case::not_ready("medusa-fleet", "False")]
    fn others_and_what_was_known_long_ago_are_not_compared(#[case] name: &str, #[case] ready: &str) {
        let planes = all(json!([plane(name, "0.1.0", ready)]));
        let evidence = DoctorInput { leases: led_by("9.0.0"), data_planes: planes, ..fine() };
        let found = findings(&evidence, now());
        assert!(words(&found).iter().all(|word| !word.contains("VersionSkew")), "{found:#?}");
    }

    #[rstest]
    #[case::newer(
        "0.3.0",
        "Notice customresourcedefinition/fleettasks.fleet.k8ssandra.io DefinitionOutdated"
    )]
    #[case::older("0.1.0", "Error customresourcedefinition/fleettasks.fleet.k8ssandra.io DefinitionOutdated")]
    fn a_newer_program_is_no_judge_of_an_older_control_planes_definitions(
        #[case] program: &str,
        #[case] expected: &str,
    ) {
        let mut installed = crds::all().unwrap();
        let tasks = installed.iter_mut().find(|d| d.spec.names.plural == "fleettasks").unwrap();
        let schema = tasks.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
        schema.properties.as_mut().unwrap().remove("spec").unwrap();
        let evidence = DoctorInput {
            program: program.to_owned(),
            definitions: Read::All(installed),
            leases: led_by("0.2.0"),
            data_planes: all(json!([plane("medusa-fleet", "0.2.0", "True")])),
            ..fine()
        };
        let found = words(&findings(&evidence, now()));
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found.contains(&expected.to_owned()), "{found:#?}");
        assert!(found.contains(&"Notice control-plane VersionSkew".to_owned()), "{found:#?}");
    }

    #[test]
    fn a_version_of_who_leads_no_more_is_none() {
        let mut leases = led_by("0.3.0");
        if let Read::All(leases) = &mut leases {
            for holder in [None, Some("an older one, which leaves the annotation as it was".to_owned())] {
                leases[0].spec.as_mut().unwrap().holder_identity = holder;
                assert_eq!(home::version(leases, now()), None);
            }
        }
        assert_eq!(home::version(led_by("0.3.0").objects(), now()).as_deref(), Some("0.3.0"));
    }
}
