//! Which events of the log are meant: declared once, for the command line, the daemon and files alike.

use athena_schemas::envelope::{Record, Seq};
use athena_schemas::event::kind_name;
use athena_schemas::ports::LogReader;
use athena_schemas::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Which events. What is not said does not matter; what is said must all be true.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Filter {
    /// Whose type contains this, such as semantic.stored
    #[arg(long = "type", value_name = "TYPE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) r#type: Option<String>,
    /// Of this layer
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) layer: Option<String>,
    /// By this author
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) actor: Option<String>,
    /// Of this run, and what its code led to
    #[arg(long, value_name = "ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<String>,
    /// From this position or time on
    #[arg(long, value_name = "SEQ|TIME", value_parser = edge)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Edge>,
    /// Up to and with this position, or before this time
    #[arg(long, value_name = "SEQ|TIME", value_parser = edge)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<Edge>,
}

/// Where a range begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Edge {
    /// A position.
    Seq(Seq),
    /// A time, milliseconds since 1970.
    Ms(u64),
}

/// An edge as people write it.
///
/// # Errors
/// When it is neither a position nor a time.
pub(crate) fn edge(text: &str) -> Result<Edge, Refusal> {
    text.parse().map_or_else(|_| when(text).map(Edge::Ms), |seq| Ok(Edge::Seq(seq)))
}

/// A time as people write it, milliseconds since 1970: RFC 3339, or a date.
///
/// # Errors
/// When it is neither.
pub(crate) fn when(text: &str) -> Result<u64, Refusal> {
    let stamp = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let date: jiff::civil::DateTime = text.parse().ok()?;
        date.to_zoned(jiff::tz::TimeZone::system()).ok().map(|zoned| zoned.timestamp())
    });
    stamp.and_then(|stamp| u64::try_from(stamp.as_millisecond()).ok()).ok_or_else(|| {
        Refusal::invalid(format!("{text} is no time")).hint("2026-11-20, or 2026-11-20T10:31:04Z")
    })
}

impl Filter {
    /// Whether it leaves nothing out.
    pub(crate) fn takes_all(&self) -> bool {
        *self == Self::default()
    }

    /// The positions that its range comes to, up to the log's head.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) fn range(&self, log: &dyn LogReader) -> Result<RangeInclusive<Seq>, Refusal> {
        let before = |at_ms: u64| at_ms.checked_sub(1).map_or(Ok(0), |at_ms| position_at(log, at_ms));
        let first = match self.since {
            None => 1,
            Some(Edge::Seq(seq)) => seq.max(1),
            Some(Edge::Ms(at_ms)) => before(at_ms)? + 1,
        };
        let last = match self.until {
            None => log.head(),
            Some(Edge::Seq(seq)) => seq.min(log.head()),
            Some(Edge::Ms(at_ms)) => before(at_ms)?,
        };
        Ok(first..=last)
    }

    /// Whether an event within the range is meant. What it says itself is not looked at: it is sealed.
    pub(crate) fn takes(&self, record: &Record) -> bool {
        let draft = &record.draft;
        let name = kind_name(draft.kind);
        let layer = name.split('.').next().unwrap_or_default();
        let of_run = |run: &str| {
            draft.meta.run.as_ref().is_some_and(|id| id.as_str() == run)
                || draft.stream.strip_prefix("run/").is_some_and(|id| id == run)
        };
        self.r#type.as_ref().is_none_or(|part| name.contains(part))
            && self.layer.as_ref().is_none_or(|wanted| wanted == layer)
            && self.actor.as_ref().is_none_or(|wanted| *wanted == draft.meta.author.name)
            && self.run.as_deref().is_none_or(of_run)
    }
}

