//! What the doctor finds, kind by kind.

use jiff::SignedDuration;
use k8s_openapi::{
    api::coordination::v1::Lease,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use rstest::rstest;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{DoctorInput, Finding, Malformed, Read, Severity, findings};
use crate::{
    api::crds,
    cli::views::{
        doctor::{screen, table},
        fixtures::{
            clusters, data_planes, jobs, now, protected_cluster, ready_data_plane, restore, schedules,
        },
    },
};

pub(super) const LONG_AGO: &str = "2026-11-01T00:00:00Z";

fn definitions() -> Vec<CustomResourceDefinition> {
    crds::all().unwrap()
}

/// A fleet in which nothing is wrong.
pub(super) fn fine() -> DoctorInput {
    DoctorInput {
        definitions: Read::All(definitions()),
        data_planes: Read::All(vec![ready_data_plane()]),
        clusters: Read::All(vec![protected_cluster()]),
        ..DoctorInput::default()
    }
}

pub(super) fn all<K: DeserializeOwned>(objects: Value) -> Read<K> {
    Read::All(serde_json::from_value(objects).unwrap())
}

pub(super) fn condition(type_: &str, status: &str, reason: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": "why", "lastTransitionTime": LONG_AGO})
}

pub(super) fn object(name: &str, spec: Value, status: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "ns", "creationTimestamp": LONG_AGO}, "spec": spec, "status": status})
}

pub(super) fn words(found: &[Finding]) -> Vec<String> {
    found.iter().map(|f| format!("{} {} {}", f.severity.as_str(), f.object, f.reason)).collect()
}

#[test]
fn a_fleet_in_order_has_no_findings() {
    assert_eq!(words(&findings(&fine(), now())), Vec::<String>::new());
}

#[test]
fn a_fleet_in_trouble_is_told_of_worst_first() {
    let mut installed = definitions();
    installed.retain(|d| d.spec.names.plural != "fleettasks");
    let evidence = DoctorInput {
        definitions: Read::All(installed),
        data_planes: Read::All(data_planes()),
        clusters: Read::All(clusters()),
        schedules: Read::All(schedules()),
        jobs: Read::All(jobs()),
        restores: Read::All(vec![restore()]),
        tasks: Read::Refused("fleettasks is forbidden: User \"eve\" cannot list resource".to_owned()),
        ..DoctorInput::default()
    };
    let found = findings(&evidence, now());
    let text = screen(&found, 100, now());
    assert!(text.lines().all(|line| line.chars().count() <= 100 || line.contains('`')), "{text}");
    insta::assert_snapshot!(text);
    for wide in [false, true] {
        let text = table(&found, wide, now()).render(0);
        assert_eq!(text.lines().count(), 1 + found.len(), "one line each: {text}");
        let longest = found.iter().map(|f| f.object.len()).max().unwrap_or(0);
        let own = |f: &Finding| longest + f.what.len() + f.fix.len() + f.reason.len() + 60;
        let fits = |(line, f): (&str, &Finding)| line.len() <= own(f);
        assert!(text.lines().skip(1).zip(&found).all(fits), "no line is as long as another's text: {text}");
    }
}

#[test]
fn a_kind_that_may_not_be_read_is_said_to_be_unknown() {
    let no = || "forbidden".to_owned();
    let evidence = DoctorInput {
        program: String::new(),
        definitions: Read::Refused(no()),
        leases: Read::Refused(no()),
        data_planes: Read::Refused(no()),
        clusters: Read::Refused(no()),
        configurations: Read::Refused(no()),
        // Its absence says that no datacenter was found, its silence does not.
        k8ssandra_clusters: all(json!([object("demo", json!({"medusa": {}}), Value::Null)])),
        schedules: Read::Refused(no()),
        jobs: Read::Refused(no()),
        tasks: Read::Refused(no()),
        restores: Read::Refused(no()),
    };
    let found = findings(&evidence, now());
    assert_eq!(found.len(), 9, "{found:#?}");
    assert!(found.iter().all(|f| f.severity == Severity::Unknown && f.fix.contains(&f.object)), "{found:#?}");
    // Nobody may read definitions, and a kind is not there.
    let absent = DoctorInput { definitions: Read::Refused(no()), tasks: Read::NotInstalled, ..fine() };
    let expected = [
        "Error customresourcedefinition/fleettasks.fleet.k8ssandra.io DefinitionMissing",
        "Unknown customresourcedefinitions NotAuthorized",
    ];
    assert_eq!(words(&findings(&absent, now())), expected);
}

