//! Policy: an operator's rules over the defaults. Read deny, then ask, then allow; how specific a rule is does not matter.

use super::taint::Flow;
use athena_schemas::refusal::Refusal;
use athena_schemas::risk::Risk;
use serde::{Deserialize, Serialize};

/// What policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stance {
    /// It may be done.
    Allow,
    /// A person is asked; how much harm, and why.
    Ask(Risk, String),
    /// It may not be done; why.
    Deny(String),
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Refuse.
    Deny,
    /// Ask a person.
    Ask,
    /// Let it be done.
    Allow,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What it does.
    pub effect: Effect,
    /// Which calls, such as `github/delete_*`; `*` stands for any run of characters.
    #[serde(default)]
    pub op: Option<String>,
    /// Code judged at exactly this level.
    #[serde(default)]
    pub code: Option<Risk>,
}

/// An operator's rules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// In any order.
    pub rule: Vec<Rule>,
}

impl Policy {
    /// Reads rules written as TOML tables `[[rule]]`.
    ///
    /// # Errors
    /// When a rule names neither calls nor a level.
    pub fn checked(self) -> Result<Self, Refusal> {
        match self.rule.iter().position(|rule| rule.op.is_none() == rule.code.is_none()) {
            Some(n) => Err(Refusal::invalid("a rule names either calls (op) or a level of code (code)")
                .at(format!("rule[{n}]"))),
            None => Ok(self),
        }
    }

    /// What is done about code judged at a level.
    pub fn on_code(&self, level: Risk) -> Stance {
        let named = |effect| self.rule.iter().any(|rule| rule.effect == effect && rule.code == Some(level));
        let why = || format!("code judged {level}");
        if named(Effect::Deny) {
            Stance::Deny(why())
        } else if named(Effect::Ask) {
            Stance::Ask(level, why())
        } else if named(Effect::Allow) {
            Stance::Allow
        } else {
            match level {
                Risk::Low | Risk::Medium => Stance::Allow,
                Risk::High => Stance::Ask(level, why()),
                Risk::Critical => Stance::Deny(why()),
            }
        }
    }

    /// What is done about a call. `flow` is why its combination with what the run has seen is dangerous, if it is.
    pub fn on_call(&self, op: &str, risk: Risk, flow: Option<Flow>) -> Stance {
        let named = |effect| {
            self.rule
                .iter()
                .any(|rule| rule.effect == effect && rule.op.as_deref().is_some_and(|glob| matches(glob, op)))
        };
        if named(Effect::Deny) {
            return Stance::Deny("an operator's rule".into());
        }
        if named(Effect::Ask) {
            return Stance::Ask(risk.max(Risk::High), "an operator's rule".into());
        }
        if named(Effect::Allow) {
            return Stance::Allow;
        }
        match (risk, flow) {
            (Risk::Critical, _) => Stance::Deny("it cannot be undone".into()),
            (Risk::High, _) => Stance::Ask(risk, "it is hard to undo".into()),
            (_, Some(Flow::PrivateOutward)) => Stance::Ask(
                Risk::High,
                "private memory, outside content and a way out of this machine come together".into(),
            ),
            (_, Some(Flow::Bulk)) => {
                Stance::Ask(Risk::High, "it was given much text after private memory was read".into())
            }
            (_, None) => Stance::Allow,
        }
    }
}

/// Whether a glob of literal text and `*` fits.
fn matches(glob: &str, text: &str) -> bool {
    let mut pieces = glob.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        match rest.find(piece) {
            Some(at) => rest = rest.get(at + piece.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(effect: Effect, op: &str) -> Rule {
        Rule { effect, op: Some(op.into()), code: None }
    }

    #[test]
    fn deny_is_read_before_ask_and_ask_before_allow() {
        let policy = Policy {
            rule: vec![
                rule(Effect::Allow, "*"),
                rule(Effect::Deny, "github/*"),
                rule(Effect::Ask, "github/create_issue"),
            ],
        };
        assert!(matches!(policy.on_call("github/create_issue", Risk::Low, None), Stance::Deny(_)));
        assert_eq!(policy.on_call("episodic/forget", Risk::High, None), Stance::Allow);
    }

    #[test]
    fn without_rules_the_level_decides() {
        let policy = Policy::default();
        assert_eq!(policy.on_code(Risk::Medium), Stance::Allow);
        assert!(matches!(policy.on_code(Risk::High), Stance::Ask(..)));
        assert!(matches!(policy.on_code(Risk::Critical), Stance::Deny(_)));
        assert!(matches!(policy.on_call("x/y", Risk::Low, Some(Flow::PrivateOutward)), Stance::Ask(..)));
    }

    #[test]
    fn stars_stand_for_anything() {
        for (glob, text, fits) in [
            ("github/delete_*", "github/delete_repo", true),
            ("github/delete_*", "gitlab/delete_repo", false),
            ("*/delete_*", "a/delete_b", true),
            ("*", "", true),
            ("a", "ab", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
        ] {
            assert_eq!(matches(glob, text), fits, "{glob} {text}");
        }
    }

    #[test]
    fn a_rule_about_nothing_is_refused() {
        let policy = Policy { rule: vec![Rule { effect: Effect::Allow, op: None, code: None }] };
        assert_eq!(policy.checked().unwrap_err().path.as_deref(), Some("rule[0]"));
    }
}
