//! A connection between the two, after each knows which one works.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{
    Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel,
};
use tokio::sync::watch;
use tokio::time::{interval, timeout};
use tokio_openssl::SslStream;
use weir_state::{Batch, State, StateError};

use crate::feed::{Feed, Queued};
use crate::message::{self, Message};

/// A connection to the peer.
pub(crate) type Stream = SslStream<TcpStream>;
/// Frames that wait for the disk of the standby.
const WAITING: usize = 16;
/// Commits that the standby keeps in one transaction.
const TOGETHER: usize = 256;
/// How long an active that ends waits for the standby's last word.
const LAST_WORD: Duration = Duration::from_secs(1);

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// It broke, or was silent for the lease; the peer was last heard then.
    Lost(Instant),
    /// The active ends in order.
    Bye,
    /// This daemon ends.
    Stopped,
}

/// What both sides of a connection need.
pub(crate) struct Shared {
    pub(crate) state: Arc<State>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) lease: Duration,
}

/// The active's side: a snapshot, then each commit; beats often enough for the shorter lease of both.
pub(crate) async fn lead(
    stream: Stream,
    shared: &Shared,
    peer_lease: Duration,
    stop: &mut watch::Receiver<bool>,
) -> Ended {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let feed = &shared.feed;
    let commits = feed.open_queue();
    let beat = shared.lease.min(peer_lease) / 6;
    let ended = tokio::select! {
        written = tell(&mut writer, shared, commits, beat, stop) => match written {
            Ok(ended) => ended,
            Err(error) => lost(&error, Instant::now()),
        },
        ended = hear(&mut reader, feed, shared.lease) => ended,
    };
    feed.lost();
    ended
}

async fn tell(
    writer: &mut WriteHalf<Stream>,
    shared: &Shared,
    mut commits: UnboundedReceiver<Queued>,
    beat: Duration,
    stop: &mut watch::Receiver<bool>,
) -> io::Result<Ended> {
    let snapshot = shared.state.snapshot().map_err(io::Error::other)?;
    let whole = snapshot.commits();
    for part in snapshot {
        let part = Message::Part(part.map_err(io::Error::other)?);
        send(writer, &part).await?;
    }
    send(writer, &Message::Whole(whole)).await?;
    let mut beats = interval(beat);
    loop {
        tokio::select! {
            commit = commits.recv() => match commit {
                Some(commit) => pass_on(writer, shared, commit, whole).await?,
                // It fell too far behind.
                None => return Ok(Ended::Lost(Instant::now())),
            },
            _ = beats.tick() => send(writer, &Message::Beat).await?,
            () = told_to_stop(stop) => break,
        }
    }
    while let Ok(commit) = commits.try_recv() {
        pass_on(writer, shared, commit, whole).await?;
    }
    let until = Instant::now() + LAST_WORD;
    while !shared.feed.is_acknowledged() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    send(writer, &Message::Bye).await?;
    let _ = writer.shutdown().await;
    Ok(Ended::Stopped)
}

async fn pass_on(
    writer: &mut WriteHalf<Stream>,
    shared: &Shared,
    (number, batch): Queued,
    whole: u64,
) -> io::Result<()> {
    shared.feed.sent(batch.len());
    if number > whole {
        writer.write_all(&message::commit(number, &batch)).await?;
        writer.flush().await?;
    }
    Ok(())
}

/// Hears the standby's confirmations and beats.
async fn hear(reader: &mut ReadHalf<Stream>, feed: &Feed, lease: Duration) -> Ended {
    let mut heard = Instant::now();
    loop {
        match timeout(lease, message::read(reader)).await {
            Ok(Ok(Message::Acknowledged(number))) => feed.acknowledged(number),
            Ok(Ok(Message::Beat)) => feed.heard(),
            Ok(Ok(Message::Bye)) => return Ended::Lost(heard),
            Ok(Ok(_)) => return lost(&"an active got an active's words", heard),
            Ok(Err(error)) => return lost(&error, heard),
            Err(_) => return lost(&"the standby is silent", heard),
        }
        heard = Instant::now();
    }
}

