//! Which tools a client is shown. They are written by hand in `front.json`: every token of them is paid by every user in
//! every conversation, and they must be the same bytes for every connection.

use rmcp::model::Tool;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A choice of tools.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// `execute` and `search`.
    Code,
    /// These and `recall` and `remember`.
    #[default]
    Default,
    /// These and `run_skill`.
    Skills,
    /// These and what an operator asks: approvals, runs, the vault's counts. Answers nothing that a person must.
    Admin,
    /// The default and every tool of the first description, under its name then.
    Legacy,
}

impl Profile {
    /// Every profile.
    pub const ALL: &[Self] = &[Self::Code, Self::Default, Self::Skills, Self::Admin, Self::Legacy];

    fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Default => "default",
            Self::Skills => "skills",
            Self::Admin => "admin",
            Self::Legacy => "legacy",
        }
    }

    /// Whether a tool of this profile asks what otherwise people ask at the command line. It reads alone.
    pub(super) fn is_operators(self, tool: &str) -> bool {
        self == Self::Admin && matches!(tool, "approve_status" | "audit" | "privacy_stats")
    }

    /// The profile's tools, in their order.
    pub fn tools(self) -> &'static [Tool] {
        FRONT.shown.get(self.name()).map_or(&[], Vec::as_slice)
    }
}

/// What a client is told of the whole.
pub fn instructions() -> &'static str {
    &FRONT.instructions
}

#[derive(Deserialize)]
struct Written {
    instructions: String,
    tools: Vec<Tool>,
    profiles: BTreeMap<String, Vec<String>>,
}

struct Shown {
    instructions: String,
    shown: BTreeMap<String, Vec<Tool>>,
}

#[expect(clippy::expect_used, reason = "the file is compiled in and a test reads it")]
static FRONT: LazyLock<Shown> = LazyLock::new(|| {
    let written: Written =
        serde_json::from_str(include_str!("front.json")).expect("front.json is well formed");
    let pick = |names: Vec<String>| {
        names
            .iter()
            .filter_map(|name| written.tools.iter().find(|tool| tool.name == *name).cloned())
            .collect()
    };
    let mut shown: BTreeMap<String, Vec<Tool>> =
        written.profiles.iter().map(|(name, tools)| (name.clone(), pick(tools.clone()))).collect();
    shown.entry("legacy".into()).or_default().extend(super::legacy::tools());
    Shown { instructions: written.instructions, shown }
});

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What a model pays: name, description and input schema of each tool, and the instructions. o200k is a stand-in for
    /// tokenizers that are not published.
    fn tokens(profile: Profile) -> usize {
        let view: Vec<_> = profile
            .tools()
            .iter()
            .map(|tool| json!({"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}))
            .collect();
        let counter = bpe_openai::o200k_base();
        counter.count(&serde_json::to_string(&view).unwrap()) + counter.count(instructions())
    }

    #[test]
    fn every_profile_has_the_tools_it_names() {
        let written: Written = serde_json::from_str(include_str!("front.json")).unwrap();
        for profile in Profile::ALL {
            let older = if *profile == Profile::Legacy { crate::mcp::legacy::tools().count() } else { 0 };
            assert_eq!(profile.tools().len(), written.profiles[profile.name()].len() + older, "{profile:?}");
            let mut names: Vec<&str> = profile.tools().iter().map(|tool| tool.name.as_ref()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), profile.tools().len(), "{profile:?}: a name twice");
        }
        assert_eq!(written.profiles.len(), Profile::ALL.len());
    }

    #[test]
    fn the_default_front_costs_at_most_550_tokens() {
        assert!(tokens(Profile::Default) <= 550, "{}", tokens(Profile::Default));
        assert!(tokens(Profile::Code) < tokens(Profile::Default));
        assert!(tokens(Profile::Skills) <= 620, "{}", tokens(Profile::Skills));
        assert!(tokens(Profile::Admin) <= 900, "{}", tokens(Profile::Admin));
    }

    #[test]
    fn schemas_say_nothing_that_strict_clients_stumble_over() {
        for tool in Profile::ALL.iter().flat_map(|profile| profile.tools()) {
            let text = serde_json::to_string(&tool.input_schema).unwrap();
            assert!(
                !text.contains("\"format\"") && !text.contains("$schema") && !text.contains("\"null\""),
                "{text}"
            );
        }
    }
}