fn malformed<K>(objects: Vec<K>, name: &str) -> Read<K> {
    let (namespace, why) = (Some("ns".to_owned()), "missing field `x`".to_owned());
    Read::Part(objects, vec![Malformed { namespace, name: name.to_owned(), why }])
}

#[test]
fn an_object_that_cannot_be_read_is_a_finding_and_hides_nothing() {
    let asking = object("demo", json!({"medusa": {}}), Value::Null);
    let evidence = DoctorInput {
        program: String::new(),
        definitions: malformed(Vec::new(), "fleettasks.fleet.k8ssandra.io"),
        leases: malformed(vec![lease("2026-11-02T11:59:00.000000Z", None)], "odd"),
        data_planes: malformed(Vec::new(), "odd"),
        // The one that cannot be read may be the one that is missed.
        clusters: malformed(clusters(), "odd"),
        configurations: malformed(Vec::new(), "odd"),
        k8ssandra_clusters: malformed(serde_json::from_value(json!([asking])).unwrap(), "odd"),
        schedules: malformed(Vec::new(), "odd"),
        jobs: malformed(Vec::new(), "odd"),
        tasks: malformed(Vec::new(), "odd"),
        restores: malformed(Vec::new(), "odd"),
    };
    let found = findings(&evidence, now());
    let expected = [
        "Error cluster/odd InvalidObject",
        "Error cluster/payments NeverBackedUp",
        "Error customresourcedefinition/fleettasks.fleet.k8ssandra.io InvalidObject",
        "Error dataplane/odd InvalidObject",
        "Error job/odd InvalidObject",
        "Error k8ssandracluster/ns/odd InvalidObject",
        "Error lease/medusa-fleet-control-plane NotLed",
        "Error lease/odd InvalidObject",
        "Error medusaconfiguration/ns/odd InvalidObject",
        "Error restore/odd InvalidObject",
        "Error schedule/odd InvalidObject",
        "Error task/odd InvalidObject",
    ];
    assert_eq!(words(&found), expected);
    let deleting: Vec<&str> =
        found.iter().filter(|f| f.fix.contains("delete")).map(|f| f.object.as_str()).collect();
    assert_eq!(deleting, ["job/odd", "restore/odd", "task/odd"], "nothing that holds data, or others' work");
}

#[test]
fn definitions_that_are_missing_or_old_are_named() {
    let mut evidence = fine();
    let mut old = definitions();
    old.retain(|d| {
        d.spec.names.plural != "medusaconfigurations" && d.spec.names.plural != "fleetrestorejobs"
    });
    let task = old.iter_mut().find(|d| d.spec.names.plural == "fleettasks").unwrap();
    let schema = task.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
    let spec = schema.properties.as_mut().unwrap().get_mut("spec").unwrap();
    spec.properties.as_mut().unwrap().remove("rollout").unwrap();
    evidence.definitions = Read::All(old);
    let found = findings(&evidence, now());
    let group = "customresourcedefinition/";
    let expected = [
        format!("Error {group}fleetrestorejobs.fleet.k8ssandra.io DefinitionMissing"),
        format!("Error {group}fleettasks.fleet.k8ssandra.io DefinitionOutdated"),
        format!("Warning {group}medusaconfigurations.medusa.k8ssandra.io DefinitionMissing"),
    ];
    assert_eq!(words(&found), expected);
    assert!(found[1].what.contains("spec.rollout"), "{}", found[1].what);
    // Upstream's kinds may be of any version.
    evidence.definitions = Read::All(definitions());
    if let Read::All(all) = &mut evidence.definitions {
        let upstreams = all.iter_mut().find(|d| d.spec.names.plural == "medusaconfigurations").unwrap();
        upstreams.spec.versions[0].schema = None;
    }
    assert_eq!(words(&findings(&evidence, now())), Vec::<String>::new());
}

