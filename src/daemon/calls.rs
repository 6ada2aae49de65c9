//! Calls over the socket: lines of [`Call`], answered by lines of [`Reply`] as they are done.

use super::connections::Shared;
use super::journal;
use super::lines::{Line, Lines, write_json};
use super::protocol::{CANCEL, Call, Reply};
use crate::mcp::attended::Guest;
use athena_schemas::context::{Caller, Party};
use athena_schemas::ports::Request;
use athena_schemas::refusal::{Code, Refusal};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

/// Calls of one client that may be under way at once; the next one is not read until one is done.
const AT_ONCE: usize = 64;
/// Replies that may wait for a slow client.
const REPLIES: usize = 64;

/// Serves one client until it goes; what it had under way is then given up.
pub(crate) async fn serve(
    mut lines: Lines<OwnedReadHalf>,
    mut out: OwnedWriteHalf,
    caller: Caller,
    guest: &Guest,
    shared: Arc<Shared>,
) -> std::io::Result<()> {
    let caller = Arc::new(caller);
    let (reply, mut replies) = mpsc::channel::<Reply>(REPLIES);
    let writer = tokio::spawn(async move {
        while let Some(reply) = replies.recv().await {
            if write_json(&mut out, &reply).await.is_err() {
                break;
            }
        }
    });
    let mut under_way: JoinSet<u64> = JoinSet::new();
    let mut handles: HashMap<u64, AbortHandle> = HashMap::new();
    loop {
        guest.waits_for(under_way.len());
        tokio::select! {
            line = lines.next(), if under_way.len() < AT_ONCE => match line? {
                Line::End => break,
                Line::TooLong => send(&reply, Reply::error(0, too_long())).await,
                Line::Text(text) => match serde_json::from_slice::<Call>(&text) {
                    Err(e) => send(&reply, Reply::error(0, Refusal::invalid(format!("not a call: {e}")))).await,
                    Ok(call) if call.op == CANCEL => {
                        if let Some(handle) = handles.remove(&call.id) {
                            handle.abort();
                            send(&reply, Reply::error(call.id, cancelled())).await;
                        }
                    }
                    Ok(call) => {
                        guest.asks();
                        let id = call.id;
                        let work = one(call, caller.clone(), shared.clone(), reply.clone());
                        handles.insert(id, under_way.spawn(work));
                    }
                },
            },
            Some(done) = under_way.join_next() => match done {
                Ok(id) => { handles.remove(&id); }
                Err(e) if e.is_panic() => {
                    shared.counts.panics.caught("request");
                    let id = handles.iter().find(|(_, handle)| handle.id() == e.id()).map(|(id, _)| *id);
                    if let Some(id) = id {
                        handles.remove(&id);
                        send(&reply, Reply::error(id, defect())).await;
                    }
                }
                Err(_) => {}
            },
        }
    }
    drop(under_way);
    drop(reply);
    let _ = writer.await;
    Ok(())
}

/// One call, answered.
async fn one(call: Call, caller: Arc<Caller>, shared: Arc<Shared>, reply: mpsc::Sender<Reply>) -> u64 {
    let id = call.id;
    if journal::is_ours(&call.op) {
        let answer = match caller.party {
            Party::Human => journal::answer(&call, &shared, &reply).await,
            _ => Err(athena_schemas::catalog::unknown(&call.op)),
        };
        let last =
            answer.map_or_else(|refusal| Reply::error(id, refusal), |value| Reply::result(id, value, None));
        send(&reply, last).await;
        return id;
    }
    let caller = asks(&caller, call.agent, call.operator);
    let request = Request {
        op: call.op,
        params: call.params,
        scope: call.scope,
        idempotency_key: call.key,
        at_seq: call.at_seq,
    };
    let answer = shared.router.call(&caller, request).await;
    let last = match answer {
        Ok(answer) => Reply::result(id, answer.value, answer.seq),
        Err(refusal) => Reply::error(id, refusal),
    };
    send(&reply, last).await;
    id
}

/// Who asks: whom the connection was taken for, and on an agents' connection whom the front names. Both are the same user's
/// processes; what a front says of its client is as good here as over stdio.
fn asks(caller: &Arc<Caller>, agent: Option<String>, operator: bool) -> Arc<Caller> {
    if caller.party != Party::Agent || (agent.is_none() && !operator) {
        return caller.clone();
    }
    let mut asks = Caller::clone(caller);
    asks.name = agent.unwrap_or(asks.name);
    if operator {
        asks.party = Party::Host;
    }
    Arc::new(asks)
}

async fn send(reply: &mpsc::Sender<Reply>, value: Reply) {
    // A closed channel means that the client has gone; nobody is left to tell.
    let _ = reply.send(value).await;
}

fn too_long() -> Refusal {
    Refusal::new(Code::LimitExceeded, "a call is at most 16 MiB").hint("send less at once")
}

fn defect() -> Refusal {
    Refusal::internal("a defect of Athena ended the call").hint("athena doctor; see the store's daemon.log")
}

fn cancelled() -> Refusal {
    Refusal::new(Code::Cancelled, "the call was given up by its caller")
}
