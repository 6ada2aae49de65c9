//! Flipped bits, emptied, truncated and missing files.

use super::store::{Dead, Verdict, active_journal, data_len, files};
use super::{Dice, cases, tell};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

#[derive(Default)]
struct Tally {
    refused: u64,
    found: u64,
    harmless: u64,
}

impl Tally {
    fn count(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Refused(_) => self.refused += 1,
            Verdict::Found => self.found += 1,
            Verdict::Opened { .. } => self.harmless += 1,
        }
    }

    fn tell(&self, what: &str) {
        let all = self.refused + self.found + self.harmless;
        tell(format_args!(
            "{what}: {all} cases, {} refused, {} noticed on reading, {} without effect, 0 silently dropped",
            self.refused, self.found, self.harmless
        ));
    }
}

fn flip(path: &Path, dice: &mut Dice, len: usize) -> usize {
    let at = dice.below(len);
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << dice.below(8))], at as u64).unwrap();
    at
}

#[test]
fn a_flipped_bit_in_the_synced_journal_is_always_found() {
    let dead = Dead::make(20, 60, 60);
    let (mut dice, mut tally) = (Dice(1), Tally::default());
    for _ in 0..cases(12, 250) {
        let case = dead.copy();
        let journal = active_journal(&case.path);
        let at = flip(&journal, &mut dice, data_len(&journal));
        let what = format!("journal byte {at}");
        let verdict = dead.judge(&case, dead.synced, &what);
        if let Verdict::Refused(text) = &verdict {
            assert!(text.contains("position"), "the refusal names positions: {text}");
        }
        tally.count(&verdict);
    }
    assert!(tally.refused > 0);
    tally.tell("flipped bits in the synced journal");
}

#[test]
fn a_flipped_bit_in_a_table_is_never_read_as_data() {
    let dead = Dead::make(60, 60, 60);
    let (mut dice, mut tally) = (Dice(2), Tally::default());
    for _ in 0..cases(8, 200) {
        let case = dead.copy();
        let tables: Vec<_> =
            files(&case.path.join("db/keyspaces")).into_iter().filter(|path| data_len(path) > 0).collect();
        let table = &tables[dice.below(tables.len())];
        let at = flip(table, &mut dice, data_len(table));
        let what = format!("{} byte {at}", table.strip_prefix(&case.path).unwrap().display());
        tally.count(&dead.judge(&case, dead.synced, &what));
    }
    tally.tell("flipped bits in tables and manifests");
}

#[test]
fn emptied_truncated_and_missing_files_are_noticed() {
    let dead = Dead::make(30, 60, 60);
    let (mut dice, mut tally) = (Dice(3), Tally::default());
    for case_number in 0..cases(12, 200) {
        let case = dead.copy();
        let all: Vec<_> = files(&case.path).into_iter().filter(|path| data_len(path) > 0).collect();
        let path = &all[dice.below(all.len())];
        let name = path.strip_prefix(&case.path).unwrap().display().to_string();
        let len = data_len(path);
        let what = match case_number % 3 {
            0 => {
                fs::write(path, []).unwrap();
                format!("{name} emptied")
            }
            1 => {
                let at = dice.below(len);
                fs::File::options().write(true).open(path).unwrap().set_len(at as u64).unwrap();
                format!("{name} cut at {at} of {len}")
            }
            _ => {
                fs::remove_file(path).unwrap();
                format!("{name} removed")
            }
        };
        tally.count(&dead.judge(&case, dead.synced, &what));
    }
    assert!(tally.refused > 0);
    tally.tell("emptied, truncated and missing files");
}
