//! The tokenizer: the actor that gives values their tokens, and the handle everybody else holds.
//!
//! Detection runs on the caller's task; so does looking up a token that exists. Only a new value goes to the actor, which draws
//! its entry, has it recorded in the log's `privacy` stream, and answers once it is on disk: a token is never used before the
//! log can say what it stands for. Values leave the vault in two ways only, and both are recorded, on disk, before: at listed
//! argument paths of an upstream call, and for a person who says what for.

use super::detect::{self, Span};
use super::vault::{Keyring, Secret, Vault};
use super::{token, walk};
use crate::handle::Slot;
use crate::keys::KeyStore;
use crate::log::{Append, Durability, LogHandle};
use crate::supervisor::Child;
use athena_schemas::context::{Context, Party, Scope};
use athena_schemas::envelope::{Draft, Meta};
use athena_schemas::layers::privacy::{Counts, Event, LAYER, Minted, Missed, Revealed, Shown};
use athena_schemas::ports::{LogError, Sealer};
use athena_schemas::refusal::{Code, Refusal};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::oneshot;

/// Unknown tokens a project may ask for within a minute before releases are refused: whoever guesses is slowed down.
const MISSES_A_MINUTE: u32 = 100;

/// Values in one text or JSON value, at most.
const VALUES_MAX: usize = 100_000;

/// What was replaced: counts by token type, never values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Counts by type, such as `EMAIL`.
    pub types: BTreeMap<&'static str, u32>,
}

impl Report {
    fn of(secrets: &[Secret]) -> Self {
        let mut types = BTreeMap::new();
        for secret in secrets {
            *types.entry(secret.token_type).or_default() += 1;
        }
        Self { types }
    }

    /// All of them.
    pub fn total(&self) -> u32 {
        self.types.values().sum()
    }
}

/// What the actor and its handles share.
struct Shared {
    log: LogHandle,
    keys: Arc<KeyStore>,
    sealer: Arc<dyn Sealer>,
    /// Only what is recorded.
    vault: RwLock<Vault>,
    /// By project: the minute, and the misses in it.
    misses: Mutex<HashMap<String, (u64, u32)>>,
}

/// What everybody else holds of the tokenizer; survives its restarts.
#[derive(Clone)]
pub struct Tokenizer {
    slot: Slot<Message>,
    shared: Arc<Shared>,
}

/// Drafts of one release's audit.
type Drafts = Vec<Draft>;

impl Tokenizer {
    /// A tokenizer over a log and its keys. [`child`](Self::child) starts its actor.
    pub fn new(log: LogHandle, keys: Arc<KeyStore>, sealer: Arc<dyn Sealer>) -> Self {
        let shared = Shared { log, keys, sealer, vault: RwLock::default(), misses: Mutex::default() };
        Self { slot: Slot::new("the tokenizer"), shared: Arc::new(shared) }
    }

    /// The actor, for the supervisor. It reads the log's `privacy` stream before it takes messages.
    pub fn child(&self) -> Child {
        let handle = self.clone();
        Child::actor("tokenizer", || Minter, move || handle.clone())
    }

    /// Replaces what is sensitive in every string, number and field name of a value.
    ///
    /// # Errors
    /// When the log or the keys refuse; nothing was replaced then.
    pub async fn tokenize(&self, cx: &Context, value: Value) -> Result<(Value, Report), Refusal> {
        let mut finds = walk::find(&value);
        if finds.secrets.is_empty() {
            return Ok((value, Report::default()));
        }
        let secrets = std::mem::take(&mut finds.secrets);
        let report = Report::of(&secrets);
        let mut tokens = self.tokens(cx, secrets).await?.into_iter();
        Ok((walk::replace(value, &mut finds, &mut tokens), report))
    }

    /// Replaces what is sensitive in a text.
    ///
    /// # Errors
    /// As [`tokenize`](Self::tokenize).
    pub async fn tokenize_text(&self, cx: &Context, text: &str) -> Result<(String, Report), Refusal> {
        self.replace(cx, text, &detect::detect(text)).await
    }

