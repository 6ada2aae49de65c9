//! The server handler: one per connection.

use super::approval::Step;
use super::attended::{defect, unwound};
use super::jobs::Jobs;
use super::profile::{Profile, instructions};
use super::reception::{Place, Reception};
use super::resources::{self, Looking};
use super::tools::{self, Asked};
use super::watch::{WATCHED_MAX, Watch, Watches, pace};
use super::{prompts, skills};
use crate::daemon::client::random_name;
use athena_schemas::context::{Caller, Channel, Party, Scope};
use athena_schemas::ports::Router;
use athena_schemas::refusal::Refusal;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams, CompleteRequestParams,
    CompleteResult, CompletionInfo, GetPromptRequestParams, GetPromptResponse, GetSkillRequestParams,
    GetSkillResult, GetTaskParams, GetTaskResult, Implementation, InitializeRequestParams, InitializeResult,
    ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListSkillsResult, ListToolsResult,
    PaginatedRequestParams, ProgressNotificationParam, ProtocolVersion, ReadResourceDirectoryRequestParams,
    ReadResourceDirectoryResult, ReadResourceRequestParams, ReadResourceResponse, RequestStateCodec,
    ServerCapabilities, ServerConfig, SubscribeRequestParams, SubscriptionFilter, Tool,
    UnsubscribeRequestParams,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// How often a client that asked for progress hears of a long call.
const BEAT: Duration = Duration::from_secs(1);
/// A call that takes longer becomes a task, where the client can follow one; clients wait about a minute.
const TASK_AFTER: Duration = Duration::from_secs(20);
/// What pollers of a task are told to wait, milliseconds.
const POLL_MS: u64 = 500;

/// One client's front.
#[derive(Clone)]
pub struct Front {
    router: Arc<dyn Router>,
    /// The way of a person's answer to a question.
    pub(super) people: Arc<dyn Router>,
    profile: Profile,
    scope: Scope,
    /// Random name of the front: with a JSON-RPC id it makes a retry safe. Empty where ids mean nothing (HTTP without sessions).
    name: String,
    /// Seals what travels through clients.
    pub(super) seal: Arc<RequestStateCodec>,
    jobs: Jobs,
    watches: Watches,
    /// Where its sessions get connections of their own, over HTTP.
    place: Option<Arc<Place>>,
}

/// A call under way.
type Work = Pin<Box<dyn Future<Output = Result<CallToolResult, ErrorData>> + Send>>;

impl Front {
    /// A front of `router` for a client that works in `scope`.
    pub fn new(router: Arc<dyn Router>, profile: Profile, scope: Scope, name: String) -> Self {
        let seal = codec(&format!("{}{}", random_name(), random_name()));
        let people = router.clone();
        Self {
            router,
            people,
            profile,
            scope,
            name,
            seal,
            jobs: Jobs::new(POLL_MS),
            watches: Watches::default(),
            place: None,
        }
    }

    /// The same, with a way of its own for what people answer, and a secret under which state outlives this process.
    #[must_use]
    pub fn asking(mut self, people: Arc<dyn Router>, secret: &str) -> Self {
        (self.people, self.seal) = (people, codec(secret));
        self
    }

    /// A front whose sessions get their ways to the store from `reception`.
    pub(crate) fn received(reception: Arc<dyn Reception>, profile: Profile, scope: Scope) -> Self {
        let place = Place::at(reception);
        Self { place: Some(place.clone()), ..Self::new(place, profile, scope, String::new()) }
    }

    /// The front of another connection: what was begun over one can be followed over the other.
    #[must_use]
    pub fn another(&self, name: String) -> Self {
        let mut another = Self { name, watches: Watches::default(), ..self.clone() };
        if let Some(place) = self.place.as_ref().map(|place| place.another()) {
            (another.router, another.place) = (place.clone(), Some(place));
        }
        another
    }

