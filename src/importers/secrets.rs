//! What must not stay in a configuration file, and the reference that takes its place.

use athena_schemas::layers::upstream::Server;
use athena_schemas::surface::names;

/// A secret found in a configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// The server it belongs to.
    pub server: String,
    /// The name under which the vault keeps it.
    pub name: String,
    /// The secret.
    pub value: String,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({}/{}, {} bytes)", self.server, self.name, self.value.len())
    }
}

/// Words of a variable's or header's name that say what it holds.
const WORDS: &[&str] = &[
    "key",
    "apikey",
    "token",
    "secret",
    "password",
    "passwd",
    "pass",
    "pwd",
    "credential",
    "credentials",
    "auth",
    "authorization",
    "pat",
    "cookie",
    "private",
    "dsn",
];

/// How well-known keys begin.
const PREFIXES: &[&str] = &[
    "ghp_",
    "gho_",
    "github_pat_",
    "glpat-",
    "sk-",
    "sk_live_",
    "xoxb-",
    "xoxp-",
    "ntn_",
    "secret_",
    "AKIA",
    "AIza",
    "eyJ",
    "pk_live_",
    "npm_",
    "pypi-",
    "hf_",
    "Bearer ",
    "Basic ",
];

/// Takes the secrets out of a server's configuration; `${vault:NAME}` stands in their places, `NAME` being where each stood.
pub fn take(name: &str, server: &mut Server) -> Vec<Secret> {
    let mut found = Vec::new();
    let mut keep = |key: String, value: &mut String| {
        let secret = Secret { server: name.into(), name: key.clone(), value: std::mem::take(value) };
        *value = reference(&key);
        found.push(secret);
    };
    for (part, values) in [("env", &mut server.env), ("headers", &mut server.headers)] {
        for (key, value) in values {
            if is_secret(key, value) {
                keep(format!("{part}.{key}"), value);
            }
        }
    }
    let mut last = String::new();
    for (at, argument) in server.args.iter_mut().enumerate() {
        // `--api-key VALUE`, `--api-key=VALUE`, or a value that gives itself away.
        if let Some((flag, value)) = argument.split_once('=')
            && flag.starts_with('-')
            && is_secret(flag, value)
        {
            let (flag, mut value) = (flag.to_string(), value.to_string());
            keep(format!("args.{at}"), &mut value);
            *argument = format!("{flag}={value}");
        } else if (last.starts_with('-') && !argument.starts_with('-') && is_secret(&last, argument))
            || begins(argument)
        {
            keep(format!("args.{at}"), argument);
        }
        last.clone_from(argument);
    }
    found
}

/// What stands in the place of a secret: the vault's name of it.
pub fn reference(name: &str) -> String {
    format!("${{vault:{name}}}")
}

/// Every text of a configuration in which a secret may stand.
pub fn texts(server: &mut Server) -> impl Iterator<Item = &mut String> {
    let one = server.command.iter_mut().chain(&mut server.cwd).chain(&mut server.url);
    one.chain(&mut server.args).chain(server.env.values_mut()).chain(server.headers.values_mut())
}

fn is_secret(name: &str, value: &str) -> bool {
    // A reference to a variable is no secret, nor is what is too short to be one.
    if value.contains("${") || value.len() < 4 {
        return false;
    }
    let words = names::words(name);
    let path = value.starts_with(['/', '~', '.']) || value.contains(":\\");
    begins(value) || (!path && words.iter().any(|word| WORDS.contains(&word.as_str())))
}

fn begins(value: &str) -> bool {
    value.len() >= 16 && PREFIXES.iter().any(|prefix| value.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn secrets_are_taken_and_the_rest_stays() {
        let mut server = Server {
            command: Some("x".into()),
            args: [
                "--api-key",
                "abcd1234",
                "--token=efgh5678",
                "--root",
                "/home/key",
                "ghp_0123456789abcdef0123",
            ]
            .map(String::from)
            .into(),
            env: BTreeMap::from(
                [
                    ("GITHUB_TOKEN", "t0ps3cret"),
                    ("PORT", "8080"),
                    ("API_KEY", "${API_KEY}"),
                    ("KEY_FILE", "/etc/key.pem"),
                    ("LOG", "debug"),
                ]
                .map(|(key, value)| (key.to_string(), value.to_string())),
            ),
            headers: BTreeMap::from([("Authorization".to_string(), "Bearer abcdefghijklmnop".to_string())]),
            ..Server::default()
        };
        let found = take("s", &mut server);
        let names: Vec<&str> = found.iter().map(|secret| secret.name.as_str()).collect();
        assert_eq!(names, ["env.GITHUB_TOKEN", "headers.Authorization", "args.1", "args.2", "args.5"]);
        assert_eq!(server.env["GITHUB_TOKEN"], "${vault:env.GITHUB_TOKEN}");
        assert_eq!(server.env["PORT"], "8080");
        assert_eq!(server.args[2], "--token=${vault:args.2}");
        let left = serde_json::to_string(&server).unwrap();
        assert!(found.iter().all(|secret| !left.contains(&secret.value)), "{left}");
        assert!(!format!("{found:?}").contains("t0ps3cret"));
    }
}
