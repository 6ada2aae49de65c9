//! Servers over HTTP, in constant memory: an answer of any length, as JSON or as an event, becomes a short one with a handle, as
//! over stdio. Otherwise this is what the library's own client does, which holds at most 16 MiB and ends there.

use super::answer::cut;
use super::events::Events;
use super::mending;
use super::scan::Scanner;
use super::spool::{INLINE_MAX, Spools};
use futures_util::stream::{BoxStream, StreamExt, try_unfold};
use reqwest::header::{
    ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, ErrorData, JsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    AuthRequiredError, HttpStatusError, InsufficientScopeError, SseError, StreamableHttpClient,
    StreamableHttpError, StreamableHttpPostResponse,
};
use sse_stream::{Sse, SseStream};
use std::collections::HashMap;
use std::io::Cursor;
use std::sync::Arc;

/// What is read of an answer that is a failure, bytes.
const FAILURE_MAX: usize = 64 << 10;
/// Both kinds of answer there are.
const KINDS: &str = "text/event-stream, application/json";
/// Headers that are ours alone to set.
const RESERVED: &[&str] = &["accept", "mcp-session-id", "last-event-id"];

type Failed = StreamableHttpError<reqwest::Error>;
type Headers = HashMap<HeaderName, HeaderValue>;

/// The client, and where long answers are kept.
#[derive(Debug, Clone)]
pub struct Web {
    client: Client,
    spools: Spools,
}

impl Web {
    /// A client that keeps what is long in `spools`.
    ///
    /// # Errors
    /// When the system has no TLS to offer.
    pub fn new(spools: Spools) -> Result<Self, String> {
        Ok(Self { client: super::address::client()?, spools })
    }

