//! What a run has touched: private memory, content from outside, a way out. The third leg is where a person is asked.
//!
//! Private data, untrusted content and a way out are harmless two by two and an exfiltration all three together, in whatever
//! order they come: a memory read after the way out was taken can still leave by the next call. A way out that only reads
//! (`search?q=…`) carries little; how much is bounded once memory was read.

use super::Reach;
use crate::privacy::token;
use athena_schemas::context::Context;
use athena_schemas::id::Id;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Runs that are remembered; older ones are over.
const RUNS: usize = 4_096;
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

/// What the runs under way have touched.
#[derive(Default)]
pub(super) struct Taints(Mutex<(BTreeMap<Id, Taint>, VecDeque<Id>)>);

impl Taints {
    /// A call of a memory operation; `private` where its answer is private memory.
    pub(super) fn memory(&self, cx: &Context, private: bool) -> Option<Flow> {
        self.touch(cx, |taint| {
            taint.private |= private;
            (private && taint.untrusted && taint.outbound).then_some(Flow::PrivateOutward)
        })
    }

    /// Whether a run has had content from outside.
    pub(super) fn untrusted(&self, cx: &Context) -> bool {
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cx.caller.run.as_ref().and_then(|run| guard.0.get(run)).is_some_and(|taint| taint.untrusted)
    }

    /// A call of another server's tool. Asking twice about the same call gives the same answer: a leg stays a leg.
    pub(super) fn tool(&self, cx: &Context, op: &str, reach: Reach, params: &Value) -> Option<Flow> {
        let text = params.to_string();
        // A token stands for a private value, and a tool that says it deals with the open world might be told it.
        let token = reach.declared && !token::find(&text).is_empty();
        self.touch(cx, |taint| {
            taint.private |= token;
            let sends = reach.outbound && reach.writes;
            let third = taint.private && (taint.outbound || (sends && taint.untrusted));
            let mut bulk = false;
            if taint.private && reach.outbound {
                let server = op.split('/').next().unwrap_or_default().to_owned();
                let given = taint.given.entry(server).or_default();
                *given = given.saturating_add(text.len());
                bulk = *given > BUDGET;
            }
            taint.outbound |= sends;
            // Whatever it answers comes from outside.
            taint.untrusted = true;
            if third { Some(Flow::PrivateOutward) } else { bulk.then_some(Flow::Bulk) }
        })
    }

    fn touch(&self, cx: &Context, change: impl FnOnce(&mut Taint) -> Option<Flow>) -> Option<Flow> {
        let run = cx.caller.run.as_ref()?;
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (taints, order) = &mut *guard;
        if !taints.contains_key(run) {
            if order.len() >= RUNS
                && let Some(oldest) = order.pop_front()
            {
                taints.remove(&oldest);
            }
            order.push_back(run.clone());
        }
        change(taints.entry(run.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use athena_schemas::risk::Risk;
    use serde_json::json;

    fn run() -> Context {
        let mut cx = Context::example();
        cx.caller.run = Some(Id::from_text("run_1"));
        cx
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

    fn step(taints: &Taints, cx: &Context, leg: Leg) -> Option<Flow> {
        match leg {
            Leg::Private => taints.memory(cx, true),
            Leg::Untrusted => taints.tool(cx, "web/read", READ, &json!({})),
            Leg::Outward => taints.tool(cx, "mail/send", SEND, &json!({})),
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
            let (taints, cx) = (Taints::default(), run());
            let asked = order.map(|leg| step(&taints, &cx, leg).is_some());
            assert!(!asked[0] && (asked[1] || asked[2]), "{order:?}: {asked:?}");
            assert_eq!(step(&taints, &cx, order[2]), Some(Flow::PrivateOutward), "{order:?}, asked again");
            for leg in [Private, Outward] {
                assert_eq!(step(&taints, &cx, leg), Some(Flow::PrivateOutward), "{order:?}, then {leg:?}");
            }
        }
    }

    /// Exfiltration through a tool that may be called: memory goes out in the query of a search, in ten encodings, in one piece
    /// or in small ones. The budget of a run that has read memory stops each.
    #[test]
    fn stride_i07() {
        let memory = "the board meets on Tuesday in the old library; ".repeat(200);
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
            let stolen: String = memory.bytes().map(encode).collect();
            for size in [stolen.chars().count(), 512] {
                let (taints, cx) = (Taints::default(), run());
                assert_eq!(taints.memory(&cx, true), None);
                let mut out = 0;
                let stopped = stolen.chars().collect::<Vec<_>>().chunks(size).any(|piece| {
                    let params = json!({"query": piece.iter().collect::<String>()});
                    let flow = taints.tool(&cx, "web/search", READ, &params);
                    out += if flow.is_none() { params.to_string().len() } else { 0 };
                    flow.is_some()
                });
                assert!(stopped && out <= BUDGET, "encoding {n} in pieces of {size}: {out} bytes went out");
            }
        }
    }

    #[test]
    fn two_legs_are_harmless() {
        let (taints, cx) = (Taints::default(), run());
        assert_eq!(taints.memory(&cx, true), None);
        assert_eq!(taints.tool(&cx, "web/read", READ, &json!({})), None);
        assert_eq!(taints.tool(&cx, "files/write", LOCAL, &json!({"text": "x".repeat(9_000)})), None);
        let (taints, cx) = (Taints::default(), run());
        assert_eq!(taints.tool(&cx, "web/read", READ, &json!({})), None);
        assert_eq!(taints.tool(&cx, "mail/send", SEND, &json!({"text": "x".repeat(9_000)})), None);
        let (taints, cx) = (Taints::default(), run());
        taints.memory(&cx, true);
        assert_eq!(taints.tool(&cx, "mail/send", SEND, &json!({})), None);
        assert_eq!(taints.memory(&cx, false), None, "what answers nothing private is no leg");
    }

    #[test]
    fn a_token_is_private_wherever_it_came_from_and_however_it_is_written() {
        for token in ["EMAIL_tk_k7f3a9cq2m", "email-tk-k7f3a9cq2m", "EMAIL%5Ftk%5Fk7f3a9cq2m"] {
            let (taints, cx) = (Taints::default(), run());
            taints.tool(&cx, "web/read", READ, &json!({}));
            let sent = taints.tool(&cx, "mail/send", SEND, &json!({"to": token}));
            assert_eq!(sent, Some(Flow::PrivateOutward), "{token}");
        }
        let (taints, cx) = (Taints::default(), run());
        taints.tool(&cx, "web/read", READ, &json!({}));
        let unsaid = Reach { declared: false, ..SEND };
        assert_eq!(taints.tool(&cx, "s/put", unsaid, &json!({"to": "EMAIL_tk_k7f3a9cq2m"})), None);
    }
}