    /// Keeps a whole text as a secret, whatever it looks like. Answers its token.
    ///
    /// # Errors
    /// When the log or the keys refuse.
    pub async fn keep(&self, cx: &Context, text: &str) -> Result<String, Refusal> {
        let secret = Secret { kind: "SECRET.kept", token_type: "SECRET", written: text.to_owned() };
        let mut tokens = self.tokens(cx, vec![secret]).await?;
        tokens.pop().ok_or_else(|| Refusal::internal("a value was given no token"))
    }

    /// Replaces what is sensitive in code, inside `literals` only: byte ranges of the contents of strings, templates and comments.
    ///
    /// # Errors
    /// [`Code::Invalid`] with line and column where a value stands elsewhere, such as a card number as a number; else as
    /// [`tokenize`](Self::tokenize).
    pub async fn tokenize_code(
        &self,
        cx: &Context,
        code: &str,
        literals: &[(u32, u32)],
    ) -> Result<(String, Report), Refusal> {
        let mut spans = Vec::new();
        for span in detect::detect(code) {
            spans.extend(inside(code, span, literals)?);
        }
        self.replace(cx, code, &spans).await
    }

    /// Puts the real values at the given argument paths, for an upstream call that is about to be made. What was asked for is
    /// recorded, on disk, before. Tokens unknown to the project stay as they are, and are recorded too.
    ///
    /// # Errors
    /// When the log refuses, when too many unknown tokens were asked for, or an entry was tampered with.
    pub async fn reveal(
        &self,
        cx: &Context,
        mut value: Value,
        paths: &[String],
        purpose: &str,
    ) -> Result<Value, Refusal> {
        let mut wanted = Vec::new();
        walk::at_paths(&mut value, paths, &mut |text| wanted.extend(tokens_in(text)));
        if wanted.is_empty() {
            return Ok(value);
        }
        let values = self.release(cx, wanted, "upstream", purpose).await?;
        walk::at_paths(&mut value, paths, &mut |text| *text = restore(text, &values).0);
        Ok(value)
    }

    /// Shows a person the values behind the tokens of a text.
    ///
    /// # Errors
    /// [`Code::Denied`] for anybody but a person or an embedding program, and without a purpose; else as [`reveal`](Self::reveal).
    pub async fn reveal_to_person(&self, cx: &Context, text: &str, purpose: &str) -> Result<Shown, Refusal> {
        if !matches!(cx.caller.party, Party::Human | Party::Host) {
            return Err(Refusal::denied("values are shown to people only")
                .hint("athena privacy reveal, at the command line"));
        }
        if purpose.trim().is_empty() {
            return Err(Refusal::invalid("a release needs a purpose")
                .at("purpose")
                .hint("say what it is for; it is recorded"));
        }
        let wanted = tokens_in(text);
        let values = self.release(cx, wanted, "person", purpose).await?;
        let (text, revealed, unknown) = restore(text, &values);
        Ok(Shown { text, revealed, unknown })
    }

    /// Forgets the values whose keys were destroyed.
    ///
    /// # Errors
    /// While the tokenizer is restarting.
    pub async fn renew(&self) -> Result<(), Refusal> {
        let (done, finished) = oneshot::channel();
        self.slot.cast(Message::Renew(done))?;
        finished.await.map_err(|_| self.slot.down())
    }

    /// Entries of the scope's project by type.
    pub fn counts(&self, scope: &Scope) -> Counts {
        let types = self.read().counts(scope.vault());
        Counts { total: types.values().sum(), types }
    }

    async fn replace(&self, cx: &Context, text: &str, spans: &[Span]) -> Result<(String, Report), Refusal> {
        if spans.is_empty() {
            return Ok((text.to_owned(), Report::default()));
        }
        let secrets: Vec<Secret> = spans
            .iter()
            .map(|span| Secret {
                kind: span.kind,
                token_type: span.token_type,
                written: text.get(span.start..span.end).unwrap_or_default().to_owned(),
            })
            .collect();
        let report = Report::of(&secrets);
        let mut tokens = self.tokens(cx, secrets).await?.into_iter();
        Ok((walk::splice(text, spans, &mut tokens), report))
    }

