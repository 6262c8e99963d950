//! Proxies mean what they mean for kubectl, and are named when they fail.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    process::Output,
};

use medusa_fleet::api::fleet::DataPlane;
use serde_json::{Value, json};

use crate::support::{
    Cluster, ControlPlane, FLEET, Fleet, assert_unseen, condition, eventually, kubeconfig, medusa_fleet_in,
    proxy::Proxy, rights,
};

/// The proxy's password.
const CANARY: &str = "canary-9d02ab41-of-the-proxy";
/// Nobody listens there.
const DEAD: &str = "http://me:canary-9d02ab41-of-the-proxy@127.0.0.1:1";

/// Host and port of a cluster's API server.
fn address(cluster: &Cluster) -> String {
    let server = kubeconfig(cluster)["clusters"][0]["cluster"]["server"].as_str().unwrap().to_owned();
    server.trim_start_matches("https://").trim_end_matches('/').to_owned()
}

/// A kubeconfig of the cluster with another address, whose certificate is still the real one's.
fn by_name(mut file: Value, cluster: &Cluster, host: &str) -> Value {
    let real = address(cluster);
    let cluster = &mut file["clusters"][0]["cluster"];
    cluster["server"] = json!(format!("https://{host}"));
    cluster["tls-server-name"] = json!(real.rsplit_once(':').unwrap().0);
    file
}

fn with_proxy(mut file: Value, proxy: &str) -> Value {
    file["clusters"][0]["cluster"]["proxy-url"] = json!(proxy);
    file
}

/// Waits until the data plane is called unreachable; returns why.
async fn unreachable(fleet: &Fleet, name: &str) -> String {
    eventually(format!("{name} is unreachable"), async || {
        let plane = fleet.home().find::<DataPlane>(FLEET, name).await.ok_or("there is none")?;
        let (status, reason, message) = condition(&plane.status.unwrap_or_default().conditions, "Reachable");
        if status == "False" { Ok(message) } else { Err(format!("{status} {reason}: {message}")) }
    })
    .await
}

/// `medusa-fleet dataplanes` with this kubeconfig and environment.
fn dataplanes(fleet: &Fleet, file: &Value, env: &[(&str, &str)]) -> Output {
    let path = fleet.dir().join("person.kubeconfig");
    std::fs::write(&path, file.to_string()).unwrap();
    medusa_fleet_in(&path, &["dataplanes"], env)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Where a proxy listens that answers 407 to everything.
fn asks_for_a_password() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // The head of a CONNECT comes in one piece.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
            );
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_are_used_gone_around_and_named() {
    let fleet = Fleet::start(2).await;
    let (far, home) = ("dp-1.far.example.net:6443", "home.far.example.net:6443");
    let proxy = Proxy::start(&[(far, &address(fleet.dp(1))), (home, &address(fleet.home()))]).await;
    let url = format!("http://me:{CANARY}@{}", proxy.address);
    let env = [("HTTPS_PROXY", url.as_str()), ("NO_PROXY", "a.example.org, .direct.example.net")];

    let mut controller = ControlPlane::spawn_in(&fleet, &[], &env);
    let file = |host: &str| by_name(rights::kubeconfig(fleet.dp(1)), fleet.dp(1), host);
    fleet.register_as("through", "kubeconfig", &file(far).to_string()).await;
    fleet.register_as("around", "kubeconfig", &file("dp-1.direct.example.net:6443").to_string()).await;
    fleet.register_as("refused", "kubeconfig", &file("unknown.far.example.net:6443").to_string()).await;
    fleet.register(2).await;
    let named = with_proxy(rights::kubeconfig(fleet.dp(2)), &url);
    fleet.register_as("named", "kubeconfig", &named.to_string()).await;
    fleet.expect_data_plane("through", "Ready", "True", "Ready").await;
    fleet.expect_data_plane("dp-2", "Ready", "True", "Ready").await;
    let shown = format!("the proxy `http://{}`", proxy.address);
    let message = unreachable(&fleet, "around").await;
    assert!(!message.contains("proxy"), "{message}");
    let message = unreachable(&fleet, "refused").await;
    assert!(message.contains(&shown), "{message}");
    let message = fleet.expect_data_plane("named", "Accepted", "False", "UnsafeKubeconfig").await;
    assert!(message.contains("`proxy-url`"), "{message}");
    let seen = proxy.seen().concat();
    assert!(seen.contains(&format!("CONNECT {far} ")) && seen.contains("roxy-"), "{seen}");
    assert!(!seen.contains("direct.example.net") && !seen.contains(&address(fleet.dp(2))), "{seen}");

    // Allowed, the kubeconfig's own proxy is used, also to an address that no proxy of the environment is for.
    controller.kill9();
    let mut controller = ControlPlane::spawn_in(&fleet, &["--allow-unsafe-kubeconfig", "proxy-url"], &[]);
    fleet
        .register_as("dead", "kubeconfig", &with_proxy(rights::kubeconfig(fleet.dp(2)), DEAD).to_string())
        .await;
    fleet.expect_data_plane("named", "Authenticated", "True", "CredentialAccepted").await;
    assert!(proxy.seen().concat().contains(&format!("CONNECT {} ", address(fleet.dp(2)))));
    let asking = asks_for_a_password();
    let asked = with_proxy(rights::kubeconfig(fleet.dp(2)), &format!("http://{asking}"));
    fleet.register_as("asked", "kubeconfig", &asked.to_string()).await;
    let message = fleet.expect_data_plane("asked", "Ready", "False", "ProxyFailed").await;
    assert!(
        message.contains(&format!("the proxy `http://{asking}` asks for a user name and password")),
        "{message}"
    );
    let message = unreachable(&fleet, "dead").await;
    assert!(message.contains("the proxy `http://127.0.0.1:1`"), "{message}");
    controller.assert_running();
    assert_unseen(&fleet, &controller, &[CANARY]).await;

    // A person's.
    let far_home = by_name(kubeconfig(fleet.home()), fleet.home(), home);
    let output = dataplanes(&fleet, &far_home, &[("HTTPS_PROXY", &proxy.address)]);
    assert!(output.status.success(), "{}", said(&output));
    let output = dataplanes(&fleet, &with_proxy(far_home.clone(), &url), &[("NO_PROXY", "*")]);
    assert!(output.status.success(), "{}", said(&output));
    let direct = [("HTTPS_PROXY", DEAD), ("NO_PROXY", "127.0.0.1")];
    let output = dataplanes(&fleet, &kubeconfig(fleet.home()), &direct);
    assert!(output.status.success(), "{}", said(&output));
    for output in [
        dataplanes(&fleet, &far_home, &[("https_proxy", DEAD)]),
        dataplanes(&fleet, &with_proxy(kubeconfig(fleet.home()), DEAD), &[]),
    ] {
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.starts_with("error: ") && said.contains("the proxy `http://127.0.0.1:1`"), "{said}");
        assert!(!said.contains(CANARY), "{said}");
    }
}
