//! The tokenizer over a real log and real keys.

use super::{Tokenizer, detect, token};
use crate::keys::{KeyStore, MasterKey, PayloadSealer};
use crate::log::{Location, LogHandle, Options};
use crate::supervisor::{Policy, Supervisor};
use athena_schemas::context::{Caller, Channel, Context, Party, Scope};
use athena_schemas::envelope::Record;
use athena_schemas::id::CommandId;
use athena_schemas::layers::privacy::Event;
use athena_schemas::ports::Sealer;
use athena_schemas::refusal::Code;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use ractor::{Actor, ActorRef};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

struct House {
    tokenizer: Tokenizer,
    log: LogHandle,
    sealer: Arc<dyn Sealer>,
    keys: Arc<KeyStore>,
    root: ActorRef<()>,
    _folder: tempfile::TempDir,
}

impl House {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = Arc::new(KeyStore::open(folder.path(), MasterKey::File).unwrap());
        let (log, _) = LogHandle::open(Location::Memory, Options::default()).unwrap();
        let sealer: Arc<dyn Sealer> = Arc::new(PayloadSealer::new(keys.clone()));
        let (tokenizer, root) = start(&log, &keys, &sealer).await;
        Self { tokenizer, log, sealer, keys, root, _folder: folder }
    }

    /// Another life over the same log.
    async fn again(&self) -> Tokenizer {
        self.root.stop_and_wait(None, None).await.unwrap();
        start(&self.log, &self.keys, &self.sealer).await.0
    }

    fn records(&self) -> Vec<Record> {
        self.log.reader().read(0, 10_000).unwrap()
    }

    fn events(&self) -> Vec<Event> {
        self.records().iter().filter_map(|r| r.event::<Event>(&*self.sealer).unwrap()).collect()
    }
}

async fn start(log: &LogHandle, keys: &Arc<KeyStore>, sealer: &Arc<dyn Sealer>) -> (Tokenizer, ActorRef<()>) {
    let tokenizer = Tokenizer::new(log.clone(), keys.clone(), sealer.clone());
    let (root, _) =
        Actor::spawn(None, Supervisor, (vec![tokenizer.child()], Policy::default())).await.unwrap();
    (tokenizer, root)
}

fn cx_of(project: &str, party: Party) -> Context {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let scope = Scope::project(project);
    let caller = Caller {
        party,
        channel: Channel::Cli,
        name: "ana".into(),
        holds: scope.clone(),
        scope: scope.clone(),
        run: None,
    };
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_le_bytes());
    Context::new(1_000_000, caller, scope, CommandId(id))
}

fn cx() -> Context {
    cx_of("shop", Party::Agent)
}

const MAIL: &str = "ana.lopez@example.org";

#[tokio::test]
async fn the_same_value_has_the_same_token_everywhere_in_a_project_and_after_a_restart() {
    let house = House::new().await;
    let (text, report) =
        house.tokenizer.tokenize_text(&cx(), &format!("write {MAIL} or {MAIL}")).await.unwrap();
    let tokens: Vec<&str> = token::find(&text).into_iter().map(|(a, b)| &text[a..b]).collect();
    assert_eq!(tokens.len(), 2);
    assert_eq!(tokens[0], tokens[1]);
    assert_eq!((report.types["EMAIL"], report.total()), (2, 2));
    let (value, _) = house.tokenizer.tokenize(&cx(), json!({"to": [MAIL]})).await.unwrap();
    assert_eq!(value["to"][0], tokens[0]);
    assert_eq!(house.events().len(), 1, "one value, one entry");
    let later = house.again().await;
    assert_eq!(later.tokenize_text(&cx(), MAIL).await.unwrap().0, tokens[0]);
    assert_eq!(later.counts(&cx().scope).types["EMAIL"], 1);
}

#[tokio::test]
async fn what_holds_nothing_comes_back_as_it_was_and_costs_no_event() {
    let house = House::new().await;
    let value = json!({"n": 3, "text": "the kettle is in the cupboard", "list": [true, null, 4.5]});
    assert_eq!(
        house.tokenizer.tokenize(&cx(), value.clone()).await.unwrap(),
        (value, super::Report::default())
    );
    assert!(house.records().is_empty());
}