    /// The answer to a request, as it begins to come in.
    async fn answer(
        &self,
        request: RequestBuilder,
        session: Option<Arc<str>>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<Response, Failed> {
        let mut request = request.header(ACCEPT, KINDS);
        for (name, value) in headers {
            if RESERVED.contains(&name.as_str()) {
                return Err(StreamableHttpError::ReservedHeaderConflict(name.to_string()));
            }
            request = request.header(name, value);
        }
        if let Some(session) = session {
            request = request.header("mcp-session-id", session.as_ref());
        }
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await?;
        match (response.status(), text(response.headers(), WWW_AUTHENTICATE)) {
            (StatusCode::UNAUTHORIZED, Some(words)) => {
                Err(StreamableHttpError::AuthRequired(AuthRequiredError::new(words)))
            }
            (StatusCode::FORBIDDEN, Some(words)) => {
                Err(StreamableHttpError::InsufficientScope(InsufficientScopeError::new(words, None)))
            }
            _ => Ok(response),
        }
    }

    /// An answer in one piece.
    async fn whole(
        &self,
        mut response: Response,
        asked: &ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Failed> {
        let (mut held, mut long, mut bytes) = (Vec::new(), None::<Scanner>, 0_u64);
        while let Some(chunk) = response.chunk().await? {
            bytes += chunk.len() as u64;
            if bytes > self.spools.largest() {
                let why = format!("an answer has at most {} MiB", self.spools.largest() >> 20);
                return failed(asked, why);
            }
            match &mut long {
                Some(scanner) => scanner.feed(&chunk),
                None if held.len() + chunk.len() > INLINE_MAX => {
                    let scanner = long.insert(Scanner::default());
                    scanner.feed(&std::mem::take(&mut held));
                    scanner.feed(&chunk);
                }
                None => held.extend_from_slice(&chunk),
            }
        }
        match long {
            None => mending::message(&held).map_err(|error| {
                let start = String::from_utf8_lossy(held.get(..held.len().min(200)).unwrap_or_default());
                StreamableHttpError::UnexpectedServerResponse(
                    format!("it answered what is no message ({error}): {start}").into(),
                )
            }),
            Some(scanner) => match scanner.stand_in(&self.spools) {
                Some(short) => Ok(serde_json::from_slice(&short)?),
                None => failed(asked, "a long answer names no request".into()),
            },
        }
    }

    fn events(&self, response: Response) -> BoxStream<'static, Result<Sse, SseError>> {
        let events = Events::new(self.spools.clone());
        let bytes = try_unfold((response, events), |(mut response, mut events)| async move {
            while !events.over() {
                let passed = match response.chunk().await? {
                    Some(chunk) => events.feed(&chunk),
                    None => events.rest(),
                };
                if !passed.is_empty() {
                    return Ok::<_, reqwest::Error>(Some((Cursor::new(passed), (response, events))));
                }
            }
            Ok(None)
        });
        let mend = |event: Result<Sse, SseError>| {
            event.map(|mut event| {
                event.data = event.data.map(mending::data);
                event
            })
        };
        SseStream::from_bytes_stream(bytes).map(mend).boxed()
    }
}

impl StreamableHttpClient for Web {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<StreamableHttpPostResponse, Failed> {
        use StreamableHttpPostResponse::{Accepted, Json, Sse};
        let within = session.is_some();
        let request = self.client.post(uri.as_ref()).header(CONTENT_TYPE, "application/json");
        let request = request.body(serde_json::to_vec(&message)?);
        let response = self.answer(request, session, token, headers).await?;
        let status = response.status();
        if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(Accepted);
        }
        if status == StatusCode::NOT_FOUND && within {
            return Err(StreamableHttpError::SessionExpired);
        }
        if !status.is_success() {
            return refused(response, &message, within).await;
        }
        let waits = matches!(message, JsonRpcMessage::Request(_));
        if !waits && response.content_length() == Some(0) {
            return Ok(Accepted);
        }
        let session = text(response.headers(), HeaderName::from_static("mcp-session-id"));
        match text(response.headers(), CONTENT_TYPE) {
            Some(kind) if kind.starts_with("text/event-stream") => Ok(Sse(self.events(response), session)),
            Some(kind) if kind.starts_with("application/json") => {
                match self.whole(response, &message).await {
                    Ok(answer) => Ok(Json(answer, session)),
                    // Nobody waits for what is said to a notification.
                    Err(_) if !waits => Ok(Accepted),
                    Err(error) => Err(error),
                }
            }
            kind => Err(StreamableHttpError::UnexpectedContentType(kind)),
        }
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Failed> {
        let mut request = self.client.get(uri.as_ref());
        if let Some(last_event) = last_event {
            request = request.header("last-event-id", last_event);
        }
        let response = self.answer(request, session, token, headers).await?;
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        }
        if let Some(error) = overloaded(&response) {
            return Err(error.into());
        }
        let response = response.error_for_status()?;
        match text(response.headers(), CONTENT_TYPE) {
            Some(kind) if kind.starts_with("text/event-stream") => Ok(self.events(response)),
            kind => Err(StreamableHttpError::UnexpectedContentType(kind)),
        }
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<(), Failed> {
        let response = self.answer(self.client.delete(uri.as_ref()), Some(session), token, headers).await?;
        // A server may keep its sessions to itself.
        if response.status() != StatusCode::METHOD_NOT_ALLOWED {
            response.error_for_status()?;
        }
        Ok(())
    }
}

/// What a failure comes to: words of the protocol where it has any, its status otherwise.
async fn refused(
    mut response: Response,
    asked: &ClientJsonRpcMessage,
    within: bool,
) -> Result<StreamableHttpPostResponse, Failed> {
    let (status, busy) = (response.status(), overloaded(&response));
    let json =
        text(response.headers(), CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
    if let Some(busy) = busy.filter(|_| !json || status == StatusCode::TOO_MANY_REQUESTS) {
        return Err(busy.into());
    }
    let busy = overloaded(&response);
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > FAILURE_MAX {
            let large = StreamableHttpError::ResponseBodyTooLarge { max_size: FAILURE_MAX };
            return Err(busy.map_or(large, Into::into));
        }
    }
    let forbidden = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    let said = match serde_json::from_slice::<ServerJsonRpcMessage>(&body) {
        Ok(JsonRpcMessage::Error(said)) => Some(said),
        _ => None,
    };
    let words = format!("HTTP {status}: {}", cut(&String::from_utf8_lossy(&body), 600));
    // The newer era's first question, which an older server may answer with any failure: it is told so under the question's id.
    if let JsonRpcMessage::Request(request) = asked
        && matches!(request.request, ClientRequest::DiscoverRequest(_))
        && !within
        && status.is_client_error()
        && !forbidden
    {
        let error = said.map_or_else(|| ErrorData::invalid_request(words, None), |said| said.error);
        let answer = JsonRpcMessage::error(error, Some(request.id.clone()));
        return Ok(StreamableHttpPostResponse::Json(answer, None));
    }
    if let Some(said) = said.filter(|_| json && !forbidden) {
        let session = text(response.headers(), HeaderName::from_static("mcp-session-id"));
        return Ok(StreamableHttpPostResponse::Json(JsonRpcMessage::Error(said), session));
    }
    Err(busy.map_or_else(|| StreamableHttpError::UnexpectedServerResponse(words.into()), Into::into))
}

/// The failure of a server that has too much to do, or is broken.
fn overloaded(response: &Response) -> Option<HttpStatusError> {
    let status = response.status();
    let busy = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
    busy.then(|| HttpStatusError::new(status.as_u16(), text(response.headers(), RETRY_AFTER)))
}

/// An answer that says why there is none, to whoever waits for one.
fn failed(asked: &ClientJsonRpcMessage, why: String) -> Result<ServerJsonRpcMessage, Failed> {
    match asked {
        JsonRpcMessage::Request(request) => {
            Ok(JsonRpcMessage::error(ErrorData::internal_error(why, None), Some(request.id.clone())))
        }
        _ => Err(StreamableHttpError::UnexpectedServerResponse(why.into())),
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}
