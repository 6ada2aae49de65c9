//! What a run has touched: private memory, content from outside. The third leg, sending outward, is where a person is asked.
//!
//! Private data, untrusted content and a way out are harmless two by two and an exfiltration all three together, in whatever
//! order they come.

use super::Reach;
use athena_schemas::context::Context;
use athena_schemas::id::Id;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Runs that are remembered; older ones are over.
const RUNS: usize = 4_096;

/// A dangerous combination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Private and outside content go out together.
    PrivateOutward,
}

#[derive(Debug, Clone, Copy, Default)]
struct Taint {
    private: bool,
    untrusted: bool,
    outbound: bool,
}

impl Taint {
    fn flow(self) -> Option<Flow> {
        (self.private && self.untrusted && self.outbound).then_some(Flow::PrivateOutward)
    }
}

/// What the runs under way have touched.
#[derive(Default)]
pub(super) struct Taints(Mutex<(BTreeMap<Id, Taint>, VecDeque<Id>)>);

impl Taints {
    /// A call of a memory operation; `private` where its answer is private memory.
    pub(super) fn memory(&self, cx: &Context, private: bool) -> Option<Flow> {
        // Reading memory after outside content was sent out closes the triple as well as the other way round; but what has
        // been sent already did not contain it, so only what goes out from here on is asked about.
        self.touch(cx, |taint| taint.private |= private);
        None
    }

    /// A call of another server's tool.
    pub(super) fn tool(&self, cx: &Context, reach: Reach, params: &Value) -> Option<Flow> {
        let carries_tokens = params.to_string().contains("_tk_");
        let sends = reach.outbound && reach.writes;
        let flow = self.touch(cx, |taint| {
            taint.private |= carries_tokens;
            taint.outbound = sends;
        });
        self.touch(cx, |taint| taint.untrusted = true);
        flow
    }

    fn touch(&self, cx: &Context, change: impl FnOnce(&mut Taint)) -> Option<Flow> {
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
        let taint = taints.entry(run.clone()).or_default();
        change(taint);
        taint.flow()
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

    const READ: Reach = Reach { risk: Risk::Low, writes: false, outbound: true };
    const SEND: Reach = Reach { risk: Risk::Medium, writes: true, outbound: true };
    const LOCAL: Reach = Reach { risk: Risk::Medium, writes: true, outbound: false };

    #[test]
    fn two_legs_are_harmless_and_the_third_is_asked_about() {
        let (taints, cx) = (Taints::default(), run());
        assert_eq!(taints.memory(&cx, true), None);
        assert_eq!(taints.tool(&cx, READ, &json!({})), None);
        assert_eq!(taints.tool(&cx, LOCAL, &json!({})), None);
        assert_eq!(taints.tool(&cx, SEND, &json!({})), Some(Flow::PrivateOutward));
    }

    #[test]
    fn outside_content_alone_may_go_out_and_so_may_memory() {
        let (taints, cx) = (Taints::default(), run());
        taints.tool(&cx, READ, &json!({}));
        assert_eq!(taints.tool(&cx, SEND, &json!({})), None);
        let other = Taints::default();
        other.memory(&cx, true);
        assert_eq!(other.tool(&cx, SEND, &json!({})), None);
    }

    #[test]
    fn a_token_is_private_wherever_it_came_from() {
        let (taints, cx) = (Taints::default(), run());
        taints.tool(&cx, READ, &json!({}));
        assert_eq!(taints.tool(&cx, SEND, &json!({"to": "EMAIL_tk_k7f3a9cq2m"})), Some(Flow::PrivateOutward));
    }
}