/// The standby's side: keeps what comes, until the active is silent for the lease.
pub(crate) async fn follow(
    stream: Stream,
    shared: &Shared,
    peer_lease: Duration,
    stop: &mut watch::Receiver<bool>,
) -> Ended {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (work, waiting) = channel(WAITING);
    let (acknowledge, acknowledged) = unbounded_channel();
    let keeper = tokio::task::spawn_blocking({
        let (state, feed) = (Arc::clone(&shared.state), Arc::clone(&shared.feed));
        move || keep(&state, &feed, waiting, &acknowledge)
    });
    let beat = shared.lease.min(peer_lease) / 6;
    let ended = tokio::select! {
        ended = take_in(&mut reader, work, shared.lease) => ended,
        error = confirm(&mut writer, acknowledged, beat) => lost(&error, Instant::now()),
        () = told_to_stop(stop) => Ended::Stopped,
    };
    if ended == Ended::Stopped {
        let _ = timeout(LAST_WORD, send(&mut writer, &Message::Bye)).await;
    }
    // Nobody else may touch the rows before the last of them is kept.
    if let Ok(Err(error)) = keeper.await {
        tracing::error!(%error, "the active's rows are not kept");
    }
    ended
}

async fn take_in(reader: &mut ReadHalf<Stream>, work: Sender<Message>, lease: Duration) -> Ended {
    let mut heard = Instant::now();
    loop {
        match timeout(lease, message::read(reader)).await {
            Ok(Ok(Message::Beat)) => {}
            Ok(Ok(Message::Bye)) => return Ended::Bye,
            Ok(Ok(rows @ (Message::Part(_) | Message::Whole(_) | Message::Commit(..)))) => {
                if work.send(rows).await.is_err() {
                    return lost(&"rows cannot be kept", heard);
                }
            }
            Ok(Ok(_)) => return lost(&"a standby got a standby's words", heard),
            Ok(Err(error)) => return lost(&error, heard),
            Err(_) => return lost(&"the active is silent", heard),
        }
        heard = Instant::now();
    }
}

/// Confirms what is on disk, and that this one lives, until that fails.
async fn confirm(
    writer: &mut WriteHalf<Stream>,
    mut acknowledged: UnboundedReceiver<u64>,
    beat: Duration,
) -> io::Error {
    let mut beats = interval(beat);
    loop {
        let message = tokio::select! {
            number = acknowledged.recv() => match number {
                Some(number) => Message::Acknowledged(number),
                None => return io::Error::other("rows cannot be kept"),
            },
            _ = beats.tick() => Message::Beat,
        };
        if let Err(error) = send(writer, &message).await {
            return error;
        }
    }
}

/// A snapshot that did not come to its end.
#[derive(Debug, thiserror::Error)]
enum Unkept {
    #[error("the snapshot broke off")]
    BrokenOff,
    #[error(transparent)]
    State(#[from] StateError),
}

/// Keeps rows on a thread that may wait for the disk, and says up to which commit.
fn keep(
    state: &State,
    feed: &Feed,
    mut rows: Receiver<Message>,
    acknowledge: &UnboundedSender<u64>,
) -> Result<(), Unkept> {
    let mut whole = 0;
    let parts = std::iter::from_fn(|| match rows.blocking_recv() {
        Some(Message::Part(part)) => Some(Ok(part)),
        Some(Message::Whole(number)) => {
            whole = number;
            None
        }
        _ => Some(Err(Unkept::BrokenOff)),
    });
    match state.replace_all(parts) {
        // The connection broke first: what was here before stays.
        Err(Unkept::BrokenOff) => return Ok(()),
        kept => kept?,
    }
    feed.count_snapshot();
    // Where nobody wants to know any more, the connection is gone, and the channel of rows closes too.
    let _ = acknowledge.send(whole);
    while let Some(first) = rows.blocking_recv() {
        let mut batch = Batch::new();
        let (mut newest, mut commits) = (0, 0);
        let mut next = Some(first);
        while let Some(Message::Commit(number, commit)) = next {
            batch.append(commit);
            (newest, commits) = (number, commits + 1);
            next = (commits < TOGETHER as u64)
                .then(|| rows.try_recv().ok())
                .flatten();
        }
        state.apply(&batch)?;
        feed.count_applied(commits);
        let _ = acknowledge.send(newest);
    }
    Ok(())
}

/// Waits until this daemon is to end.
pub(crate) async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    // An error means that whoever would say it is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

pub(crate) async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    message: &Message,
) -> io::Result<()> {
    writer.write_all(&message.encode()).await?;
    writer.flush().await
}

fn lost(why: &dyn std::fmt::Display, heard: Instant) -> Ended {
    tracing::info!(%why, "the connection to the peer is over");
    Ended::Lost(heard)
}
