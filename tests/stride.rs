//! Rows of the threat table that can be shown on the public vocabulary alone.

use athena_schemas::catalog;
use athena_schemas::operation::Audience;

/// Approving and revealing are not on the agent's bus: no such operation is for agents, and code cannot name one.
#[test]
fn stride_e12() {
    let closed: Vec<_> =
        catalog::entries().filter(|entry| matches!(entry.layer, "approval" | "privacy")).collect();
    assert!(!closed.is_empty());
    let reachable = athena_actors::run::parts::athena_namespace();
    for entry in closed {
        let decides =
            entry.layer == "privacy" || matches!(entry.name, "grant" | "deny" | "approve" | "request");
        if decides {
            assert_ne!(entry.traits.audience, Audience::Agent, "{}", entry.id());
        }
        if entry.traits.audience != Audience::Agent {
            assert!(
                reachable.members.iter().all(|(_, op)| *op != entry.id()),
                "{} can be named by code",
                entry.id()
            );
        }
    }
}

/// A request cannot bring its own risk, approval or scope among the parameters: unknown fields are refused.
#[test]
fn stride_e11() {
    let fields = [
        ("approved", serde_json::json!(true)),
        ("riskLevel", serde_json::json!("LOW")),
        ("risk", serde_json::json!("LOW")),
        ("tier", serde_json::json!("LOW")),
        ("audience", serde_json::json!("human")),
    ];
    for entry in catalog::entries() {
        let example: serde_json::Value = serde_json::from_str(entry.traits.example).unwrap();
        for (name, value) in &fields {
            let mut params = example.clone();
            let Some(object) = params.as_object_mut() else { continue };
            if (entry.params)().to_value()["properties"].get(*name).is_some() {
                continue;
            }
            object.insert((*name).to_owned(), value.clone());
            assert!(catalog::parse(&entry.id(), params).is_err(), "{} takes {name}", entry.id());
        }
    }
}
