//! Worker processes for tests: threads that speak the wire protocol and follow a script.

use super::exit::Exit;
use super::spawn::{Process, Spawn, Spawned};
use athena_schemas::wire::{Assessment, Finish, FromWorker, Job, Ready, ToWorker};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;

type Script = Arc<dyn Fn(Peer) -> Exit + Send + Sync>;

/// Makes a thread a worker.
pub(crate) struct Scripted {
    script: Script,
    made: AtomicUsize,
    alive: Arc<AtomicUsize>,
    sockets: Mutex<Vec<UnixStream>>,
}

/// The worker's end of the socket.
pub(crate) struct Peer(UnixStream);

impl Peer {
    pub(crate) fn send(&mut self, frame: &FromWorker) -> bool {
        let body = postcard::to_stdvec(frame).unwrap();
        let head = u32::try_from(body.len()).unwrap().to_le_bytes();
        self.0.write_all(&head).and_then(|()| self.0.write_all(&body)).is_ok()
    }

    pub(crate) fn recv(&mut self) -> Option<ToWorker> {
        let mut head = [0; 4];
        self.0.read_exact(&mut head).ok()?;
        let mut body = vec![0; u32::from_le_bytes(head) as usize];
        self.0.read_exact(&mut body).ok()?;
        Some(postcard::from_bytes(&body).unwrap())
    }

    /// Says `Ready`, answers analyses, and returns the job.
    pub(crate) fn job(&mut self, assess: impl Fn(&str) -> Assessment) -> Option<Job> {
        self.send(&FromWorker::Ready(Ready {
            level: "scripted".into(),
            layers: vec![],
            engines: vec!["script 1".into()],
        }));
        let mut prepared = Vec::new();
        loop {
            match self.recv()? {
                ToWorker::Analyze { code, .. } => {
                    self.send(&FromWorker::Analysis(Box::new(assess(&code))));
                }
                ToWorker::Prepare(namespaces) => prepared = namespaces,
                ToWorker::Run(mut job) => {
                    if job.prepared {
                        job.namespaces = prepared;
                    }
                    return Some(*job);
                }
                ToWorker::Answer { .. } => panic!("an answer before the job"),
            }
        }
    }

    pub(crate) fn done(&mut self, result: Result<String, athena_schemas::wire::Fault>, state: &str) -> bool {
        self.send(&FromWorker::Done(Box::new(Finish {
            result,
            state: state.into(),
            cpu_us: 10,
            heap_bytes: 100,
            engine: "script".into(),
        })))
    }
}

/// A worker that is ready and waits for its end.
pub(crate) fn quiet(mut peer: Peer) -> Exit {
    while peer.job(|_| Assessment::default()).is_some() {}
    Exit::Code(0)
}

impl Scripted {
    pub(crate) fn new(script: impl Fn(Peer) -> Exit + Send + Sync + 'static) -> Self {
        Self {
            script: Arc::new(script),
            made: AtomicUsize::new(0),
            alive: Arc::default(),
            sockets: Mutex::default(),
        }
    }

    pub(crate) fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }

    pub(crate) fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }

    pub(crate) fn ended(&self) -> usize {
        self.made() - self.alive()
    }

    /// What an out-of-memory killer would do to all of them.
    pub(crate) fn kill_all(&self) {
        for socket in self.sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

struct Thread {
    socket: UnixStream,
    exit: Option<std::sync::mpsc::Receiver<Exit>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

impl Process for Thread {
    fn end(mut self: Box<Self>, grace: Duration) -> oneshot::Receiver<Exit> {
        let (reply, answer) = oneshot::channel();
        let exit = self.exit.take().unwrap();
        std::thread::spawn(move || {
            let by_itself = exit.recv_timeout(grace);
            drop(self);
            let _ = reply.send(by_itself.unwrap_or(Exit::Signal(libc::SIGKILL)));
        });
        answer
    }
}

impl Spawn for Scripted {
    fn spawn(&self) -> oneshot::Receiver<io::Result<Spawned>> {
        let (reply, answer) = oneshot::channel();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (ended, exit) = std::sync::mpsc::channel();
        self.made.fetch_add(1, Ordering::SeqCst);
        self.alive.fetch_add(1, Ordering::SeqCst);
        self.sockets.lock().unwrap().push(theirs.try_clone().unwrap());
        let (script, alive) = (self.script.clone(), self.alive.clone());
        let socket = theirs.try_clone().unwrap();
        let process = Thread { socket: theirs.try_clone().unwrap(), exit: Some(exit) };
        std::thread::spawn(move || {
            let end = script(Peer(theirs));
            alive.fetch_sub(1, Ordering::SeqCst);
            let _ = ended.send(end);
            // As a process's end does, whoever else holds a copy.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        });
        let _ = reply.send(Ok(Spawned { socket: ours, process: Box::new(process), layers: Vec::new() }));
        answer
    }
}