/// `definitions()`, of which one is otherwise.
fn with_definition(name: &str, change: impl FnOnce(&mut Value)) -> Read<CustomResourceDefinition> {
    let mut installed = serde_json::to_value(definitions()).unwrap();
    let all = installed.as_array_mut().unwrap();
    change(all.iter_mut().find(|d| d["metadata"]["name"] == name).unwrap());
    self::all(installed)
}

fn refused(type_: &str) -> Value {
    json!({"acceptedNames": {"kind": "", "plural": ""}, "storedVersions": [], "conditions": [
        {"type": type_, "status": "False", "reason": "R", "message": "\"ft\" is already in use"},
    ]})
}

#[rstest]
#[case::leaving(&|d: &mut Value| d["metadata"]["deletionTimestamp"] = json!(LONG_AGO), "being deleted")]
#[case::off(&|d: &mut Value| d["spec"]["versions"][0]["served"] = json!(false), "no version of it is served")]
#[case::clash(&|d: &mut Value| d["status"] = refused("NamesAccepted"), "already in use")]
#[case::not_yet(&|d: &mut Value| d["status"] = refused("Established"), "already in use")]
#[case::nobody_knows_why(&|_: &mut Value| (), "no such kind")]
fn a_kind_that_is_defined_and_not_served_is_an_error(#[case] change: &dyn Fn(&mut Value), #[case] why: &str) {
    let definitions = with_definition("fleettasks.fleet.k8ssandra.io", change);
    let evidence = DoctorInput { definitions, tasks: Read::NotInstalled, ..fine() };
    let found = findings(&evidence, now());
    let expected = ["Error customresourcedefinition/fleettasks.fleet.k8ssandra.io NotServed"];
    assert_eq!(words(&found), expected);
    assert!(found[0].what.contains(why), "{}", found[0].what);
}

#[test]
fn a_kind_nobody_lists_has_to_be_served_too_and_one_of_others_is_less() {
    let off = |d: &mut Value| d["spec"]["versions"][0]["served"] = json!(false);
    let of = |name: &str| {
        words(&findings(&DoctorInput { definitions: with_definition(name, off), ..fine() }, now()))
    };
    let group = "customresourcedefinition/";
    let backups = "fleetbackups.fleet.k8ssandra.io";
    assert_eq!(of(backups), [format!("Error {group}{backups} NotServed")]);
    let settings = "medusaconfigurations.medusa.k8ssandra.io";
    assert_eq!(of(settings), [format!("Warning {group}{settings} NotServed")]);
    // What only data planes need.
    assert_eq!(of("medusatasks.medusa.k8ssandra.io"), Vec::<String>::new());
}

fn lease(renewed: &str, holder: Option<&str>) -> Lease {
    serde_json::from_value(json!({
        "metadata": {"name": "medusa-fleet-control-plane"},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed},
    }))
    .unwrap()
}

#[rstest]
#[case::fresh("2026-11-02T11:59:50.000000Z", Some("a"), 0)]
#[case::silent("2026-11-02T11:59:00.000000Z", Some("a"), 1)]
#[case::given_up("2026-11-02T11:59:59.000000Z", None, 1)]
fn somebody_has_to_lead(#[case] renewed: &str, #[case] holder: Option<&str>, #[case] expected: usize) {
    let evidence = DoctorInput { leases: Read::All(vec![lease(renewed, holder)]), ..fine() };
    assert_eq!(findings(&evidence, now()).len(), expected);
}

