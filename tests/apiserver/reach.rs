//! Why a data plane cannot be used is said, and only an API server's answers count.

use std::net::TcpListener;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use medusa_fleet::api::{
    fleet::{DataPlane, Phase},
    medusa::MedusaBackupJob,
};
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::{
    front::{self, Front},
    support::{
        CASS, ControlPlane, FLEET, Fleet, backup_job, configuration, datacenter, eventually, kubeconfig,
        medusa_fleet, rights, secret, token,
    },
};

/// Stands in a Secret that is copied, and in nothing else.
const CANARY: &str = "canary-77ab01-in-a-bucket-secret";

#[tokio::test(flavor = "multi_thread")]
async fn each_way_of_not_being_reached_has_a_reason_a_cause_and_a_fix() {
    let fleet = Fleet::start(1).await;
    let mut controller = ControlPlane::spawn(&fleet);
    let good = rights::kubeconfig(fleet.dp(1));
    let with = |field: &str, value: Value| {
        let mut file = good.clone();
        file["clusters"][0]["cluster"][field] = value;
        file.to_string()
    };
    // Bound and not listened on: nobody else gets the port meanwhile.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed_port = closed.local_addr().unwrap();
    let home = kubeconfig(fleet.home());
    let authority = home["clusters"][0]["cluster"]["certificate-authority-data"].clone();
    assert_ne!(authority, good["clusters"][0]["cluster"]["certificate-authority-data"]);
    // Speaks HTTP where TLS is expected.
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = plain.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in plain.incoming() {
            let _ = std::io::Write::write_all(&mut stream.unwrap(), b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let golden = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, front::golden("server-ca.crt"));
    let behind = async |certificate: &str| {
        let mut file = good.clone();
        let cluster = &mut file["clusters"][0]["cluster"];
        cluster["server"] = json!(front::showing(certificate).await);
        cluster["certificate-authority-data"] = json!(golden);
        file.to_string()
    };
    let mut stranger = good.clone();
    stranger["users"][0]["user"] = json!({"token": "of-nobody"});

    let cases = [
        (
            "closed-port",
            with("server", json!(format!("https://{closed_port}"))),
            "ConnectionRefused",
            "refused",
            "address and port",
        ),
        (
            "no-name",
            with("server", json!("https://no-such-host.invalid:6443")),
            "NameNotFound",
            "host name",
            "DNS",
        ),
        (
            "wrong-ca",
            with("certificate-authority-data", authority),
            "CertificateRejected",
            "UnknownIssuer",
            "authority",
        ),
        (
            "wrong-name",
            with("tls-server-name", json!("other.example")),
            "CertificateRejected",
            "NotValidForName",
            "certificate",
        ),
        ("no-tls", with("server", json!(format!("https://{port}"))), "NotKubernetes", "TLS", "another port"),
        ("expired", behind("server-expired.crt").await, "CertificateRejected", "Expired", "certificate"),
        ("not-yet", behind("server-not-yet.crt").await, "CertificateRejected", "NotValidYet", "certificate"),
        (
            "by-p521",
            behind("server-by-p521.crt").await,
            "CertificateRejected",
            "UnsupportedSignatureAlgorithm",
            "certificate",
        ),
        ("stranger", stranger.to_string(), "CredentialRejected", "401", "register stranger"),
    ];
    for (name, file, ..) in &cases {
        fleet.register_as(name, "kubeconfig", file).await;
    }
    for (name, _, reason, cause, _) in &cases {
        let type_ = if *name == "stranger" { "Authenticated" } else { "Reachable" };
        let said = fleet.expect_data_plane(name, type_, "False", reason).await;
        assert!(said.contains(cause) && !said.contains("ServiceError"), "{name}: {said}");
        fleet.expect_data_plane(name, "Ready", "False", reason).await;
    }
    let output = medusa_fleet(&fleet.home().kubeconfig, &["doctor", "-o", "wide"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    for (name, _, reason, _, fix) in &cases {
        let line = told.lines().find(|line| line.contains(&format!("dataplane/{name} ")));
        let line = line.unwrap_or_else(|| panic!("doctor says nothing of {name}:\n{told}"));
        assert!(line.contains(reason) && line.contains(fix), "{line}");
    }
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_plane_that_may_not_say_who_it_is_is_used_and_the_permission_named() {
    let fleet = Fleet::start(1).await;
    let mut controller = ControlPlane::spawn(&fleet);
    controller.lacks_rights();
    let cluster = fleet.dp(1);
    let roles = kube::Api::<k8s_openapi::api::rbac::v1::ClusterRole>::all(cluster.client.clone());
    for role in roles.list(&kube::api::ListParams::default()).await.unwrap() {
        let reads = |rule: &k8s_openapi::api::rbac::v1::PolicyRule| {
            rule.resources.iter().flatten().any(|r| r == "namespaces") && rule.resource_names.is_some()
        };
        let mut rules = role.rules.clone().unwrap_or_default();
        if role.name_any().starts_with("medusa-fleet") && rules.iter().any(reads) {
            rules.retain(|rule| !reads(rule));
            let patch = kube::api::Patch::Merge(json!({"rules": rules}));
            roles.patch(&role.name_any(), &kube::api::PatchParams::default(), &patch).await.unwrap();
        }
    }
    let token = token(cluster, "nameless").await;
    fleet.register_as("nameless", "kubeconfig", &crate::support::with_token(cluster, &token)).await;
    fleet.expect_data_plane("nameless", "Ready", "True", "Ready").await;
    fleet.expect_data_plane("nameless", "Unique", "Unknown", "IdentityUnknown").await;
    let said = fleet.expect_data_plane("nameless", "Authorized", "True", "PermissionsGranted").await;
    assert!(said.contains("get namespaces/kube-system"), "{said}");
    cluster.create(datacenter("dc1", "shop", 1)).await;
    fleet.expect_size("shop", 1).await;
    let output = medusa_fleet(&fleet.home().kubeconfig, &["doctor"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_told = |line: &str| line.contains("dataplane/nameless") && line.contains("data-plane-rbac.yaml");
    assert!(told.lines().any(is_told), "{told}");
    controller.assert_running();
}

/// Whether a request with this first line writes a Secret.
fn is_copy(first: &str) -> bool {
    first.starts_with("PATCH") && first.contains("/secrets/")
}

fn page(status: &str, words: &str) -> String {
    let body = format!("<html><body><h1>{status}</h1>{words}</body></html>");
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_front_of_a_dead_api_server_is_no_contact_and_what_it_repeats_is_not_logged() {
    let fleet = Fleet::start(1).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn_with(&fleet, &["--log-filter", "trace"]);
    let cluster = fleet.dp(1);
    let token = token(cluster, "fronted").await;
    let mut file: Value = serde_json::from_str(&crate::support::with_token(cluster, &token)).unwrap();
    let server = file["clusters"][0]["cluster"]["server"].as_str().unwrap().to_owned();
    let front = Front::start(cluster, &server).await;
    file["clusters"][0]["cluster"]["server"] = json!(front.server);
    fleet.register_as("dp-1", "kubeconfig", &file.to_string()).await;
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    cluster.create(datacenter("dc1", "shop", 1)).await;
    fleet.expect_size("shop", 1).await;

    // A Secret is copied through something that repeats what it is sent: as a page, as broken JSON, as an object that is
    // none, and in the words of a refusal.
    let echoes: [fn(&str, &str) -> Option<String>; 4] = [
        |first, body| is_copy(first).then(|| page("502 Bad Gateway", body)),
        |first, body| is_copy(first).then(|| json_answer("200 OK", &format!("{body} trailing"))),
        |first, body| {
            let odd = json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": body}, "data": body});
            is_copy(first).then(|| json_answer("200 OK", &odd.to_string()))
        },
        |first, body| {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 422, "message": body,
                "reason": "Invalid"});
            is_copy(first).then(|| json_answer("422 Unprocessable Entity", &status.to_string()))
        },
    ];
    home.create(configuration("shared", "bucket", Some("dp-1/cass"))).await;
    for (number, echo) in echoes.into_iter().enumerate() {
        front.answer(echo);
        let before = front.answered();
        let value = json!({"stringData": {"credentials": format!("{CANARY}-{number}")}});
        if number == 0 {
            let first = format!("{CANARY}-0");
            home.create(secret(FLEET, "bucket", &[("credentials", &first)])).await;
        } else {
            home.patch::<Secret>(FLEET, "bucket", value).await;
        }
        eventually(format!("echo {number} was provoked"), async || {
            if front.answered() > before { Ok(()) } else { Err("no Secret was sent") }
        })
        .await;
    }
    front.answer(|_, _| None);
    cluster.appears::<Secret>(CASS, "bucket").await;

    // The API server is gone; what stands in front answers for it.
    for (answers, word) in [
        ((|_, _| Some(page("503 Service Unavailable", ""))) as fn(&str, &str) -> Option<String>, "HTML"),
        (
            |_, _| Some("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()),
            "empty",
        ),
        (|_, _| Some(page("200 OK", "please log in")), "HTML"),
    ] {
        front.answer(answers);
        let said = fleet.expect_data_plane("dp-1", "Reachable", "False", "NotKubernetes").await;
        eventually(format!("it says {word}"), async || {
            let said = fleet.expect_data_plane("dp-1", "Reachable", "False", "NotKubernetes").await;
            if said.contains(word) { Ok(()) } else { Err(said) }
        })
        .await;
        assert!(!said.contains("please log in"), "{said}");
        let plane: DataPlane = home.get(FLEET, "dp-1").await;
        assert!(plane.status.unwrap().disconnected_since.is_some());
    }
    let mut skips = backup_job("skips", json!({}));
    skips["spec"]["unreachablePolicy"] = json!("Skip");
    home.create(skips).await;
    let job = eventually("the run ends", async || {
        let status = fleet.job("skips").await.status.unwrap_or_default();
        let entry = status.datacenters.first().cloned().unwrap_or_default();
        if entry.phase == Phase::Skipped { Ok(entry) } else { Err(format!("{status:?}")) }
    })
    .await;
    assert_eq!(job.reason.as_deref(), Some("DataPlaneUnreachable"), "{job:?}");
    front.answer(|_, _| None);
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    assert!(cluster.list::<MedusaBackupJob>(CASS).await.is_empty(), "nothing was written there");

    let log = controller.log();
    assert!(log.contains("registered"), "the log is not what we think it is");
    let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("{CANARY}-"));
    for word in [CANARY, encoded.trim_end_matches('=').get(..24).unwrap()] {
        assert!(!log.contains(word), "the log holds a Secret: {:?}", log.lines().find(|l| l.contains(word)));
    }
    controller.assert_running();
}

fn json_answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// How many TCP connections of process `pid` lead to `port`.
fn connections(pid: u32, port: u16) -> usize {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let sockets: Vec<String> = links
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|target| {
            Some(target.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned())
        })
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let leads_there = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (remote, inode) = (fields[2], fields[9]);
        remote.ends_with(&format!(":{port:04X}")) && sockets.iter().any(|socket| socket == inode)
    };
    table.lines().skip(1).filter(leads_there).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_plane_is_spoken_to_over_two_connections_however_much_is_watched() {
    let fleet = Fleet::start(1).await;
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    let port = fleet.dp(1).config.cluster_url.port_u16().unwrap();
    // While they are made there may be more for a moment: each request that comes before the first is there asks for one.
    let two = eventually("its watches share one connection, all else another", async || {
        match connections(controller.pid(), port) {
            2 => Ok(2),
            other => Err(other),
        }
    });
    assert_eq!(two.await, 2);
    controller.assert_running();
}
