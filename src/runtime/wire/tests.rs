//! Against a server that speaks HTTP and is no API server: it sends what each test says, byte by byte.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Config,
    api::{ListParams, PostParams, WatchParams},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

use super::*;
use crate::runtime::{
    cause::{Cause, Kind},
    client::{Timeouts, connect},
};

/// What the server sends in answer to a request with this first line: its head and first bytes, and what it then
/// repeats until nobody listens.
type Script = fn(&str) -> (String, &'static [u8]);

/// The server, how many bytes it got rid of, and how many connections are open.
struct Fake {
    address: SocketAddr,
    sent: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

async fn fake(script: Script) -> Fake {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let fake = Fake { address: listener.local_addr().unwrap(), sent: Arc::default(), open: Arc::default() };
    let (sent, open) = (fake.sent.clone(), fake.open.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (sent, open) = (sent.clone(), open.clone());
            tokio::spawn(async move {
                open.fetch_add(1, Ordering::SeqCst);
                let _ = serve(stream, script, &sent).await;
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    fake
}

async fn serve(mut stream: TcpStream, script: Script, sent: &AtomicUsize) -> std::io::Result<()> {
    let mut request = vec![0; 64 * 1024];
    let read = stream.read(&mut request).await?;
    let text = String::from_utf8_lossy(&request[..read]).into_owned();
    let (first, again) = script(text.lines().next().unwrap_or_default());
    stream.write_all(first.as_bytes()).await?;
    while !again.is_empty() {
        stream.write_all(again).await?;
        sent.fetch_add(again.len(), Ordering::SeqCst);
    }
    Ok(())
}

impl Fake {
    fn client(&self, bounds: Bounds) -> Client {
        let config = Config::new(format!("http://{}", self.address).parse().unwrap());
        connect(config, Timeouts { bounds, ..Timeouts::REMOTE }).unwrap()
    }

    /// Waits until nobody is connected any more.
    async fn is_left(&self) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.open.load(Ordering::SeqCst) > 0 {
            assert!(Instant::now() < end, "the connection is still open");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn kind(error: &kube::Error) -> Kind {
    Cause::of(error).kind
}

const ENDLESS: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
const FILL: &[u8] = &[b'a'; 64 * 1024];

fn html(status: &str) -> String {
    let page = "<html><body>token=c2VjcmV0</body></html>";
    format!("HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n{page}", page.len())
}

#[tokio::test]
async fn an_endless_list_ends_with_its_connection_and_costs_no_more_than_its_bound() {
    let fake = fake(|_| (format!("{ENDLESS}{{\"kind\":\"SecretList\",\"items\":[{{\"x\":\""), FILL)).await;
    let client = fake.client(Bounds::REMOTE);
    let secrets = Api::<Secret>::all(client.clone());
    let params = ListParams::default();
    let (one, two) = tokio::join!(secrets.list(&params), secrets.list(&params));
    for answer in [one, two] {
        assert_eq!(kind(&answer.unwrap_err()), Kind::Unbounded);
    }
    fake.is_left().await;
    // What stands in the sockets' buffers was sent too.
    let sent = fake.sent.load(Ordering::SeqCst);
    assert!(sent < 2 * (Bounds::REMOTE.body + 16 * 1024 * 1024), "{sent} bytes were taken");
}

#[tokio::test]
async fn an_endless_line_of_a_watch_ends_with_its_connection() {
    let fake = fake(|_| (format!("{ENDLESS}{{\"type\":\"ADDED\",\"object\":{{\"x\":\""), FILL)).await;
    let secrets = Api::<Secret>::all(fake.client(Bounds::REMOTE));
    let mut events = Box::pin(secrets.watch(&WatchParams::default(), "0").await.unwrap());
    let error = events.try_next().await.unwrap_err();
    assert_eq!(kind(&error), Kind::Unbounded, "{error:?}");
    drop(events);
    fake.is_left().await;
    let sent = fake.sent.load(Ordering::SeqCst);
    assert!(sent < Bounds::REMOTE.line + 16 * 1024 * 1024, "{sent} bytes were taken");
}

#[tokio::test]
async fn a_body_and_a_watch_that_stall_end_in_time() {
    // Holds the connection open and sends nothing more than the beginning.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = silent.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(ENDLESS.as_bytes()).await;
            let _ = stream.write_all(b"{").await;
            kept.push(stream);
        }
    });
    let short = Duration::from_millis(200);
    let bounds = Bounds { time: short, slack: short, ..Bounds::REMOTE };
    let client = connect(Config::new(url), Timeouts { bounds, ..Timeouts::REMOTE }).unwrap();
    let maps = Api::<ConfigMap>::all(client);
    let list = timeout(Duration::from_secs(10), maps.list(&ListParams::default())).await;
    assert_eq!(kind(&list.expect("it hangs").unwrap_err()), Kind::Unbounded);
    let params = WatchParams { timeout: Some(1), ..WatchParams::default() };
    let mut events = Box::pin(maps.watch(&params, "0").await.unwrap());
    let event = timeout(Duration::from_secs(10), events.try_next()).await;
    assert_eq!(kind(&event.expect("it hangs").unwrap_err()), Kind::Unbounded);
}

#[tokio::test]
async fn what_stands_in_front_of_an_api_server_gives_no_verdict_on_anything() {
    for status in
        ["502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout", "200 OK", "403 Forbidden"]
    {
        let fake = match status {
            "502 Bad Gateway" => fake(|_| (html("502 Bad Gateway"), b"")).await,
            "503 Service Unavailable" => fake(|_| (html("503 Service Unavailable"), b"")).await,
            "504 Gateway Timeout" => fake(|_| (html("504 Gateway Timeout"), b"")).await,
            "200 OK" => fake(|_| (html("200 OK"), b"")).await,
            _ => fake(|_| (html("403 Forbidden"), b"")).await,
        };
        let maps = Api::<ConfigMap>::namespaced(fake.client(Bounds::REMOTE), "ns");
        let map = serde_json::from_value(serde_json::json!({"metadata": {"name": "a"}})).unwrap();
        let errors = [
            maps.get("a").await.map(drop),
            maps.list(&ListParams::default()).await.map(drop),
            maps.create(&PostParams::default(), &map).await.map(drop),
            maps.delete("a", &kube::api::DeleteParams::default()).await.map(drop),
            maps.watch(&WatchParams::default(), "0").await.map(drop),
        ];
        for error in errors {
            let error = error.expect_err(status);
            assert_eq!(kind(&error), Kind::NotKubernetes, "{status}");
            assert!(!matches!(error, kube::Error::Api(_)), "{status} is a verdict: {error:?}");
            assert!(!format!("{error} {error:?}").contains("c2VjcmV0"), "{error:?} holds the body");
        }
    }
}

#[tokio::test]
async fn an_empty_200_is_nothing_that_was_read_and_no_watch_either() {
    let fake = fake(|_| ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_owned(), b"")).await;
    let secrets = Api::<Secret>::namespaced(fake.client(Bounds::REMOTE), "ns");
    assert_eq!(kind(&secrets.get("a").await.unwrap_err()), Kind::NotKubernetes);
    let mut events = Box::pin(secrets.watch(&WatchParams::default(), "0").await.unwrap());
    let error = events.try_next().await.expect_err("a watch that ends at once would begin again at once");
    assert_eq!(kind(&error), Kind::NotKubernetes, "{error:?}");
}

#[tokio::test]
async fn a_page_that_is_too_long_is_asked_for_in_shorter_ones() {
    let fake = fake(|request| {
        let short = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
        if request.contains("limit=31&") || request.contains("limit=31 ") {
            let list = r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{},"items":[]}"#;
            (format!("{short}{list}"), b"")
        } else {
            (ENDLESS.to_owned() + "{\"kind\":\"ConfigMapList\",\"items\":\"", FILL)
        }
    })
    .await;
    let maps = Api::<ConfigMap>::all(fake.client(Bounds::REMOTE));
    for limit in [500, 500] {
        let list = maps.list(&ListParams::default().limit(limit)).await.unwrap();
        assert!(list.items.is_empty(), "500 and 125 are too many, 31 are not");
    }
    assert_eq!(kind(&maps.list(&ListParams::default()).await.unwrap_err()), Kind::Unbounded, "all at once");
}

#[tokio::test]
async fn a_list_of_endless_pages_ends() {
    let fake = fake(|_| {
        let page = r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"1","continue":"more"},"items":[]}"#;
        (format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{page}"), b"")
    })
    .await;
    let bounds = Bounds { list: List { objects: 5000, ..Bounds::REMOTE.list }, ..Bounds::REMOTE };
    let maps = Api::<ConfigMap>::all(fake.client(bounds));
    // As often as it is begun.
    for _ in 0..2 {
        let mut params = ListParams::default().limit(500);
        let mut pages = 0;
        let error = loop {
            match maps.list(&params).await {
                Ok(page) => params = params.continue_token(&page.metadata.continue_.unwrap()),
                Err(error) => break error,
            }
            pages += 1;
            assert!(pages <= 10, "it goes on");
        };
        assert_eq!((pages, kind(&error)), (10, Kind::Unbounded), "{error:?}");
        assert!(Cause::of(&error).words.contains("goes on after 5000 objects"), "{error:?}");
    }
}

#[tokio::test]
async fn a_list_of_something_else_is_not_an_empty_one() {
    let fake = fake(|_| {
        let list = r#"{"kind":"PodList","apiVersion":"v2","metadata":{"resourceVersion":"1"},"items":[]}"#;
        (format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{list}"), b"")
    })
    .await;
    let maps = Api::<ConfigMap>::all(fake.client(Bounds::REMOTE));
    let error = maps.list(&ListParams::default()).await.expect_err("it says that there are none");
    assert_eq!(kind(&error), Kind::NotKubernetes, "{error:?}");
}

#[tokio::test]
async fn a_watch_that_ends_at_once_is_none_whatever_it_brought() {
    let fake = fake(|_| {
        let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"resourceVersion":"2"}}}"#;
        (format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{bookmark}\n"), b"")
    })
    .await;
    let maps = Api::<ConfigMap>::all(fake.client(Bounds::REMOTE));
    let mut events = Box::pin(maps.watch(&WatchParams::default(), "0").await.unwrap());
    assert!(events.try_next().await.unwrap().is_some(), "what it brought counts");
    let error = events.try_next().await.expect_err("another would begin again at once");
    assert!(Cause::of(&error).words.contains("as soon as it had begun"), "{error:?}");
}
