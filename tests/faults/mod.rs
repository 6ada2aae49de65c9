//! What must not happen to the log, tried on real files: processes killed, tails torn, bits flipped, files emptied, disks full,
//! power lost. `ATHENA_FAULTS=full` tries a thousand cases; without it a sample runs in about a minute.
//!
//! The law for every case: the log either opens with everything that was acknowledged as durable, its chain whole, or it
//! refuses as damaged. It never opens silently with less. A torn tail always opens.

mod child;
mod damage;
mod full_disk;
mod kill;
mod power;
mod store;

use std::fmt::Display;
use std::io::Write;

/// How many cases to try: `few`, or `many` in the full form.
fn cases(few: u64, many: u64) -> u64 {
    if std::env::var("ATHENA_FAULTS").is_ok_and(|form| form == "full") { many } else { few }
}

/// A line of the result table, for whoever reads along (`--nocapture`).
fn tell(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "faults: {line}");
}

/// Numbers that look random and are the same in every run: SplitMix64 (Steele, Lea and Flood, 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.roll() % limit.max(1) as u64).unwrap()
    }
}
