//! All layers of the write side: their handles, their places in the supervision tree, and which command goes to which.

use crate::decider::Decider;
use crate::layer::{Layer, LayerArgs, LayerHandle, Snapshots, folded};
use crate::log::LogHandle;
use crate::supervisor::Child;
use athena_schemas::catalog::Command;
use athena_schemas::context::Context;
use athena_schemas::envelope::Seq;
use athena_schemas::ports::{Answer, LogReader, Sealer};
use athena_schemas::refusal::Refusal;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

macro_rules! layers {
    ($($layer:ident $Layer:ident $State:path),* $(,)?) => {
        /// The handles of all layers.
        #[derive(Clone, Default)]
        #[allow(missing_docs, reason = "one field a layer")]
        pub struct Layers { $(pub $layer: LayerHandle<$State>),* }

        impl Layers {
            /// The layers' places in the supervision tree, in start order.
            pub fn children(&self, log: &LogHandle, sealer: &Arc<dyn Sealer>, snapshots: Option<&Arc<dyn Snapshots>>) -> Vec<Child> {
                vec![$(child(&self.$layer, log, sealer, snapshots)),*]
            }

            /// Has a command decided by its layer.
            ///
            /// # Errors
            /// When the layer refuses, the log cannot take the events, or whether it did is not known.
            pub async fn decide(&self, cx: Context, command: Command, permit: Option<OwnedSemaphorePermit>) -> Result<Answer, Refusal> {
                match command {
                    $(Command::$Layer(command) => self.$layer.decide(cx, command, permit).await,)*
                    Command::Run(_) | Command::Privacy(_) => Err(Refusal::denied("runs and tokens are recorded by their own parts")),
                }
            }

            /// Has every layer forget what it kept beside the log, and with `replay` fold its state anew: something was erased.
            ///
            /// # Errors
            /// While a layer is restarting, or when the disk fails.
            pub async fn renew(&self, replay: bool) -> Result<(), Refusal> {
                $(self.$layer.renew(replay).await?;)*
                Ok(())
            }

            /// Every layer's serialized state as it stood at a position, folded from the log: whatever the layers are doing now.
            ///
            /// # Errors
            /// When the log cannot be read.
            pub fn folded(log: &dyn LogReader, sealer: &dyn Sealer, until: Seq) -> Result<Vec<(&'static str, Vec<u8>)>, Refusal> {
                Ok(vec![$((stringify!($layer), folded::<$State>(log, sealer, until)?)),*])
            }

            /// Every layer's serialized state, for digests and tests.
            ///
            /// # Errors
            /// While a layer is restarting.
            pub async fn inspect(&self) -> Result<Vec<(&'static str, Vec<u8>)>, Refusal> {
                Ok(vec![$((stringify!($layer), self.$layer.inspect().await?)),*])
            }
        }
    };
}

layers! {
    episodic Episodic crate::layers::episodic::State,
    semantic Semantic crate::layers::semantic::State,
    procedural Procedural crate::layers::procedural::State,
    prospective Prospective crate::layers::prospective::State,
    graph Graph crate::layers::graph::State,
    meta Meta crate::layers::meta::State,
    rag Rag crate::layers::rag::State,
    store Store crate::layers::store::State,
    consolidation Consolidation crate::layers::consolidation::State,
    approval Approval crate::layers::approval::State,
    upstream Upstream crate::upstream::pins::Pins,
}

fn child<D: Decider>(
    handle: &LayerHandle<D>,
    log: &LogHandle,
    sealer: &Arc<dyn Sealer>,
    snapshots: Option<&Arc<dyn Snapshots>>,
) -> Child {
    let args = LayerArgs {
        log: log.clone(),
        sealer: sealer.clone(),
        slot: handle.0.clone(),
        snapshots: snapshots.cloned(),
    };
    // A layer needs the log alone.
    Child::actor(D::LAYER, Layer::<D>::default, move || args.clone()).beside()
}
