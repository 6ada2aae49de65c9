//! Python: monty, a Python of its own inside this process, without a way out of it.
//!
//! The script runs as one entry of a session that was prepared with `input` and `session`; names it does not define are asked
//! of this module and lead to the door. What monty cannot run is told before anything runs.

mod values;

use super::quickjs::operation;
use super::{Engine, Outcome, SharedHost};
use crate::host::{Answer, fault};
use crate::source;
use crate::source::python::{self, Waiting};
use athena_schemas::refusal::nearest;
use athena_schemas::wire::{Fault, FaultKind, Job};
use monty::{
    MontyRepl, MontyRun, ReplFunctionCall, ReplNameLookup, ReplOsCall, ReplProgress, ReplStartError,
};
use monty_types::{
    CompileOptions, ExcType, ExtFunctionResult, MontyException, MontyObject, NameLookupResult,
    OsFunctionCall, PrintWriter, PrintWriterCallback, ResourceLimits, ResourceTracker,
};
use ruff_python_ast::ModModule;
use ruff_python_parser::Parsed;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;
use values::{Tree, from_json, to_json};

/// The script's name in places.
const MAIN: &str = "run.py";
/// `session` is an object whose one attribute the script may set.
const SESSION: &str = "class Session:\n    def __init__(self, state):\n        self.state = state\n\nsession = Session(_state)\n";

/// The functions that are names of their own.
const FUNCTIONS: [&str; 5] = ["callMCPTool", "searchTools", "readToolDefinition", "readdir", "readFile"];

/// monty, warmed.
pub(crate) struct Monty;

impl Monty {
    /// Lets the engine do once what it would otherwise first do inside the filter: its regular expressions ask how many
    /// processors there are.
    pub(crate) fn new() -> Result<Self, String> {
        let warm = "import re, json, datetime, math, collections\n\
                    [re.sub('a+(?=b)', 'c', 'aab'), json.dumps({'a': [1.5]}), str(datetime.timedelta(1)), math.sqrt(2), f'{1:>3}']";
        let mut session = MontyRepl::new(MAIN, ResourceTracker::default(), CompileOptions::default());
        session.feed_run(warm, Vec::new(), PrintWriter::Disabled).map_err(|error| error.summary())?;
        Ok(Self)
    }
}

impl Engine for Monty {
    fn version(&self) -> String {
        format!("monty {}", monty_types::MONTY_VERSION)
    }

    fn run(&mut self, job: &Job, host: &SharedHost) -> Outcome {
        let refused = |fault| Outcome { result: Err(fault), state: job.state.clone() };
        let tree = Tree::new(&job.namespaces);
        let waiting = match check(job, &tree) {
            Ok(waiting) => waiting,
            Err(fault) => return refused(fault),
        };
        let limits = ResourceLimits::default()
            .max_duration(Duration::from_millis(job.limits.cpu_ms.min(job.limits.wall_ms)))
            .max_memory((job.limits.memory_mb as usize) << 20);
        let mut session = MontyRepl::new(MAIN, ResourceTracker::new(limits), CompileOptions::default());
        let state = from_json(&parsed(&job.state));
        if let Err(error) = session.feed_run(SESSION, vec![("_state".into(), state)], PrintWriter::Disabled) {
            return refused(placed(&error));
        }
        let mut run = Run {
            host,
            tree: &tree,
            waiting,
            printer: Printer::new(host),
            calls: BTreeMap::new(),
            early: BTreeMap::new(),
        };
        let (session, result) = run.whole(session, job);
        run.printer.flush();
        let finished = result.and_then(|value| run.finish_calls().map(|()| value));
        let state = session
            .and_then(|mut session| session.feed_run("session.state", Vec::new(), PrintWriter::Disabled).ok())
            .and_then(|state| to_json(&state).ok());
        let result = match host.borrow_mut().verdict() {
            Some(fault) => Err(fault),
            None => finished.and_then(|value| {
                to_json(&value).map_err(|message| fault(FaultKind::Thrown, "TypeError", message))
            }),
        };
        Outcome {
            result: result.map(|value| value.to_string()).map_err(|fault| explain(fault, &tree)),
            state: state.map_or_else(|| job.state.clone(), |state| state.to_string()),
        }
    }
}

/// What of a script monty cannot run, or may run otherwise than Python says. None where it does not parse: that is told apart.
pub(crate) fn beyond(code: &str) -> Option<Fault> {
    let parsed = python::parse(code).ok()?;
    match outside(&parsed, code) {
        Err(fault) if fault.kind == FaultKind::Syntax => None,
        Err(fault) => Some(fault),
        Ok(()) => python::doubtful(&parsed, code),
    }
}

