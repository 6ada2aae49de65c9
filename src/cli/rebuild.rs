//! `athena rebuild`: read models anew from the log, with how far they have come.

use super::output::field;
use super::session::Session;
use super::{Done, written};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// How often the bar is drawn.
const DRAW: Duration = Duration::from_millis(200);
/// Its width, characters.
const WIDTH: usize = 30;

/// Build read models anew from the log
#[derive(Debug, clap::Args)]
pub(crate) struct Rebuild {
    /// Which one, such as search or items; all of them where missing
    name: Option<String>,
}

impl Rebuild {
    pub(crate) async fn run(self, session: &Session) -> Done {
        let work = session.call("store/rebuild", json!({ "projection": self.name }));
        let mut work = std::pin::pin!(work);
        let watched = !session.out.quiet && !session.out.json && std::io::stderr().is_terminal();
        let mut ticks = tokio::time::interval(DRAW);
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                _ = ticks.tick(), if watched => {
                    // A health that cannot be told is no reason to stop.
                    if let Ok(health) = session.call("store/health", json!({})).await {
                        draw(&health);
                    }
                }
            }
        };
        if watched {
            let _ = write!(std::io::stderr(), "\r{:1$}\r", "", WIDTH + 40);
        }
        written(session.out.value(&done?, |done| {
            let names = done.get("projections").and_then(Value::as_array).map_or(0, Vec::len);
            format!("{names} read models stand at position {}", field(done, "/seq"))
        }))
    }
}

/// One line that replaces itself: the read model that is furthest behind sets the pace.
fn draw(health: &Value) {
    let head = health.get("head").and_then(Value::as_u64).unwrap_or(0).max(1);
    let lag = health.get("lag").and_then(Value::as_object);
    let behind = lag.into_iter().flatten().filter_map(|(name, lag)| Some((lag.as_u64()?, name))).max();
    let (lag, name) = behind.map_or((0, ""), |(lag, name)| (lag.min(head), name.as_str()));
    let done = head - lag;
    let full = (done as usize).saturating_mul(WIDTH) / head as usize;
    let bar: String = (0..WIDTH).map(|at| if at < full { '█' } else { '░' }).collect();
    let name = if lag == 0 { "" } else { name };
    let _ = write!(std::io::stderr(), "\r{bar} {:>3} % {done}/{head} {name:<12}", done * 100 / head);
    let _ = std::io::stderr().flush();
}
