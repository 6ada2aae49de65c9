//! What texts in code say: instructions to a model, switches of the guard, commands, paths, credentials, regular expressions.

use athena_schemas::risk::Risk::{self, Critical, High, Medium};

/// Texts that speak to a model or hide something from a person.
pub(super) fn instructs(text: &str) -> bool {
    const PHRASES: &[&str] = &[
        "ignore previous",
        "ignore all previous",
        "ignore the previous",
        "ignore prior",
        "ignore all prior",
        "ignore your instructions",
        "ignore any previous",
        "ignore earlier",
        "disregard previous",
        "disregard all",
        "disregard the",
        "disregard your",
        "forget your instructions",
        "forget previous instructions",
        "override your instructions",
        "new instructions:",
        "system prompt",
        "do not tell the user",
        "don't tell the user",
        "without telling the user",
        "do not inform the user",
        "do not mention this",
        "without the user",
        "hide this from",
        "keep this secret from",
        "approve every",
        "approve all pending",
        "without review",
        "skip approval",
        "bypass approval",
        "no approval needed",
        "pre-approved",
        "already approved by",
        "you are now",
        "you must now",
        "act as system",
        "as the system administrator",
        "<hidden>",
        "<system>",
        "</system>",
        "[system]",
        "<|im_start|>",
        "[inst]",
        "<<sys>>",
        "<important>",
        "<!-- system",
        "<!--system",
        "system:",
        "assistant:",
        "exfiltrate",
        "jailbreak",
        "developer mode",
        "reveal your prompt",
        "print your instructions",
        "repeat your instructions",
        "risk: low",
        "risk level: low",
        "guard: allow",
        "also send",
        "secretly",
    ];
    let lower = text.to_lowercase();
    let starts = |phrase: &&&str| matches!(**phrase, "system:" | "assistant:");
    PHRASES.iter().filter(|p| !starts(p)).any(|phrase| lower.contains(phrase))
        || lower.split(['\n', '.']).any(|line| {
            line.trim_start_matches(['<', '!', '-', '[', '#', ' ', '*']).starts_with("system:")
                && line.len() > 24
        })
        || text.chars().any(is_invisible)
}

/// Characters nobody sees and models read: tags, and those that turn the direction of writing.
fn is_invisible(c: char) -> bool {
    matches!(u32::from(c), 0xe0000..=0xe007f | 0x202a..=0x202e | 0x2066..=0x2069 | 0x200b | 0x2060..=0x2064)
}

/// Comments that try to switch judging off.
pub(super) fn switches_off(comment: &str) -> bool {
    const MARKS: &[&str] = &[
        "@ignore-security",
        "ignore-security",
        "@security-ignore",
        "security-ignore",
        "@skip-security",
        "skip-security",
        "@no-guard",
        "no-guard",
        "guard:off",
        "guard: off",
        "guard-disable",
        "@unsafe-allow",
        "nosec",
        "nosemgrep",
        "noqa: s",
        "disable-security",
        "bypass-security",
        "bypass security",
        "@bypass",
        "skip-scan",
        "@trusted",
        "cars:low",
        "cars: low",
        "risk: low",
        "risk=low",
        "pre-approved",
        "preapproved",
        "approved-by",
        "approved by",
        "athena-ignore",
        "athena:ignore",
        "allow-unsafe",
        "security: off",
        "disable guard",
        "turn off the guard",
        "eslint-disable security",
        "eslint-disable-next-line no-eval",
        "no approval",
        "skip review",
        "skip approval",
        "@override-guard",
        "guardrails off",
    ];
    let lower = comment.to_lowercase();
    MARKS.iter().any(|mark| lower.contains(mark))
}

