//! The server handler: one per connection.

use super::profile::{Profile, instructions};
use super::tools::{self, Asked};
use athena_schemas::context::{Caller, Channel, Party, Scope};
use athena_schemas::ports::Router;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, Implementation, ListToolsResult,
    PaginatedRequestParams, ProgressNotificationParam, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use std::sync::Arc;
use std::time::Duration;

/// How often a client that asked for progress hears of a long call.
const BEAT: Duration = Duration::from_secs(1);

/// One client's front.
#[derive(Clone)]
pub struct Front {
    router: Arc<dyn Router>,
    profile: Profile,
    scope: Scope,
    /// Random name of the front: with a JSON-RPC id it makes a retry safe. Empty where ids mean nothing (HTTP without sessions).
    name: String,
}

impl Front {
    /// A front of `router` for a client that works in `scope`.
    pub fn new(router: Arc<dyn Router>, profile: Profile, scope: Scope, name: String) -> Self {
        Self { router, profile, scope, name }
    }

    fn caller(&self, context: &RequestContext<RoleServer>) -> Caller {
        let name = context.client_info().map_or_else(|| "mcp".into(), |client| client.name);
        Caller {
            party: Party::Agent,
            channel: Channel::Mcp,
            name,
            holds: self.scope.clone(),
            scope: self.scope.clone(),
            run: None,
        }
    }

    fn key(&self, context: &RequestContext<RoleServer>) -> Option<String> {
        (!self.name.is_empty()).then(|| format!("{}/{}", self.name, context.id))
    }
}

impl ServerHandler for Front {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("athena", env!("CARGO_PKG_VERSION")).with_title("Athena"))
            .with_instructions(instructions())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.profile.tools().to_vec()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.profile.tools().iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let asked = Asked { router: &*self.router, caller: self.caller(&context), key: self.key(&context) };
        let params = request.arguments.map_or_else(|| serde_json::json!({}), Into::into);
        let work = tools::call(&asked, self.profile, &request.name, params);
        tokio::select! {
            answer = work => answer.map(CallToolResponse::Complete),
            // Dropping the call gives up the run behind it.
            () = context.ct.cancelled() => Ok(CallToolResponse::Complete(CallToolResult::error(Vec::new()))),
            () = beat(&context) => Err(ErrorData::internal_error("the connection closed", None)),
        }
    }
}

/// Tells a client that asked for it that the call is still under way; ends only when the client is gone.
async fn beat(context: &RequestContext<RoleServer>) {
    let Some(token) = context.meta.get_progress_token() else { return std::future::pending().await };
    let mut ticks = tokio::time::interval(BEAT);
    ticks.tick().await;
    let mut seconds = 0.0;
    loop {
        ticks.tick().await;
        seconds += BEAT.as_secs_f64();
        let progress = ProgressNotificationParam::new(token.clone(), seconds)
            .with_message(format!("running for {seconds} s"));
        if context.peer.notify_progress(progress).await.is_err() {
            return;
        }
    }
}
