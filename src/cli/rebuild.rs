//! `athena rebuild`: read models anew from the log, with how far they have come.

use super::output::{Bar, field};
use super::session::Session;
use super::{Done, written};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::Duration;

/// How often the bar is drawn.
const DRAW: Duration = Duration::from_millis(200);

/// Build read models anew from the log
#[derive(Debug, clap::Args)]
pub(crate) struct Rebuild {
    /// Which one, such as search or items; all of them where missing
    name: Option<String>,
}

impl Rebuild {
    pub(crate) async fn run(self, session: &Session) -> Done {
        let work = session.call("store/rebuild", json!({ "projection": self.name }));
        // Both go on at the same time: who draws asks over the connection that the work may be opening.
        let done = tokio::select! {
            done = work => done,
            never = watch(session), if !session.out.quiet => match never {},
        };
        written(session.out.value(&done?, |done| {
            let names = done.get("projections").and_then(Value::as_array).map_or(0, Vec::len);
            format!("{names} read models stand at position {}", field(done, "/seq"))
        }))
    }
}

/// Draws how far it has come, until dropped.
async fn watch(session: &Session) -> Infallible {
    let mut bar = session.out.bar("rebuilding");
    let mut ticks = tokio::time::interval(DRAW);
    loop {
        ticks.tick().await;
        // A health that cannot be told is no reason to stop.
        if let Ok(health) = session.call("store/health", json!({})).await {
            draw(&mut bar, &health);
        }
    }
}

/// The read model that is furthest behind sets the pace.
fn draw(bar: &mut Bar, health: &Value) {
    let head = health.get("head").and_then(Value::as_u64).unwrap_or(0);
    let left = health.get("rebuilding").and_then(Value::as_object);
    let behind = left.into_iter().flatten().filter_map(|(name, left)| Some((left.as_u64()?, name))).max();
    if let Some((left, name)) = behind {
        bar.note(name);
        bar.at(head - left.min(head), head);
    }
}
