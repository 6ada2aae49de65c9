//! Procedures as files: what memory has learned to do, as code that other code imports.

use super::{Skill, Skills};
use athena_projections::library::Library;
use athena_schemas::context::Context;
use athena_schemas::layers::procedural::Learned;
use athena_schemas::risk::Risk;
use std::sync::Arc;

/// The procedures of a store, each as its newest version.
pub(crate) struct Learnt(pub(crate) Arc<Library>);

impl Skills for Learnt {
    fn list(&self, cx: &Context) -> Vec<Skill> {
        match self.0.callable(cx) {
            Ok(procedures) => procedures.into_iter().map(skill).collect(),
            Err(refusal) => {
                tracing::warn!(%refusal, "procedures cannot be read");
                Vec::new()
            }
        }
    }
}

fn skill(procedure: Learned) -> Skill {
    Skill {
        name: procedure.name,
        description: procedure.description,
        source: procedure.code,
        ending: procedure.language.ending(),
        tags: procedure.tags,
        // What is harmful is run as a run of its own, which a person can be asked about.
        importable: procedure.risk <= Risk::Medium,
    }
}
