//! The client side under the official conformance suite: the product's own connection to other servers and its own grants, pointed
//! at the suite's servers. What a person would do in a browser, this does: it goes where it is sent.

use athena_actors::upstream::Ledger;
use athena_actors::upstream::connection::{Connection, Failure, Fault, Signal};
use athena_actors::upstream::oauth::{self, Grants, Wanted};
use athena_actors::upstream::spool::Spools;
use athena_schemas::layers::upstream::{Note, Observe, Questions, Server, Verdict};
use athena_schemas::ports::BoxFuture;
use athena_schemas::refusal::Refusal;
use athena_schemas::surface::json_schema;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::unbounded_channel;

/// Grants asked for before a server is given up: one at first, one for more, one for good measure.
const GRANTS: usize = 3;
/// The client metadata document that the suite's authorization servers know.
const METADATA: &str = "https://conformance-test.local/client-metadata.json";
/// Nobody listens there: the address is read from the answer that would send a browser to it.
const REDIRECT: &str = "http://127.0.0.1:49152/callback";

/// What is kept, as long as this runs.
#[derive(Default)]
struct Memory(Mutex<Option<String>>);

impl Ledger for Memory {
    fn observe(&self, _: Observe) -> BoxFuture<'_, Result<Verdict, Refusal>> {
        Box::pin(async { Ok(Verdict::default()) })
    }

    fn note(&self, _: Note) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn secret<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Option<String>> {
        Box::pin(async { None })
    }

    fn credentials<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<String>> {
        Box::pin(async { self.0.lock().unwrap_or_else(PoisonError::into_inner).clone() })
    }

    fn keep_credentials<'a>(
        &'a self,
        _: &'a str,
        text: Option<String>,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(async {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
            Ok(())
        })
    }
}

/// Why a visit ended early.
enum Ended {
    /// The server wants to know who asks, or wants more than was granted.
    Challenged(Option<String>),
    Failed(String),
}

/// Visits a server of the suite: connects, lists its tools, calls each.
///
/// # Errors
/// What went wrong, in words.
pub async fn visit(url: &str, context: &Value) -> Result<(), String> {
    let text = |name: &str| context.get(name).and_then(Value::as_str).map(str::to_owned);
    let (ledger, grants) = (Arc::new(Memory::default()), Grants::default());
    let mut asked = 0;
    loop {
        match once(&ledger, url).await {
            Ok(()) => return Ok(()),
            Err(Ended::Failed(why)) => return Err(why),
            Err(Ended::Challenged(_)) if asked == GRANTS => {
                return Err("it wants more than is granted".into());
            }
            Err(Ended::Challenged(challenge)) => {
                asked += 1;
                let wanted = Wanted {
                    redirect: REDIRECT.into(),
                    client_id: text("client_id"),
                    client_secret: text("client_secret"),
                    client_metadata: Some(METADATA.into()),
                    challenge,
                    ..Wanted::default()
                };
                let words = |refusal: Refusal| refusal.to_string();
                let address = grants.begin(ledger.clone(), "suite", url, wanted).await.map_err(words)?;
                let callback = follow(&address).await?;
                grants.finish("suite", &callback).await.map_err(words)?;
            }
        }
    }
}

async fn once(ledger: &Arc<Memory>, url: &str) -> Result<(), Ended> {
    let spools = Spools::default();
    let access = oauth::client(ledger.clone(), "suite", url, spools.clone()).await.map_err(Ended::Failed)?;
    // The suite asks for what a form has defaults for; that is a policy of the product, though not its first.
    let server = Server { url: Some(url.into()), questions: Questions::Defaults, ..Server::default() };
    let (signals, _heard) = unbounded_channel::<Signal>();
    let opened = Connection::open(&server, &BTreeMap::new(), access, spools.clone(), signals.clone()).await;
    let ended = |failure: Failure| match failure.challenge {
        Some(challenge) => Ended::Challenged(Some(challenge)),
        None => Ended::Failed(failure.why),
    };
    let connection = opened.map_err(ended)?;
    let offer = Connection::offer(connection.peer(), "suite".into()).await.map_err(ended)?;
    let first = offer.tools.first().map(|defined| defined.tool.input.clone()).unwrap_or_default();
    let mut calls = tokio::task::JoinSet::new();
    for defined in offer.tools {
        let tool = defined.tool;
        let mut arguments = json_schema::example(&tool.input).as_object().cloned().unwrap_or_default();
        // One tool wants to see what became of another's schema.
        if let Some(schema) = arguments.get_mut("schema") {
            schema.clone_from(&first);
        }
        let (peer, signals, spools) = (connection.peer(), signals.clone(), spools.clone());
        calls.spawn(async move {
            Connection::call(
                peer,
                signals,
                spools,
                Questions::Defaults,
                &tool.op(),
                tool.wire.clone(),
                arguments,
            )
            .await
        });
    }
    let mut challenged = None;
    while let Some(called) = calls.join_next().await {
        let called = called.map_err(|error| Ended::Failed(error.to_string()))?;
        if let Err(Fault::Challenged(challenge)) = called {
            challenged = Some(challenge);
        }
    }
    connection.close().await;
    challenged.map_or(Ok(()), |challenge| Err(Ended::Challenged(Some(challenge))))
}

/// Where a browser would be sent from an address. Plain HTTP on this machine, as the suite serves it.
async fn follow(address: &str) -> Result<String, String> {
    let rest = address.strip_prefix("http://").ok_or("the address is not on this machine")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let lost = |error: std::io::Error| format!("{host}: {error}");
    let mut stream = tokio::net::TcpStream::connect(host).await.map_err(lost)?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(lost)?;
    let mut answer = Vec::new();
    stream.take(64 << 10).read_to_end(&mut answer).await.map_err(lost)?;
    let answer = String::from_utf8_lossy(&answer);
    let sent = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
    });
    sent.ok_or_else(|| format!("nobody is sent anywhere: {}", answer.lines().next().unwrap_or_default()))
}
