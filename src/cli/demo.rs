//! `athena demo`: see all of it work.

use super::output::{Style, escape};
use super::session::Session;
use super::{Done, written};
use crate::demo::{Line, Stage, play};
use athena_schemas::refusal::{Code, Refusal};

/// See all of it work, offline, in a throw-away store
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// Keep the store, and say where it is
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub(crate) async fn run(self, session: &Session) -> Done {
        let folder =
            std::env::temp_dir().join(format!("athena-demo-{}", crate::daemon::client::random_name()));
        let out = session.out;
        let mut told = |line: Line| {
            if out.json {
                return written(out.json_line(&line.json())).map(|_| ());
            }
            written(out.painted(&match line {
                Line::Title(text) => format!("\n{}", out.paint(Style::Bold, &text)),
                Line::Shown(name, text) => {
                    format!("  {} {}", out.paint(Style::Name, &format!("{name:<10}")), escape(&text))
                }
                Line::Proof { what, holds: true } => format!("  {} {what}", out.paint(Style::Good, "✓")),
                Line::Proof { what, holds: false } => {
                    format!("  {} {what}", out.paint(Style::Bad, "✗ FAILED:"))
                }
            }))
            .map(|_| ())
        };
        let played = play(Stage { folder: folder.clone(), tell: &mut told }).await;
        if self.keep {
            session.out.note(&format!("the store is kept: athena --store {} log tail", folder.display()));
        } else {
            let _ = std::fs::remove_dir_all(&folder);
        }
        let (proofs, seconds) = played?;
        let failed = proofs.iter().filter(|holds| !**holds).count();
        if failed > 0 {
            return Err(Refusal::new(Code::Integrity, format!("{failed} of {} proofs failed", proofs.len())));
        }
        if !out.json {
            let last = format!("\nall {} proofs hold, in {seconds:.1} s", proofs.len());
            written(out.painted(&out.paint(Style::Bold, &last)))?;
        }
        Ok(0)
    }
}
