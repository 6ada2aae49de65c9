//! The toolbox: temporary outline while the gateway's own lands.
use athena_actors::upstream::Upstreams;
use athena_schemas::context::Context;
use athena_schemas::refusal::Refusal;
use athena_schemas::wire::Namespace;
use serde_json::Value;
use std::sync::Arc;
/// Outline.
pub struct Toolbox {
    upstreams: Upstreams,
}
impl Toolbox {
    /// Outline.
    pub fn new(upstreams: Upstreams) -> Self {
        Self { upstreams }
    }
    /// Outline.
    pub async fn call(&self, _: &Context, op: &str, _: Value) -> Result<Value, Refusal> {
        let _ = self.upstreams.names();
        Err(athena_schemas::catalog::unknown(op))
    }
    /// Outline.
    pub fn namespaces(&self) -> Arc<[Namespace]> {
        vec![athena_actors::run::parts::athena_namespace()].into()
    }
}
