//! A handler whose panics are answers, for transports that spawn each request themselves and would leave its client waiting.

#![expect(deprecated, reason = "what the older protocol has, its clients ask")]

use super::attended::{Panics, defect, unwound};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, CancelledNotificationParam,
    CompleteRequestParams, CompleteResult, CustomNotification, CustomRequest, CustomResult, DiscoverResult,
    GetPromptRequestParams, GetPromptResponse, GetSkillRequestParams, GetSkillResult, GetTaskParams,
    GetTaskResult, InitializeRequestParams, InitializeResult, ListPromptsResult, ListResourceTemplatesResult,
    ListResourcesResult, ListSkillsResult, ListToolsResult, PaginatedRequestParams,
    ProgressNotificationParam, ProtocolVersion, ReadResourceDirectoryRequestParams,
    ReadResourceDirectoryResult, ReadResourceRequestParams, ReadResourceResponse, ServerConfig,
    SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams,
    UpdateTaskParams,
};
use rmcp::service::{NotificationContext, RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use std::borrow::Cow;

/// A handler and the count of its panics.
pub(super) struct Spared<H> {
    handler: H,
    panics: Panics,
}

impl<H> Spared<H> {
    /// `handler`, whose panics are counted in `panics`.
    pub(super) fn new(handler: H, panics: Panics) -> Self {
        Self { handler, panics }
    }

    async fn answer<T>(&self, work: impl Future<Output = Result<T, ErrorData>>) -> Result<T, ErrorData> {
        unwound(work).await.unwrap_or_else(|| {
            self.panics.caught("request");
            Err(defect())
        })
    }

    async fn hear(&self, work: impl Future<Output = ()>) {
        if unwound(work).await.is_none() {
            self.panics.caught("notification");
        }
    }
}

/// What is asked and answered, each the same way.
macro_rules! requests {
    ($($name:ident($($given:ident: $kind:ty),*) -> $answer:ty;)*) => {$(
        async fn $name(&self, $($given: $kind),*) -> Result<$answer, ErrorData> {
            self.answer(Box::pin(self.handler.$name($($given),*))).await
        }
    )*};
}

/// What is told.
macro_rules! notifications {
    ($($name:ident($($told:ident: $params:ty)?);)*) => {$(
        async fn $name(&self, $($told: $params,)? context: NotificationContext<RoleServer>) {
            self.hear(self.handler.$name($($told,)? context)).await;
        }
    )*};
}

type Context = RequestContext<RoleServer>;

impl<H: ServerHandler> ServerHandler for Spared<H> {
    requests! {
        ping(context: Context) -> ();
        initialize(request: InitializeRequestParams, context: Context) -> InitializeResult;
        discover(context: Context) -> DiscoverResult;
        complete(request: CompleteRequestParams, context: Context) -> CompleteResult;
        set_level(request: SetLevelRequestParams, context: Context) -> ();
        get_prompt(request: GetPromptRequestParams, context: Context) -> GetPromptResponse;
        list_prompts(request: Option<PaginatedRequestParams>, context: Context) -> ListPromptsResult;
        list_resources(request: Option<PaginatedRequestParams>, context: Context) -> ListResourcesResult;
        list_resource_templates(request: Option<PaginatedRequestParams>, context: Context) -> ListResourceTemplatesResult;
        read_resource(request: ReadResourceRequestParams, context: Context) -> ReadResourceResponse;
        subscribe(request: SubscribeRequestParams, context: Context) -> ();
        unsubscribe(request: UnsubscribeRequestParams, context: Context) -> ();
        listen(context: SubscriptionContext) -> ();
        call_tool(request: CallToolRequestParams, context: Context) -> CallToolResponse;
        list_tools(request: Option<PaginatedRequestParams>, context: Context) -> ListToolsResult;
        on_custom_request(request: CustomRequest, context: Context) -> CustomResult;
        get_task(request: GetTaskParams, context: Context) -> GetTaskResult;
        update_task(request: UpdateTaskParams, context: Context) -> ();
        cancel_task(request: CancelTaskParams, context: Context) -> ();
        list_skills(request: Option<PaginatedRequestParams>, context: Context) -> ListSkillsResult;
        get_skill(request: GetSkillRequestParams, context: Context) -> GetSkillResult;
        read_resource_directory(request: ReadResourceDirectoryRequestParams, context: Context) -> ReadResourceDirectoryResult;
    }

    notifications! {
        on_cancelled(told: CancelledNotificationParam);
        on_progress(told: ProgressNotificationParam);
        on_initialized();
        on_roots_list_changed();
        on_custom_notification(told: CustomNotification);
    }

    fn negotiate_initialize(&self, request: &InitializeRequestParams) -> Result<InitializeResult, ErrorData> {
        self.handler.negotiate_initialize(request)
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        ServerHandler::supported_protocol_versions(&self.handler)
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        self.handler.accepted_subscription_filter(requested)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.handler.get_tool(name)
    }

    fn get_info(&self) -> ServerConfig {
        ServerHandler::get_info(&self.handler)
    }
}
