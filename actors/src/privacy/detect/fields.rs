//! Which keys name a credential or special personal data: exact segments of the key, never parts of words.
//!
//! `github_token`, `stripeSecretKey` and `DB_PASSWORD_PROD` do; `token_count`, `sort_key`, `secret_name`, `has_password` and
//! `monkey` do not.

/// What a key says of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// A password: any text may be one.
    Password,
    /// A machine-made credential.
    Credential,
    /// A short code: digits are enough.
    Code,
    /// A connection string.
    Connection,
    /// Special personal data: any text.
    Personal,
}

impl Class {
    pub(super) fn kind(self) -> (&'static str, &'static str) {
        match self {
            Self::Password => ("FIELD.password", "SECRET"),
            Self::Credential => ("FIELD.credential", "SECRET"),
            Self::Code => ("FIELD.code", "SECRET"),
            Self::Connection => ("FIELD.connection", "SECRET"),
            Self::Personal => ("FIELD.personal", "PERSONAL"),
        }
    }
}

/// Words in which the scan looks for a key. Each is part of at least one sensitive key.
pub(super) const STEMS: &[&str] = &[
    "pass",
    "pwd",
    "secret",
    "token",
    "key",
    "cred",
    "auth",
    "cookie",
    "session",
    "sid",
    "jwt",
    "bearer",
    "cvv",
    "cvc",
    "csc",
    "pin",
    "otp",
    "mfa",
    "2fa",
    "totp",
    "code",
    "dsn",
    "database",
    "conn",
    "_url",
    "_uri",
    "dob",
    "birth",
    "diagnos",
    "medical",
    "health",
    "mrn",
    "patient",
    "prescription",
    "medication",
    "allerg",
    "disability",
    "blood",
    "licen",
    "national",
    "nino",
    "identity",
    "id_card",
    "idcard",
    "tax",
    "bank",
    "account",
    "routing",
    "aadhaar",
    "pesel",
    "cpf",
    "religion",
    "ethnic",
    "sexual",
    "maiden",
    "biometric",
    "genetic",
    "insurance",
    "kennwort",
    "contrase",
    "senha",
    "wachtwoord",
    "passwort",
    "mot_de_passe",
    "motdepasse",
    "ssn",
    "social",
    "signature",
    "private",
    "apikey",
    "psk",
    "dsn",
    "criminal",
    "hiv",
    "pregnan",
    "disab",
];

const LEADING: &[&str] = &[
    "has",
    "is",
    "use",
    "uses",
    "show",
    "hide",
    "num",
    "number",
    "total",
    "max",
    "min",
    "count",
    "requires",
    "require",
    "required",
    "allow",
    "enable",
    "enabled",
    "no",
    "can",
    "needs",
    "should",
    "supports",
    "with",
    "forgot",
    "reset",
    "change",
    "confirm_required",
    "validate",
    "check",
];

const TRAILING: &[&str] = &[
    "prod",
    "production",
    "dev",
    "develop",
    "staging",
    "stage",
    "test",
    "testing",
    "qa",
    "uat",
    "old",
    "new",
    "current",
    "previous",
    "primary",
    "secondary",
    "backup",
    "default",
    "value",
    "val",
    "plain",
    "plaintext",
    "plain_text",
    "raw",
    "b64",
    "base64",
    "env",
    "main",
    "live",
    "sandbox",
    "header",
    "text",
    "string",
    "str",
    "confirmation",
    "confirm",
    "again",
    "repeat",
    "hash",
    "encrypted",
    "local",
    "admin",
    "root",
    "user",
];

const PASSWORDS: &[&str] = &[
    "password",
    "passwords",
    "passwd",
    "passcode",
    "pwd",
    "pass",
    "pw",
    "passwort",
    "kennwort",
    "contrasena",
    "contraseña",
    "senha",
    "wachtwoord",
    "motdepasse",
    "psk",
    "userpassword",
    "dbpassword",
    "rootpassword",
];

