//! What a run has touched: private memory, content from outside, a way out. The third leg is where a person is asked.
//!
//! Private data, untrusted content and a way out are harmless two by two and an exfiltration all three together, in whatever
//! order they come: a memory read after the way out was taken can still leave by the next call. A way out that only reads
//! (`search?q=…`) carries little; how much is bounded once memory was read.

use super::Reach;
use crate::privacy::token;
use athena_schemas::id::Id;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// Bytes of arguments that one server may be given by a run that has read private memory, before a person is asked.
const BUDGET: usize = 4 << 10;

/// A dangerous combination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Private memory, outside content and a way out come together.
    PrivateOutward,
    /// After private memory was read, one server would be given more than a question's worth of text.
    Bulk,
}

#[derive(Debug, Clone, Default)]
struct Taint {
    private: bool,
    untrusted: bool,
    outbound: bool,
    /// Bytes given to each server since private memory was read.
    given: BTreeMap<String, usize>,
}

/// What the runs at work have touched. A run and the runs that its code starts are one: what one of them was told, another may
/// send. There are as many as the sandbox lets work at once.
#[derive(Default)]
pub(super) struct Taints {
    /// The outermost run of each run at work.
    roots: HashMap<Id, Id>,
    /// By the outermost run.
    touched: HashMap<Id, Touched>,
}

#[derive(Default)]
struct Touched {
    taint: Taint,
    /// Runs at work that it stands for.
    runs: usize,
}

/// What a call adds.
#[derive(Debug)]
pub(super) enum Step {
    /// A memory operation; `private` where its answer is private memory.
    Memory {
        /// Whether it is.
        private: bool,
    },
    /// Another server's tool.
    Tool {
        /// The server.
        server: String,
        /// What the tool can do.
        reach: Reach,
        /// How much it is given, bytes.
        bytes: usize,
        /// Whether a token stands in what it is given.
        token: bool,
    },
}

impl Step {
    /// A call of another server's tool.
    pub(super) fn tool(op: &str, reach: Reach, params: &Value) -> Self {
        let text = params.to_string();
        let server = op.split('/').next().unwrap_or_default().to_owned();
        // A token stands for a private value, and a tool that says it deals with the open world might be told it.
        let token = reach.declared && !token::find(&text).is_empty();
        Self::Tool { server, reach, bytes: text.len(), token }
    }
}

/// What a step leads to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traced {
    /// The dangerous combination it would complete.
    pub(super) flow: Option<Flow>,
    /// Whether the run had content from outside before.
    pub(super) untrusted: bool,
}

impl Taints {
    /// A run goes to work. Whether what its outermost run has touched is known already.
    pub(super) fn enter(&mut self, run: &Id, root: &Id) -> bool {
        let touched = self.touched.entry(root.clone()).or_default();
        let known = touched.runs > 0;
        if self.roots.insert(run.clone(), root.clone()).is_none() {
            touched.runs += 1;
        }
        known
    }

    /// A run is at work no more. What it touched is told by its record, if it goes on.
    pub(super) fn leave(&mut self, run: &Id) {
        let Some(root) = self.roots.remove(run) else { return };
        if let Some(touched) = self.touched.get_mut(&root) {
            touched.runs -= 1;
            if touched.runs == 0 {
                self.touched.remove(&root);
            }
        }
    }

    /// Takes a step of a run; none where it is not at work. Asking twice about the same call gives the same answer: a leg stays
    /// a leg.
    pub(super) fn step(&mut self, run: &Id, step: Step) -> Option<Traced> {
        let taint = &mut self.touched.get_mut(self.roots.get(run)?)?.taint;
        let untrusted = taint.untrusted;
        Some(Traced { flow: taint.step(step), untrusted })
    }
}

