//! What Athena does by itself: passes of consolidation in the scopes that are due, and retention of run records. An ordinary
//! caller of the router, nothing more.

use crate::router::Router;
use athena_schemas::context::Caller;
use athena_schemas::layers::consolidation::DueScope;
use athena_schemas::ports::{Request, Router as _};
use athena_schemas::refusal::Refusal;
use serde_json::{Value, json};
use std::sync::Weak;
use std::time::Duration;

/// How often it looks whether something is due.
const LOOK: Duration = Duration::from_secs(60);

/// How often it asks whether something is to be retired.
const HOUR: Duration = Duration::from_secs(60 * 60);

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