const CREDENTIALS: &[&str] = &[
    "secret",
    "secrets",
    "credential",
    "credentials",
    "cred",
    "creds",
    "authorization",
    "auth",
    "bearer",
    "jwt",
    "cookie",
    "cookies",
    "sid",
    "sessionid",
    "phpsessid",
    "jsessionid",
    "sessionkey",
    "sessiontoken",
    "apikey",
    "apikeys",
    "apitoken",
    "authtoken",
    "accesstoken",
    "refreshtoken",
    "idtoken",
    "accesskey",
    "secretkey",
    "privatekey",
    "clientsecret",
    "signingkey",
    "encryptionkey",
    "masterkey",
    "authkey",
    "csrf",
    "xsrf",
    "csrftoken",
    "xsrftoken",
    "totpsecret",
    "passphrase",
];

const CODES: &[&str] = &[
    "cvv",
    "cvv2",
    "cvc",
    "cvc2",
    "csc",
    "otp",
    "totp",
    "hotp",
    "pin",
    "mfa",
    "2fa",
    "onetimecode",
    "pincode",
    "securitycode",
];

const PERSONAL: &[&str] = &[
    "dob",
    "birthdate",
    "birthday",
    "dateofbirth",
    "diagnosis",
    "diagnoses",
    "mrn",
    "prescription",
    "prescriptions",
    "medication",
    "medications",
    "allergy",
    "allergies",
    "disability",
    "disabilities",
    "passport",
    "nino",
    "aadhaar",
    "pesel",
    "cpf",
    "religion",
    "ethnicity",
    "ssn",
    "passportnumber",
    "nationalid",
    "bankaccount",
    "accountnumber",
    "licensenumber",
    "licencenumber",
    "pregnancy",
    "biometrics",
];

/// What may stand before `key` and makes it a credential.
const KEY_OF: &[&str] = &[
    "api",
    "access",
    "secret",
    "private",
    "signing",
    "encryption",
    "decryption",
    "master",
    "hmac",
    "aws",
    "azure",
    "gcp",
    "google",
    "stripe",
    "openai",
    "anthropic",
    "github",
    "gitlab",
    "ssh",
    "client",
    "service",
    "shared",
    "deploy",
    "deployment",
    "webhook",
    "license",
    "licence",
    "account",
    "storage",
    "subscription",
    "jwt",
    "session",
    "crypto",
    "cipher",
    "aes",
    "rsa",
    "ecdsa",
    "wrapping",
    "app",
    "application",
    "auth",
    "server",
    "admin",
    "root",
    "vault",
    "unseal",
    "recovery",
    "wallet",
    "seed",
    "integration",
    "ingest",
    "sendgrid",
    "twilio",
    "slack",
    "mailgun",
    "datadog",
    "sentry",
    "pgp",
    "gpg",
    "tls",
    "ssl",
    "wifi",
    "wpa",
    "symmetric",
    "maps",
    "functions",
    "bot",
    "user",
    "team",
    "org",
    "db",
    "database",
    "cookie",
    "signature",
    "data",
    "kms",
    "activation",
    "authentication",
    "authorization",
    "openrouter",
    "groq",
    "cohere",
    "mistral",
    "huggingface",
    "hf",
    "npm",
    "pypi",
    "cloudflare",
    "heroku",
    "digitalocean",
    "shopify",
    "paypal",
    "square",
    "plaid",
    "algolia",
    "firebase",
    "supabase",
    "notion",
    "linear",
    "figma",
    "airtable",
    "discord",
    "telegram",
    "dropbox",
    "zoom",
    "hubspot",
    "xai",
    "gemini",
    "deepseek",
    "pinecone",
    "tavily",
    "serp",
    "elevenlabs",
    "replicate",
    "perplexity",
];

/// What may stand before `token` and makes it a place in a list, or a word of a vocabulary.
const NOT_TOKEN: &[&str] = &[
    "page",
    "next",
    "continuation",
    "sync",
    "cursor",
    "prev",
    "previous",
    "start",
    "end",
    "pagination",
    "eos",
    "bos",
    "pad",
    "unk",
    "stop",
    "special",
    "mask",
    "sep",
    "cls",
    "per",
    "erc20",
    "design",
    "resume",
    "lexer",
    "parser",
    "first",
    "last",
    "word",
];