#[test]
fn a_control_plane_that_is_silent_or_never_ran_is_one_finding() {
    let later = now() + SignedDuration::from_mins(30);
    let mut second = ready_data_plane();
    second.metadata.name = Some("eu-2".to_owned());
    let evidence = DoctorInput { data_planes: Read::All(vec![ready_data_plane(), second]), ..fine() };
    let found = findings(&evidence, later);
    assert_eq!(words(&found), ["Error control-plane Stale"]);
    assert!(found[0].what.contains("2 data planes"), "{}", found[0].what);
    let evidence = DoctorInput { data_planes: Read::default(), ..fine() };
    assert_eq!(words(&findings(&evidence, now())), ["Error control-plane NeverRan"]);
}

#[rstest]
#[case::paused(condition("Ready", "False", "Paused"), "Notice dataplane/p Paused")]
#[case::leaving(condition("Ready", "False", "Unregistering"), "Notice dataplane/p Unregistering")]
#[case::rejected(condition("Ready", "False", "CredentialRejected"), "Error dataplane/p CredentialRejected")]
#[case::not_known(condition("Ready", "Unknown", "Connecting"), "Error dataplane/p Connecting")]
#[case::new({
    let mut said = condition("Ready", "Unknown", "Connecting");
    said["lastTransitionTime"] = json!("2026-11-02T11:59:00Z");
    said
}, "Notice dataplane/p Connecting")]
#[case::not_looked_at(Value::Null, "Error dataplane/p Unseen")]
fn a_data_plane_that_is_not_ready(#[case] ready: Value, #[case] expected: &str) {
    let conditions = if ready.is_null() { json!([]) } else { json!([ready]) };
    let plane = object("p", json!({}), json!({"conditions": conditions}));
    let evidence = DoctorInput { data_planes: all(json!([plane])), ..fine() };
    assert_eq!(words(&findings(&evidence, now())), [expected]);
}

#[rstest]
#[case::soon("2026-11-09T12:00:00Z", "Warning dataplane/p CredentialExpired")]
#[case::over("2026-11-02T11:00:00Z", "Error dataplane/p CredentialExpired")]
fn a_credential_that_ends_is_worth_a_word(#[case] ends: &str, #[case] expected: &str) {
    let status =
        json!({"credential": {"expiresAt": ends}, "conditions": [condition("Ready", "True", "Ready")]});
    let evidence = DoctorInput { data_planes: all(json!([object("p", json!({}), status)])), ..fine() };
    assert_eq!(words(&findings(&evidence, now())), [expected]);
}

#[rstest]
#[case::not_due("2026-11-02T12:10:00Z", "2026-11-02T12:22:00Z", &[])]
#[case::just_due("2026-11-02T11:59:00Z", "2026-11-02T12:11:00Z", &[])]
#[case::overdue("2026-11-02T11:55:00Z", "2026-11-02T12:07:00Z", &["Warning dataplane/p CredentialExpired"])]
#[case::over("2026-11-02T11:47:00Z", "2026-11-02T11:59:00Z", &["Error dataplane/p CredentialExpired"])]
fn a_credential_that_is_renewed_is_worth_a_word_when_it_was_not(
    #[case] due: &str,
    #[case] ends: &str,
    #[case] expected: &[&str],
) {
    let credential = json!({"expiresAt": ends, "nextRenewalTime": due});
    let status = json!({"credential": credential, "conditions": [condition("Ready", "True", "Ready")]});
    let evidence = DoctorInput { data_planes: all(json!([object("p", json!({}), status)])), ..fine() };
    assert_eq!(words(&findings(&evidence, now())), expected);
}

#[test]
fn a_renewal_that_fails_is_told_of() {
    let conditions =
        [condition("Ready", "True", "Ready"), condition("Authenticated", "True", "RenewalFailed")];
    let plane = object("p", json!({}), json!({"conditions": conditions}));
    let evidence = DoctorInput { data_planes: all(json!([plane])), ..fine() };
    assert_eq!(words(&findings(&evidence, now())), ["Warning dataplane/p RenewalFailed"]);
}

