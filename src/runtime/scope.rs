//! The objects of every namespace, or of those that are named. Where rights are granted in some namespaces only, each of
//! them is asked and watched by itself; what comes of it is told as by one watch.

use std::{collections::BTreeSet, time::Duration};

use futures::{
    StreamExt as _,
    future::select_all,
    stream::{self, BoxStream},
};
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};

use super::{backoff, follow::Followed};

/// First and longest pause before all are listed again because one of them could not be listed to its end.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What a watch tells.
pub type WatchEvents<K, E = watcher::Error> = BoxStream<'static, Result<Event<K>, E>>;

/// Where to ask: each namespace by itself, or `None`, which is everywhere, when none is named.
#[must_use]
pub fn places(within: &BTreeSet<String>) -> Vec<Option<String>> {
    if within.is_empty() { vec![None] } else { within.iter().cloned().map(Some).collect() }
}

/// Access to the objects of a namespace, or of all.
#[must_use]
pub fn api<K: Followed>(client: Client, place: Option<&str>) -> Api<K> {
    match place {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

/// What happens to the objects of kind `K` in the namespaces `within`, or in every one when that is empty.
#[must_use]
pub fn events<K: Followed>(
    client: &Client,
    within: &BTreeSet<String>,
    config: &watcher::Config,
) -> WatchEvents<K> {
    let (client, config, places) = (client.clone(), config.clone(), places(within));
    let begin = move |place: Option<&str>| {
        watcher(api::<K>(client.clone(), place), config.clone()).default_backoff().boxed()
    };
    if let [place] = places.as_slice() {
        return begin(place.as_deref());
    }
    merged(move || places.iter().map(|place| begin(place.as_deref())).collect())
}

/// Several watches as one: `begin` makes them. It begins when all are listed, and anew when one of them does.
fn merged<T, E>(begin: impl Fn() -> Vec<WatchEvents<T, E>> + Send + 'static) -> WatchEvents<T, E>
where
    T: Send + 'static,
    E: Send + 'static,
{
    let merged = Merged { begin, watches: Vec::new(), begun: 0 };
    stream::unfold(merged, |mut merged| async move {
        let event = merged.next().await?;
        Some((event, merged))
    })
    .boxed()
}

/// How long to wait before all are begun that were `begun` so often without having been listed: one that cannot be listed to
/// its end must not have the others listed without end.
fn pause(begun: u32) -> Duration {
    begun.checked_sub(2).map_or(Duration::ZERO, |again| backoff::delay(again, AGAIN.0, AGAIN.1))
}

/// Several watches, and how they are begun.
struct Merged<F, T, E> {
    begin: F,
    /// None before they are begun.
    watches: Vec<OneOfMany<T, E>>,
    /// How often they were begun since all were listed.
    begun: u32,
}

/// One of several watches.
struct OneOfMany<T, E> {
    events: WatchEvents<T, E>,
    /// Whether its listing has come to its end.
    is_listed: bool,
    /// Whether anything of its listing was told.
    has_told: bool,
}

/// What one of several watches has to say.
enum Heard<T, E> {
    /// Nothing that matters to anyone else.
    Nothing,
    /// It is listed now.
    Listed,
    /// It lists anew, after some of what it had listed was told.
    ListsAnew,
    Event(Result<Event<T>, E>),
    Ended,
}

impl<F: Fn() -> Vec<WatchEvents<T, E>>, T, E> Merged<F, T, E> {
    async fn next(&mut self) -> Option<Result<Event<T>, E>> {
        loop {
            if self.watches.is_empty() {
                tokio::time::sleep(pause(self.begun)).await;
                self.begun = self.begun.saturating_add(1);
                let begun = (self.begin)().into_iter();
                self.watches =
                    begun.map(|events| OneOfMany { events, is_listed: false, has_told: false }).collect();
                // Whoever listens drops what an earlier listing had brought.
                return Some(Ok(Event::Init));
            }
            let are_listed = self.watches.iter().all(|watch| watch.is_listed);
            // One that is listed waits for the others: its changes would be lost in the listing that goes on.
            let open = self.watches.iter_mut().filter(|watch| are_listed || !watch.is_listed);
            let (heard, ..) = select_all(open.map(|watch| Box::pin(watch.hear()))).await;
            // No watch is heard before the others for ever.
            self.watches.rotate_left(1);
            match heard {
                Heard::Listed if self.watches.iter().all(|watch| watch.is_listed) => {
                    self.begun = 1;
                    return Some(Ok(Event::InitDone));
                }
                Heard::Listed | Heard::Nothing => {}
                Heard::ListsAnew => self.watches.clear(),
                Heard::Event(event) => return Some(event),
                Heard::Ended => return None,
            }
        }
    }
}

impl<T, E> OneOfMany<T, E> {
    /// Waits for what comes next. Nothing is lost when that is given up.
    async fn hear(&mut self) -> Heard<T, E> {
        match self.events.next().await {
            None => Heard::Ended,
            Some(Ok(Event::Init)) if self.has_told => Heard::ListsAnew,
            // Also one whose first page has failed begins so.
            Some(Ok(Event::Init)) => Heard::Nothing,
            Some(Ok(Event::InitDone)) => {
                self.is_listed = true;
                self.has_told = true;
                Heard::Listed
            }
            Some(Ok(event @ (Event::InitApply(_) | Event::Apply(_) | Event::Delete(_)))) => {
                self.has_told = true;
                Heard::Event(Ok(event))
            }
            Some(Err(error)) => Heard::Event(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};

    use super::*;
    use crate::runtime::sync::lock;

    type Said = Result<Event<&'static str>, &'static str>;
    type Begun = Vec<UnboundedReceiver<Said>>;

    /// As many rounds of two watches as `rounds`, each of which says what the senders are told to.
    fn two(rounds: usize) -> (BoxStream<'static, Said>, Vec<[UnboundedSender<Said>; 2]>) {
        let (mut senders, mut begun): (Vec<_>, Vec<Begun>) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let ((first, one), (second, other)) = (unbounded(), unbounded());
            senders.push([first, second]);
            begun.insert(0, vec![one, other]);
        }
        let begun = Arc::new(Mutex::new(begun));
        let stream = merged(move || {
            let round = lock(&begun).pop().expect("another round");
            round.into_iter().map(futures::StreamExt::boxed).collect()
        });
        (stream, senders)
    }

    fn say(to: &UnboundedSender<Said>, all: &[Said]) {
        for one in all {
            to.unbounded_send(one.clone()).unwrap();
        }
    }

    /// What the stream says until it has nothing more to say.
    async fn told(stream: &mut BoxStream<'static, Said>) -> Vec<String> {
        let mut all = Vec::new();
        while let Ok(Some(said)) =
            tokio::time::timeout(std::time::Duration::from_millis(50), stream.next()).await
        {
            all.push(match said {
                Ok(Event::Init) => "begins".to_owned(),
                Ok(Event::InitApply(name)) => format!("lists {name}"),
                Ok(Event::InitDone) => "listed".to_owned(),
                Ok(Event::Apply(name)) => format!("changed {name}"),
                Ok(Event::Delete(name)) => format!("gone {name}"),
                Err(why) => format!("error {why}"),
            });
        }
        all
    }

    #[tokio::test]
    async fn several_watches_are_listed_when_all_are_and_none_tells_of_changes_before() {
        let (mut stream, senders) = two(1);
        let [first, second] = &senders[0];
        say(first, &[Ok(Event::Init), Ok(Event::InitApply("a")), Ok(Event::InitDone), Ok(Event::Apply("b"))]);
        say(second, &[Ok(Event::Init), Err("forbidden"), Ok(Event::Init), Err("forbidden")]);
        let said = told(&mut stream).await;
        assert_eq!(said[0], "begins");
        assert!(!said.contains(&"listed".to_owned()) && !said.contains(&"changed b".to_owned()), "{said:?}");
        assert_eq!(said.iter().filter(|said| *said == "error forbidden").count(), 2);
        say(
            second,
            &[Ok(Event::Init), Ok(Event::InitApply("c")), Ok(Event::InitDone), Ok(Event::Delete("c"))],
        );
        let said = told(&mut stream).await;
        assert_eq!(said[..2], ["lists c", "listed"]);
        assert!(said.contains(&"changed b".to_owned()) && said.contains(&"gone c".to_owned()), "{said:?}");
    }

    #[tokio::test]
    async fn when_one_of_them_lists_anew_all_do() {
        let (mut stream, senders) = two(2);
        let whole = [Ok(Event::Init), Ok(Event::InitApply("a")), Ok(Event::InitDone)];
        let [first, second] = &senders[0];
        say(first, &whole);
        say(second, &[Ok(Event::Init), Ok(Event::InitDone)]);
        assert_eq!(told(&mut stream).await, ["begins", "lists a", "listed"]);
        say(second, &[Err("gone"), Ok(Event::Init)]);
        assert_eq!(told(&mut stream).await, ["error gone", "begins"]);
        let [first, second] = &senders[1];
        say(second, &whole);
        say(first, &[Ok(Event::Init), Ok(Event::InitDone)]);
        assert_eq!(told(&mut stream).await, ["lists a", "listed"]);
    }

    #[test]
    fn what_is_never_listed_to_its_end_has_the_others_listed_ever_more_rarely() {
        let pauses: Vec<u64> = (0..9).map(|begun| pause(begun).as_secs()).collect();
        assert_eq!(pauses, [0, 0, 1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn none_named_is_everywhere() {
        assert_eq!(places(&BTreeSet::new()), [None]);
        let two = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        assert_eq!(places(&two), [Some("a".to_owned()), Some("b".to_owned())]);
    }
}
