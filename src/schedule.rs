//! What Athena does by itself: passes of consolidation in the scopes that are due, and retention of run records, as an ordinary
//! caller of the router; and writing out what has gathered in memory.

use crate::read_side::ReadSide;
use crate::router::Router;
use athena_actors::log::LogHandle;

use athena_schemas::context::Caller;
use athena_schemas::layers::consolidation::DueScope;
use athena_schemas::ports::{Request, Router as _};
use athena_schemas::refusal::Refusal;
use serde_json::{Value, json};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often it looks whether something is due.
const LOOK: Duration = Duration::from_secs(60);

/// How often it asks whether something is to be retired.
const HOUR: Duration = Duration::from_secs(60 * 60);

/// How often it looks at what has gathered in memory.
const GATHERED_LOOK: Duration = Duration::from_secs(2);

/// More bytes between two looks are a burst, such as an import. The storage engines write that out by themselves, in larger
/// pieces, which is quicker.
const BURST: u64 = 8 << 20;

/// Bytes worth writing out while more come, and in a pause.
const WORTH: u64 = 4 << 20;
const WORTH_IN_A_PAUSE: u64 = 1 << 20;

/// Looks and acts until the router is gone. A language model is asked about what passes are unsure of where the settings say
/// so.
pub(crate) async fn consolidation(router: Weak<Router>, reasons: bool) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick comes at once; a store that was just opened has better things to do.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let Some(router) = router.upgrade() else { return };
        if let Err(refusal) = pass(&router, reasons).await {
            tracing::warn!(%refusal, "a scheduled consolidation did not run");
        }
    }
}

/// Has what run records keep beyond the settings retired, until the router is gone. Asked hourly, it is done daily.
pub(crate) async fn retention(router: Weak<Router>) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + LOOK, HOUR);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(router) = router.upgrade() else { return };
        if let Err(refusal) = call(&router, "store/retain", json!({"apply": true}), &Caller::system()).await {
            tracing::warn!(%refusal, "run records were not retired");
        }
    }
}

/// Keeps the log and the read models from filling their memory slowly: each of some fifty tables may hold megabytes, for ever
/// in a process that does little. Ends with the read models.
pub(crate) async fn write_out(log: LogHandle, read_side: Weak<ReadSide>) {
    let mut ticks = tokio::time::interval(GATHERED_LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut log_before, mut rows_before) = (0, 0);
    // Whether memory was written out since the last pause, in which it is given back.
    let mut was_due = false;
    loop {
        ticks.tick().await;
        let Some(read_side) = read_side.upgrade() else { return };
        let (in_log, in_rows) = (log.gathered(), read_side.library.store.gathered());
        let is_quiet = (in_log, in_rows) == (log_before, rows_before);
        let is_log_due = is_due(&mut log_before, in_log);
        let are_rows_due = is_due(&mut rows_before, in_rows);
        if !is_log_due && !are_rows_due {
            if is_quiet && std::mem::take(&mut was_due) {
                let_go(&log, read_side).await;
            }
            continue;
        }
        was_due = true;
        let log = log.clone();
        let begun = tokio::task::spawn_blocking(move || {
            if is_log_due && let Err(error) = log.begin_write_out() {
                tracing::warn!(%error, "the log's memory was not written out");
            }
            if are_rows_due && let Err(error) = read_side.library.store.begin_write_out() {
                tracing::warn!(%error, "the read models' memory was not written out");
            }
        });
        // It fails where the process ends.
        let _ = begun.await;
    }
}

/// Gives the memory of what was written out back to the system.
async fn let_go(log: &LogHandle, read_side: Arc<ReadSide>) {
    if let Err(error) = log.let_go().await {
        tracing::warn!(%error, "the log holds on to memory that it has written out");
    }
    let freed = tokio::task::spawn_blocking(move || {
        if let Err(error) = read_side.let_go() {
            tracing::warn!(%error, "the read models hold on to memory that they have written out");
        }
        athena_worker::give_all_back();
    });
    // It fails where the process ends.
    let _ = freed.await;
}

/// Whether what has gathered is to be written out, by what it was at the look before.
fn is_due(before: &mut u64, now: u64) -> bool {
    // It is less than before where somebody else has written it out.
    let more = now.saturating_sub(std::mem::replace(before, now));
    now >= if more == 0 { WORTH_IN_A_PAUSE } else { WORTH } && more < BURST
}

/// One pass in each scope that is due.
pub(crate) async fn pass(router: &Router, reasons: bool) -> Result<usize, Refusal> {
    let due = call(router, "consolidation/due", json!({}), &Caller::system()).await?;
    let due: Vec<DueScope> =
        serde_json::from_value(due).map_err(|error| Refusal::internal(error.to_string()))?;
    for DueScope { scope, strategy } in &due {
        let caller = Caller { scope: scope.clone(), holds: scope.clone(), ..Caller::system() };
        let run = call(router, "consolidation/consolidate", json!({"strategy": strategy}), &caller).await?;
        if let Some(run) = run.get("run").filter(|_| reasons) {
            // The pass stands, whatever a model says or fails to say.
            let asked = call(router, "consolidation/reason", json!({"run": run}), &caller).await;
            if let Err(refusal) = asked {
                tracing::warn!(%refusal, "no language model was asked");
            }
        }
    }
    Ok(due.len())
}

async fn call(router: &Router, op: &str, params: Value, caller: &Caller) -> Result<Value, Refusal> {
    Ok(router.call(caller, Request::new(op, params)).await?.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gathers_slowly_or_has_stopped_is_written_out_and_a_burst_is_not() {
        let looks = |seen: &[u64]| {
            let mut before = 0;
            seen.iter().map(|now| is_due(&mut before, *now)).collect::<Vec<_>>()
        };
        assert_eq!(looks(&[1 << 20, 2 << 20, 3 << 20, 4 << 20]), [false, false, false, true], "a trickle");
        assert_eq!(looks(&[100, 100, 2 << 20, 2 << 20]), [false, false, false, true], "a pause");
        assert_eq!(looks(&[20 << 20, 40 << 20, 40 << 20]), [false, false, true], "a burst, and its end");
        assert_eq!(looks(&[5 << 20, 100, 100]), [true, false, false], "written out meanwhile");
    }
}
