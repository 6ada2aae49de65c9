//! How each kind of event is taken back, declared beside the event. A kind that does not say so does not compile.
//!
//! Nothing is ever cut out of the log: undoing appends events. A change to items is undone by putting each of them back as it
//! stood before (the layers' `revert`), so the same few lines undo a merge, a correction and an edit, and undoing the undoing
//! does it again. What no item holds is undone by an ordinary operation, or not at all, with the reason why.

use crate::id::Id;
use serde_json::Value;

/// How an event is taken back.
#[derive(Debug, Clone, PartialEq)]
pub enum Undo {
    /// These items stand again as they stood before it.
    Items(Vec<Id>),
    /// What made these items is taken back, whichever events did.
    Made(Vec<Id>),
    /// The events at these positions are taken back.
    Events(Vec<u64>),
    /// An ordinary operation does it.
    Call {
        /// `layer/operation`.
        op: &'static str,
        /// Its parameters.
        params: Value,
    },
    /// It records what happened and changed nothing that could be put back.
    Record,
    /// It cannot be taken back; why, and what to do instead.
    Never(String),
}

impl Undo {
    /// These items stand again as they stood before.
    pub fn items<'a>(ids: impl IntoIterator<Item = &'a Id>) -> Self {
        Self::Items(ids.into_iter().cloned().collect())
    }

    /// It cannot be taken back.
    pub fn never(why: impl Into<String>) -> Self {
        Self::Never(why.into())
    }
}

/// Says how it is taken back.
pub trait Undoable {
    /// How.
    fn undo(&self) -> Undo;
}

/// Declares how events are taken back:
///
/// ```text
/// undo! {
///     Annotated(it) => Undo::items([&it.id]),
///     Exported(_) => Undo::never("the file is out of Athena's reach"),
/// }
/// ```
#[macro_export]
macro_rules! undo {
    ($($event:ident($it:tt) => $undo:expr),* $(,)?) => {
        $(impl $crate::undo::Undoable for $event {
            fn undo(&self) -> $crate::undo::Undo {
                #[allow(unused_imports, reason = "some kinds need nothing but a sentence")]
                use $crate::undo::Undo;
                let $it = self;
                $undo
            }
        })*
    };
}