#[tokio::test]
async fn values_under_sensitive_keys_are_taken_whole_in_strings_numbers_lists_and_wrappers() {
    let house = House::new().await;
    let value = json!({"dbPassword": "river 99", "bank_account": 2044233376_u64, "recovery_codes": ["8812-1", "9934-2"], "api_key": {"value": "abc"}, "token_count": 17, "page": 2,
        "phone": "5321234567", "card": 4111111111111111_u64, "ana@example.org": "x"});
    let (value, report) = house.tokenizer.tokenize(&cx(), value).await.unwrap();
    let text = value.to_string();
    for secret in ["river", "2044233376", "8812", "9934", "abc", "532123", "411111", "ana@"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert_eq!((value["token_count"].clone(), value["page"].clone()), (json!(17), json!(2)));
    assert_eq!(report.total(), 8);
}

#[tokio::test]
async fn another_way_to_write_an_equal_value_comes_back_as_it_was_written() {
    let house = House::new().await;
    let person = cx_of("shop", Party::Human);
    let mut tokens = Vec::new();
    for written in ["4111 1111 1111 1111", "4111-1111-1111-1111", "4111111111111111", "4111 1111 1111 1111"] {
        let (text, _) = house.tokenizer.tokenize_text(&cx(), written).await.unwrap();
        assert_eq!(house.tokenizer.reveal_to_person(&person, &text, "check").await.unwrap().text, written);
        tokens.push(text);
    }
    assert_eq!(tokens[0], tokens[3]);
    assert_ne!(tokens[0], tokens[1]);
}

#[tokio::test]
async fn in_code_values_are_replaced_inside_literals_and_refused_with_their_place_elsewhere() {
    let house = House::new().await;
    let code = format!("const to = \"{MAIL}\";\n// ask {MAIL}\nsend(to);");
    let (a, b) = (code.find(MAIL).unwrap(), code.rfind(MAIL).unwrap());
    let literals = [(a as u32, (a + MAIL.len()) as u32), (b as u32 - 5, (b + MAIL.len()) as u32)];
    let (clean, report) = house.tokenizer.tokenize_code(&cx(), &code, &literals).await.unwrap();
    assert!(!clean.contains(MAIL) && clean.contains("send(to)"));
    assert_eq!(report.total(), 2);
    let refusal = house
        .tokenizer
        .tokenize_code(&cx(), "let a = 1;\nlet card = 4111111111111111;", &[])
        .await
        .unwrap_err();
    assert_eq!(refusal.code, Code::Invalid);
    assert!(refusal.message.contains("line 2, column 12"), "{refusal}");
}

#[tokio::test]
async fn only_listed_argument_paths_get_real_values() {
    let house = House::new().await;
    let (args, _) = house
        .tokenizer
        .tokenize(&cx(), json!({"to": [MAIL], "cc": MAIL, "body": {"text": format!("dear {MAIL}")}}))
        .await
        .unwrap();
    let paths = ["to".to_owned(), "body.text".to_owned()];
    let real = house.tokenizer.reveal(&cx(), args.clone(), &paths, "mail/send").await.unwrap();
    assert_eq!(real, json!({"to": [MAIL], "cc": args["cc"], "body": {"text": format!("dear {MAIL}")}}));
    assert_eq!(house.tokenizer.reveal(&cx(), args.clone(), &[], "mail/send").await.unwrap(), args);
}

/// A token that a model or an upstream made up resolves to nothing, stays as it is, and leaves an event.
#[tokio::test]
async fn stride_s08() {
    let house = House::new().await;
    for n in 0..50 {
        house.tokenizer.tokenize_text(&cx(), &format!("u{n}@example.org")).await.unwrap();
    }
    let vault = |token: &str| house.tokenizer.read().has("shop", token);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..1_000_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let forged = token::mint(&state.to_le_bytes(), "EMAIL", "", 0);
        assert!(!vault(&forged), "{forged}");
    }
    let args = json!({"to": "EMAIL_tk_0123456789"});
    assert_eq!(house.tokenizer.reveal(&cx(), args.clone(), &["to".into()], "mail/send").await.unwrap(), args);
    assert!(
        matches!(house.events().last(), Some(Event::Missed(m)) if m.count == 1 && m.tokens == ["EMAIL_tk_0123456789"])
    );
}