impl Taint {
    fn step(&mut self, step: Step) -> Option<Flow> {
        match step {
            Step::Memory { private } => {
                self.private |= private;
                (private && self.untrusted && self.outbound).then_some(Flow::PrivateOutward)
            }
            Step::Tool { server, reach, bytes, token } => {
                self.private |= token;
                let sends = reach.outbound && reach.writes;
                let third = self.private && (self.outbound || (sends && self.untrusted));
                let mut bulk = false;
                if self.private && reach.outbound {
                    let given = self.given.entry(server).or_default();
                    *given = given.saturating_add(bytes);
                    bulk = *given > BUDGET;
                }
                self.outbound |= sends;
                // Whatever it answers comes from outside.
                self.untrusted = true;
                if third { Some(Flow::PrivateOutward) } else { bulk.then_some(Flow::Bulk) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use athena_schemas::risk::Risk;
    use serde_json::json;

    fn run() -> Id {
        Id::from_text("run_1")
    }

    /// A run at work that has touched nothing.
    fn at_work() -> (Taints, Id) {
        let (mut taints, id) = (Taints::default(), run());
        assert!(!taints.enter(&id, &id));
        (taints, id)
    }

    const READ: Reach = Reach { risk: Risk::Low, writes: false, outbound: true, declared: true };
    const SEND: Reach = Reach { risk: Risk::Medium, writes: true, outbound: true, declared: true };
    const LOCAL: Reach = Reach { risk: Risk::Medium, writes: true, outbound: false, declared: true };

    /// One leg of the triple.
    #[derive(Debug, Clone, Copy)]
    enum Leg {
        Private,
        Untrusted,
        Outward,
    }

    fn memory(taints: &mut Taints, run: &Id, private: bool) -> Option<Flow> {
        taints.step(run, Step::Memory { private }).unwrap().flow
    }

    fn tool(taints: &mut Taints, run: &Id, op: &str, reach: Reach, params: &Value) -> Option<Flow> {
        taints.step(run, Step::tool(op, reach, params)).unwrap().flow
    }

    fn step(taints: &mut Taints, run: &Id, leg: Leg) -> Option<Flow> {
        match leg {
            Leg::Private => memory(taints, run, true),
            Leg::Untrusted => tool(taints, run, "web/read", READ, &json!({})),
            Leg::Outward => tool(taints, run, "mail/send", SEND, &json!({})),
        }
    }

    /// Toxic flow: untrusted content, private data and a way out in one run, in each of the six orders. Somewhere before the
    /// third leg is done a person is asked, and once the triple is whole, about every further leg.
    #[test]
    fn stride_i08() {
        use Leg::{Outward, Private, Untrusted};
        for order in [
            [Private, Untrusted, Outward],
            [Private, Outward, Untrusted],
            [Untrusted, Private, Outward],
            [Untrusted, Outward, Private],
            [Outward, Private, Untrusted],
            [Outward, Untrusted, Private],
        ] {
            let (mut taints, id) = at_work();
            let asked = order.map(|leg| step(&mut taints, &id, leg).is_some());
            assert!(!asked[0] && (asked[1] || asked[2]), "{order:?}: {asked:?}");
            assert_eq!(
                step(&mut taints, &id, order[2]),
                Some(Flow::PrivateOutward),
                "{order:?}, asked again"
            );
            for leg in [Private, Outward] {
                assert_eq!(
                    step(&mut taints, &id, leg),
                    Some(Flow::PrivateOutward),
                    "{order:?}, then {leg:?}"
                );
            }
        }
    }

    /// Exfiltration through a tool that may be called: memory goes out in the query of a search, in ten encodings, in one piece
    /// or in small ones. The budget of a run that has read memory stops each.
    #[test]
    fn stride_i07() {
        let secret = "the board meets on Tuesday in the old library; ".repeat(200);
        let encodings: [fn(u8) -> String; 10] = [
            |b| char::from(b).to_string(),
            |b| format!("{b:02x}"),
            |b| format!("{b:08b}"),
            |b| format!("{b:o}"),
            |b| format!("%{b:02X}"),
            |b| format!("\\u{{{b:x}}}"),
            |b| format!("&#{b};"),
            |b| char::from(b ^ 0x15).to_string(),
            |b| format!("{} ", u32::from(b) + 1_000),
            |b| char::from_u32(0x1F600 + u32::from(b) % 64).unwrap_or(' ').to_string(),
        ];
        for (n, encode) in encodings.into_iter().enumerate() {
            let stolen: String = secret.bytes().map(encode).collect();
            for size in [stolen.chars().count(), 512] {
                let (mut taints, id) = at_work();
                assert_eq!(memory(&mut taints, &id, true), None);
                let mut out = 0;
                let stopped = stolen.chars().collect::<Vec<_>>().chunks(size).any(|piece| {
                    let params = json!({"query": piece.iter().collect::<String>()});
                    let flow = tool(&mut taints, &id, "web/search", READ, &params);
                    out += if flow.is_none() { params.to_string().len() } else { 0 };
                    flow.is_some()
                });
                assert!(stopped && out <= BUDGET, "encoding {n} in pieces of {size}: {out} bytes went out");
            }
        }
    }

    #[test]
    fn two_legs_are_harmless() {
        let (mut taints, id) = at_work();
        assert_eq!(memory(&mut taints, &id, true), None);
        assert_eq!(tool(&mut taints, &id, "web/read", READ, &json!({})), None);
        assert_eq!(tool(&mut taints, &id, "files/write", LOCAL, &json!({"text": "x".repeat(9_000)})), None);
        let (mut taints, id) = at_work();
        assert_eq!(tool(&mut taints, &id, "web/read", READ, &json!({})), None);
        assert_eq!(tool(&mut taints, &id, "mail/send", SEND, &json!({"text": "x".repeat(9_000)})), None);
        let (mut taints, id) = at_work();
        memory(&mut taints, &id, true);
        assert_eq!(tool(&mut taints, &id, "mail/send", SEND, &json!({})), None);
        assert_eq!(memory(&mut taints, &id, false), None, "what answers nothing private is no leg");
    }

    #[test]
    fn a_token_is_private_wherever_it_came_from_and_however_it_is_written() {
        for token in ["EMAIL_tk_k7f3a9cq2m", "email-tk-k7f3a9cq2m", "EMAIL%5Ftk%5Fk7f3a9cq2m"] {
            let (mut taints, id) = at_work();
            tool(&mut taints, &id, "web/read", READ, &json!({}));
            let sent = tool(&mut taints, &id, "mail/send", SEND, &json!({"to": token}));
            assert_eq!(sent, Some(Flow::PrivateOutward), "{token}");
        }
        let (mut taints, id) = at_work();
        tool(&mut taints, &id, "web/read", READ, &json!({}));
        let unsaid = Reach { declared: false, ..SEND };
        assert_eq!(tool(&mut taints, &id, "s/put", unsaid, &json!({"to": "EMAIL_tk_k7f3a9cq2m"})), None);
    }

    #[test]
    fn a_run_and_those_it_starts_are_one_and_forgotten_together() {
        let (mut taints, outer) = at_work();
        let inner = Id::from_text("run_2");
        assert!(taints.enter(&inner, &outer), "what its parent touched is known");
        assert_eq!(memory(&mut taints, &outer, true), None);
        assert_eq!(tool(&mut taints, &inner, "web/read", READ, &json!({})), None);
        let sent = tool(&mut taints, &inner, "mail/send", SEND, &json!({}));
        assert_eq!(sent, Some(Flow::PrivateOutward), "read by one, sent by the other");
        taints.leave(&inner);
        assert!(taints.step(&inner, Step::Memory { private: true }).is_none(), "it is not at work");
        assert_eq!(memory(&mut taints, &outer, true), Some(Flow::PrivateOutward), "the other still is");
        taints.leave(&outer);
        assert!(taints.roots.is_empty() && taints.touched.is_empty());
    }
}