    pub(super) fn caller(&self, context: &RequestContext<RoleServer>) -> Caller {
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

    fn asked(&self, context: &RequestContext<RoleServer>) -> Asked {
        let key = (!self.name.is_empty()).then(|| format!("{}/{}", self.name, context.id));
        Asked { router: self.router.clone(), caller: self.caller(context), key }
    }

    /// For what a subscription looks at: reads, under no key.
    fn watching(&self) -> Looking {
        let caller = Caller {
            party: Party::Agent,
            channel: Channel::Mcp,
            name: "subscription".into(),
            holds: self.scope.clone(),
            scope: self.scope.clone(),
            run: None,
        };
        Looking(Asked { router: self.router.clone(), caller, key: None })
    }

    /// For reading resources.
    fn looking(&self, context: &RequestContext<RoleServer>) -> Looking {
        Looking(self.asked(context))
    }
}

#[expect(clippy::expect_used, reason = "a derived key is 32 bytes, which is what a key must have at least")]
fn codec(secret: &str) -> Arc<RequestStateCodec> {
    let key = blake3::derive_key("athena 2026 request state of the MCP front", secret.as_bytes());
    Arc::new(RequestStateCodec::try_new(key.to_vec()).expect("the key is long enough"))
}

impl ServerHandler for Front {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_prompts()
            .enable_completions()
            .enable_tasks()
            .enable_skills_with_directory_read()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("athena", env!("CARGO_PKG_VERSION")).with_title("Athena"))
            .with_instructions(instructions())
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        if let Some(place) = &self.place {
            place.take(&request, self.profile).await.map_err(|refusal| broken(&refusal))?;
        }
        context.peer.set_peer_info(request.clone());
        self.negotiate_initialize(&request)
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
        let retried = self.retried(&request, &context).await?;
        let params = retried.or(request.arguments.map(Into::into)).unwrap_or_else(|| serde_json::json!({}));
        let (mut asked, profile, name) = (self.asked(&context), self.profile, request.name);
        if profile.is_operators(&name) {
            asked.caller.party = Party::Host;
        }
        let again = asked.again();
        let mut work: Work = Box::pin(async move {
            unwound(tools::call(&asked, profile, &name, params)).await.unwrap_or_else(|| Err(defect()))
        });
        // Before 2026-07-28, tasks were another thing, of another extension.
        let modern = context.protocol_version().is_some_and(|v| v >= ProtocolVersion::V_2026_07_28);
        let follows = modern && context.client_capabilities().is_some_and(|client| client.supports_tasks());
        let answer = tokio::select! {
            answer = &mut work => answer?,
            // Dropping the call gives up the run behind it.
            () = context.ct.cancelled() => return Ok(CallToolResponse::Complete(CallToolResult::error(Vec::new()))),
            () = beat(&context) => return Err(ErrorData::internal_error("the connection closed", None)),
            () = tokio::time::sleep(TASK_AFTER), if follows => return Ok(self.jobs.follow(work)),
        };
        Ok(match self.settled(answer, &again, &context).await? {
            Step::Done(result) => CallToolResponse::Complete(result),
            Step::Ask(required) => CallToolResponse::InputRequired(required),
        })
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.jobs.get(&request)
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.jobs.cancel(&request)
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        resources::list(&self.looking(&context)).await
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
        resources::read(&self.looking(&context), &request.uri).await.map(ReadResourceResponse::Complete)
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        resources::read(&self.looking(&context), &request.uri).await?;
        self.watches.add(self.watching(), request.uri, context.peer.clone()).await
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.watches.remove(&request.uri);
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        // The lists of this front never change; resources do.
        let uris: Vec<String> =
            requested.resource_subscriptions.iter().flatten().take(WATCHED_MAX).cloned().collect();
        Some(SubscriptionFilter::builder().resource_subscriptions(uris).build())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let asked = self.watching();
        let mut watched = Vec::new();
        for uri in context.accepted().resource_subscriptions.iter().flatten() {
            watched.push(Watch::of(&asked, uri.clone()).await);
        }
        let mut ticks = pace();
        loop {
            tokio::select! {
                () = context.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            for watch in &mut watched {
                if watch.changed(&asked).await
                    && context.sink().notify_resource_updated(watch.uri()).await.is_err()
                {
                    return Ok(());
                }
            }
        }
    }

    async fn list_skills(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListSkillsResult, ErrorData> {
        let skills = skills::list(&self.asked(&context)).await.map_err(|refusal| broken(&refusal))?;
        Ok(ListSkillsResult::with_all_items(skills))
    }

    async fn get_skill(
        &self,
        request: GetSkillRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetSkillResult, ErrorData> {
        let found =
            skills::get(&self.asked(&context), &request.uri).await.map_err(|refusal| broken(&refusal))?;
        found.map(GetSkillResult::new).ok_or_else(|| nothing_at(&request.uri, "skill"))
    }

    async fn read_resource_directory(
        &self,
        request: ReadResourceDirectoryRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceDirectoryResult, ErrorData> {
        let found = skills::directory(&self.asked(&context), &request.uri).await;
        let found = found.map_err(|refusal| broken(&refusal))?;
        let children = found.ok_or_else(|| nothing_at(&request.uri, "directory"))?;
        Ok(ReadResourceDirectoryResult::with_all_items(children))
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
        let (asked, begun) = (self.looking(&context), &request.argument.value);
        let values = match request.argument.name.as_str() {
            "path" => resources::complete_path(&asked, begun).await,
            "name" => resources::complete_skill(&asked, begun).await,
            "id" => resources::complete_run(&asked, begun).await,
            _ => Vec::new(),
        };
        let completion =
            CompletionInfo::new(values).map_err(|e| ErrorData::internal_error(e.to_string(), None))?;
        Ok(CompleteResult::new(completion))
    }
}

/// The extension's answer to an address that is not what it was taken for.
fn nothing_at(uri: &str, kind: &str) -> ErrorData {
    ErrorData::invalid_params(
        format!("there is no {kind} at this address"),
        Some(serde_json::json!({ "uri": uri })),
    )
}

fn broken(refusal: &Refusal) -> ErrorData {
    ErrorData::internal_error(refusal.to_string(), None)
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