/// A token of one project resolves to nothing in another, and the try is recorded.
#[tokio::test]
async fn stride_s09() {
    let house = House::new().await;
    let (text, _) = house.tokenizer.tokenize_text(&cx(), MAIL).await.unwrap();
    let other = cx_of("elsewhere", Party::Agent);
    assert_eq!(
        house.tokenizer.reveal(&other, json!({"to": text}), &["to".into()], "mail/send").await.unwrap(),
        json!({"to": text})
    );
    assert!(matches!(house.events().last(), Some(Event::Missed(m)) if m.vault == "elsewhere"));
    assert_ne!(house.tokenizer.tokenize_text(&other, MAIL).await.unwrap().0, text);
}

/// Whoever guesses tokens is stopped after a hundred a minute.
#[tokio::test]
async fn guesses_are_limited() {
    let house = House::new().await;
    let guesses: Vec<String> = (0..101).map(|n: u32| token::mint(&n.to_le_bytes(), "EMAIL", "", 0)).collect();
    let refusal =
        house.tokenizer.reveal(&cx(), json!({"to": guesses}), &["to".into()], "x").await.unwrap_err();
    assert_eq!(refusal.code, Code::LimitExceeded);
}

/// No value leaves the vault without an event that says so, on disk first.
#[tokio::test]
async fn stride_r02() {
    let house = House::new().await;
    let (text, _) = house.tokenizer.tokenize_text(&cx(), MAIL).await.unwrap();
    house.tokenizer.reveal(&cx(), json!({"to": text}), &["to".into()], "mail/send at to").await.unwrap();
    let events = house.events();
    assert!(
        matches!(events.last(), Some(Event::Revealed(r)) if r.tokens == [text.clone()] && r.audience == "upstream" && r.purpose == "mail/send at to")
    );
    // Where the event cannot be recorded there is no value.
    let broken: Arc<dyn Sealer> = Arc::new(Broken(house.sealer.clone()));
    let (gone, _) = start(&house.log, &house.keys, &broken).await;
    let refusal = gone.reveal(&cx(), json!({"to": text}), &["to".into()], "mail/send").await.unwrap_err();
    assert_eq!(refusal.code, Code::StorageFull);
    assert_eq!(house.events().len(), events.len());
}

/// A sealer that fails, as a full disk would.
struct Broken(Arc<dyn Sealer>);

impl Sealer for Broken {
    fn seal(
        &self,
        _: athena_schemas::envelope::Draft,
    ) -> Result<athena_schemas::envelope::Draft, athena_schemas::refusal::Refusal> {
        Err(athena_schemas::refusal::Refusal::new(Code::StorageFull, "no room"))
    }

    fn open(
        &self,
        draft: &athena_schemas::envelope::Draft,
    ) -> Result<athena_schemas::ports::Opened, athena_schemas::refusal::Refusal> {
        self.0.open(draft)
    }
}

/// Agents and their code cannot ask for values, and a person must say what for.
#[tokio::test]
async fn stride_i10() {
    let house = House::new().await;
    let (text, _) = house.tokenizer.tokenize_text(&cx(), MAIL).await.unwrap();
    for party in [Party::Agent, Party::Code, Party::System] {
        let refusal =
            house.tokenizer.reveal_to_person(&cx_of("shop", party), &text, "curious").await.unwrap_err();
        assert_eq!(refusal.code, Code::Denied);
    }
    let person = cx_of("shop", Party::Human);
    assert_eq!(house.tokenizer.reveal_to_person(&person, &text, " ").await.unwrap_err().code, Code::Invalid);
    assert_eq!(house.tokenizer.reveal_to_person(&person, &text, "support case 7").await.unwrap().text, MAIL);
    for entry in athena_schemas::layers::privacy::ENTRIES {
        assert_eq!(entry.traits.audience, athena_schemas::operation::Audience::Human, "{}", entry.id());
    }
}