/// The last position not after a time. Times of events never go back, so halving finds it.
///
/// # Errors
/// When the log cannot be read.
pub(crate) fn position_at(log: &dyn LogReader, at_ms: u64) -> Result<Seq, Refusal> {
    let (mut low, mut high) = (0, log.head());
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        let is_before =
            log.read(middle - 1, 1)?.first().is_some_and(|record| record.draft.meta.at_ms <= at_ms);
        if is_before { low = middle } else { high = middle - 1 }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use athena_actors::log::{Append, Location, LogHandle, Options};
    use athena_schemas::context::{Channel, Party, Scope};
    use athena_schemas::envelope::{Author, Draft, Meta, Versioned};
    use athena_schemas::id::{CommandId, Id};
    use athena_schemas::layers::{episodic, semantic};

    #[test]
    fn times_and_positions_are_read_as_people_write_them() {
        assert_eq!(when("1970-01-01T00:00:01Z").unwrap(), 1_000);
        assert!(when("2026-11-20").is_ok());
        assert_eq!(when("soon").unwrap_err().code, athena_schemas::refusal::Code::Invalid);
        assert_eq!(edge("12").unwrap(), Edge::Seq(12));
        assert_eq!(edge("1970-01-01T00:00:01Z").unwrap(), Edge::Ms(1_000));
    }

    /// Ten events, one a second: odd ones are facts by ann, even ones episodes by ben; the last three of a run.
    async fn log() -> LogHandle {
        let (log, _) = LogHandle::open(Location::Memory, Options::default()).unwrap();
        let draft = |n: u8| {
            let (kind, stream, name) = if n % 2 == 1 {
                (semantic::Stored::KIND, "semantic", "ann")
            } else {
                (episodic::Remembered::KIND, "episodic", "ben")
            };
            let command = CommandId([n; 16]);
            let author = Author { party: Party::Human, channel: Channel::Cli, name: name.into() };
            let run = (n > 7).then(|| Id::from_text("run_1"));
            let (at_ms, scope) = (u64::from(n) * 1_000, Scope::default());
            let meta = Meta { at_ms, scope, author, command, run, key: None };
            Draft { stream: stream.into(), id: command.event(0), kind, schema: 1, meta, payload: vec![n] }
        };
        log.commit(Append::new((1..=10).map(draft).collect())).await.unwrap();
        log
    }

    #[tokio::test]
    async fn what_is_said_must_all_be_true() {
        let log = log().await;
        let reader = log.reader();
        let chosen = |filter: &Filter| -> Vec<Seq> {
            let range = filter.range(&*reader).unwrap();
            let records = reader.read(0, 100).unwrap();
            let meant = |record: &&Record| range.contains(&record.seq) && filter.takes(record);
            records.iter().filter(meant).map(|record| record.seq).collect()
        };
        let all = Filter::default();
        assert!(all.takes_all() && chosen(&all) == (1..=10).collect::<Vec<_>>());
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(chosen(&Filter { r#type: some("stored"), ..all.clone() }), [1, 3, 5, 7, 9]);
        assert_eq!(chosen(&Filter { layer: some("episodic"), ..all.clone() }), [2, 4, 6, 8, 10]);
        assert_eq!(chosen(&Filter { actor: some("ann"), run: some("run_1"), ..all.clone() }), [9]);
        let (since, until) = (Some(Edge::Seq(3)), Some(Edge::Seq(5)));
        assert_eq!(chosen(&Filter { since, until, ..all.clone() }), [3, 4, 5]);
        let (since, until) = (Some(Edge::Ms(3_000)), Some(Edge::Ms(5_000)));
        assert_eq!(
            chosen(&Filter { since, until, ..all.clone() }),
            [3, 4],
            "a time is the end of what is before it"
        );
        let since = Some(Edge::Ms(2_500));
        assert_eq!(chosen(&Filter { since, until: Some(Edge::Seq(99)), ..all.clone() }).len(), 8);
        assert!(chosen(&Filter { until: Some(Edge::Ms(0)), ..all }).is_empty());
        log.close().await.unwrap();
    }
}
