//! Layers whose read models are not there yet: their queries say so. One `impl` goes when its read model comes.

use crate::library::Library;
use athena_schemas::context::Context;
use athena_schemas::operation::Operation;
use athena_schemas::refusal::{Code, Refusal};

fn absent<T>(layer: &str) -> Result<T, Refusal> {
    Err(Refusal::new(Code::Unavailable, format!("this build has no read model of {layer}")))
}

macro_rules! absent {
    ($layer:ident { $($query:ident: $Query:ident),* $(,)? }) => {
        impl athena_schemas::layers::$layer::Queries for Library {
            $(fn $query(&self, _: &Context, _: athena_schemas::layers::$layer::$Query)
                -> Result<<athena_schemas::layers::$layer::$Query as Operation>::Returns, Refusal> {
                absent(stringify!($layer))
            })*
        }
    };
}

absent! { procedural {} }
absent! { meta {
    coverage: Coverage,
    gaps: Gaps,
    confidence: Confidence,
    expertise: Expertise,
    quality: Quality,
    load: Load,
    usage: Usage,
    explain: Explain,
    access_log: AccessLog,
    staleness: Staleness,
    stats: Stats,
} }
absent! { consolidation {} }
absent! { store { list_scopes: ListScopes } }
absent! { privacy {} }
absent! { upstream {} }
