//! `store/retain`: what run records keep beyond the settings, dropped on record.

use super::{House, answer};
use crate::config::Retention as Settings;
use crate::files::bytes_below;
use athena_actors::retention::{self, Due, Policy};
use athena_schemas::context::{Context, Party};
use athena_schemas::id::Id;
use athena_schemas::layers::store::{Retain, RetainDone};
use athena_schemas::ports::Answer;
use athena_schemas::refusal::Refusal;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// Less than this is not worth rewriting the log's files for, bytes; it goes with a later pass, or `athena log compact`.
const WORTH_REWRITING: u64 = 64 << 20;

/// The settings as a policy.
pub(crate) fn policy(settings: &Settings) -> Policy {
    let set = |value: u64| (value > 0).then_some(value);
    Policy {
        age_ms: set(settings.run_days).map(|days| days.saturating_mul(DAY_MS)),
        bytes: set(settings.run_bytes),
        pinned: settings.pinned.iter().map(Id::from_text).collect(),
    }
}

pub(super) async fn call(house: &House, cx: &Context, op: Retain) -> Result<Answer, Refusal> {
    let _turn = house.retention.turn.lock().await;
    let policy = house.retention.policy.clone();
    // Athena itself asks more often than it has to look: its daemons come and go.
    let by_itself = cx.caller.party == Party::System;
    if by_itself {
        let idle = policy.age_ms.is_none() && policy.bytes.is_none();
        if idle
            || cx.now_ms.saturating_sub(retention::looked_ms(&house.log)?) < DAY_MS
            || !retention::may_be_due(&house.log, &policy, cx.now_ms)?
        {
            return answer(RetainDone::default());
        }
    }
    let due = {
        let (log, sealer, policy, now_ms) =
            (house.log.clone(), house.sealer.clone(), policy.clone(), cx.now_ms);
        tokio::task::spawn_blocking(move || retention::due(&log, &*sealer, &policy, now_ms))
            .await
            .map_err(|error| Refusal::internal(format!("looking for what is due failed: {error}")))??
    };
    let mut done = told(&policy, &due);
    if by_itself {
        retention::note_looked(&house.log, &policy, &due, cx.now_ms).await?;
    }
    if !op.apply || due.runs.is_empty() {
        return answer(done);
    }
    let folder = house.folder.join("log");
    let before = bytes_below(&folder);
    done.seq = retention::retire(&house.log, due, cx.now_ms).await?;
    done.applied = true;
    // Pages that were opened before are not shown any more.
    house.read_side.forget_pages();
    if done.bytes >= WORTH_REWRITING || !by_itself {
        house.log.compact().await?;
        done.freed = Some(before.saturating_sub(bytes_below(&folder)));
    }
    answer(done)
}

fn told(policy: &Policy, due: &Due) -> RetainDone {
    RetainDone {
        applied: false,
        run_days: policy.age_ms.unwrap_or(0) / DAY_MS,
        run_bytes: policy.bytes.unwrap_or(0),
        kept_bytes: due.kept_bytes,
        runs: due.runs.len() as u64,
        events: due.payloads(),
        bytes: due.bytes,
        retired: due.retired,
        unfinished: due.unfinished,
        pinned: due.pinned,
        freed: None,
        seq: None,
    }
}

/// What the service works with: one pass at a time.
pub(crate) struct Retention {
    policy: Policy,
    turn: tokio::sync::Mutex<()>,
}

impl Retention {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self { policy: policy(settings), turn: tokio::sync::Mutex::default() }
    }
}
