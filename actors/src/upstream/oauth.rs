//! OAuth for servers over HTTP: a person grants access once, in a browser; tokens lie in the vault and are renewed as they expire.
//!
//! The grant is the authorization code flow with PKCE (RFC 7636), where to ask is discovered from the server itself (RFC 9728,
//! RFC 8414), and the client is a registered one, a metadata document or registered on the way, in that order. [`Grants`] holds
//! what waits for its browser; [`Vaulted`] is the vault as the connection sees it.

use super::Ledger;
use super::spool::Spools;
use super::web::Web;
use async_trait::async_trait;
use athena_schemas::refusal::{Code, Refusal};
use rmcp::transport::auth::{
    AuthClient, AuthError, AuthorizationManager, AuthorizationRequest, AuthorizationSession, CredentialStore,
    OAuthClientConfig, OAuthState, StoredCredentials, WWWAuthenticateParams,
};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a person may take in the browser.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// What we call ourselves where a client is registered.
const CLIENT_NAME: &str = "Athena";
/// The scope for tokens that can be renewed without a person.
const OFFLINE: &str = "offline_access";
/// Grants under way at once.
const GRANTS_MAX: usize = 16;

/// How to ask for access.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Where the browser is sent afterwards: an address of this machine.
    pub redirect: String,
    /// Scopes; the server's own choice where empty.
    pub scopes: Vec<String>,
    /// A client that was registered beforehand.
    pub client_id: Option<String>,
    /// Its secret.
    pub client_secret: Option<String>,
    /// An HTTPS address of a client metadata document.
    pub client_metadata: Option<String>,
    /// What the server said when it refused: where to ask, and for which scopes.
    pub challenge: Option<String>,
}

/// What is kept of a grant, sealed.
#[derive(Serialize, Deserialize)]
struct Kept {
    credentials: StoredCredentials,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
}

struct Waiting {
    state: OAuthState,
    since: Instant,
}

/// Grants that wait for a person in a browser.
#[derive(Default)]
pub struct Grants(Mutex<HashMap<String, Waiting>>);

impl Grants {
    /// Begins a grant: the address a person opens.
    ///
    /// # Errors
    /// When the server says of no way to be granted access, or refuses this client.
    pub async fn begin(
        &self,
        ledger: Arc<dyn Ledger>,
        server: &str,
        url: &str,
        wanted: Wanted,
    ) -> Result<String, Refusal> {
        let mut scopes = scopes(&*ledger, server, url, &wanted).await;
        let mut manager = AuthorizationManager::new(url).await.map_err(|e| failed(server, &e))?;
        let secret = Secret::new(wanted.client_secret.clone());
        manager.set_credential_store(Vaulted { ledger, server: server.to_owned(), secret: secret.clone() });
        let found = manager.resolve_metadata_from_challenge(wanted.challenge.as_deref()).await;
        let metadata = found.map_err(|e| failed(server, &e))?.metadata;
        manager.set_metadata(metadata.clone());
        let mut request = AuthorizationRequest::new(wanted.redirect.clone())
            .with_client_name(CLIENT_NAME)
            .with_initial_scope_selection();
        let document = wanted.client_metadata.filter(|_| {
            let understood = metadata.additional_fields.get("client_id_metadata_document_supported");
            understood.and_then(serde_json::Value::as_bool) == Some(true)
        });
        match (wanted.client_id, document) {
            (Some(id), _) => request = request.with_preregistered_client(id),
            (None, Some(document)) => request = request.with_client_metadata_url(document),
            (None, None) if wanted.client_secret.is_some() => {
                return Err(Refusal::invalid("a client's secret without the client").hint("--client-id"));
            }
            // Registered here and not by the library, which would keep to itself the secret that a server may give its new client.
            (None, None) => {
                if scopes.is_empty() {
                    scopes = manager.select_initial_scopes(&[]).await;
                } else if metadata
                    .scopes_supported
                    .as_ref()
                    .is_some_and(|all| all.iter().any(|one| one == OFFLINE))
                    && !scopes.iter().any(|one| one == OFFLINE)
                {
                    scopes.push(OFFLINE.to_owned());
                }
                let asked: Vec<&str> = scopes.iter().map(String::as_str).collect();
                let client = manager.register_client(CLIENT_NAME, &wanted.redirect, &asked).await;
                let client = client.map_err(|e| failed(server, &e))?;
                secret.set(client.client_secret);
                request = request.with_preregistered_client(client.client_id);
            }
        }
        if let Some(secret) = secret.get() {
            request = request.with_client_secret(secret);
        }
        let session = AuthorizationSession::new(manager, request.with_scopes(scopes)).await;
        let state = OAuthState::Session(session.map_err(|(_, e)| failed(server, &e))?);
        let address = state.get_authorization_url().await.map_err(|e| failed(server, &e))?;
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, one| one.since.elapsed() < PATIENCE);
        if waiting.len() >= GRANTS_MAX && !waiting.contains_key(server) {
            return Err(Refusal::new(Code::LimitExceeded, format!("{GRANTS_MAX} grants wait already"))
                .hint("finish one, or try again in a quarter of an hour"));
        }
        waiting.insert(server.to_owned(), Waiting { state, since: Instant::now() });
        Ok(address)
    }

    /// Finishes a grant with the address the browser was sent to: the tokens go to the vault.
    ///
    /// # Errors
    /// When none waits, or the answer is not to what was asked.
    pub async fn finish(&self, server: &str, callback: &str) -> Result<(), Refusal> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(server);
        let Some(mut waiting) = waiting.filter(|one| one.since.elapsed() < PATIENCE) else {
            return Err(Refusal::not_found(format!("no grant for {server} waits"))
                .hint(format!("athena upstream auth {server}")));
        };
        waiting.state.handle_callback_url(callback).await.map_err(|e| failed(server, &e))
    }
}

