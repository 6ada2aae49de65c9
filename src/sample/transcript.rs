//! A long meeting transcript, the same bytes on every machine, with people who do not exist.

use std::fmt::Write;

/// Who speaks. `example.com` is reserved for documentation (RFC 2606), so nobody owns these addresses.
const PEOPLE: [(&str, &str); 6] = [
    ("Mara Lindqvist", "mara.lindqvist@example.com"),
    ("Tomás Herrera", "tomas.herrera@example.com"),
    ("Ayo Adeyemi", "ayo.adeyemi@example.com"),
    ("Jun Watanabe", "jun.watanabe@example.com"),
    ("Priya Raman", "priya.raman@example.com"),
    ("Oskar Nowak", "oskar.nowak@example.com"),
];

const OPENINGS: [&str; 8] = [
    "Coming back to what we said last week,",
    "I had a look at the numbers this morning, and",
    "Let me be direct:",
    "Before we go on,",
    "From the customer's side,",
    "What worries me a little is that",
    "If I may add something,",
    "To sum up where we are,",
];

const POINTS: [&str; 14] = [
    "the migration of the billing service is two days behind, mostly because the test data had to be rebuilt",
    "the search page answers in under a second again since the index was split by region",
    "three of the large accounts asked for invoices in their own currency, and we promised it for the spring release",
    "the on-call rota has a gap in the second week of December that nobody has taken so far",
    "support saw fewer tickets about passwords after the new recovery mail went out",
    "the contract with the hosting company ends in March, so a decision is due before the holidays",
    "the accessibility review found eleven problems, nine of them in the checkout",
    "the mobile team wants to drop the oldest two versions of the system they support",
    "the export for the auditors ran for six hours and needs to become incremental",
    "two people from the north office will join the design workshop remotely",
    "the price experiment showed no difference for small teams and a clear one for larger ones",
    "we still have no owner for the glossary, and the translations suffer from it",
    "the incident of last Tuesday was a certificate that expired, which an alert would have caught",
    "the partner interface needs a rate limit before anyone outside gets a key",
];

const CLOSINGS: [&str; 7] = [
    "Can somebody write that down as a decision?",
    "I will send the figures round after the meeting.",
    "Let us take it up again on Thursday.",
    "That is all from me.",
    "If there are no objections, I would go ahead.",
    "I think we can close that point.",
    "Please write to me if I have forgotten something.",
];

/// The transcript: about 45 KB.
pub fn transcript() -> String {
    let mut text = String::from("# Product council, 12 November 2026\n\nPresent:\n");
    for (name, mail) in PEOPLE {
        let _ = writeln!(text, "- {name} <{mail}>");
    }
    text.push('\n');
    // A linear congruential generator (Knuth's MMIX constants): the same sequence everywhere.
    let mut state: u64 = 0x00a7_43e9;
    let mut below = |count: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize) % count
    };
    let pick = |list: &[&'static str], at: usize| list.get(at).copied().unwrap_or_default();
    for turn in 0..150 {
        let minutes = turn * 3 / 5;
        let (name, mail) = PEOPLE.get(below(PEOPLE.len())).copied().unwrap_or_default();
        let _ = write!(text, "[10:{:02}] {name}: ", minutes % 60);
        let _ = write!(
            text,
            "{} {}. ",
            pick(&OPENINGS, below(OPENINGS.len())),
            pick(&POINTS, below(POINTS.len()))
        );
        let _ = write!(text, "Apart from that, {}. ", pick(&POINTS, below(POINTS.len())));
        text.push_str(pick(&CLOSINGS, below(CLOSINGS.len())));
        if turn % 12 == 5 {
            let _ = write!(text, " My address is {mail}, as always.");
        }
        text.push_str("\n\n");
    }
    text.push_str("Action: Priya Raman schedules the follow-up with every customer named above.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_long_and_the_same_everywhere() {
        let text = transcript();
        assert!((40_000..50_000).contains(&text.len()), "{} bytes", text.len());
        assert_eq!(blake3::hash(text.as_bytes()).to_hex().get(..16), Some(DIGEST), "its bytes are pinned");
        assert!(text.matches("@example.com").count() > 15);
    }

    const DIGEST: &str = "e0dc78de62d560f3";
}
