//! TypeScript and JavaScript: oxc makes the module that runs, QuickJS runs it.
//!
//! The engine and its globals are made once, before the jail shuts. A run plugs its [`Host`](crate::host::Host) in, imports
//! and starts the emitted module, and then alternates: run every job that is ready, then hand over exactly one answer. So
//! what the code observes is a function of the frames, whatever promises race.

pub(super) mod faults;
pub(super) mod modules;
pub(super) mod natives;

pub(super) use natives::operation;

use super::{Engine, Outcome, SharedHost};
use crate::host::{self, Answer};
use crate::source::script;
use athena_schemas::wire::{Fault, FaultKind, Job, Language, Namespace};
use faults::Places;
use rquickjs::promise::PromiseState;
use rquickjs::{Context, Ctx, Function, Module, Object, Persistent, Promise, Runtime, Value};
use std::cell::RefCell;
use std::rc::Rc;

/// The module name of the agent's code, as stacks show it.
pub(super) const MAIN: &str = "run.ts";
/// Native stack that one run may use, bytes; the main thread has more.
const STACK: usize = 4 << 20;
/// Checks of the interrupt handler between two looks at the clocks.
const CHECKS_PER_LOOK: u32 = 4;

/// What makes of plain functions what agent code finds, each the text of a function; another engine of the language has the same.
pub(super) const BRIDGE: &str = include_str!("bridge.js");
pub(super) const CONSOLE: &str = include_str!("console.js");
pub(super) const CRYPTO: &str = include_str!("crypto.js");

/// What an engine rehearses: a little of what runs usually do.
pub(crate) const REHEARSAL: &str = "const xs: number[] = [1, 2, 3];\n\
     const sums = await Promise.all(xs.map(async (x) => x + 1));\n\
     return { sums, text: `${sums.length} sums`, at: { n: JSON.stringify(xs) } };";
/// The module name of that. No import can lead to it.
const REHEARSED: &str = "rehearsal";

/// What a run shares with the functions and handlers that outlive it.
#[derive(Clone, Default)]
struct Door(Rc<RefCell<Option<SharedHost>>>);

impl Door {
    fn host(&self) -> Option<SharedHost> {
        self.0.borrow().clone()
    }
}

/// Functions of the bridge, kept between its evaluation and the run.
struct Bridge {
    prepare: Persistent<Function<'static>>,
    begin: Persistent<Function<'static>>,
    deliver: Persistent<Function<'static>>,
    outcome: Persistent<Function<'static>>,
    state: Persistent<Function<'static>>,
    describe: Persistent<Function<'static>>,
}

/// QuickJS with everything agent code finds in it.
pub(crate) struct QuickJs {
    bridge: Bridge,
    door: Door,
    tools: natives::Tools,
    places: Places,
    context: Context,
    runtime: Runtime,
}

impl QuickJs {
    /// A warm engine.
    pub(crate) fn new() -> Result<Self, String> {
        let runtime = Runtime::new().map_err(|error| error.to_string())?;
        runtime.set_max_stack_size(STACK);
        let door = Door::default();
        let places = Places::default();
        let tools = natives::Tools::default();
        runtime.set_loader(modules::Resolve, modules::Load::new(door.clone(), places.clone()));
        let context = Context::full(&runtime).map_err(|error| error.to_string())?;
        let bridge = context.with(|ctx| {
            install(&ctx, &door, &tools)
                .map_err(|error| faults::caught(&ctx, &error, None, &Places::default()).message)
        })?;
        watch(&runtime, &door);
        Ok(Self { bridge, door, tools, places, context, runtime })
    }
}

impl QuickJs {
    /// Takes the globals of a run, before it or with it.
    pub(crate) fn prepare(&self, namespaces: &[Namespace]) {
        self.tools.load(namespaces);
        let prepared = self
            .context
            .with(|ctx| self.bridge.prepare.clone().restore(&ctx)?.call::<_, ()>((self.tools.tree(),)));
        // It reads JSON that was written here.
        debug_assert!(prepared.is_ok(), "{prepared:?}");
    }

