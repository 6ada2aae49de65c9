//! The server handler: one per connection.

use super::profile::{Profile, instructions};
use super::tools::{self, Asked};
use super::{prompts, resources};
use athena_schemas::context::{Caller, Channel, Party, Scope};
use athena_schemas::ports::Router;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CompleteRequestParams, CompleteResult,
    CompletionInfo, GetPromptRequestParams, GetPromptResponse, Implementation, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ProgressNotificationParam, ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities,
    ServerConfig, Tool,
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

    fn asked(&self, context: &RequestContext<RoleServer>) -> Asked<'_> {
        Asked { router: &*self.router, caller: self.caller(context), key: self.key(context) }
    }

    fn key(&self, context: &RequestContext<RoleServer>) -> Option<String> {
        (!self.name.is_empty()).then(|| format!("{}/{}", self.name, context.id))
    }
}

impl ServerHandler for Front {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .enable_prompts()
            .enable_completions()
            .build();
        ServerConfig::new(capabilities)
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

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        resources::list(&self.asked(&context)).await
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(resources::templates()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        resources::read(&self.asked(&context), &request.uri).await.map(ReadResourceResponse::Complete)
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(prompts::list()))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        prompts::get(&request.name, request.arguments.as_ref()).map(GetPromptResponse::Complete)
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let values = match request.argument.name.as_str() {
            "path" => resources::complete_path(&self.asked(&context), &request.argument.value).await,
            _ => Vec::new(),
        };
        let completion =
            CompletionInfo::new(values).map_err(|e| ErrorData::internal_error(e.to_string(), None))?;
        Ok(CompleteResult::new(completion))
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