/// A shell command or a statement that destroys; whether `text` is one is for the caller to know.
pub(super) fn command(text: &str) -> Option<(Risk, &'static str)> {
    let lower = text.to_lowercase();
    let has = |needle: &str| lower.contains(needle);
    let removes = [
        "rm -rf",
        "rm -fr",
        "rm -r ",
        "rm --recursive",
        "rm -f /",
        "rm -rf",
        "rmdir /s",
        "del /f",
        "del /s",
        "format c:",
        "mkfs",
        "shred ",
        "wipefs",
        "dd if=",
        "> /dev/sd",
        ":(){",
        "chmod -r 777 /",
        "chown -r ",
        "remove-item -recurse",
        "git push --force",
        "git push -f",
        "git reset --hard",
        "git clean -fd",
        "shutdown",
        "halt -f",
        "kill -9 -1",
        "docker system prune",
        "kubectl delete",
        "terraform destroy",
    ]
    .iter()
    .any(|c| has(c));
    if removes {
        return Some((Critical, "destructive-command"));
    }
    let piped = (has("curl ") || has("wget "))
        && (has("| sh") || has("|sh") || has("| bash") || has("|bash") || has("| python"));
    let shell = piped
        || has("/dev/tcp/")
        || has("nc -e")
        || has("bash -i")
        || has("base64 -d |")
        || has("base64 --decode |")
        || has("python -c")
        || has("perl -e")
        || has("powershell -enc")
        || has("eval $(");
    if shell {
        return Some((Critical, "remote-shell"));
    }
    let sql = ["drop table", "drop database", "drop schema", "truncate table", "truncate "]
        .iter()
        .any(|c| lower.trim_start().starts_with(c))
        || has("; drop ")
        || ((lower.trim_start().starts_with("delete from") || lower.trim_start().starts_with("update "))
            && !has(" where "));
    if sql || has("where 1=1") && has("delete") {
        return Some((Critical, "destructive-statement"));
    }
    let outside = [
        "curl ",
        "wget ",
        "ssh ",
        "scp ",
        "nc ",
        "ncat ",
        "sudo ",
        "crontab",
        "systemctl",
        "iptables",
        "useradd",
        "passwd ",
        "cat /etc/",
        "env |",
        "printenv",
    ]
    .iter()
    .any(|c| {
        lower.trim_start().starts_with(c)
            || lower.contains(&format!("&& {c}"))
            || lower.contains(&format!("; {c}"))
    });
    outside.then_some((High, "shell-command"))
}

/// A path that leads out of the house: up and up, or to what belongs to the machine or a person.
pub(super) fn path(text: &str) -> bool {
    const PLACES: &[&str] = &[
        "/etc/",
        "/proc/",
        "/sys/",
        "/root",
        "/home/",
        "/users/",
        "/var/",
        "/dev/",
        "/boot/",
        "~/",
        "c:\\",
        "\\windows\\",
        "/.ssh",
        ".ssh/",
        "id_rsa",
        "id_ed25519",
        ".aws/credentials",
        ".env",
        ".netrc",
        ".npmrc",
        ".git-credentials",
        "authorized_keys",
        "docker.sock",
        "kube/config",
        ".bash_history",
        "shadow",
        "/run/secrets",
        "master.key",
        "keychain",
    ];
    let lower = text.to_lowercase();
    let long = text.len() > 300 || text.contains('\n') || lower.starts_with("http");
    let decoded = lower.replace("%2e", ".").replace("%2f", "/").replace("%5c", "\\").replace("....//", "../");
    !long
        && (decoded.matches("../").count() >= 2
            || decoded.matches("..\\").count() >= 2
            || PLACES.iter().any(|place| {
                (place.starts_with('/') || place.starts_with('~')) && decoded.starts_with(place)
                    || place.len() > 5 && !place.starts_with('/') && decoded.contains(place)
                    || decoded.trim_start_matches("file://").starts_with(place)
                    || decoded == *place
            }))
        && !decoded.starts_with("/mcp-servers")
        && !decoded.starts_with("/skills")
}

/// Whether a name with this text as its value is a credential somebody wrote down. Tokens are not: their values lie in the vault.
pub(super) fn credential(name: &str, text: &str) -> bool {
    const NAMES: &[&[&str]] = &[
        &["password"],
        &["passwd"],
        &["pwd"],
        &["passphrase"],
        &["secret"],
        &["api", "key"],
        &["apikey"],
        &["access", "key"],
        &["secret", "key"],
        &["private", "key"],
        &["auth", "token"],
        &["access", "token"],
        &["token"],
        &["client", "secret"],
        &["bearer"],
        &["credential"],
        &["credentials"],
        &["signing", "key"],
        &["encryption", "key"],
        &["connection", "string"],
        &["database", "url"],
        &["db", "url"],
    ];
    let words = super::rules::words(name);
    let named = NAMES
        .iter()
        .any(|n| words.len() >= n.len() && words.iter().rev().zip(n.iter().rev()).all(|(a, b)| a == b));
    let lower = text.to_lowercase();
    let placeholder = text.len() < 6
        || text.contains("_tk_")
        || text.contains(' ')
        || text.starts_with('$')
        || text.starts_with('<')
        || text.starts_with('{')
        || lower.contains("example")
        || lower.contains("your")
        || lower.contains("xxxx")
        || lower.contains("***")
        || lower.contains("placeholder")
        || lower.starts_with("env")
        || lower == "password"
        || lower == "secret";
    let made = text.chars().any(|c| c.is_ascii_digit())
        || text.chars().any(|c| "!@#%^&*".contains(c))
        || text.len() >= 20;
    let types = matches!(lower.as_str(), "string" | "bearer" | "basic" | "number" | "optional" | "required");
    named && !placeholder && made && !types || is_key(text)
}