/// The log holds no value and no digest that could be recomputed without the key.
#[tokio::test]
async fn stride_i03() {
    use sha2::{Digest, Sha256};
    let house = House::new().await;
    let ssn = "536-22-8731";
    house.tokenizer.tokenize_text(&cx(), &format!("ssn {ssn}")).await.unwrap();
    let Some(Event::Minted(minted)) = house.events().pop() else { panic!("no entry") };
    let stored: Vec<Vec<u8>> = house
        .records()
        .iter()
        .map(|r| r.draft.payload.clone())
        .chain([minted.written.to_vec(), minted.canonical.to_vec(), minted.sealed.clone()])
        .collect();
    let holds = |needle: &[u8]| stored.iter().any(|s| s.windows(needle.len()).any(|w| w == needle));
    for form in [ssn, "536228731", "US_SSN\x00536228731"] {
        assert!(!holds(form.as_bytes()));
        assert!(!holds(&Sha256::digest(form)[..8]));
        assert!(!holds(&blake3::hash(form.as_bytes()).as_bytes()[..8]));
    }
}

/// Equal values in two projects leave nothing in the log that is equal.
#[tokio::test]
async fn stride_i04() {
    let house = House::new().await;
    for project in ["a", "b"] {
        house.tokenizer.tokenize_text(&cx_of(project, Party::Agent), MAIL).await.unwrap();
    }
    let events = house.events();
    let [Event::Minted(a), Event::Minted(b)] = events.as_slice() else { panic!("two entries") };
    assert!(
        a.token != b.token && a.written != b.written && a.canonical != b.canonical && a.sealed != b.sealed
    );
}

/// A vault entry moved to another token does not open.
#[tokio::test]
async fn stride_t05() {
    let house = House::new().await;
    for mail in ["a1@example.org", "b2@example.org"] {
        house.tokenizer.tokenize_text(&cx(), mail).await.unwrap();
    }
    let events = house.events();
    let [Event::Minted(a), Event::Minted(b)] = events.as_slice() else { panic!("two entries") };
    let swapped = athena_schemas::layers::privacy::Minted { sealed: b.sealed.clone(), ..a.clone() };
    let mut vault = super::vault::Vault::default();
    vault.insert(&swapped);
    assert_eq!(vault.open(&house.keys, "shop", &a.token).unwrap_err().code, Code::Integrity);
}

/// With its data key destroyed, a value is gone, and its token is only a word.
#[tokio::test]
async fn an_erased_project_reveals_nothing() {
    let house = House::new().await;
    let (text, _) = house.tokenizer.tokenize_text(&cx(), MAIL).await.unwrap();
    house.keys.destroy("shop").unwrap();
    let shown = house.tokenizer.reveal_to_person(&cx_of("shop", Party::Human), &text, "check").await.unwrap();
    assert_eq!((shown.text, shown.revealed, shown.unknown), (text, 0, 1));
}

/// What goes back to a model is tokens again: a real value that an upstream echoes is replaced by the token it had.
#[tokio::test]
async fn stride_i06() {
    let house = House::new().await;
    let (args, _) = house.tokenizer.tokenize(&cx(), json!({"to": MAIL})).await.unwrap();
    let sent = house.tokenizer.reveal(&cx(), args.clone(), &["to".into()], "mail/send").await.unwrap();
    let echo =
        json!({"content": [{"type": "text", "text": format!("sent to {}", sent["to"].as_str().unwrap())}]});
    let (answer, _) = house.tokenizer.tokenize(&cx(), echo).await.unwrap();
    assert_eq!(answer["content"][0]["text"], format!("sent to {}", args["to"].as_str().unwrap()));
}