/// The scopes to ask for: those that were named; where a server wants more than was granted, what was granted and what it wants;
/// else none, which leaves the choice to the server.
async fn scopes(ledger: &dyn Ledger, server: &str, url: &str, wanted: &Wanted) -> Vec<String> {
    if !wanted.scopes.is_empty() {
        return wanted.scopes.clone();
    }
    let challenge = wanted.challenge.as_ref().zip(reqwest::Url::parse(url).ok());
    let asked = challenge.map(|(header, url)| WWWAuthenticateParams::parse(header, &url));
    let Some(asked) = asked.filter(WWWAuthenticateParams::is_insufficient_scope) else { return Vec::new() };
    let mut scopes =
        load(ledger, server).await.map(|kept| kept.credentials.granted_scopes).unwrap_or_default();
    for scope in asked.scope.iter().flat_map(|scopes| scopes.split(' ')) {
        if !scopes.iter().any(|known| known == scope) {
            scopes.push(scope.to_owned());
        }
    }
    scopes
}

/// The connection's HTTP client, with the access that was granted; `None` where none was.
///
/// # Errors
/// When there is a grant that cannot be used: the authorization server is out of reach, say.
pub async fn client(
    ledger: Arc<dyn Ledger>,
    server: &str,
    url: &str,
    spools: Spools,
) -> Result<Option<AuthClient<Web>>, String> {
    let Some(kept) = load(&*ledger, server).await else { return Ok(None) };
    let mut manager = AuthorizationManager::new(url).await.map_err(|e| e.to_string())?;
    let secret = Secret::new(kept.client_secret.clone());
    manager.set_credential_store(Vaulted { ledger, server: server.to_owned(), secret });
    if !manager.initialize_from_store().await.map_err(|e| e.to_string())? {
        return Ok(None);
    }
    if let Some(secret) = kept.client_secret {
        // The redirect is not used again: nothing but a renewal follows.
        let config = OAuthClientConfig::new(kept.credentials.client_id, "http://127.0.0.1/callback")
            .with_client_secret(secret);
        manager.configure_client(config).map_err(|e| e.to_string())?;
    }
    Ok(Some(AuthClient::new(Web::new(spools)?, manager)))
}

async fn load(ledger: &dyn Ledger, server: &str) -> Option<Kept> {
    serde_json::from_str(&ledger.credentials(server).await?).ok()
}

/// The vault's entry of one server.
struct Vaulted {
    ledger: Arc<dyn Ledger>,
    server: String,
    secret: Secret,
}

/// The secret of our client at the authorization server: known beforehand, or given to it when it is registered.
#[derive(Clone)]
struct Secret(Arc<Mutex<Option<String>>>);

impl Secret {
    fn new(known: Option<String>) -> Self {
        Self(Arc::new(Mutex::new(known)))
    }

    fn set(&self, given: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = given;
    }

    fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl CredentialStore for Vaulted {
    async fn load(&self) -> Result<Option<StoredCredentials>, AuthError> {
        Ok(load(&*self.ledger, &self.server).await.map(|kept| kept.credentials))
    }

    async fn save(&self, credentials: StoredCredentials) -> Result<(), AuthError> {
        let kept = Kept { credentials, client_secret: self.secret.get() };
        let text =
            serde_json::to_string(&kept).map_err(|e| AuthError::CredentialStoreError(e.to_string()))?;
        self.keep(Some(text)).await
    }

    async fn clear(&self) -> Result<(), AuthError> {
        self.keep(None).await
    }
}

impl Vaulted {
    async fn keep(&self, text: Option<String>) -> Result<(), AuthError> {
        let kept = self.ledger.keep_credentials(&self.server, text).await;
        kept.map_err(|refusal| AuthError::CredentialStoreError(refusal.to_string()))
    }
}

fn failed(server: &str, error: &AuthError) -> Refusal {
    let words = super::answer::cut(&error.to_string(), 500).to_owned();
    Refusal::new(Code::Upstream, format!("{server} grants no access: {words}"))
        .hint("athena upstream auth --help: --client-id, --scope")
}