/// Pairs that end a key: what stands before, and the last segment.
const PAIRS: &[(&[&str], &[&str], Class)] = &[
    (&["session", "sess"], &["id", "key", "cookie"], Class::Credential),
    (&["set"], &["cookie"], Class::Credential),
    (
        &[
            "one",
            "time",
            "verification",
            "recovery",
            "backup",
            "security",
            "sms",
            "auth",
            "authorization",
            "authentication",
            "access",
            "login",
            "mfa",
            "2fa",
            "otp",
            "pin",
            "confirmation",
            "unlock",
            "reset",
            "device",
        ],
        &["code", "codes"],
        Class::Code,
    ),
    (&["connection", "conn", "connect"], &["string", "strings", "str", "url", "uri"], Class::Connection),
    (
        &[
            "database",
            "db",
            "redis",
            "mongo",
            "mongodb",
            "postgres",
            "postgresql",
            "mysql",
            "amqp",
            "rabbitmq",
            "broker",
            "jdbc",
            "sqlalchemy",
            "celery",
            "elasticsearch",
            "cache",
        ],
        &["url", "uri", "dsn"],
        Class::Connection,
    ),
    (&["birth"], &["date", "day", "year", "place"], Class::Personal),
    (&["of"], &["birth"], Class::Personal),
    (
        &["health"],
        &[
            "info",
            "information",
            "condition",
            "conditions",
            "status",
            "record",
            "records",
            "data",
            "issue",
            "issues",
            "history",
            "notes",
            "insurance",
        ],
        Class::Personal,
    ),
    (
        &["medical"],
        &[
            "record",
            "records",
            "history",
            "condition",
            "conditions",
            "id",
            "info",
            "information",
            "notes",
            "data",
            "file",
        ],
        Class::Personal,
    ),
    (&["patient"], &["id", "name", "record", "notes"], Class::Personal),
    (&["blood"], &["type", "group"], Class::Personal),
    (&["hiv"], &["status"], Class::Personal),
    (&["passport"], &["id"], Class::Personal),
    (&["driver", "drivers", "driving"], &["license", "licence", "lic"], Class::Personal),
    (&["license", "licence"], &["plate"], Class::Personal),
    (&["national"], &["id", "insurance", "identifier", "identity"], Class::Personal),
    (&["government", "gov", "citizen", "resident", "residence", "personal"], &["id"], Class::Personal),
    (&["identity"], &["card", "document"], Class::Personal),
    (&["id"], &["card", "document"], Class::Personal),
    (&["tax", "taxpayer"], &["id", "identifier"], Class::Personal),
    (&["bank"], &["account", "acct", "details"], Class::Personal),
    (&["social"], &["security"], Class::Personal),
    (&["sexual"], &["orientation"], Class::Personal),
    (&["maiden"], &["name"], Class::Personal),
    (&["biometric", "genetic"], &["data", "id", "template"], Class::Personal),
    (&["insurance"], &["id", "policy"], Class::Personal),
    (&["criminal"], &["record"], Class::Personal),
];

/// What `number` may follow.
const NUMBER_OF: &[&str] = &[
    "passport",
    "account",
    "acct",
    "license",
    "licence",
    "national",
    "insurance",
    "identity",
    "routing",
    "tax",
    "id",
    "security",
    "record",
    "medical",
    "social",
    "mrn",
    "card_pin",
    "pin",
];

