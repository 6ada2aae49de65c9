//! OAuth for servers over HTTP: a person grants access once, in a browser; tokens lie in the vault and are renewed as they expire.
//!
//! The grant is the authorization code flow with PKCE (RFC 7636), where to ask is discovered from the server itself (RFC 9728,
//! RFC 8414), and the client is a registered one, a metadata document or registered on the way, in that order. [`Grants`] holds
//! what waits for its browser; [`Vaulted`] is the vault as the connection sees it.

use super::Ledger;
use async_trait::async_trait;
use athena_schemas::refusal::{Code, Refusal};
use rmcp::transport::auth::{
    AuthClient, AuthError, AuthorizationManager, AuthorizationRequest, CredentialStore, OAuthClientConfig,
    OAuthState, StoredCredentials, WWWAuthenticateParams,
};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a person may take in the browser.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
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
        let scopes = scopes(&*ledger, server, url, &wanted).await;
        let mut manager = AuthorizationManager::new(url).await.map_err(|e| failed(server, &e))?;
        manager.set_credential_store(Vaulted {
            ledger,
            server: server.to_owned(),
            client_secret: wanted.client_secret.clone(),
        });
        let mut state = OAuthState::Unauthorized(manager);
        let mut request = AuthorizationRequest::new(wanted.redirect)
            .with_client_name("Athena")
            .with_scopes(scopes)
            .with_initial_scope_selection();
        if let Some(id) = wanted.client_id {
            request = request.with_preregistered_client(id);
        }
        if let Some(secret) = wanted.client_secret {
            request = request.with_client_secret(secret);
        }
        if let Some(document) = wanted.client_metadata {
            request = request.with_client_metadata_url(document);
        }
        if let Some(challenge) = wanted.challenge {
            request = request.with_challenge(challenge);
        }
        state.start_authorization(request).await.map_err(|e| failed(server, &e))?;
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
) -> Result<Option<AuthClient<reqwest::Client>>, String> {
    let Some(kept) = load(&*ledger, server).await else { return Ok(None) };
    let mut manager = AuthorizationManager::new(url).await.map_err(|e| e.to_string())?;
    let store = Vaulted { ledger, server: server.to_owned(), client_secret: kept.client_secret.clone() };
    manager.set_credential_store(store);
    if !manager.initialize_from_store().await.map_err(|e| e.to_string())? {
        return Ok(None);
    }
    if let Some(secret) = kept.client_secret {
        // The redirect is not used again: nothing but a renewal follows.
        let config = OAuthClientConfig::new(kept.credentials.client_id, "http://127.0.0.1/callback")
            .with_client_secret(secret);
        manager.configure_client(config).map_err(|e| e.to_string())?;
    }
    Ok(Some(AuthClient::new(reqwest::Client::default(), manager)))
}

async fn load(ledger: &dyn Ledger, server: &str) -> Option<Kept> {
    serde_json::from_str(&ledger.credentials(server).await?).ok()
}

/// The vault's entry of one server.
struct Vaulted {
    ledger: Arc<dyn Ledger>,
    server: String,
    client_secret: Option<String>,
}

#[async_trait]
impl CredentialStore for Vaulted {
    async fn load(&self) -> Result<Option<StoredCredentials>, AuthError> {
        Ok(load(&*self.ledger, &self.server).await.map(|kept| kept.credentials))
    }

    async fn save(&self, credentials: StoredCredentials) -> Result<(), AuthError> {
        let kept = Kept { credentials, client_secret: self.client_secret.clone() };
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