/// A text that is a well-known kind of key.
fn is_key(text: &str) -> bool {
    const PREFIXES: &[(&str, usize)] = &[
        ("AKIA", 20),
        ("ASIA", 20),
        ("ghp_", 36),
        ("gho_", 36),
        ("github_pat_", 40),
        ("glpat-", 24),
        ("sk-ant-", 40),
        ("sk-proj-", 40),
        ("sk_live_", 20),
        ("rk_live_", 20),
        ("xoxb-", 24),
        ("xoxp-", 24),
        ("AIza", 39),
        ("npm_", 36),
        ("hf_", 30),
        ("-----BEGIN RSA PRIVATE", 20),
        ("-----BEGIN PRIVATE", 20),
        ("-----BEGIN OPENSSH PRIVATE", 20),
        ("-----BEGIN EC PRIVATE", 20),
    ];
    PREFIXES.iter().any(|(prefix, length)| text.starts_with(prefix) && text.len() >= *length)
}

/// A regular expression that backtracks without end: a repeated group that repeats inside, or repeated alternatives that overlap.
pub(super) fn explodes(pattern: &str) -> bool {
    let bytes = pattern.as_bytes();
    let mut open: Vec<(usize, bool)> = Vec::new();
    let (mut i, mut class) = (0, false);
    while let Some(b) = bytes.get(i) {
        match b {
            b'\\' => i += 1,
            b'[' => class = true,
            b']' => class = false,
            _ if class => {}
            b'(' => open.push((i, false)),
            b'*' | b'+' | b'{' => {
                if let Some(last) = open.last_mut() {
                    last.1 = true;
                }
            }
            b')' => {
                let Some((start, repeats)) = open.pop() else { return false };
                let next = bytes.get(i + 1).copied().unwrap_or(0);
                let repeated = matches!(next, b'*' | b'+')
                    || next == b'{' && bytes.get(i + 1..).is_some_and(|r| r.contains(&b','));
                let inside = pattern.get(start + 1..i).unwrap_or_default().trim_start_matches("?:");
                let separated = inside.starts_with("\\.")
                    || inside.starts_with(['-', ',', '/', ':', ' '])
                    || inside.ends_with([',', ' ', '/', ':'])
                    || inside.starts_with("\\s")
                    || inside.ends_with("\\.");
                let parts: Vec<&str> = inside.split('|').collect();
                let overlap = parts.len() > 1
                    && parts
                        .iter()
                        .enumerate()
                        .any(|(k, a)| parts.iter().skip(k + 1).any(|b| a.starts_with(b) || b.starts_with(a)));
                if repeated && (repeats && !separated || overlap) {
                    return true;
                }
                if let Some(last) = open.last_mut() {
                    last.1 |= repeats || repeated;
                }
            }
            _ => {}
        }
        i += 1;
    }
    false
}

/// How bad a tool's name sounds: administration and destruction.
pub(super) fn tool(name: &str) -> Option<(Risk, &'static str)> {
    let lower = name.to_lowercase();
    let has = |list: &[&str]| list.iter().any(|w| lower.contains(w));
    if lower.starts_with("admin/")
        || lower.contains("/admin_")
        || lower.starts_with("approval")
        || has(&[
            "reset_database",
            "drop_",
            "delete_all",
            "deleteall",
            "wipe",
            "truncate",
            "destroy",
            "erase_scope",
            "approve",
            "factory_reset",
            "purge_all",
            "untokenize",
        ])
    {
        return Some((Critical, "administration"));
    }
    if has(&["shell/", "exec_command", "run_command", "execute_command", "bash/", "terminal/"]) {
        return Some((High, "shell-command"));
    }
    has(&["purge", "bulk_delete", "force_"]).then_some((Medium, "destructive-tool"))
}