#[test]
fn a_data_plane_that_cannot_do_everything_is_told_of() {
    let said = |type_: &str, message: &str| json!({"type": type_, "status": "True", "reason": "R", "message": message, "lastTransitionTime": LONG_AGO});
    let status = json!({"conditions": [
        condition("Ready", "True", "Ready"),
        said("Authorized", "what backups need is granted; not permitted: create medusatasks; without it no tasks"),
        said("Served", "what backups need is served; not served: medusarestorejobs (no restores)"),
    ]});
    let evidence = DoctorInput { data_planes: all(json!([object("p", json!({}), status)])), ..fine() };
    let expected = ["Warning dataplane/p NotAuthorized", "Notice dataplane/p NotServed"];
    assert_eq!(words(&findings(&evidence, now())), expected);
}

#[rstest]
#[case("MedusaDeployed", "False", "MedusaNotDeployed", Some("Error"))]
#[case("CredentialsInSync", "False", "SecretNotFound", Some("Error"))]
#[case("PrefixUnique", "False", "PrefixInUse", Some("Error"))]
#[case("Protected", "False", "RecoveryPointStale", Some("Error"))]
#[case("Protected", "Unknown", "RecoveryPointUnknown", Some("Warning"))]
#[case("InventoryConsistent", "False", "InventoryDrifted", Some("Warning"))]
#[case("Protected", "True", "RecoveryPointFresh", None)]
#[case("Other", "True", "Unseen", Some("Error"))]
fn a_cluster_says_what_it_lacks(
    #[case] type_: &str,
    #[case] status: &str,
    #[case] reason: &str,
    #[case] severity: Option<&str>,
) {
    let mut conditions = vec![condition(type_, status, reason)];
    if !["Protected", "Other"].contains(&type_) {
        conditions.push(condition("Protected", "True", "RecoveryPointFresh"));
    }
    let status = json!({
        "size": 1, "restorePoints": 0, "k8ssandraCluster": {"name": "demo", "namespace": "ns"},
        "conditions": conditions,
    });
    let evidence = DoctorInput {
        clusters: all(json!([object("demo.ns", json!({}), status)])),
        k8ssandra_clusters: all(json!([object("demo", json!({"medusa": {}}), Value::Null)])),
        ..fine()
    };
    let expected: Vec<String> =
        severity.map(|s| format!("{s} cluster/demo.ns {reason}")).into_iter().collect();
    assert_eq!(words(&findings(&evidence, now())), expected);
}

#[rstest]
#[case::nobody_looked(Value::Null, "Warning", true)]
#[case::before_it_was_missed(json!(["2026-10-31T00:00:00Z", "Succeeded", "dc1"]), "Warning", true)]
#[case::elsewhere(json!(["2026-11-02T00:00:00Z", "Succeeded", "dc2"]), "Warning", true)]
#[case::without_success(json!(["2026-11-02T00:00:00Z", "Failed", "dc1"]), "Warning", true)]
#[case::looked_for(json!(["2026-11-02T00:00:00Z", "Succeeded", "dc1"]), "Notice", false)]
fn what_a_sync_did_not_find_is_not_asked_for_again(
    #[case] sync: Value,
    #[case] severity: &str,
    #[case] advises: bool,
) {
    let missing = json!({"restorePoint": "b.shop", "dataPlane": "eu", "namespace": "ns", "datacenter": "dc1",
        "reason": "MedusaBackupMissing", "message": "m"});
    let status = json!({"size": 1, "restorePoints": 1, "drift": [missing], "conditions": [
        condition("Protected", "True", "RecoveryPointFresh"), condition("InventoryConsistent", "False", "InventoryDrifted")]});
    let tasks: Vec<Value> = (!sync.is_null())
        .then(|| {
            let run = json!({"dataPlane": "eu", "namespace": "ns", "datacenter": sync[2], "phase": sync[1],
                "startTime": sync[0]});
            object("t", json!({"operation": "sync"}), json!({"phase": sync[1], "datacenters": [run]}))
        })
        .into_iter()
        .collect();
    let clusters = all(json!([object("shop", json!({}), status)]));
    let found = findings(&DoctorInput { clusters, tasks: all(json!(tasks)), ..fine() }, now());
    assert_eq!(words(&found), [format!("{severity} cluster/shop InventoryDrifted")]);
    assert_eq!(found[0].fix.contains("kubectl medusa sync"), advises, "{}", found[0].fix);
}