/// Whoever asks for tokens learns from what asking leaves behind and costs which of them exist: hit or miss, it is one event of
/// the same stream, on disk before the answer.
#[tokio::test]
async fn stride_i14() {
    let house = House::new().await;
    let (hit, _) = house.tokenizer.tokenize_text(&cx(), MAIL).await.unwrap();
    let miss = token::mint(b"no key", "EMAIL", "no value", 0);
    assert_eq!(hit.len(), miss.len());
    let mut left = Vec::new();
    for asked in [&hit, &miss] {
        let before = house.records().len();
        let args = json!({"to": asked});
        house.tokenizer.reveal(&cx(), args, &["to".into()], "mail/send").await.unwrap();
        let records = house.records();
        let new = &records[before..];
        left.push(new.iter().map(|record| record.draft.stream.clone()).collect::<Vec<_>>());
    }
    assert_eq!(left[0].len(), 1);
    assert_eq!(left[0], left[1]);
}

/// Reports say how many of which type, and nothing of the values.
#[tokio::test]
async fn stride_i27() {
    let house = House::new().await;
    let (_, report) =
        house.tokenizer.tokenize(&cx(), json!({"a": MAIL, "password": "hunter 22"})).await.unwrap();
    let said = format!("{report:?}");
    assert!(said.contains("EMAIL") && !said.contains("ana") && !said.contains("hunter"), "{said}");
}

fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z]{3,8}( [a-z]{2,7}){0,4}",
        "[a-z]{3,8}\\.[a-z]{3,8}@[a-z]{4,9}\\.(org|dev|com)",
        Just("4111 1111 1111 1111".to_owned()),
        Just("GB82 WEST 1234 5698 7654 32".to_owned()),
        "\"password\": \"[a-zA-Z0-9]{6,12}[0-9]\"",
        "(203\\.0\\.113|198\\.51\\.100)\\.[1-9][0-9]?",
    ];
    prop::collection::vec(piece, 1..6).prop_map(|pieces| pieces.join(", "))
}

/// Round trip byte for byte, and nothing left to find in what was tokenized.
#[test]
fn any_text_comes_back_and_is_clean_in_between() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let house = runtime.block_on(House::new());
    let person = cx_of("shop", Party::Human);
    let mut runner = TestRunner::new(Config { cases: 400, ..Config::default() });
    runner
        .run(&texts(), |text| {
            runtime.block_on(async {
                let (clean, _) = house.tokenizer.tokenize_text(&cx(), &text).await.unwrap();
                prop_assert_eq!(detect(&clean), vec![], "{}", clean);
                prop_assert_eq!(&house.tokenizer.tokenize_text(&cx(), &clean).await.unwrap().0, &clean);
                let shown = house.tokenizer.reveal_to_person(&person, &clean, "check").await.unwrap();
                prop_assert_eq!(shown.text, text);
                Ok(())
            })
        })
        .unwrap();
}

/// A secret that arrives in two pieces is whole only where they are put together, and there it is found.
#[tokio::test]
async fn stride_i29() {
    let house = House::new().await;
    for secret in [MAIL, "4111 1111 1111 1111", "GB82 WEST 1234 5698 7654 32"] {
        let text = format!("see {secret} now");
        for at in 0..=text.len() {
            let mut joined = String::new();
            for part in [&text[..at], &text[at..]] {
                joined += &house.tokenizer.tokenize_text(&cx(), part).await.unwrap().0;
            }
            let (clean, _) = house.tokenizer.tokenize_text(&cx(), &joined).await.unwrap();
            assert!(!clean.contains(secret), "split at {at}: {clean}");
        }
    }
}

