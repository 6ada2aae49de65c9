//! A server of this machine plays the model: what it is sent, and what becomes of answers no honest model gives.

use super::*;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What the server does with its one request.
enum Answers {
    Json(Value),
    Raw(&'static str),
    Endless,
    Never,
}

/// A server for one request; the task ends with what it was sent.
async fn server(answers: Answers) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        let whole = |asked: &[u8]| {
            let text = String::from_utf8_lossy(asked).to_lowercase();
            let (head, body) = text.split_once("\r\n\r\n")?;
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
            (body.len() >= length.trim().parse().ok()?).then_some(())
        };
        while whole(&asked).is_none() {
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "the request broke off");
            asked.extend_from_slice(&buffer[..read]);
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
        match answers {
            Answers::Json(value) => {
                stream.write_all(format!("{head}{value}").as_bytes()).await.unwrap();
            }
            Answers::Raw(raw) => stream.write_all(raw.as_bytes()).await.unwrap(),
            Answers::Endless => {
                stream.write_all(head.as_bytes()).await.unwrap();
                // Until the other side has had enough.
                while stream.write_all(&[b' '; 4096]).await.is_ok() {}
            }
            Answers::Never => {
                let _ = stream.read(&mut [0; 1]).await;
            }
        }
        String::from_utf8_lossy(&asked).into_owned()
    });
    (url, asked)
}

fn model(form: Form, url: &str, timeout: Duration) -> Model {
    Model::new(form, url, "m", timeout).unwrap()
}

fn prompt() -> Prompt {
    claims::prompt(&json!([{"id": "ep_1", "time": "2026-01-01T00:00:00Z", "content": "tea"}]))
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn each_form_is_spoken_and_its_answer_read() {
    let claims = r#"{"claims": []}"#;
    let input: Value = serde_json::from_str(claims).unwrap();
    let cases = [
        (
            Form::Ollama,
            "POST /api/chat ",
            "authorization: Bearer secret",
            json!({"message": {"content": claims}, "prompt_eval_count": 7, "eval_count": 2}),
        ),
        (
            Form::OpenAi,
            "POST /chat/completions ",
            "authorization: Bearer secret",
            json!({"choices": [{"message": {"content": claims}}],
                "usage": {"prompt_tokens": 7, "completion_tokens": 2}}),
        ),
        (
            Form::Anthropic,
            "POST /v1/messages ",
            "x-api-key: secret",
            json!({"content": [{"type": "text", "text": "…"}, {"type": "tool_use", "name": "propose", "input": input}],
                "usage": {"input_tokens": 7, "output_tokens": 2}}),
        ),
    ];
    for (form, path, key, answer) in cases {
        let (url, asked) = server(Answers::Json(answer)).await;
        let reply = model(form, &url, LONG).ask(Some("secret"), &prompt()).await.unwrap();
        assert_eq!((reply.tokens_in, reply.tokens_out), (Some(7), Some(2)), "{form:?}");
        let said: Value = serde_json::from_str(&reply.text).unwrap();
        assert_eq!(said, input, "{form:?}");
        let asked = asked.await.unwrap();
        assert!(asked.starts_with(path), "{asked}");
        assert!(asked.contains(key), "{asked}");
        let body: Value = serde_json::from_str(asked.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body["model"], "m");
        assert!(body.to_string().contains("ep_1"), "{body}");
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_a_failure_with_its_kind() {
    let cases = [
        (Answers::Json(json!({"message": {}})), Failure::Form("there is no answer in its envelope")),
        (
            Answers::Raw("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\ngarbage"),
            Failure::Form("its envelope is no JSON"),
        ),
        (Answers::Raw("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"), Failure::Status(401)),
        // Whoever answers may not send the question, or its key, on to somebody else.
        (
            Answers::Raw(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n",
            ),
            Failure::Status(307),
        ),
        (Answers::Raw("no HTTP at all\r\n\r\n"), Failure::Unreachable),
        (Answers::Endless, Failure::TooLarge),
    ];
    for (answers, failure) in cases {
        let (url, _asked) = server(answers).await;
        assert_eq!(model(Form::Ollama, &url, LONG).ask(None, &prompt()).await, Err(failure));
    }
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    assert_eq!(model(Form::Ollama, &nobody, LONG).ask(None, &prompt()).await, Err(Failure::Unreachable));
}

#[tokio::test]
async fn who_does_not_answer_is_not_waited_for() {
    let (url, _asked) = server(Answers::Never).await;
    let patience = Duration::from_millis(200);
    assert_eq!(model(Form::OpenAi, &url, patience).ask(None, &prompt()).await, Err(Failure::Slow(patience)));
}

#[test]
fn a_key_goes_only_where_nobody_reads_it() {
    let may = |url: &str| model(Form::OpenAi, url, LONG).may_have_key();
    assert!(may("https://example.org/v1") && may("http://127.0.0.1:1/v1") && may("http://localhost:1"));
    assert!(!may("http://example.org/v1") && !may("http://192.168.0.9:11434"));
    for wrong in ["file:///etc/passwd", "example.org", "http://me:secret@example.org"] {
        let refusal = Model::new(Form::Ollama, wrong, "m", LONG).unwrap_err();
        assert_eq!(refusal.path.as_deref(), Some("url"), "{wrong}");
        assert!(!refusal.message.contains("secret"), "{refusal}");
    }
    let address = |base: &str| Form::Anthropic.address(base);
    assert_eq!(address("https://api.anthropic.com/v1/"), address("https://api.anthropic.com"));
}