#[test]
fn definitions_that_an_operator_of_others_would_ignore_are_not_asked_for() {
    let found = |message: &str| {
        let served = json!({"type": "Served", "status": "True", "reason": "R", "message": message, "lastTransitionTime": LONG_AGO});
        let status = json!({"medusaController": {"name": "k8ssandra-operator"},
            "conditions": [condition("Ready", "True", "Ready"), served]});
        findings(&DoctorInput { data_planes: all(json!([object("p", json!({}), status)])), ..fine() }, now())
    };
    let fields = "what backups need is served; not served: MedusaBackupSchedule's `spec.timeZone` (schedules in a time zone)";
    assert_eq!(words(&found(fields)), Vec::<String>::new());
    let kinds =
        found("what backups need is served; not served: medusarestorejobs.medusa.k8ssandra.io (no restores)");
    assert_eq!(words(&kinds), ["Notice dataplane/p NotServed"]);
    assert!(
        kinds[0].fix.contains("upgrade it") && !kinds[0].fix.contains("medusa-fleet crds"),
        "{}",
        kinds[0].fix
    );
}

#[test]
fn a_k8ssandra_cluster_whose_datacenters_nobody_found_is_an_error() {
    let asking = object("demo", json!({"medusa": {}}), Value::Null);
    let silent = object("plain", json!({}), Value::Null);
    let evidence = DoctorInput { k8ssandra_clusters: all(json!([asking, silent])), ..fine() };
    assert_eq!(words(&findings(&evidence, now())), ["Error k8ssandracluster/ns/demo DatacenterNotFound"]);
}

#[test]
fn configurations_are_judged_by_their_source() {
    let bad = json!({"conditions": [condition("Ready", "False", "SecretNotFound"), condition("Replicated", "Unknown", "Replicating")]});
    let mut copy = object("copy", json!({}), bad.clone());
    copy["metadata"]["labels"] = json!({"fleet.k8ssandra.io/control-plane": "cp"});
    let new = object("new", json!({}), Value::Null);
    let evidence =
        DoctorInput { configurations: all(json!([object("s3", json!({}), bad), copy, new])), ..fine() };
    let expected = [
        "Error medusaconfiguration/ns/new Unseen",
        "Error medusaconfiguration/ns/s3 SecretNotFound",
        "Warning medusaconfiguration/ns/s3 Replicating",
    ];
    assert_eq!(words(&findings(&evidence, now())), expected);
}

#[test]
fn schedules_say_what_does_not_run_and_what_did_not_go_well() {
    let schedule = |name: &str, conditions: Value| {
        object(name, json!({"schedule": "@daily"}), json!({"missedSlots": 0, "conditions": conditions}))
    };
    let evidence = DoctorInput {
        schedules: all(json!([
            schedule("bad", json!([condition("Ready", "False", "NeverFires")])),
            schedule(
                "fine",
                json!([condition("Ready", "True", "Scheduled"), condition("Missed", "False", "Scheduled")])
            ),
            schedule(
                "ill",
                json!([
                    condition("Ready", "True", "Scheduled"),
                    condition("Missed", "True", "SlotsMissed"),
                    condition("Succeeded", "False", "Failed"),
                ])
            ),
            schedule("off", json!([condition("Ready", "False", "Paused")])),
            schedule("slow", json!([condition("Ready", "False", "PreviousRunUnfinished")])),
        ])),
        ..fine()
    };
    let expected = [
        "Error schedule/bad NeverFires",
        "Error schedule/ill Failed",
        "Warning schedule/ill SlotsMissed",
        "Warning schedule/slow PreviousRunUnfinished",
        "Notice schedule/off Paused",
    ];
    assert_eq!(words(&findings(&evidence, now())), expected);
}