/// Of values planted in texts of many shapes, at most three in a hundred characters are left standing.
#[test]
fn stride_i02() {
    let values = [
        "ana.lopez@example.org",
        "j+ci@mail.example.co.uk",
        "4111 1111 1111 1111",
        "378282246310005",
        "GB82 WEST 1234 5698 7654 32",
        "DE89370400440532013000",
        "203.0.113.77",
        "2001:db8::8a2e:370:7334",
        "00:1A:2B:3C:4D:5E",
        "536-22-8731",
        "+49 30 8441 5549",
        "(415) 555-0132",
        "1BoatSLRHtKNngkdXEeobR76b53LETtpyT",
    ];
    let keyed = [
        ("db_password", "river-99"),
        ("apiKey", "k8Wq2LmZ0pTr5vXn"),
        ("session-token", "abc123DEF456"),
        ("cvv", "152"),
        ("diagnosis", "migraine"),
        ("recovery_code", "7731-2290"),
        ("passport_number", "H98776593"),
    ];
    let mut planted: Vec<(String, String)> = Vec::new();
    for value in values {
        for shape in [
            "write to @ today",
            "{\"a\": [\"@\"]}",
            "x=@;y=2",
            "(@)",
            "- @\n",
            "日本語@です",
            "\"@\",\"b\"",
            "{\\\"m\\\":\\\"@\\\"}",
            "<p>@</p>",
            "2026-11-20 10:00:00 INFO peer @ ok",
        ] {
            planted.push((shape.replace('@', value), value.to_owned()));
        }
    }
    for (key, value) in keyed {
        for shape in [
            "{\"K\": \"V\"}",
            "{'K': ['V', 'x']}",
            "K: \"V\"\n",
            "{\"K\":{\"value\":\"V\"}}",
            "{\\\"K\\\":\\\"V\\\"}",
            "const K = \"V\";",
            "<K>V</K>",
        ] {
            planted.push((shape.replace('K', key).replace('V', value), value.to_owned()));
        }
    }
    let (mut all, mut left) = (0, Vec::new());
    for (text, value) in &planted {
        let start = text.find(value.as_str()).unwrap();
        let covered: usize = detect(text)
            .iter()
            .map(|s| s.end.min(start + value.len()).saturating_sub(s.start.max(start)))
            .sum();
        all += value.len();
        if covered < value.len() {
            left.push((value.len() - covered, text));
        }
    }
    let leaked: usize = left.iter().map(|(n, _)| n).sum();
    assert!(leaked * 100 <= all * 3, "{leaked} of {all}: {left:?}");
}

/// No pattern of ours backtracks: texts that blow up the usual expressions for addresses and numbers cost their length.
#[test]
fn stride_d09() {
    let spent = || -> u64 {
        std::fs::read_to_string("/proc/thread-self/schedstat")
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    let units = [
        "a.",
        "a@a.",
        "a-",
        "1-",
        "1.",
        "1 ",
        "(1)",
        "+1",
        "aa:",
        "1:",
        "x@",
        "@@",
        "a=",
        "\"a\":",
        "'",
        "\\\\",
        "%40",
        "http://",
        "-----BEGIN ",
        "basic ",
    ];
    for unit in units {
        let time = |n: usize| {
            let text = unit.repeat(n / unit.len()) + "!";
            (0..3)
                .map(|_| {
                    let start = spent();
                    detect(&text);
                    spent() - start
                })
                .min()
                .unwrap()
        };
        let (small, large) = (time(5_000).max(2_000_000), time(50_000));
        assert!(large < small * 40, "{unit}: {small} ns for 5 kB, {large} ns for 50 kB");
    }
}

/// Whatever indexes or embeds a text gets what the tokenizer left of it: two people's addresses differ there only by token.
#[tokio::test]
async fn stride_i26() {
    let house = House::new().await;
    let (text, _) =
        house.tokenizer.tokenize_text(&cx(), &format!("{MAIL} asked for the invoice")).await.unwrap();
    assert!(text.ends_with(" asked for the invoice") && !text.contains('@'));
    assert_eq!(token::find(&text).len(), 1);
}

/// Guesses and releases leave the same trail whether or not a token exists: one event each, and an answer of the same shape.
#[tokio::test]
async fn stride_r06() {
    let house = House::new().await;
    let (text, _) = house.tokenizer.tokenize_text(&cx(), MAIL).await.unwrap();
    let before = house.events().len();
    for to in [text.as_str(), "EMAIL_tk_0123456789"] {
        house.tokenizer.reveal(&cx(), json!({"to": to}), &["to".into()], "mail/send").await.unwrap();
    }
    assert_eq!(house.events().len(), before + 2);
}
