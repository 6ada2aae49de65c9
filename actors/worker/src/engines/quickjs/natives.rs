//! The functions below the bridge: each does one thing, takes strings and numbers, and trusts neither.
#![expect(unsafe_code, reason = "rquickjs lends the bytes of a typed array as a raw slice")]

use super::Door;
use crate::engines::random::Stream;
use athena_schemas::refusal::nearest;
use athena_schemas::wire::{Fault, Namespace};
use rquickjs::prelude::Func;
use rquickjs::{Ctx, Exception, Object, Result, TypedArray};
use serde_json::{Map, Value as Json};
use std::cell::RefCell;
use std::rc::Rc;
use url::Url;

/// The tools of a run and its randomness.
#[derive(Clone, Default)]
pub(in crate::engines) struct Tools(Rc<RefCell<Loaded>>);

#[derive(Default)]
struct Loaded {
    tree: String,
    names: Vec<String>,
    random: Option<(Stream, Stream)>,
}

impl Tools {
    /// Takes over a job's namespaces.
    pub(in crate::engines) fn load(&self, namespaces: &[Namespace]) {
        let trees: Vec<Json> = namespaces
            .iter()
            .map(|space| serde_json::json!({ "name": space.name, "tree": tree(&space.members) }))
            .collect();
        let names = namespaces
            .iter()
            .flat_map(|space| space.members.iter().map(|(path, _)| format!("{}.{path}", space.name)))
            .collect();
        *self.0.borrow_mut() = Loaded { tree: Json::Array(trees).to_string(), names, random: None };
    }

    /// Takes over a job's seed.
    pub(in crate::engines) fn seed(&self, seed: [u8; 32]) {
        self.0.borrow_mut().random = Some((Stream::new(&seed, "math"), Stream::new(&seed, "crypto")));
    }

    /// The namespaces as the bridge reads them, JSON.
    pub(in crate::engines) fn tree(&self) -> String {
        self.0.borrow().tree.clone()
    }

    /// Says what a name that does not exist probably meant.
    pub(in crate::engines) fn missing(&self, path: &str, name: &str) -> String {
        let wanted = format!("{path}.{name}");
        let loaded = self.0.borrow();
        let near = nearest_tools(&wanted, &loaded.names);
        if near.is_empty() {
            return format!(
                "{wanted} does not exist; searchTools(\"…\") and readdir(\"/mcp-servers\") show what does"
            );
        }
        format!("{wanted} does not exist; did you mean {}?", near.join(" or "))
    }

    /// Names the right call where the code used a tool as if it were a plain function.
    pub(in crate::engines) fn explain(&self, mut fault: Fault) -> Fault {
        let unknown = fault.message.strip_suffix(" is not defined").map(str::to_owned);
        if let ("ReferenceError", Some(name)) = (fault.name.as_str(), unknown) {
            let loaded = self.0.borrow();
            let near = nearest_tools(&name, &loaded.names);
            if !near.is_empty() {
                fault.message = format!("{}; did you mean {}?", fault.message, near.join(" or "));
            }
        }
        fault
    }

    /// The next number in [0, 1).
    pub(in crate::engines) fn random(&self) -> f64 {
        self.0.borrow_mut().random.as_mut().map_or(0.0, |(math, _)| math.next_f64())
    }

    /// The next bytes, at most 65,536.
    pub(in crate::engines) fn random_bytes(&self, length: u32) -> Vec<u8> {
        let mut bytes = vec![0; length.min(65_536) as usize];
        if let Some((_, crypto)) = self.0.borrow_mut().random.as_mut() {
            crypto.fill(&mut bytes);
        }
        bytes
    }
}

/// The nearest tools, compared as paths so that the last part alone also finds its tool.
fn nearest_tools(wanted: &str, names: &[String]) -> Vec<String> {
    let path = wanted.replace('.', "/");
    let paths: Vec<String> = names.iter().map(|name| name.replace('.', "/")).collect();
    nearest(&path, paths.iter().map(String::as_str))
        .into_iter()
        .map(|found| found.replace('/', "."))
        .collect()
}

