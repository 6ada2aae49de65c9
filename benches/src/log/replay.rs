//! Replaying a sealed log: read, check the chain's ciphertexts by opening them, fold; and rebuilding every read model.

use super::{Settings, draft, house, median, report, say};
use athena_actors::keys::{KeyStore, MasterKey, PayloadSealer};
use athena_actors::log::{Append, LogHandle, Mode, Options};
use athena_schemas::ports::{Opened, Sealer};
use std::sync::Arc;
use std::time::Instant;

/// Measures and reports.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<()> {
    let folder = settings.folder()?;
    let options = Options { mode: Mode::Buffer, ..Options::default() };
    let (log, _) = LogHandle::open(folder.path().join("log"), options)?;
    let sealer = PayloadSealer::new(Arc::new(KeyStore::open(&folder.path().join("keys"), MasterKey::File)?));
    for from in (1..=settings.events).step_by(500) {
        let until = (from + 500).min(settings.events + 1);
        let drafts = (from..until).map(|n| sealer.seal(draft(n))).collect::<Result<Vec<_>, _>>()?;
        log.commit(Append::new(drafts)).await?;
    }
    let reader = log.reader();
    let (mut read, mut opened, mut verified) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=settings.rounds {
        for (rates, open) in [(&mut read, false), (&mut opened, true)] {
            let started = Instant::now();
            let (mut after, mut folded) = (0, 0_u64);
            while after < reader.head() {
                for record in reader.read(after, 512)? {
                    after = record.seq;
                    let payload =
                        if open { sealer.open(&record.draft)? } else { Opened::Plain(record.draft.payload) };
                    if let Opened::Plain(bytes) = payload {
                        folded = folded.wrapping_add(bytes.len() as u64);
                    }
                }
            }
            anyhow::ensure!(folded > 0, "nothing was read");
            rates.push(after as f64 / started.elapsed().as_secs_f64());
        }
        let started = Instant::now();
        let checked = log.verify(None)?;
        anyhow::ensure!(checked.is_clean(), "the log does not verify");
        verified.push(checked.events as f64 / started.elapsed().as_secs_f64());
        say(format_args!(
            "round {round}: {read:.0?} read, {opened:.0?} opened, {verified:.0?} verified a second"
        ));
    }
    log.close().await?;
    let store = settings.folder()?;
    house::fill(store.path(), settings.events).await?;
    let (system, _) = house::open(store.path()).await?;
    let mut rebuilt = Vec::new();
    for round in 1..=settings.rounds {
        let started = Instant::now();
        let (names, _) = system.read_side().rebuild(None).await?;
        rebuilt.push(settings.events as f64 / started.elapsed().as_secs_f64());
        say(format_args!(
            "round {round}: {} read models rebuilt, {rebuilt:.0?} events a second",
            names.len()
        ));
    }
    system.shutdown().await;
    report(
        settings,
        &serde_json::json!({
            "events": settings.events,
            "rebuilt_per_s": median(&rebuilt),
            "read_per_s": median(&read),
            "opened_per_s": median(&opened),
            "verified_per_s": median(&verified),
        }),
    )
}