/// Whether monty can run the script at all, and how it calls.
fn check(job: &Job, tree: &Tree) -> Result<Waiting, Fault> {
    let parsed = python::parse(&job.code)?;
    outside(&parsed, &job.code)?;
    let roots = tree.roots().chain(FUNCTIONS).chain(["results"]).map(str::to_owned).collect();
    python::waiting(&parsed, &job.code, &roots)
}

/// Why monty cannot run the script, with the construct and its place.
fn outside(parsed: &Parsed<ModModule>, code: &str) -> Result<(), Fault> {
    if let Some(fault) = python::unsupported(parsed, code) {
        return Err(fault);
    }
    // Imports have no effect but to fail, so they can be tried before the run: a missing name is told in time.
    let mut scratch = MontyRepl::new(MAIN, ResourceTracker::default(), CompileOptions::default());
    for (start, end) in python::imports(parsed) {
        let statement = code.get(start..end).unwrap_or_default();
        if let Err(error) = scratch.feed_run(statement, Vec::new(), PrintWriter::Disabled) {
            let message =
                format!("{}; it is outside the Python that runs here", error.message().unwrap_or(statement));
            let place = source::syntax_fault(code, start, message);
            return Err(Fault { kind: FaultKind::Unsupported, name: "UnsupportedError".into(), ..place });
        }
    }
    let names = vec!["input".to_owned(), "session".to_owned()];
    if let Err(error) = MontyRun::new(code.to_owned(), MAIN, names, CompileOptions::default()) {
        let kind =
            if error.exc_type() == ExcType::SyntaxError { FaultKind::Syntax } else { FaultKind::Unsupported };
        let name = if kind == FaultKind::Syntax { "SyntaxError" } else { "UnsupportedError" };
        return Err(Fault { kind, name: name.into(), ..placed(&error) });
    }
    Ok(())
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or(Value::Null)
}

/// One run, inside the engine.
struct Run<'a> {
    host: &'a SharedHost,
    tree: &'a Tree,
    waiting: Waiting,
    printer: Printer<'a>,
    /// Wire number to the engine's number of a call that is awaited.
    calls: BTreeMap<u32, u32>,
    /// Answers to calls that nothing awaits yet, by the engine's number.
    early: BTreeMap<u32, ExtFunctionResult>,
}

type Step = Result<ReplProgress, Box<ReplStartError>>;

