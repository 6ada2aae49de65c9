//! The zygotes: each order a fresh jailed worker, whose parent is whoever started the zygote.

use crate::support::{Zygote, echo, job, signal};
use athena_schemas::wire::{Language, ToWorker};

#[test]
fn copies_run_one_job_each_in_the_whole_jail_and_are_our_children() {
    for level in ["full", "seccomp"] {
        let mut zygote = Zygote::start(&["--level", level, "--zygote", "yes"]);
        let workers: Vec<_> = (0..8).map(|_| zygote.worker()).collect();
        for (n, worker) in workers.into_iter().enumerate() {
            assert_eq!(worker.ready.level, level);
            let code = format!("globalThis.seen = (globalThis.seen ?? 0) + 1; return [seen, {n}]");
            let trace = worker.run(job(Language::JavaScript, &code), echo).unwrap();
            assert_eq!(trace.finish.result, Ok(format!("[1,{n}]")));
        }
        // A worker outlives its zygote, and can be killed by us while it spins.
        let mut worker = zygote.worker();
        zygote.process.kill().unwrap();
        zygote.process.wait().unwrap();
        worker.link.send(&ToWorker::Run(Box::new(job(Language::JavaScript, "for (;;);")))).unwrap();
        worker.kill();
        assert_eq!(signal(worker.wait()), Some(libc::SIGKILL));
    }
}

#[test]
fn a_python_of_the_host_is_copied_in_the_same_way() {
    for level in ["full", "seccomp"] {
        let (zygote, other) = (Zygote::python(&["--level", level]), Zygote::python(&["--level", level]));
        for n in 0..4 {
            let worker = zygote.worker();
            assert_eq!(worker.ready.level, level);
            assert!(worker.ready.engines[0].starts_with("cpython 3."), "{:?}", worker.ready);
            let code = format!(
                "import random\nseen = globals().get('seen', 0) + 1\n[seen, {n}, random.random(), hash('a'), id(object())]"
            );
            let trace = worker.run(job(Language::Python, &code), echo).unwrap();
            // What code can observe is the same in every copy, of whichever zygote.
            let value = trace.finish.result.unwrap();
            let first = other.worker().run(job(Language::Python, &code), echo).unwrap();
            assert_eq!(value, first.finish.result.unwrap());
            assert!(value.starts_with(&format!("[1, {n}, 0.")), "{value}");
        }
    }
}

#[test]
fn a_zygote_ends_with_its_socket() {
    let mut zygote = Zygote::start(&["--zygote", "yes"]);
    let (other, _) = std::os::unix::net::UnixStream::pair().unwrap();
    zygote.socket = other.into();
    assert_eq!(zygote.process.wait().unwrap().code(), Some(0));
}
