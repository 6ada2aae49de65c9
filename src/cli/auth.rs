//! `athena upstream auth`: a person grants access in a browser; this program only waits for where the browser is sent.

use super::session::Session;
use super::{Done, written};
use athena_schemas::refusal::{Code, Refusal};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long a person may take.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// The first line of a request, bytes.
const LINE_MAX: u64 = 16 << 10;

/// Grant access to a server over HTTP, in a browser
#[derive(Debug, clap::Args)]
pub(super) struct Auth {
    /// The server
    server: String,
    /// A scope to ask for; may be given again [default: the server's own choice]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// A client that was registered beforehand
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// The variable that holds its secret
    #[arg(long, value_name = "NAME", requires = "client_id")]
    client_secret_env: Option<String>,
    /// The HTTPS address of a client metadata document
    #[arg(long, value_name = "URL")]
    client_metadata: Option<String>,
    /// The port of this machine that the browser is sent to [default: any]
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Only print the address
    #[arg(long)]
    no_browser: bool,
}

impl Auth {
    pub(super) async fn run(self, session: &Session) -> Done {
        let unheard =
            |e: std::io::Error| Refusal::new(Code::Unavailable, format!("no port to listen at: {e}"));
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.map_err(unheard)?;
        let port = listener.local_addr().map_err(unheard)?.port();
        let here = format!("http://127.0.0.1:{port}");
        let secret = match &self.client_secret_env {
            Some(name) => Some(std::env::var(name).map_err(|_| {
                Refusal::invalid(format!("the variable {name} is not set")).at("client_secret_env")
            })?),
            None => None,
        };
        let params = json!({
            "server": self.server, "redirect": format!("{here}/callback"), "scopes": self.scopes,
            "client_id": self.client_id, "client_secret": secret, "client_metadata": self.client_metadata,
        });
        let opening = session.call("upstream/begin_auth", params).await?;
        let address = opening.get("address").and_then(Value::as_str).unwrap_or_default();
        session.out.note(&format!("open in a browser: {address}"));
        if !self.no_browser && !session.globals.no_input {
            open(address);
        }
        let sent = tokio::time::timeout(PATIENCE, sent_to(&listener)).await.map_err(|_| {
            Refusal::new(Code::Unavailable, "nobody came back from the browser within a quarter of an hour")
                .hint(format!("athena upstream auth {}", self.server))
        })??;
        let callback = json!({ "server": self.server, "callback": format!("{here}{sent}") });
        session.call("upstream/finish_auth", callback).await?;
        let granted = json!({ "server": self.server, "granted": true });
        written(session.out.value(&granted, |_| {
            format!("access to {} is granted; its tokens are in the vault", self.server)
        }))
    }
}

/// Opens the person's browser; where there is none, the address was printed.
fn open(address: &str) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let quiet = std::process::Stdio::null;
    let _ = std::process::Command::new(opener)
        .arg(address)
        .stdin(quiet())
        .stdout(quiet())
        .stderr(quiet())
        .spawn();
}

/// Path and query the browser is sent to. Whatever else asks here is told that there is nothing.
async fn sent_to(listener: &TcpListener) -> Result<String, Refusal> {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        let Some(target) = target(&mut stream).await else { continue };
        let ours = target.starts_with("/callback?");
        let (status, words) = match ours {
            true => ("200 OK", "Athena has what it needs. You can close this page.\n"),
            false => ("404 Not Found", "There is nothing here.\n"),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{words}",
            words.len()
        );
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
        if ours {
            return Ok(target);
        }
    }
}

/// The target of a GET request.
async fn target(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut limited = stream.take(LINE_MAX);
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if limited.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let text = String::from_utf8(head).ok()?;
    let mut words = text.lines().next()?.split(' ');
    (words.next() == Some("GET")).then(|| words.next().map(str::to_owned))?
}