impl Run<'_> {
    fn whole(&mut self, session: MontyRepl, job: &Job) -> (Option<MontyRepl>, Result<MontyObject, Fault>) {
        let input = vec![("input".to_owned(), from_json(&parsed(&job.input)))];
        let mut step = session.feed_start(&job.code, input, PrintWriter::Callback(&mut self.printer));
        loop {
            step = match step {
                Ok(ReplProgress::Complete { repl, value }) => return (Some(repl), Ok(value)),
                Ok(ReplProgress::FunctionCall(call)) => self.call(call),
                Ok(ReplProgress::NameLookup(lookup)) => self.look_up(lookup),
                Ok(ReplProgress::OsCall(call)) => self.system(call),
                Ok(ReplProgress::ResolveFutures(futures)) => {
                    match self.next_future(futures.pending_call_ids()) {
                        Ok(result) => futures.resume(vec![result], PrintWriter::Callback(&mut self.printer)),
                        Err(fault) => futures.abort(raised(&fault), PrintWriter::Callback(&mut self.printer)),
                    }
                }
                Err(error) => {
                    let ReplStartError { repl, error } = *error;
                    return (Some(repl), Err(placed(&error)));
                }
            }
        }
    }

    /// A call of something that is not the script's own.
    fn call(&mut self, mut call: ReplFunctionCall) -> Step {
        let (args, kwargs) = (std::mem::take(&mut call.args), std::mem::take(&mut call.kwargs));
        if call.object_id.is_none() && !self.tree.knows(&call.function_name) {
            let unknown = ExtFunctionResult::NotFound(call.function_name.clone());
            return call.resume(unknown, PrintWriter::Callback(&mut self.printer));
        }
        let request = match call.object_id {
            Some(object) => self
                .tree
                .member(object, &call.function_name)
                .and_then(|path| request(self.tree, &path, &args, &kwargs)),
            None => request(self.tree, &call.function_name, &args, &kwargs),
        };
        let (op, params, options) = match request {
            Ok(request) => request,
            Err(message) => {
                let error = MontyException::new(ExcType::TypeError, Some(message));
                return call.resume(error, PrintWriter::Callback(&mut self.printer));
            }
        };
        self.printer.flush();
        let sent = self.host.borrow_mut().call(op, params, options);
        let waited = match (sent, self.waiting) {
            (Err(fault), _) => Err(fault),
            (Ok(number), Waiting::Awaitable) => {
                self.calls.insert(number, call.call_id);
                return call.resume_pending(PrintWriter::Callback(&mut self.printer));
            }
            (Ok(number), Waiting::Value) => self.host.borrow_mut().wait_for(number),
        };
        match waited {
            Ok(answer) => call.resume(answered(answer.result), PrintWriter::Callback(&mut self.printer)),
            Err(fault) => call.abort(raised(&fault), PrintWriter::Callback(&mut self.printer)),
        }
    }

    /// The next answer to one of the calls that are awaited right now.
    fn next_future(&mut self, pending: &[u32]) -> Result<(u32, ExtFunctionResult), Fault> {
        self.printer.flush();
        loop {
            if let Some(id) = pending.iter().find(|id| self.early.contains_key(id))
                && let Some(result) = self.early.remove(id)
            {
                return Ok((*id, result));
            }
            if !self.host.borrow().waiting() {
                let message = "the code awaits something that nothing will ever answer";
                let fault = fault(FaultKind::Thrown, "DeadlockError", message);
                return Err(self.host.borrow_mut().doom(fault));
            }
            let Answer { call, result, .. } = self.host.borrow_mut().next()?;
            if let Some(id) = self.calls.remove(&call) {
                self.early.insert(id, answered(result));
            }
        }
    }

    /// A call that nobody awaited is still a call: it is finished before the run is.
    fn finish_calls(&mut self) -> Result<(), Fault> {
        while self.host.borrow().calls_open() {
            self.host.borrow_mut().next()?;
        }
        Ok(())
    }

    /// A name or an attribute that the script did not define.
    fn look_up(&mut self, lookup: ReplNameLookup) -> Step {
        let found = match lookup.object_id() {
            Some(object) => match self.tree.attribute(object, &lookup.name) {
                Some(value) => NameLookupResult::Value(value),
                None => {
                    let message = self.tree.missing(object, &lookup.name);
                    NameLookupResult::Error(MontyException::new(ExcType::AttributeError, Some(message)))
                }
            },
            None if FUNCTIONS.contains(&lookup.name.as_str()) => {
                NameLookupResult::Value(MontyObject::Function { name: lookup.name.clone(), docstring: None })
            }
            None => self.tree.global(&lookup.name).into(),
        };
        lookup.resume(found, PrintWriter::Callback(&mut self.printer))
    }

    /// The clock is the run's; there is no other system.
    fn system(&mut self, call: ReplOsCall) -> Step {
        let now = self.host.borrow().clock_ms();
        let result: ExtFunctionResult = match &call.function_call {
            OsFunctionCall::DateToday => values::today(now).into(),
            OsFunctionCall::DateTimeNow(zone) => values::now(now, zone.as_ref()).into(),
            other => {
                let message = format!(
                    "{} is not possible here: sandboxed code has no files and no environment; readFile(path) reads /mcp-servers and /skills",
                    other.name()
                );
                MontyException::new(ExcType::PermissionError, Some(message)).into()
            }
        };
        call.resume(result, PrintWriter::Callback(&mut self.printer))
    }
}

/// Operation, parameters and options, the last two as JSON.
type Request = (String, String, String);

/// What a call asks for.
fn request(
    tree: &Tree,
    name: &str,
    args: &[MontyObject],
    kwargs: &[(MontyObject, MontyObject)],
) -> Result<Request, String> {
    let mut params = Map::new();
    let mut options = String::new();
    for (key, value) in kwargs {
        let value = to_json(value)?;
        match key.to_string().as_str() {
            "_options" => options = value.to_string(),
            key => drop(params.insert(key.to_owned(), value)),
        }
    }
    let positional: &[&str] = match name {
        "callMCPTool" => {
            let path = args
                .first()
                .map(ToString::to_string)
                .ok_or("callMCPTool takes the tool's path, such as \"server/tool\"")?;
            let given = args.get(1).map(to_json).transpose()?;
            let params = merged(given.or_else(|| params.remove("args")), params, name)?;
            return Ok((operation(&path), params.to_string(), options));
        }
        "searchTools" => &["query", "detail"],
        "readToolDefinition" | "readFile" | "readdir" => &["path"],
        "results.read" => &["handle", "range"],
        _ => {
            let op = tree.operation(name).ok_or_else(|| format!("{name} is a group of tools, not a tool"))?;
            if args.len() > 1 {
                return Err(format!(
                    "{name} takes keyword arguments, such as {name}(query=\"…\"), or one dict"
                ));
            }
            let given = args.first().map(to_json).transpose()?;
            return Ok((op, merged(given, params, name)?.to_string(), options));
        }
    };
    for (key, value) in positional.iter().zip(args) {
        params.insert((*key).to_owned(), to_json(value)?);
    }
    if name == "readdir" {
        params.entry("path").or_insert_with(|| json!("/"));
    }
    let op = match name {
        "searchTools" => "tools/search",
        "readToolDefinition" => "tools/definition",
        "readdir" => "files/list",
        "readFile" => "files/read",
        _ => "results/read",
    };
    Ok((op.to_owned(), Value::Object(params).to_string(), options))
}

