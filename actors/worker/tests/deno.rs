//! The host's Deno as the engine: what code sees in it, and that its jail holds when code gets all that Deno has. Tried with the
//! pinned Deno where `tests/run` has installed it.

use crate::support::{Trace, Worker, echo, job, run_job, signal};
use athena_schemas::risk::Limits;
use athena_schemas::wire::{FaultKind, Finish, Job, Language, ToWorker};
use serde_json::{Value, json};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// Runs code as anybody's is run; none where there is no Deno.
fn deno(code: &str) -> Option<Trace> {
    ended(job(Language::TypeScript, code))
        .map(|ended| ended.unwrap_or_else(|status| panic!("{code}: {status}")))
}

fn ended(job: Job) -> Option<Result<Trace, ExitStatus>> {
    Some(Worker::deno(false)?.run(job, echo))
}

/// Runs code with every permission and global of Deno's, so that nothing but the jail is in its way.
fn open(code: &str) -> Option<Result<Trace, ExitStatus>> {
    Some(Worker::deno(true)?.attack(job(Language::JavaScript, code)))
}

fn parsed(finish: &Finish) -> Value {
    match &finish.result {
        Ok(json) => serde_json::from_str(json).unwrap(),
        Err(fault) => panic!("{fault:?}"),
    }
}

#[test]
fn it_says_honestly_how_it_is_held() {
    let Some(worker) = Worker::deno(false) else { return };
    assert_eq!(worker.ready.level, "wide");
    for layer in ["namespaces", "library-root", "pid-namespace", "seccomp", "memory-watch", "no-capabilities"]
    {
        assert!(worker.ready.layers.iter().any(|held| held == layer), "{layer}: {:?}", worker.ready);
    }
    assert!(worker.ready.engines[0].starts_with("deno 2."), "{:?}", worker.ready);
    assert!(worker.close().success());
}