    /// The tokens of values, in their order.
    async fn tokens(&self, cx: &Context, secrets: Vec<Secret>) -> Result<Vec<String>, Refusal> {
        if secrets.len() > VALUES_MAX {
            return Err(Refusal::new(
                Code::LimitExceeded,
                format!("more than {VALUES_MAX} sensitive values at once"),
            )
            .hint("send less at once"));
        }
        let keyring = Keyring::of(&self.shared.keys, &cx.scope);
        let known: Option<Vec<String>> = {
            let vault = self.read();
            secrets.iter().map(|secret| vault.token(&keyring, secret)).collect()
        };
        if let Some(tokens) = known {
            return Ok(tokens);
        }
        let (reply, answer) = oneshot::channel();
        let scope = Scope { session: None, agent: None, user: None, ..cx.scope.clone() };
        let meta = Meta { scope, ..Meta::of(cx) };
        self.slot.cast(Message::Mint { meta, keyring, secrets, reply })?;
        answer.await.map_err(|_| self.slot.down())?
    }

    /// The values of tokens, after the release is on record.
    async fn release(
        &self,
        cx: &Context,
        mut wanted: Vec<String>,
        audience: &str,
        purpose: &str,
    ) -> Result<HashMap<String, zeroize::Zeroizing<String>>, Refusal> {
        wanted.sort();
        wanted.dedup();
        let project = cx.scope.vault();
        let mut values = HashMap::new();
        let mut missed = Vec::new();
        {
            let vault = self.read();
            for token in wanted {
                match vault.open(&self.shared.keys, project, &token)? {
                    Some(value) => drop(values.insert(token, value)),
                    None => missed.push(token),
                }
            }
        }
        let drafts = self.audit(cx, &values, &missed, audience, purpose)?;
        if !drafts.is_empty() {
            self.shared.log.commit(Append { durability: Durability::Sync, ..Append::new(drafts) }).await?;
        }
        self.count_misses(cx, missed.len())?;
        Ok(values)
    }

    fn audit(
        &self,
        cx: &Context,
        values: &HashMap<String, zeroize::Zeroizing<String>>,
        missed: &[String],
        audience: &str,
        purpose: &str,
    ) -> Result<Drafts, Refusal> {
        let mut events: Vec<Event> = Vec::new();
        let vault = cx.scope.vault().to_owned();
        // A purpose is free text, and events hold no values.
        let (purpose, found) = mask(purpose);
        let purpose = if found { format!("{purpose} (masked)") } else { purpose };
        if !values.is_empty() {
            let mut tokens: Vec<String> = values.keys().cloned().collect();
            tokens.sort();
            events.push(
                Revealed {
                    vault: vault.clone(),
                    tokens,
                    audience: audience.into(),
                    purpose: purpose.clone(),
                }
                .into(),
            );
        }
        if !missed.is_empty() {
            let tokens = missed.iter().take(16).cloned().collect();
            events.push(Missed { vault, tokens, count: missed.len() as u32, purpose }.into());
        }
        // One command may release several times, so the ids follow from what is released and when.
        let command = cx.command.child(&format!("release/{audience}/{}/{}", cx.mint("au"), cx.now_ms));
        let meta = Meta { command, ..Meta::of(cx) };
        (0..).zip(&events).map(|(n, event)| draft(&*self.shared.sealer, &meta, n, event)).collect()
    }

    fn count_misses(&self, cx: &Context, missed: usize) -> Result<(), Refusal> {
        if missed == 0 {
            return Ok(());
        }
        let minute = cx.now_ms / 60_000;
        let mut misses = self.shared.misses.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = misses.entry(cx.scope.vault().to_owned()).or_default();
        if entry.0 != minute {
            *entry = (minute, 0);
        }
        entry.1 = entry.1.saturating_add(missed as u32);
        if entry.1 > MISSES_A_MINUTE {
            return Err(Refusal::new(Code::LimitExceeded, "too many unknown tokens were asked for")
                .hint("tokens are copied, never invented; try again in a minute"));
        }
        Ok(())
    }