/// Members as a tree: `semantic.search` becomes `{semantic: {search: "semantic/search"}}`.
fn tree(members: &[(String, String)]) -> Json {
    let mut root = Map::new();
    for (path, op) in members {
        let mut parts: Vec<&str> = path.split('.').collect();
        let Some(leaf) = parts.pop() else { continue };
        let mut at = Some(&mut root);
        for part in parts {
            at = at
                .and_then(|map| map.entry(part).or_insert_with(|| Json::Object(Map::new())).as_object_mut());
        }
        if let Some(map) = at {
            map.insert(leaf.to_owned(), Json::String(op.clone()));
        }
    }
    Json::Object(root)
}

/// The operation a tool path means: `server/tool`, `athena/semantic/search`, `/mcp-servers/server/tool.ts`.
pub(crate) fn operation(path: &str) -> String {
    let path = path.strip_prefix("/mcp-servers/").unwrap_or(path);
    let path = path.strip_suffix(".ts").unwrap_or(path);
    path.strip_prefix("athena/").unwrap_or(path).to_owned()
}

/// The object the bridge is given.
pub(super) fn object<'js>(ctx: &Ctx<'js>, door: &Door, tools: &Tools) -> Result<Object<'js>> {
    let native = Object::new(ctx.clone())?;
    calls(&native, door)?;
    clock(&native, door)?;
    randomness(&native, tools)?;
    texts(&native)?;
    urls(&native)?;
    native.set("operation", Func::from(|path: String| operation(&path)))?;
    let tools = tools.clone();
    native.set("missing", Func::from(move |path: String, name: String| tools.missing(&path, &name)))?;
    Ok(native)
}

fn calls<'js>(native: &Object<'js>, door: &Door) -> Result<()> {
    let at = door.clone();
    let call = move |ctx: Ctx<'js>, op: String, params: String, options: String| -> Result<u32> {
        let host = at.host().ok_or_else(|| closed(&ctx))?;
        let sent = host.borrow_mut().call(op, params, options);
        sent.map_err(|fault| Exception::throw_internal(&ctx, &fault.message))
    };
    native.set("call", Func::from(call))?;
    let at = door.clone();
    let timer = move |ctx: Ctx<'js>, after_ms: f64| -> Result<u32> {
        let host = at.host().ok_or_else(|| closed(&ctx))?;
        let sent = host.borrow_mut().timer(after_ms.clamp(0.0, f64::from(i32::MAX)) as u64);
        sent.map_err(|fault| Exception::throw_internal(&ctx, &fault.message))
    };
    native.set("timer", Func::from(timer))?;
    let at = door.clone();
    let log = move |ctx: Ctx<'js>, level: String, text: String| -> Result<()> {
        let host = at.host().ok_or_else(|| closed(&ctx))?;
        let sent = host.borrow_mut().log(&level, text);
        sent.map_err(|fault| Exception::throw_internal(&ctx, &fault.message))
    };
    native.set("log", Func::from(log))
}

fn closed(ctx: &Ctx<'_>) -> rquickjs::Error {
    Exception::throw_internal(ctx, "no run is open")
}

fn clock<'js>(native: &Object<'js>, door: &Door) -> Result<()> {
    let at = door.clone();
    native.set("now", Func::from(move || at.host().map_or(0.0, |host| host.borrow().clock_ms() as f64)))?;
    let at = door.clone();
    native.set("elapsed", Func::from(move || at.host().map_or(0.0, |host| host.borrow().elapsed_ms() as f64)))
}

fn randomness<'js>(native: &Object<'js>, tools: &Tools) -> Result<()> {
    let source = tools.clone();
    native.set("random", Func::from(move || source.random()))?;
    let source = tools.clone();
    let bytes = move |ctx: Ctx<'js>, length: u32| TypedArray::<u8>::new(ctx, source.random_bytes(length));
    native.set("randomBytes", Func::from(bytes))
}

