//! Lists of tools that are not well formed, over a transport that hands over what it has parsed: one tool that cannot be read shall
//! not take the others with it. (Over stdio the line itself is at hand, and mended there.)

use super::definition::mended;
use rmcp::RoleClient;
use rmcp::model::{ClientRequest, ErrorData, JsonRpcMessage, RequestId, ServerResult};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use std::collections::HashSet;

/// Lists that may be asked for at once; older ones are no longer looked at.
const LISTS_MAX: usize = 64;

/// A transport whose lists of tools are mended.
pub(super) struct Mending<T> {
    transport: T,
    /// Requests for lists that are not answered yet.
    lists: HashSet<RequestId>,
}

impl<T> Mending<T> {
    pub(super) fn new(transport: T) -> Self {
        Self { transport, lists: HashSet::new() }
    }

    /// What is handed on in the place of an answer.
    fn mend(&mut self, message: RxJsonRpcMessage<RoleClient>) -> RxJsonRpcMessage<RoleClient> {
        let JsonRpcMessage::Response(answer) = &message else { return message };
        if !self.lists.remove(&answer.id) || matches!(answer.result, ServerResult::ListToolsResult(_)) {
            return message;
        }
        let text = serde_json::to_vec(&message).unwrap_or_default();
        let mended = mended(&text).and_then(|text| serde_json::from_slice(&text).ok());
        // What the library took for another kind of answer has lost its tools; that is said, and not that there are none.
        mended.unwrap_or_else(|| {
            let why = "its list of tools is not well formed";
            JsonRpcMessage::error(ErrorData::internal_error(why, None), Some(answer.id.clone()))
        })
    }
}

impl<T: Transport<RoleClient> + Send> Transport<RoleClient> for Mending<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        if let JsonRpcMessage::Request(request) = &item
            && matches!(request.request, ClientRequest::ListToolsRequest(_))
        {
            if self.lists.len() >= LISTS_MAX {
                self.lists.clear();
            }
            self.lists.insert(request.id.clone());
        }
        self.transport.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let message = self.transport.receive().await?;
        Some(self.mend(message))
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.transport.close().await
    }
}
