//! Rest-for-one supervision: when a child dies, it and all that started after it start again, in order.
//!
//! Start order is dependency order (log, projectors, layers, …, front), so nothing ever runs on a predecessor that is gone.
//! Neighbours that do not need each other start at the same time ([`Child::beside`]).
//! Too many deaths within a window end the whole tree: a store that cannot keep a part alive must say so and stop.

use ractor::concurrency::Duration;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

type Starting = Pin<Box<dyn Future<Output = Result<ActorCell, SpawnErr>> + Send>>;

/// How to start one child, the first time and again.
pub struct Child {
    name: String,
    start: Box<dyn Fn(ActorCell) -> Starting + Send + Sync>,
    beside: bool,
}

impl Child {
    /// A child; `start` is given its supervisor and must spawn the actor linked to it.
    pub fn new<F>(name: impl Into<String>, start: impl Fn(ActorCell) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<ActorCell, SpawnErr>> + Send + 'static,
    {
        Self {
            name: name.into(),
            start: Box::new(move |supervisor| Box::pin(start(supervisor))),
            beside: false,
        }
    }

    /// The same, started together with the child before it: neither needs the other.
    #[must_use]
    pub fn beside(self) -> Self {
        Self { beside: true, ..self }
    }

    /// The same, with `note` told how long each start took.
    #[must_use]
    pub fn timed(self, note: impl Fn(&str, Duration) + Clone + Send + Sync + 'static) -> Self {
        let (name, start) = (self.name.clone(), self.start);
        let timed = move |supervisor: ActorCell| -> Starting {
            let (starting, name, note) = (start(supervisor), name.clone(), note.clone());
            Box::pin(async move {
                let begun = Instant::now();
                let started = starting.await;
                note(&name, begun.elapsed());
                started
            })
        };
        Self { name: self.name, start: Box::new(timed), beside: self.beside }
    }

    /// A child that runs actor `actor()` with arguments `arguments()`.
    pub fn actor<A: Actor>(
        name: impl Into<String>,
        actor: impl Fn() -> A + Send + Sync + 'static,
        arguments: impl Fn() -> A::Arguments + Send + Sync + 'static,
    ) -> Self {
        Self::new(name, move |supervisor| {
            let (actor, arguments) = (actor(), arguments());
            async move {
                let (child, _) = Actor::spawn_linked(None, actor, arguments, supervisor).await?;
                Ok(child.get_cell())
            }
        })
    }
}

/// How patient the supervisor is.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// More deaths than this within `window` end the tree.
    pub max_restarts: usize,
    /// The window.
    pub window: Duration,
    /// How long a child may take to stop or drain.
    pub patience: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { max_restarts: 5, window: Duration::from_secs(10), patience: Duration::from_secs(5) }
    }
}

/// The supervising actor.
pub struct Supervisor;

/// Its children, in start order.
pub struct Tree {
    children: Vec<(Child, ActorCell)>,
    deaths: VecDeque<Instant>,
    policy: Policy,
}

impl Actor for Supervisor {
    type Msg = ();
    type State = Tree;
    type Arguments = (Vec<Child>, Policy);

    async fn pre_start(
        &self,
        myself: ActorRef<()>,
        (specs, policy): Self::Arguments,
    ) -> Result<Tree, ActorProcessingErr> {
        let mut children = Vec::with_capacity(specs.len());
        let mut specs = specs.into_iter().peekable();
        while let Some(first) = specs.next() {
            let mut together = vec![first];
            together.extend(std::iter::from_fn(|| specs.next_if(|next| next.beside)));
            let starting: Vec<_> =
                together.iter().map(|spec| tokio::spawn((spec.start)(myself.get_cell()))).collect();
            for (spec, cell) in together.into_iter().zip(starting) {
                children.push((spec, cell.await??));
            }
        }
        Ok(Tree { children, deaths: VecDeque::new(), policy })
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<()>,
        event: SupervisionEvent,
        tree: &mut Tree,
    ) -> Result<(), ActorProcessingErr> {
        let (dead, why) = match event {
            SupervisionEvent::ActorFailed(cell, error) => (cell, error.to_string()),
            SupervisionEvent::ActorTerminated(cell, _, reason) => (cell, reason.unwrap_or_default()),
            _ => return Ok(()),
        };
        // A child we stopped ourselves is no longer in the table under that id.
        let Some(first) = tree.children.iter().position(|(_, cell)| cell.get_id() == dead.get_id()) else {
            return Ok(());
        };
        tree.restart_from(myself, first, &why).await
    }

