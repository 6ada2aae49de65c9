//! MCP over streamable HTTP, both eras of the protocol.
//!
//! Who may ask is settled before a byte of the body is read: the `Host` must be one of ours (a page that had its name rebound
//! to this machine sends no `Origin`, so `Host` is the check), an `Origin` must be one of ours, and the bearer token must fit.

use super::attended::Panics;
use super::spared::Spared;
use crate::daemon::client::random_name;
use athena_schemas::refusal::{Code, Refusal};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use rmcp::ServerHandler;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Who may ask.
#[derive(Debug, Clone)]
pub struct Door {
    /// Exactly these `Host` values.
    hosts: Arc<[String]>,
    /// The bearer token; `None` only for the conformance fixtures.
    token: Option<Arc<str>>,
}

impl Door {
    /// A door at `address` that also answers to the names in `also`.
    pub fn at(address: SocketAddr, also: &[String], token: Option<String>) -> Self {
        let port = address.port();
        let mut hosts = vec![address.to_string(), format!("localhost:{port}"), format!("127.0.0.1:{port}")];
        hosts.push(format!("[::1]:{port}"));
        hosts.extend(also.iter().cloned());
        Self { hosts: hosts.into(), token: token.map(Into::into) }
    }

    /// Why a request is not let in.
    fn refuses(&self, headers: &HeaderMap) -> Option<StatusCode> {
        let ours = |host: &str| self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host));
        let said = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        if !said(HOST).is_some_and(ours) {
            return Some(StatusCode::FORBIDDEN);
        }
        if said(ORIGIN).is_some_and(|origin| !origin.strip_prefix("http://").is_some_and(ours)) {
            return Some(StatusCode::FORBIDDEN);
        }
        let token = self.token.as_deref()?;
        let given = said(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        // Hashes of equal length compare in a time that says nothing of how much of the token was right.
        let fits = blake3::hash(given.as_bytes()) == blake3::hash(token.as_bytes());
        (!fits).then_some(StatusCode::UNAUTHORIZED)
    }
}

/// A session ends after so long without a message, unless it is said otherwise: a person may think for a while, and clients
/// do not all come back from a session that has ended.
pub const SESSION_IDLE: Duration = Duration::from_secs(1_800);

/// Serves MCP at `/mcp`, a front for each session, until cancelled. A session ends when its client ends it, or after `idle`
/// without a message. A panic in a request is the answer to that request.
///
/// # Errors
/// When the listener fails.
pub async fn serve<H: ServerHandler>(
    listener: tokio::net::TcpListener,
    door: Door,
    idle: Duration,
    front: impl Fn() -> H + Send + Sync + 'static,
    end: CancellationToken,
) -> Result<(), Refusal> {
    let config = StreamableHttpServerConfig::default()
        .with_allowed_hosts(door.hosts.iter().cloned())
        .with_allowed_origins(door.hosts.iter().map(|host| format!("http://{host}")))
        .enforce_origin_validation()
        .with_cancellation_token(end.child_token());
    let mut sessions = LocalSessionManager::default();
    sessions.session_config.keep_alive = Some(idle);
    let panics = Panics::default();
    let front = move || Ok(Spared::new(front(), panics.clone()));
    let service = StreamableHttpService::new(front, Arc::new(sessions), config);
    let app = axum::Router::new().route_service("/mcp", service).layer(from_fn_with_state(door, guard));
    axum::serve(listener, app)
        .with_graceful_shutdown(async move { end.cancelled().await })
        .await
        .map_err(|e| Refusal::new(Code::Unavailable, format!("the HTTP server failed: {e}")))
}

async fn guard(State(door): State<Door>, request: Request, next: Next) -> Response {
    match door.refuses(request.headers()) {
        None => next.run(request).await,
        Some(StatusCode::UNAUTHORIZED) => (
            StatusCode::UNAUTHORIZED,
            [(WWW_AUTHENTICATE, "Bearer realm=\"athena\"")],
            "a bearer token is needed\n",
        )
            .into_response(),
        Some(status) => (status, "this name or origin is not served here\n").into_response(),
    }
}

/// The store's token, made once; readable by its owner alone.
///
/// # Errors
/// When the file cannot be read or made.
pub fn token(file: &Path) -> Result<String, Refusal> {
    let failed = |e: std::io::Error| {
        Refusal::new(Code::Unavailable, format!("{} cannot be used: {e}", file.display()))
    };
    let mut options = OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut made) => {
            let token = format!("{}{}", random_name(), random_name());
            made.write_all(token.as_bytes()).map_err(failed)?;
            Ok(token)
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            let mut token = String::new();
            std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut token)).map_err(failed)?;
            Ok(token.trim().to_owned())
        }
        Err(e) => Err(failed(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_our_names_our_pages_and_the_token_come_in() {
        let door = Door::at("127.0.0.1:7777".parse().unwrap(), &[], Some("secret".into()));
        let good = [(HOST, "localhost:7777"), (AUTHORIZATION, "Bearer secret")];
        assert_eq!(door.refuses(&headers(&good)), None);
        for (host, origin, auth, status) in [
            ("evil.com", None, "Bearer secret", 403),
            ("evil.com:7777", None, "Bearer secret", 403),
            ("localhost:7778", None, "Bearer secret", 403),
            ("localhost", None, "Bearer secret", 403),
            ("localhost:7777", Some("http://evil.com"), "Bearer secret", 403),
            ("localhost:7777", Some("null"), "Bearer secret", 403),
            ("localhost:7777", Some("http://localhost:7777"), "Bearer wrong", 401),
            ("localhost:7777", None, "Basic secret", 401),
        ] {
            let mut pairs = vec![(HOST, host), (AUTHORIZATION, auth)];
            pairs.extend(origin.map(|origin| (ORIGIN, origin)));
            assert_eq!(
                door.refuses(&headers(&pairs)).map(|s| s.as_u16()),
                Some(status),
                "{host} {origin:?} {auth}"
            );
        }
    }

    #[test]
    fn the_token_is_made_once_and_is_the_owner_s_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("http.token");
        let made = token(&file).unwrap();
        assert_eq!(token(&file).unwrap(), made);
        assert_eq!(made.len(), 48);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