/// However its keeper ends.
#[test]
fn it_dies_with_its_keeper() {
    let Some(mut worker) = Worker::deno(false) else { return };
    let deno = worker.children();
    assert_eq!(deno.len(), 1, "{deno:?}");
    worker.link.send(&ToWorker::Run(Box::new(job(Language::JavaScript, "for (;;);")))).unwrap();
    worker.kill();
    worker.wait();
    let deadline = Instant::now() + Duration::from_secs(30);
    // What nobody has reaped yet is dead all the same.
    let alive = |stat: String| !stat.contains(") Z ");
    while std::fs::read_to_string(format!("/proc/{}/stat", deno[0])).is_ok_and(alive) {
        assert!(Instant::now() < deadline, "it is still there");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// The same bridge, the same clock, the same seed: the same value and the same calls as on the built-in engine.
#[test]
fn code_sees_what_it_sees_on_the_built_in_engine() {
    for code in [
        "1 + 1",
        "const a: number = 2; a * 3",
        "return [input, session.state, typeof process, typeof Deno, typeof fetch, typeof Worker]",
        "session.state.count += 1; console.log('seen', { a: [1] }); return session.state",
        "return [Date.now(), new Date().toISOString(), performance.now(), Math.random(), Math.random(), crypto.randomUUID(), \
         Array.from(crypto.getRandomValues(new Uint8Array(5)))]",
        "return await athena.semantic.search({ query: 'kettle' })",
        "const xs = await Promise.all([1, 2, 3].map((n) => athena.episodic.recall({ n }))); return xs.map((x) => x.params.n)",
        "try { await athena.semantic.store({}) } catch (e) { return [e.name, e.code, e.message, e.try] }",
        "const before = Date.now(); await new Promise((r) => setTimeout(r, 250)); return [Date.now() - before, performance.now()]",
        "const seen = []; setTimeout(() => seen.push('late'), 5); queueMicrotask(() => seen.push('job')); \
         await new Promise((r) => setTimeout(r, 9)); return seen",
        "import { create_issue } from '/mcp-servers/github/create_issue.ts'; import sum from '/skills/sum.ts'; \
         return [sum([1, 2]), await create_issue({ title: 'x' })]",
        "athena.semantic.search({ query: 'nobody waits' }); return 'done'",
        "return structuredClone(new Map([[1, { a: new Date(0) }]])).get(1)",
        "return [new URL('?q=1', 'http://x.example/a').href, btoa('abc'), new TextEncoder().encode('ü').length]",
        "return [eval, Function].map((make) => { try { return make('1') } catch (e) { return e.message } })",
        "return athena.semantics.search({})",
        "return callMCPTool('athena/semantic/search', { query: 'x' })",
        "seach('x')",
        "const x = 1;\n  throw new TypeError('no good')",
        "function f(n) {\n  if (n === 0) throw new RangeError('deep');\n  f(n - 1);\n}\nf(2)",
        "throw { odd: true }",
        "let x = ;",
        "import x from 'fs'; return x",
        "import x from '/skills/broken.ts'; return x",
        "await new Promise(() => {})",
        "Promise.reject(new Error('unheard')); return 1",
        "setTimeout(() => { throw new Error('in a timer') }, 1); await new Promise((r) => setTimeout(r, 50)); return 1",
        "return { toJSON() { throw new Error('no json') } }",
        "return 10n",
    ] {
        let Some(trace) = deno(code) else { return };
        let own = run_job(job(Language::TypeScript, code));
        assert_eq!(
            (&trace.calls, &trace.logs, &trace.finish.state),
            (&own.calls, &own.logs, &own.finish.state),
            "{code}"
        );
        match (&trace.finish.result, &own.finish.result) {
            (Ok(value), Ok(own)) => assert_eq!(value, own, "{code}"),
            (Err(fault), Err(own)) => {
                assert_eq!((fault.kind, &fault.name, fault.line), (own.kind, &own.name, own.line), "{code}");
            }
            other => panic!("{code}: {other:?}"),
        }
        assert!(trace.finish.engine.starts_with("deno 2."));
    }
}

#[test]
fn errors_have_their_place_in_the_agents_source() {
    let Some(trace) = deno("type T = number;\nfunction inner(): T {\n  return null.x;\n}\nreturn inner()")
    else {
        return;
    };
    let fault = trace.finish.result.unwrap_err();
    assert_eq!((fault.name.as_str(), fault.line, fault.column), ("TypeError", 3, 15), "{fault:?}");
    assert_eq!(fault.stack, "    at inner (run.ts:3:15)\n    at <script> (run.ts:5:8)");
}

/// What a run could see and its record does not hold is not there, or is the record's.
#[test]
fn nothing_but_the_record_can_be_seen() {
    let code = "const missing = ['Deno', 'process', 'Buffer', 'fetch', 'Worker', 'WebSocket', 'MessageChannel', 'BroadcastChannel', \
                'SharedArrayBuffer', 'Atomics', 'WeakRef', 'FinalizationRegistry', 'navigator', 'localStorage', 'prompt', 'close', \
                'Blob', 'CompressionStream'].filter((name) => name in globalThis);\n\
                return [missing, crypto.subtle === undefined, AbortSignal.timeout === undefined, WebAssembly.compile === undefined, \
                new Event('x').timeStamp, new Intl.DateTimeFormat('en', { dateStyle: 'short' }).format(), \
                Temporal.Now.instant().epochMilliseconds, Temporal.Now.plainDateISO().toString(), Intl.DateTimeFormat().resolvedOptions().timeZone, \
                new Error('x').stack.includes('run.ts'), new Error('x').stack.includes('data:')]";
    let (Some(one), Some(other)) = (deno(code), deno(code)) else { return };
    assert_eq!(one.finish.result, other.finish.result);
    assert_eq!(
        parsed(&one.finish),
        json!([[], true, true, true, 0, "11/14/23", 1_700_000_000_000_u64, "2023-11-14", "UTC", true, false])
    );
    // A way to more modules, or to other threads, would be one round all of that.
    for code in ["await import('node:fs')", "await import('data:text/javascript,export default 1')"] {
        let fault = deno(code).unwrap().finish.result.unwrap_err();
        assert_eq!((fault.kind, fault.line, fault.column), (FaultKind::Unsupported, 1, 7), "{fault:?}");
    }
    for name in [
        "node:fs",
        "npm:left-pad",
        "https://x.example/a.js",
        "data:text/javascript,export default 1",
        "./x.js",
    ] {
        let trace = deno(&format!("import x from '{name}'; return x")).unwrap();
        assert!(trace.finish.result.is_err() && trace.calls.is_empty(), "{name}");
    }
}

#[test]
fn limits_of_time_and_calls_hold() {
    let limited = |code: &str, limits: Limits| ended(Job { limits, ..job(Language::JavaScript, code) });
    let fault = |ended: Option<Result<Trace, ExitStatus>>| {
        ended.map(|ended| ended.unwrap().finish.result.unwrap_err())
    };
    let wall = Limits { wall_ms: 300, ..Limits::BALANCED };
    for code in [
        "for (;;);",
        "'a'.repeat(2**24).indexOf('a'.repeat(2**20) + 'b'); for (;;) 'a'.repeat(2**24).indexOf('a'.repeat(2**20) + 'b')",
        "/(a+)+$/.test('a'.repeat(40) + 'b')",
        "for (;;) { try { for (;;); } catch {} }",
        "(async () => { for (;;) await null })(); await new Promise(() => {})",
        "let x = 3n; for (;;) x = x * x",
    ] {
        let Some(fault) = fault(limited(code, wall)) else { return };
        assert!(matches!(fault.kind, FaultKind::TimedOut | FaultKind::OutOfMemory), "{code}: {fault:?}");
    }
    let cpu = Limits { cpu_ms: 200, wall_ms: 20_000, ..Limits::BALANCED };
    let spun = fault(limited("for (;;);", cpu)).unwrap();
    assert!(spun.kind == FaultKind::TimedOut && spun.message.contains("CPU"), "{spun:?}");
    let calls = Limits { calls: 3, ..Limits::BALANCED };
    assert_eq!(
        fault(limited("for (;;) await athena.episodic.recall({})", calls)).unwrap().kind,
        FaultKind::Limit
    );
}

/// Its heap, and what lies outside of it: neither is what the heap's own limit says.
#[test]
fn the_limit_of_memory_holds_for_all_that_code_can_take() {
    for code in [
        "const all = []; for (let n = 0; ; n++) all.push({ n, text: 'x'.repeat(100) + n })",
        "const all = []; for (;;) all.push(new ArrayBuffer(16 << 20)) && new Uint8Array(all.at(-1)).fill(1)",
        "const all = []; for (;;) all.push(new Uint8Array(1 << 20).fill(1))",
        "let text = 'x'; for (;;) text = (text + text).replaceAll('x', 'xy')",
        "const memory = new WebAssembly.Memory({ initial: 1 }); for (;;) { memory.grow(256); new Uint8Array(memory.buffer).fill(1) }",
    ] {
        let limits = Limits { memory_mb: 64, wall_ms: 20_000, cpu_ms: 20_000, ..Limits::BALANCED };
        let Some(ended) = ended(Job { limits, ..job(Language::JavaScript, code) }) else { return };
        let finish = ended.unwrap().finish;
        // V8 itself refuses some with an error that code could catch.
        let fault = finish.result.unwrap_err();
        assert!(fault.kind == FaultKind::OutOfMemory || fault.name == "RangeError", "{code}: {fault:?}");
        assert!(finish.heap_bytes < 700 << 20, "{code}: {} MiB", finish.heap_bytes >> 20);
    }
}

/// With every permission and global of Deno's own: the jail stands alone.
#[test]
fn the_jail_holds_without_the_language() {
    let canary = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(canary.path(), "canary").unwrap();
    let path = canary.path().display();
    let tried = |code: &str| {
        format!(
            "const log = [];\nfor (const [name, act] of Object.entries({{ {code} }})) {{\n  try {{ log.push([name, await act()]) }} catch (e) {{ log.push([name, 'refused']) }}\n}}\nreturn log"
        )
    };
    let refused = |name: &str, code: &str| {
        let Some(ended) = open(&tried(&format!("{name}: async () => ({code}) && 'got through'"))) else {
            return;
        };
        match ended {
            Ok(trace) => {
                let shown = parsed(&trace.finish);
                assert_eq!(shown, json!([[name, "refused"]]), "{code}");
            }
            // The kernel ended it, of a forbidden call by its signal; or it ended itself, where it does not even find its program.
            Err(status) => {
                let ended =
                    signal(status) == Some(libc::SIGSYS) || status.code() == Some(athena_worker::ABORTED);
                assert!(ended, "{code}: {status}");
            }
        }
    };
    // That it has what the others are about.
    let Some(free) =
        open("return [typeof Deno.readTextFileSync, (await Deno.permissions.query({ name: 'run' })).state]")
    else {
        return;
    };
    assert_eq!(parsed(&free.unwrap().finish), json!(["function", "granted"]));
    for (name, code) in [
        ("passwd", "Deno.readTextFileSync('/etc/passwd')".to_owned()),
        ("canary", format!("Deno.readTextFileSync('{path}')")),
        ("environ", "Deno.readTextFileSync('/proc/self/environ')".into()),
        ("memory", "Deno.readTextFileSync('/proc/self/maps')".into()),
        ("parent", "Deno.readTextFileSync('/proc/1/root/etc/passwd')".into()),
        ("climb", "Deno.readTextFileSync('../../../../etc/passwd')".into()),
        ("home", "[...Deno.readDirSync('/root')]".into()),
        ("write", "Deno.writeTextFileSync('/x', 'x') ?? 1".into()),
        ("library", "Deno.writeTextFileSync('/lib/libc.so.6', 'x') ?? 1".into()),
        ("rename", "Deno.renameSync('/lib', '/bil') ?? 1".into()),
        ("temporary", "Deno.makeTempFileSync()".into()),
        ("device", "Deno.openSync('/dev/kmsg')".into()),
        ("connect", "await Deno.connect({ hostname: '127.0.0.1', port: 22 })".into()),
        ("metadata", "await fetch('http://169.254.169.254/')".into()),
        ("listen", "Deno.listen({ port: 0 })".into()),
        ("datagram", "Deno.listenDatagram({ port: 0, transport: 'udp' })".into()),
        ("unix", "await Deno.connect({ transport: 'unix', path: '/run/x' })".into()),
        ("name", "await Deno.resolveDns('example.com', 'A')".into()),
        ("shell", "new Deno.Command('/bin/sh', { args: ['-c', 'id'] }).outputSync()".into()),
        ("itself", "new Deno.Command(Deno.execPath()).outputSync()".into()),
        ("loader", "new Deno.Command('/lib64/ld-linux-x86-64.so.2').outputSync()".into()),
        ("ffi", "Deno.dlopen('/lib/libc.so.6', { execve: { parameters: ['pointer', 'pointer', 'pointer'], result: 'i32' } }).symbols.execve(null, null, null) === 0".into()),
    ] {
        refused(name, &code);
    }
    // Its signals reach itself, and as the first process of its namespace it does not even die of them.
    for target in ["Deno.ppid", "-1", "1", "Deno.pid"] {
        let code = format!("try {{ Deno.kill({target}, 'SIGKILL') }} catch {{}} return 'alive'");
        assert_eq!(parsed(&open(&code).unwrap().unwrap().finish), json!("alive"), "{target}");
    }
    // What its environment tells is nothing of anybody's.
    let told = open(
        "return [Deno.env.toObject(), Deno.hostname(), Deno.pid, [...Deno.readDirSync('/')].map((e) => e.name).sort()]",
    );
    assert_eq!(
        parsed(&told.unwrap().unwrap().finish),
        json!([
            {"DENO_DIR": "/none", "DENO_NO_UPDATE_CHECK": "1", "HOME": "/", "LD_LIBRARY_PATH": "/lib", "NO_COLOR": "1", "TZ": "UTC"},
            "athena", 1, ["lib", "lib64"]
        ])
    );
    assert_eq!(std::fs::read_to_string(canary.path()).unwrap(), "canary");
}

/// Raw calls, through the foreign functions that no permission keeps it from here.
#[test]
fn forbidden_calls_end_the_process() {
    for (name, number) in [
        ("execve", libc::SYS_execve),
        ("execveat", libc::SYS_execveat),
        ("unshare", libc::SYS_unshare),
        ("setns", libc::SYS_setns),
        ("mount", libc::SYS_mount),
        ("ptrace", libc::SYS_ptrace),
        ("process_vm_readv", libc::SYS_process_vm_readv),
        ("bpf", libc::SYS_bpf),
        ("keyctl", libc::SYS_keyctl),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("init_module", libc::SYS_init_module),
        ("kexec_load", libc::SYS_kexec_load),
        ("memfd_create", libc::SYS_memfd_create),
        ("shmget", libc::SYS_shmget),
        ("clone without a thread", libc::SYS_clone),
        #[cfg(target_arch = "x86_64")]
        ("fork", libc::SYS_fork),
        #[cfg(target_arch = "x86_64")]
        ("x32 getpid", 0x4000_0000 | libc::SYS_getpid),
    ] {
        let code = format!(
            "const libc = Deno.dlopen('libc.so.6', {{ syscall: {{ parameters: ['i64', 'i64', 'i64', 'i64', 'i64', 'i64'], result: 'i64' }} }});\n\
             console.log('ready');\nreturn Number(libc.symbols.syscall({number}n, 0n, 0n, 0n, 0n, 0n))"
        );
        let Some(ended) = open(&code) else { return };
        let status = ended.map(|trace| trace.finish.result).unwrap_err();
        assert_eq!(signal(status), Some(libc::SIGSYS), "{name}: {status}");
    }
    // The network answers instead, and a copy with flags in memory is unknown.
    for (number, wanted) in [(libc::SYS_socket, -1), (libc::SYS_clone3, -1), (libc::SYS_getpid, 1)] {
        let code = format!(
            "const libc = Deno.dlopen('libc.so.6', {{ syscall: {{ parameters: ['i64', 'i64', 'i64', 'i64'], result: 'i64' }} }});\n\
             return Number(libc.symbols.syscall({number}n, 2n, 1n, 0n))"
        );
        assert_eq!(parsed(&open(&code).unwrap().unwrap().finish), json!(wanted), "{number}");
    }
}

/// What code writes where the engine's frames go is no more than what any code may say, or the end.
#[test]
fn frames_of_its_own_making_get_code_nothing() {
    let write = "const send = (fd, frame) => { const body = new TextEncoder().encode(typeof frame === 'string' ? frame : JSON.stringify(frame));\n\
                 const bytes = new Uint8Array(4 + body.length); new DataView(bytes.buffer).setUint32(0, body.length, true); bytes.set(body, 4);\n\
                 const libc = Deno.dlopen('libc.so.6', { write: { parameters: ['i32', 'buffer', 'usize'], result: 'isize' } });\n\
                 return Number(libc.symbols.write(fd, bytes, BigInt(bytes.length))) };\n";
    // Through whichever descriptor: a forged line is a line of this run's, as `console.log` makes them, and nothing comes of the rest.
    for fd in 0..=10 {
        let code = format!("{write}send({fd}, {{ say: 'log', level: 'log', text: 'forged' }}); return 'own'");
        let Some(ended) = open(&code) else { return };
        if let Ok(trace) = ended {
            assert_eq!(parsed(&trace.finish), json!("own"), "{fd}");
            assert!(trace.calls.is_empty() && trace.logs.len() <= 1, "{fd}: {trace:?}");
        }
    }
    // A forged end is an end that code could have had by returning; a forged call is a call.
    let forged =
        open(&format!("{write}send(1, {{ say: 'done', value: '\"forged\"', state: null }}); for (;;);"))
            .unwrap();
    assert_eq!(parsed(&forged.unwrap().finish), json!("forged"));
    let called = open(&format!(
        "{write}send(1, {{ say: 'call', op: 'semantic/store', params: '{{}}', options: '' }}); for (;;);"
    ));
    if let Ok(trace) = called.unwrap() {
        assert_eq!(trace.calls, [("semantic/store".to_owned(), json!({}))]);
    }
    // What is no frame ends the run, and so does a second beginning.
    for frame in
        ["'no json'", "{ say: 'ready', deno: 'x', v8: 'y' }", "{ say: 'shout' }", "{ say: 'call', op: 1 }"]
    {
        let ended = open(&format!("{write}send(1, {frame}); for (;;);")).unwrap();
        assert!(ended.is_err(), "{frame}: {ended:?}");
    }
    // Who it speaks to cannot be made to answer.
    for code in ["Deno.exit(0)", "Deno.exit(7)", "process.abort()"] {
        if let Ok(trace) = open(code).unwrap() {
            panic!("{code}: {:?}", trace.finish.result);
        }
    }
}

#[test]
fn threads_of_its_own_end_with_it_and_count() {
    let code = "const source = 'const all = []; for (;;) all.push(new Uint8Array(1 << 20).fill(1))';\n\
                new Worker('data:text/javascript,' + encodeURIComponent(source), { type: 'module' });\n\
                for (;;);";
    let Some(worker) = Worker::deno(true) else { return };
    let limits = Limits { wall_ms: 10_000, cpu_ms: 10_000, ..Limits::BALANCED };
    let ended = worker.attack(Job { limits, ..job(Language::JavaScript, code) });
    let fault = ended.unwrap().finish.result.unwrap_err();
    assert_eq!(fault.kind, FaultKind::OutOfMemory, "{fault:?}");
}