    /// Goes the way of a run, from source to JSON, without a host, a session or a trace that code could find.
    pub(crate) fn rehearse(&mut self) -> Result<String, String> {
        let emitted = script::emit_run(Language::TypeScript, REHEARSAL).map_err(|fault| fault.message)?;
        self.prepare(&[Namespace { name: "athena".into(), members: vec![("a.b".into(), "a/b".into())] }]);
        let rehearsed = self.context.with(|ctx| {
            let (module, _) = Module::declare(ctx.clone(), REHEARSED, emitted.code)?.eval()?;
            while ctx.execute_pending_job() {}
            let main: Function<'_> = module.get("default")?;
            let promise: Promise<'_> = main.call(())?;
            while ctx.execute_pending_job() {}
            let value = promise.result::<Value<'_>>().unwrap_or(Err(rquickjs::Error::Unknown))?;
            self.bridge.outcome.clone().restore(&ctx)?.call::<_, String>((value,))
        });
        self.prepare(&[]);
        rehearsed.map_err(|error| error.to_string())
    }
}

/// Evaluates the bridge and keeps its functions.
fn install(ctx: &Ctx<'_>, door: &Door, tools: &natives::Tools) -> rquickjs::Result<Bridge> {
    let native = natives::object(ctx, door, tools)?;
    let inspect: Value<'_> = evaluate(ctx, CONSOLE)?.call((native.clone(),))?;
    native.set("inspect", inspect)?;
    evaluate(ctx, include_str!("web.js"))?.call::<_, ()>((native.clone(),))?;
    evaluate(ctx, CRYPTO)?.call::<_, ()>((native.clone(),))?;
    let bridge: Object<'_> = evaluate(ctx, BRIDGE)?.call((native,))?;
    let keep =
        |name: &str| Ok::<_, rquickjs::Error>(Persistent::save(ctx, bridge.get::<_, Function<'_>>(name)?));
    Ok(Bridge {
        prepare: keep("prepare")?,
        begin: keep("begin")?,
        deliver: keep("deliver")?,
        outcome: keep("outcome")?,
        state: keep("state")?,
        describe: keep("describe")?,
    })
}

fn evaluate<'js>(ctx: &Ctx<'js>, source: &str) -> rquickjs::Result<Function<'js>> {
    ctx.eval(source)
}

/// Stops the engine when the run is over or its time is up.
fn watch(runtime: &Runtime, door: &Door) {
    let door = door.clone();
    let mut checks = 0_u32;
    runtime.set_interrupt_handler(Some(Box::new(move || {
        checks = checks.wrapping_add(1);
        let Some(host) = door.host() else { return false };
        // While the host itself is at work nothing needs stopping; it looks at the clock on its own.
        let Ok(mut host) = host.try_borrow_mut() else { return false };
        host.over() || (checks.is_multiple_of(CHECKS_PER_LOOK) && host.verdict().is_some())
    })));
}

impl Engine for QuickJs {
    fn version(&self) -> String {
        "quickjs-ng 0.16".to_owned()
    }

    fn run(&mut self, job: &Job, host: &SharedHost) -> Outcome {
        *self.door.0.borrow_mut() = Some(Rc::clone(host));
        self.runtime.set_memory_limit((job.limits.memory_mb as usize) << 20);
        if !job.prepared {
            self.prepare(&job.namespaces);
        }
        self.tools.seed(job.seed);
        self.context.with(|ctx| {
            let run = Run { ctx: &ctx, bridge: &self.bridge, places: &self.places, host };
            let result = run.whole(job);
            let state = run.state().unwrap_or_else(|_| job.state.clone());
            let result = match host.borrow_mut().verdict() {
                // However the code ended after its time: the limit is what ended it.
                Some(fault) => Err(fault),
                None => result,
            };
            Outcome { result: result.map_err(|fault| self.tools.explain(fault)), state }
        })
    }
}

/// One run, inside the engine.
struct Run<'a, 'js> {
    ctx: &'a Ctx<'js>,
    bridge: &'a Bridge,
    places: &'a Places,
    host: &'a SharedHost,
}