    pub(super) fn read(&self) -> std::sync::RwLockReadGuard<'_, Vault> {
        self.shared.vault.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A text with its sensitive parts struck out, and whether there were any.
fn mask(text: &str) -> (String, bool) {
    let spans = detect::detect(text);
    let mut stars = std::iter::repeat_with(|| "***".to_owned());
    (walk::splice(text, &spans, &mut stars), !spans.is_empty())
}

/// The tokens of a text, in normal form.
fn tokens_in(text: &str) -> Vec<String> {
    token::find(text).into_iter().filter_map(|(start, end)| text.get(start..end)).map(token::normal).collect()
}

/// A text with known tokens replaced; how many were, and how many were unknown.
fn restore(text: &str, values: &HashMap<String, zeroize::Zeroizing<String>>) -> (String, u32, u32) {
    let mut out = String::with_capacity(text.len());
    let (mut from, mut known, mut unknown) = (0, 0, 0);
    for (start, end) in token::find(text) {
        let written = text.get(start..end).unwrap_or_default();
        out.push_str(text.get(from..start).unwrap_or_default());
        match values.get(&token::normal(written)) {
            Some(value) => {
                known += 1;
                out.push_str(value);
            }
            None => {
                unknown += 1;
                out.push_str(written);
            }
        }
        from = end;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    (out, known, unknown)
}

/// The part of a span that lies inside a literal; an error where it does not.
fn inside(code: &str, span: Span, literals: &[(u32, u32)]) -> Result<Option<Span>, Refusal> {
    let holds = |(start, end): &&(u32, u32)| *start as usize <= span.start && span.end <= *end as usize;
    if literals.iter().any(|l| holds(&l)) {
        return Ok(Some(span));
    }
    let touching: Vec<_> = literals
        .iter()
        .filter(|(start, end)| (*start as usize) < span.end && span.start < *end as usize)
        .collect();
    // Found across the edge of a literal, as with `password = "…"` and its quotes: what lies inside is the value.
    if let [(start, end)] = touching.as_slice() {
        let (start, end) = (span.start.max(*start as usize), span.end.min(*end as usize));
        let outside = code.get(span.start..start).into_iter().chain(code.get(end..span.end));
        if outside.flat_map(str::chars).all(|c| !c.is_alphanumeric()) {
            return Ok(Some(Span { start, end, ..span }));
        }
    }
    // An identifier or a call under a sensitive name is code, not a value.
    let written = code.get(span.start..span.end).unwrap_or_default();
    let is_value = span.kind.starts_with("GLOBAL.")
        || span.kind.starts_with("US.")
        || written.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    if !is_value && touching.is_empty() {
        return Ok(None);
    }
    let head = code.get(..span.start).unwrap_or_default();
    let line = head.matches('\n').count() + 1;
    let column = head.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Err(Refusal::invalid(format!(
        "line {line}, column {column}: a sensitive value ({}) stands outside strings and comments",
        span.kind
    ))
    .at("code")
    .hint("put it into a string; it becomes a token there")
    .with(serde_json::json!({"line": line, "column": column, "kind": span.kind})))
}

fn draft(sealer: &dyn Sealer, meta: &Meta, n: u32, event: &Event) -> Result<Draft, Refusal> {
    let draft = Draft::of(LAYER, meta.command.event(n), meta.clone(), event, None)
        .map_err(|error| Refusal::internal(error.to_string()))?;
    sealer.seal(draft)
}

/// What the actor is told.
enum Message {
    /// Give values their tokens.
    Mint {
        meta: Meta,
        keyring: Keyring,
        secrets: Vec<Secret>,
        reply: oneshot::Sender<Result<Vec<String>, Refusal>>,
    },
    /// What an append led to.
    Recorded {
        drawn: Vec<Minted>,
        outcome: Result<(), LogError>,
        tokens: Vec<String>,
        reply: oneshot::Sender<Result<Vec<String>, Refusal>>,
    },
    /// Read the log anew: keys were destroyed.
    Renew(oneshot::Sender<()>),
}

/// The actor. It holds what is drawn and not yet on disk.
struct Minter;

struct Minting {
    handle: Tokenizer,
    /// Everything: what is recorded and what is on its way.
    drawn: Vault,
}

impl Actor for Minter {
    type Msg = Message;
    type State = Minting;
    type Arguments = Tokenizer;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        handle: Tokenizer,
    ) -> Result<Minting, ActorProcessingErr> {
        let drawn = read(&handle).await?;
        handle.slot.fill(myself);
        Ok(Minting { handle, drawn })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut Minting,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Mint { meta, keyring, secrets, reply } => {
                state.mint(&myself, &meta, &keyring, &secrets, reply)
            }
            Message::Recorded { drawn, outcome, tokens, reply } => match outcome {
                Ok(()) => {
                    let mut vault = state.handle.shared.vault.write().unwrap_or_else(PoisonError::into_inner);
                    drawn.iter().for_each(|minted| vault.insert(minted));
                    drop(vault);
                    let _ = reply.send(Ok(tokens));
                }
                Err(error) => {
                    drawn.iter().for_each(|minted| state.drawn.remove(minted));
                    let _ = reply.send(Err(error.into()));
                }
            },
            Message::Renew(done) => {
                state.drawn = read(&state.handle).await?;
                let _ = done.send(());
            }
        }
        Ok(())
    }
}

