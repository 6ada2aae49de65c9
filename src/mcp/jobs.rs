//! Long calls as tasks that a client follows (`io.modelcontextprotocol/tasks`): the product's, and those of the conformance fixtures.

use rmcp::ErrorData;
use rmcp::model::{
    CallToolResponse, CallToolResult, CancelTaskParams, CreateTaskResult, GetTaskParams, GetTaskResult,
    UpdateTaskParams,
};
use rmcp::task_manager::{TaskContext, TaskExit, TaskFuture, TaskManager, TaskOptions};

/// The tasks of one front, over all its connections.
#[derive(Clone)]
pub(super) struct Jobs {
    tasks: TaskManager,
    poll_ms: u64,
}

impl Jobs {
    /// No tasks so far. Who polls is told to wait `poll_ms` between two looks, milliseconds.
    pub(super) fn new(poll_ms: u64) -> Self {
        Self { tasks: TaskManager::new(), poll_ms }
    }

    /// Work that speaks with its task.
    pub(super) fn begin(&self, work: impl FnOnce(TaskContext) -> TaskFuture) -> CallToolResponse {
        let options = TaskOptions::new().with_poll_interval_ms(self.poll_ms);
        CallToolResponse::Task(CreateTaskResult::new(self.tasks.spawn(options, work)))
    }

    /// Work that is dropped when its task is cancelled, which gives up whatever is behind it.
    pub(super) fn follow(
        &self,
        work: impl Future<Output = Result<CallToolResult, ErrorData>> + Send + 'static,
    ) -> CallToolResponse {
        self.begin(|task| {
            Box::pin(async move {
                tokio::select! {
                    () = task.cancelled() => Err(TaskExit::Cancelled),
                    answer = work => answer.map_err(TaskExit::Error),
                }
            })
        })
    }

    /// How a task stands.
    pub(super) fn get(&self, request: &GetTaskParams) -> Result<GetTaskResult, ErrorData> {
        self.tasks.get_task(&request.task_id).map(GetTaskResult::new)
    }

    /// Answers what a task asked.
    pub(super) fn update(&self, request: UpdateTaskParams) -> Result<(), ErrorData> {
        self.tasks.update_task(&request.task_id, request.input_responses)
    }

    /// Gives a task up.
    pub(super) fn cancel(&self, request: &CancelTaskParams) -> Result<(), ErrorData> {
        self.tasks.cancel_task(&request.task_id)
    }
}