impl<'js> Run<'_, 'js> {
    /// From source to JSON.
    fn whole(&self, job: &Job) -> Result<String, Fault> {
        let emitted = script::emit_run(job.language, &job.code)?;
        let code = emitted.code.clone();
        self.places.add(MAIN, emitted);
        let begin = self.function(&self.bridge.begin)?;
        self.catch(begin.call::<_, ()>((job.input.as_str(), job.state.as_str())))?;
        let declared = self.catch(Module::declare(self.ctx.clone(), MAIN, code))?;
        let (module, loaded) = self.catch(declared.eval())?;
        self.settle(&loaded)?;
        let main: Function<'js> = self.catch(module.get("default"))?;
        let promise: Promise<'js> = self.catch(main.call(()))?;
        let value = self.settle(&promise)?;
        self.finish_calls()?;
        let outcome = self.function(&self.bridge.outcome)?;
        self.catch(outcome.call((value,)))
    }

    /// Runs until a promise is settled, and gives its value.
    fn settle(&self, promise: &Promise<'js>) -> Result<Value<'js>, Fault> {
        loop {
            self.run_jobs()?;
            match promise.state() {
                PromiseState::Pending => self.step()?,
                PromiseState::Resolved | PromiseState::Rejected => {
                    let settled =
                        promise.result::<Value<'js>>().unwrap_or_else(|| Err(rquickjs::Error::Unknown));
                    return self.catch(settled);
                }
            }
        }
    }

    /// A call that nobody awaited is still a call: it is finished before the run is. Timers are not waited for.
    fn finish_calls(&self) -> Result<(), Fault> {
        while self.host.borrow().calls_open() {
            self.step()?;
            self.run_jobs()?;
        }
        Ok(())
    }

    /// Hands over one answer.
    fn step(&self) -> Result<(), Fault> {
        if !self.host.borrow().waiting() {
            let message = "the code awaits a promise that nothing will ever settle: no call or timer is open";
            return Err(host::fault(FaultKind::Thrown, "DeadlockError", message));
        }
        let Answer { call, result, .. } = self.host.borrow_mut().next()?;
        let (ok, json) = match result {
            Ok(json) => (true, json),
            Err(json) => (false, json),
        };
        let deliver = self.function(&self.bridge.deliver)?;
        self.catch(deliver.call::<_, ()>((call, ok, json)))
    }

    fn run_jobs(&self) -> Result<(), Fault> {
        while self.ctx.execute_pending_job() {
            if let Some(fault) = self.over() {
                return Err(fault);
            }
        }
        self.over().map_or(Ok(()), Err)
    }

    fn over(&self) -> Option<Fault> {
        let mut host = self.host.borrow_mut();
        if host.over() { host.verdict() } else { None }
    }

    /// `session.state` as JSON; an error where it cannot be written.
    fn state(&self) -> Result<String, Fault> {
        let state = self.function(&self.bridge.state)?;
        self.catch(state.call(()))
    }

    fn function(&self, kept: &Persistent<Function<'static>>) -> Result<Function<'js>, Fault> {
        self.catch(kept.clone().restore(self.ctx))
    }

    /// Turns an exception into a fault in the agent's source.
    fn catch<T>(&self, outcome: rquickjs::Result<T>) -> Result<T, Fault> {
        outcome.map_err(|error| {
            let describe = self.bridge.describe.clone().restore(self.ctx).ok();
            faults::caught(self.ctx, &error, describe, self.places)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rehearsal_comes_to_its_end_and_leaves_nothing_to_find() {
        let mut engine = QuickJs::new().unwrap();
        let names = |engine: &QuickJs| -> String {
            engine.context.with(|ctx| ctx.eval("Object.getOwnPropertyNames(globalThis).join()").unwrap())
        };
        let before = names(&engine);
        let value = engine.rehearse().unwrap();
        assert_eq!(value, r#"{"sums":[2,3,4],"text":"3 sums","at":{"n":"[1,2,3]"}}"#);
        assert_eq!(names(&engine), before);
        let found = engine.context.with(|ctx| {
            let looked = ctx.eval::<Promise<'_>, _>(format!("import('{REHEARSED}')")).unwrap();
            while ctx.execute_pending_job() {}
            looked.state()
        });
        assert_eq!(found, PromiseState::Rejected);
    }
}