/// One dict, keywords, or both.
fn merged(given: Option<Value>, keywords: Map<String, Value>, name: &str) -> Result<Value, String> {
    match given {
        None | Some(Value::Null) => Ok(Value::Object(keywords)),
        Some(Value::Object(mut given)) => {
            given.extend(keywords);
            Ok(Value::Object(given))
        }
        Some(_) => Err(format!("{name} takes keyword arguments, such as {name}(query=\"…\"), or one dict")),
    }
}

/// An answer as the engine takes it; a refusal is raised with what to try.
fn answered(result: Result<String, String>) -> ExtFunctionResult {
    match result {
        Ok(json) => from_json(&parsed(&json)).into(),
        Err(json) => {
            let refusal = parsed(&json);
            let text = |field: &str| refusal.get(field).and_then(Value::as_str).unwrap_or_default();
            let hint = text("try");
            let tail = if hint.is_empty() { String::new() } else { format!("; try: {hint}") };
            let message = format!("{}: {}{tail}", text("code"), text("message"));
            MontyException::new(ExcType::RuntimeError, Some(message)).into()
        }
    }
}

/// A fault as the exception that ends the engine.
fn raised(fault: &Fault) -> MontyException {
    MontyException::new(ExcType::RuntimeError, Some(fault.message.clone()))
}

/// An exception as a fault, with its places in the script.
fn placed(error: &MontyException) -> Fault {
    let message = error.message().unwrap_or_default().to_owned();
    let kind = match error.exc_type() {
        ExcType::MemoryError => FaultKind::OutOfMemory,
        ExcType::TimeoutError if message.starts_with("time limit exceeded") => FaultKind::TimedOut,
        _ => FaultKind::Thrown,
    };
    let place = error.traceback().last().map_or((0, 0), |frame| (frame.start.line, frame.start.column));
    let stack: Vec<String> = error
        .traceback()
        .iter()
        .map(|frame| {
            format!(
                "  File \"{MAIN}\", line {}, in {}",
                frame.start.line,
                frame.frame_name.as_deref().unwrap_or("<module>")
            )
        })
        .collect();
    Fault {
        kind,
        name: error.exc_type().to_string(),
        message,
        line: place.0,
        column: place.1,
        stack: stack.join("\n"),
    }
}

/// Names the right call where the code used a tool as if it were a plain function.
fn explain(mut fault: Fault, tree: &Tree) -> Fault {
    let name = fault.message.strip_prefix("name '").and_then(|rest| rest.strip_suffix("' is not defined"));
    if let ("NameError", Some(name)) = (fault.name.as_str(), name) {
        let paths: Vec<String> = tree.tools().map(|tool| tool.replace('.', "/")).collect();
        let near: Vec<String> = nearest(name, paths.iter().map(String::as_str))
            .into_iter()
            .map(|path| path.replace('/', "."))
            .collect();
        if !near.is_empty() {
            fault.message = format!("{}; did you mean {}?", fault.message, near.join(" or "));
        }
    }
    fault
}

/// `print`, line by line.
struct Printer<'a> {
    host: &'a SharedHost,
    line: String,
}

impl<'a> Printer<'a> {
    fn new(host: &'a SharedHost) -> Self {
        Self { host, line: String::new() }
    }

    /// Sends what is left of a line without an end.
    fn flush(&mut self) {
        if !self.line.is_empty() {
            self.send();
        }
    }

    fn send(&mut self) {
        // A fault ends the run at its next step.
        let _ = self.host.borrow_mut().log("log", std::mem::take(&mut self.line));
    }
}

impl PrintWriterCallback for Printer<'_> {
    fn stdout_write(&mut self, output: Cow<'_, str>) -> Result<(), MontyException> {
        for (at, part) in output.split('\n').enumerate() {
            if at > 0 {
                self.send();
            }
            self.line.push_str(part);
        }
        Ok(())
    }

    fn stdout_push(&mut self, end: char) -> Result<(), MontyException> {
        if end == '\n' {
            self.send()
        } else {
            self.line.push(end)
        }
        Ok(())
    }
}