/// The segments of a key, lower case: `stripeSecretKey` and `STRIPE-SECRET_KEY` alike. At most twelve.
pub(super) fn segments(key: &[u8], buffer: &mut Vec<String>) {
    buffer.clear();
    let mut current = String::new();
    let mut previous = 0_u8;
    for (i, b) in key.iter().copied().enumerate() {
        let next_lower = key.get(i + 1).is_some_and(u8::is_ascii_lowercase);
        let camel = b.is_ascii_uppercase()
            && (previous.is_ascii_lowercase()
                || previous.is_ascii_digit()
                || (previous.is_ascii_uppercase() && next_lower));
        let part = b.is_ascii_alphanumeric() || b >= 0x80;
        if (camel || !part) && !current.is_empty() {
            buffer.push(std::mem::take(&mut current));
        }
        if part {
            current.push(char::from(b.to_ascii_lowercase()));
        }
        previous = b;
    }
    if !current.is_empty() {
        buffer.push(current);
    }
    let extra = buffer.len().saturating_sub(12);
    buffer.drain(..extra);
}

/// What a key's segments say of its value.
pub(super) fn classify(segments: &[String]) -> Option<Class> {
    let mut parts = segments;
    if parts.len() > 1 && parts.first().is_some_and(|first| LEADING.contains(&first.as_str())) {
        return None;
    }
    if let Some(class) = tail(parts) {
        return Some(class);
    }
    while let [rest @ .., last] = parts {
        let droppable = TRAILING.contains(&last.as_str()) || last.bytes().all(|b| b.is_ascii_digit());
        if !droppable || rest.is_empty() {
            return None;
        }
        parts = rest;
        if let Some(class) = tail(parts) {
            return Some(class);
        }
    }
    None
}

fn tail(parts: &[String]) -> Option<Class> {
    let (last, rest) = parts.split_last()?;
    let plain = last.trim_end_matches(|c: char| c.is_ascii_digit());
    let last = if plain.is_empty() || CODES.contains(&last.as_str()) { last.as_str() } else { plain };
    let previous = rest.last().map_or("", String::as_str);
    let within = |list: &[&str]| list.contains(&last);
    if within(PASSWORDS) {
        return Some(Class::Password);
    }
    if within(CREDENTIALS) {
        return Some(Class::Credential);
    }
    if within(CODES) {
        return Some(Class::Code);
    }
    if within(PERSONAL) {
        return Some(Class::Personal);
    }
    match last {
        "token" => (!NOT_TOKEN.contains(&previous)).then_some(Class::Credential),
        "tokens" => matches!(
            previous,
            "access" | "refresh" | "api" | "auth" | "bearer" | "id" | "session" | "device" | "push"
        )
        .then_some(Class::Credential),
        "key" | "keys" => KEY_OF.contains(&previous).then_some(Class::Credential),
        "dsn" => Some(Class::Connection),
        "number" | "no" | "num" | "nr" if NUMBER_OF.contains(&previous) => Some(Class::Personal),
        _ => PAIRS
            .iter()
            .find(|(before, end, _)| end.contains(&last) && before.contains(&previous))
            .map(|(.., class)| *class),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(key: &str) -> Option<Class> {
        let mut parts = Vec::new();
        segments(key.as_bytes(), &mut parts);
        classify(&parts)
    }

    #[test]
    fn exact_segments_decide_and_parts_of_words_do_not() {
        for key in [
            "password",
            "DB_PASSWORD",
            "dbPassword",
            "db_password_prod",
            "api-key",
            "APIKey",
            "stripeSecretKey",
            "github_token",
            "sessionCookie",
            "signing_key",
            "database_url",
            "cvv",
            "date_of_birth",
            "medical_record",
            "passport_number",
            "bank_account",
            "health_info",
            "X-Api-Key",
            "refreshToken2",
            "recovery_codes",
        ] {
            assert!(class(key).is_some(), "{key}");
        }
        for key in [
            "token_count",
            "max_tokens",
            "sort_key",
            "author",
            "secret_name",
            "has_password",
            "monkey",
            "password_policy",
            "token_type",
            "public_key_id",
            "partition_key",
            "total_tokens",
            "keyboard",
            "authority",
            "bypass",
            "pinned",
            "secretary",
            "authored_at",
            "next_page_token",
            "primaryKey",
            "access_token_url",
            "keyframe",
            "TOKEN_TTL_SECONDS",
            "is_pin",
        ] {
            assert_eq!(class(key), None, "{key}");
        }
    }
}