fn texts<'js>(native: &Object<'js>) -> Result<()> {
    let encode = |ctx: Ctx<'js>, text: String| TypedArray::<u8>::new(ctx, text.into_bytes());
    native.set("encode", Func::from(encode))?;
    let decode = |bytes: TypedArray<'js, u8>, fatal: bool| {
        let bytes = copied(&bytes);
        if fatal { String::from_utf8(bytes).ok() } else { Some(String::from_utf8_lossy(&bytes).into_owned()) }
    };
    native.set("decode", Func::from(decode))?;
    native.set("wholeLength", Func::from(|bytes: TypedArray<'js, u8>| whole_length(&copied(&bytes))))
}

/// The bytes of a typed array; none once its buffer is detached.
fn copied(array: &TypedArray<'_, u8>) -> Vec<u8> {
    // SAFETY: the pointer is the array's live storage, and no JavaScript runs between taking and copying it.
    array.as_raw().map_or_else(Vec::new, |raw| unsafe { raw.as_ref() }.to_vec())
}

/// How many bytes form whole characters; a character cut off at the end (at most three bytes) waits for the rest.
fn whole_length(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Ok(_) => bytes.len(),
        // Invalid in the middle: only the tail can be incomplete.
        Err(_) => {
            let tail = bytes.len().saturating_sub(3);
            (tail..bytes.len())
                .find(|at| {
                    let cut = bytes.get(*at..).map(std::str::from_utf8);
                    matches!(cut, Some(Err(error)) if error.valid_up_to() == 0 && error.error_len().is_none())
                })
                .unwrap_or(bytes.len())
        }
    }
}

fn urls<'js>(native: &Object<'js>) -> Result<()> {
    let parse = |ctx: Ctx<'js>, text: String, base: Option<String>| -> Result<Option<Object<'js>>> {
        let base = match base.map(|base| Url::parse(&base)) {
            Some(Err(_)) => return Ok(None),
            Some(Ok(base)) => Some(base),
            None => None,
        };
        let parsed = Url::options().base_url(base.as_ref()).parse(&text);
        parsed.ok().map(|url| parts(&ctx, &url)).transpose()
    };
    native.set("parseUrl", Func::from(parse))?;
    let set = |ctx: Ctx<'js>, href: String, field: String, value: String| -> Result<Option<Object<'js>>> {
        let Ok(mut url) = Url::parse(&href) else { return Ok(None) };
        if set_part(&mut url, &field, &value) { parts(&ctx, &url).map(Some) } else { Ok(None) }
    };
    native.set("setUrl", Func::from(set))?;
    let parse_query = |query: String| -> Vec<Vec<String>> {
        url::form_urlencoded::parse(query.as_bytes())
            .map(|(name, value)| vec![name.into(), value.into()])
            .collect()
    };
    native.set("parseQuery", Func::from(parse_query))?;
    let write_query = |pairs: Vec<Vec<String>>| -> String {
        let pairs = pairs.iter().filter_map(|pair| Some((pair.first()?, pair.get(1)?)));
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
    };
    native.set("writeQuery", Func::from(write_query))
}

/// A URL as its getters show it (WHATWG URL, 6.1).
fn parts<'js>(ctx: &Ctx<'js>, url: &Url) -> Result<Object<'js>> {
    use url::quirks as part;
    let object = Object::new(ctx.clone())?;
    object.set("href", part::href(url))?;
    object.set("origin", part::origin(url))?;
    object.set("protocol", part::protocol(url))?;
    object.set("username", part::username(url))?;
    object.set("password", part::password(url))?;
    object.set("host", part::host(url))?;
    object.set("hostname", part::hostname(url))?;
    object.set("port", part::port(url))?;
    object.set("pathname", part::pathname(url))?;
    object.set("search", part::search(url))?;
    object.set("hash", part::hash(url))?;
    Ok(object)
}

/// What assigning to a part does; false where it is refused and changes nothing.
fn set_part(url: &mut Url, field: &str, value: &str) -> bool {
    use url::quirks as part;
    match field {
        "protocol" => part::set_protocol(url, value).is_ok(),
        "username" => part::set_username(url, value).is_ok(),
        "password" => part::set_password(url, value).is_ok(),
        "host" => part::set_host(url, value).is_ok(),
        "hostname" => part::set_hostname(url, value).is_ok(),
        "port" => part::set_port(url, value).is_ok(),
        "pathname" => {
            part::set_pathname(url, value);
            true
        }
        "search" => {
            part::set_search(url, value);
            true
        }
        "hash" => {
            part::set_hash(url, value);
            true
        }
        _ => false,
    }
}