impl Minting {
    /// Draws what is new and sends it to the log. Values drawn by an earlier message that is still on its way cost an empty
    /// append: it is answered after theirs.
    fn mint(
        &mut self,
        myself: &ActorRef<Message>,
        meta: &Meta,
        keyring: &Keyring,
        secrets: &[Secret],
        reply: oneshot::Sender<Result<Vec<String>, Refusal>>,
    ) {
        let shared = &self.handle.shared;
        let mut drawn: Vec<Minted> = Vec::new();
        let mut draw = || {
            let mut tokens = Vec::with_capacity(secrets.len());
            for secret in secrets {
                let token = match self.drawn.token(keyring, secret) {
                    Some(token) => token,
                    None => {
                        let minted = self.drawn.draw(&shared.keys, keyring, secret)?;
                        let token = minted.token.clone();
                        self.drawn.insert(&minted);
                        drawn.push(minted);
                        token
                    }
                };
                tokens.push(token);
            }
            let drafts: Result<Drafts, Refusal> = drawn
                .iter()
                .map(|minted| {
                    let command = meta.command.child(&format!("mint/{}/{}", minted.token, meta.at_ms));
                    let meta = Meta { command, ..meta.clone() };
                    draft(&*shared.sealer, &meta, 0, &minted.clone().into())
                })
                .collect();
            Ok::<_, Refusal>((tokens, drafts?))
        };
        match draw() {
            Ok((tokens, drafts)) => {
                let myself = myself.clone();
                let append = Append { durability: Durability::Sync, ..Append::new(drafts) };
                shared.log.append(
                    append,
                    Box::new(move |outcome| {
                        let outcome = outcome.map(drop);
                        // If the actor is gone, so is the caller's channel, and it retries.
                        let _ = myself.cast(Message::Recorded { drawn, outcome, tokens, reply });
                    }),
                );
            }
            Err(refusal) => {
                drawn.iter().for_each(|minted| self.drawn.remove(minted));
                let _ = reply.send(Err(refusal));
            }
        }
    }
}

/// Reads the log into the shared vault, and answers another one like it.
async fn read(handle: &Tokenizer) -> Result<Vault, ActorProcessingErr> {
    // What was sent to the log before must be there before it is read.
    handle.shared.log.barrier().await?;
    let reading = handle.clone();
    let (recorded, drawn) =
        tokio::task::spawn_blocking(move || Ok::<_, Refusal>((replay(&reading)?, replay(&reading)?)))
            .await??;
    *handle.shared.vault.write().unwrap_or_else(PoisonError::into_inner) = recorded;
    Ok(drawn)
}

/// The vault as the log has it. Entries whose key was destroyed are gone.
fn replay(handle: &Tokenizer) -> Result<Vault, Refusal> {
    const BATCH: usize = 1_000;
    let reader = handle.shared.log.reader();
    let mut vault = Vault::default();
    let mut after = 0;
    loop {
        let records = reader.read_stream(LAYER, after, BATCH)?;
        let Some(last) = records.last() else { return Ok(vault) };
        after = last.version;
        for record in &records {
            if let Some(Event::Minted(minted)) = record.event::<Event>(&*handle.shared.sealer)? {
                vault.insert(&minted);
            }
        }
    }
}