    async fn post_stop(&self, _: ActorRef<()>, tree: &mut Tree) -> Result<(), ActorProcessingErr> {
        // In reverse: whoever feeds the log drains first, the log last.
        for (child, cell) in tree.children.iter().rev() {
            if cell.drain_and_wait(Some(tree.policy.patience)).await.is_err() {
                tracing::warn!(child = child.name, "did not drain in time; stopping it");
                cell.stop(None);
            }
        }
        Ok(())
    }
}

impl Tree {
    async fn restart_from(
        &mut self,
        myself: ActorRef<()>,
        first: usize,
        why: &str,
    ) -> Result<(), ActorProcessingErr> {
        let name = self.children.get(first).map(|(child, _)| child.name.clone()).unwrap_or_default();
        tracing::error!(child = name, why, "a part died; restarting it and all that started after it");
        metrics::counter!("athena_actor_restarts_total", "actor" => name.clone()).increment(1);
        let now = Instant::now();
        self.deaths.push_back(now);
        self.deaths.retain(|at| now.duration_since(*at) < self.policy.window);
        if self.deaths.len() > self.policy.max_restarts {
            return Err(
                format!("{name} died {} times within {:?}", self.deaths.len(), self.policy.window).into()
            );
        }
        for (_, cell) in self.children.iter().skip(first + 1).rev() {
            let _ = cell.stop_and_wait(None, Some(self.policy.patience)).await;
        }
        for (spec, cell) in self.children.iter_mut().skip(first) {
            *cell = (spec.start)(myself.get_cell()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    struct Part(&'static str, Arc<Mutex<Vec<&'static str>>>, Arc<AtomicUsize>);

    impl Actor for Part {
        type Msg = ();
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
            self.1.lock().unwrap().push(self.0);
            Ok(())
        }

        async fn handle(&self, _: ActorRef<()>, (): (), (): &mut ()) -> Result<(), ActorProcessingErr> {
            self.2.fetch_add(1, Ordering::SeqCst);
            Err("asked to die".into())
        }
    }

    async fn until(what: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !what() {
            assert!(Instant::now() < deadline, "condition not met in time");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_death_restarts_the_part_and_what_started_after_it() {
        let started = Arc::new(Mutex::new(Vec::new()));
        let deaths = Arc::new(AtomicUsize::new(0));
        let cells: Arc<Mutex<Vec<ActorCell>>> = Arc::default();
        let child = |name: &'static str| {
            let (started, deaths, cells) = (started.clone(), deaths.clone(), cells.clone());
            Child::new(name, move |supervisor| {
                let part = Part(name, started.clone(), deaths.clone());
                let cells = cells.clone();
                async move {
                    let (actor, _) = Actor::spawn_linked(None, part, (), supervisor).await?;
                    cells.lock().unwrap().push(actor.get_cell());
                    Ok(actor.get_cell())
                }
            })
        };
        let children = vec![child("log"), child("layer"), child("front")];
        let (root, handle) = Actor::spawn(None, Supervisor, (children, Policy::default())).await.unwrap();
        let layer = cells.lock().unwrap()[1].clone();
        ActorRef::<()>::from(layer).cast(()).unwrap();
        until(|| started.lock().unwrap().len() == 5).await;
        assert_eq!(*started.lock().unwrap(), ["log", "layer", "front", "layer", "front"]);
        root.stop(None);
        handle.await.unwrap();
    }

    #[tokio::test]
    async fn a_part_that_keeps_dying_ends_the_tree() {
        let (started, deaths) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let slot: Arc<Mutex<Option<ActorCell>>> = Arc::default();
        let (kept, count) = (slot.clone(), deaths.clone());
        let child = Child::new("layer", move |supervisor| {
            let (part, kept) = (Part("layer", Arc::clone(&started), count.clone()), kept.clone());
            async move {
                let (actor, _) = Actor::spawn_linked(None, part, (), supervisor).await?;
                actor.cast(()).map_err(|_| SpawnErr::ActorAlreadyStarted)?;
                *kept.lock().unwrap() = Some(actor.get_cell());
                Ok(actor.get_cell())
            }
        });
        let policy = Policy { max_restarts: 2, ..Policy::default() };
        let (root, handle) = Actor::spawn(None, Supervisor, (vec![child], policy)).await.unwrap();
        handle.await.unwrap();
        assert_eq!(root.get_status(), ractor::ActorStatus::Stopped);
        assert_eq!(deaths.load(Ordering::SeqCst), 3);
    }
}
