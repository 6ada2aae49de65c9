//! Retrieval over all layers, as a whole and step by step.

use super::{limit, missing, query};
use crate::library::Library;
use crate::search::ask::MOST;
use crate::search::document::Document;
use crate::search::pack::pack;
use crate::search::plan::{asks_for_list, parts};
use crate::search::{Ask, Filters, Found, Strategy as Way, Weights};
use crate::temporal::understand;
use athena_schemas::context::Context;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Hit, Layer, Range, Signals, millis, time};
use athena_schemas::layers::rag::*;
use athena_schemas::operation::to_json;
use athena_schemas::refusal::{Code, Refusal};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

/// Most queries of one expansion.
const EXPANSIONS: u32 = 20;
/// Candidates of one packed context.
const PACKED: usize = 300;
/// Words that stand in for a draft.
const DRAFT_WORDS: usize = 5;
/// Most entities of a query that are followed, and most entities of a graph in which any is: names are looked for one by one.
const SEEDS: usize = 3;
const NODES: usize = 20_000;
/// Most that a weight may be.
const WEIGHT: f64 = 10.0;

impl Library {
    /// Items that were found, whole. What was found and is gone by now is left out.
    fn any_hits(&self, cx: &Context, found: &[Found]) -> Result<Vec<AnyHit>, Refusal> {
        let mut hits = Vec::with_capacity(found.len());
        for found in found {
            if let Some(hit) = self.any_hit(cx, found)? {
                hits.push(hit);
            }
        }
        Ok(hits)
    }

    fn any_hit(&self, cx: &Context, found: &Found) -> Result<Option<AnyHit>, Refusal> {
        Ok(match found.layer {
            Layer::Episodic => match self.items.episode(cx, &found.id)? {
                Some(row) => Some(any(self.episode_hit(found, &row))?),
                None => None,
            },
            Layer::Semantic => match self.items.fact(cx, &found.id)? {
                Some(row) => Some(any(self.fact_hit(cx, found, &row)?)?),
                None => None,
            },
            Layer::Procedural | Layer::Prospective | Layer::Graph => {
                // An id may come from the caller, who may not see what it stands for.
                let document = self.finder.document(&found.id)?;
                document.filter(|document| cx.scope.covers(&document.scope)).map(|document| AnyHit {
                    id: found.id.clone(),
                    layer: found.layer,
                    score: found.score,
                    signals: found.signals,
                    item: Item(summary(&document)),
                    prov: crate::items::unsaid(),
                    stale: false,
                    superseded_by: None,
                    conflicts: Vec::new(),
                })
            }
        })
    }

    fn asked(&self, cx: &Context, ask: &Ask) -> Result<Vec<AnyHit>, Refusal> {
        let found = self.finder.search(cx, ask)?;
        self.any_hits(cx, &found)
    }

    /// A question with what the graph knows of the names in it.
    fn question(&self, cx: &Context, text: &str) -> Result<Ask, Refusal> {
        Ok(Ask { leads: self.leads(cx, text)?, ..Ask::new(text) })
    }

    /// The names of the entities next to those that a text names, the closest first, and how close: the strength of the edge that
    /// holds now, beside the strongest. The entities in the text itself lead nowhere: their names are words of it.
    fn leads(&self, cx: &Context, text: &str) -> Result<Vec<(String, f64)>, Refusal> {
        if self.graph.version()? == 0 {
            return Ok(Vec::new());
        }
        let network = self.network(cx)?;
        if network.nodes.len() > NODES {
            return Ok(Vec::new());
        }
        let lower = text.to_lowercase();
        let named = network.named_in(&lower);
        let seeds: HashSet<usize> =
            named.iter().filter_map(|node| network.find(&node.row.body.id)).take(SEEDS).collect();
        let mut close: HashMap<usize, f64> = HashMap::new();
        for (link, other) in seeds.iter().filter_map(|at| network.at.get(*at)).flatten() {
            let Some(link) = network.links.get(*link) else { continue };
            if !seeds.contains(other) && link.row.holds(cx.now_ms as i64, u64::MAX) {
                let known = close.entry(*other).or_default();
                *known = known.max(link.weight());
            }
        }
        let strongest = close.values().copied().fold(f64::MIN_POSITIVE, f64::max);
        let mut leads: Vec<(String, f64)> = close
            .into_iter()
            .filter_map(|(at, weight)| Some((network.nodes.get(at)?.name().to_owned(), weight / strongest)))
            .collect();
        leads.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Ok(leads)
    }

    fn plan(&self, cx: &Context, text: &str, now_ms: i64) -> Plan {
        let understood = understand(text, now_ms);
        let range = understood.range.map(|(from, to)| Range {
            from: (from != i64::MIN).then(|| time(from)),
            to: (to != i64::MAX).then(|| time(to)),
        });
        Plan {
            sub_queries: parts(text),
            layers: layers_for(text, range.is_some()),
            range,
            entities: self.finder.names_in(cx, text),
            list: asks_for_list(text),
        }
    }
}

/// A hit whose item may be of any layer.
fn any<T: Serialize>(hit: Hit<T>) -> Result<AnyHit, Refusal> {
    Ok(Hit {
        id: hit.id,
        layer: hit.layer,
        score: hit.score,
        signals: hit.signals,
        item: Item(to_json(hit.item)?),
        prov: hit.prov,
        stale: hit.stale,
        superseded_by: hit.superseded_by,
        conflicts: hit.conflicts,
    })
}

/// An item of which search keeps all that is worth showing.
fn summary(document: &Document) -> Value {
    json!({
        "id": document.id,
        "content": document.text,
        "type": document.kind,
        "time": time(document.at_ms),
        "tags": document.tags,
    })
}

/// The layers that fit a query by its words, most likely first; none is left out.
fn layers_for(text: &str, has_time: bool) -> Vec<Layer> {
    let text = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let mut layers = Layer::ALL.to_vec();
    let first = if says(&["how do i", "how to", "procedure", "script", "steps to"]) {
        Layer::Procedural
    } else if says(&["todo", "to do", "task", "goal", "deadline", "due ", "remind", "overdue"]) {
        Layer::Prospective
    } else if says(&["related to", "connected", "relationship between", "who knows"]) {
        Layer::Graph
    } else if !has_time
        && !says(&["when ", "happened", "said", "did ", "last "])
        && says(&["what is", "who is", "where is", "prefer"])
    {
        Layer::Semantic
    } else {
        Layer::Episodic
    };
    layers.sort_by_key(|layer| *layer != first);
    layers
}

fn way(strategy: Strategy) -> Way {
    match strategy {
        Strategy::Auto | Strategy::Graph => Way::Auto,
        Strategy::Bm25 => Way::Bm25,
        Strategy::Vector => Way::Vector,
        Strategy::Hybrid => Way::Hybrid,
    }
}

fn weight(field: &'static str, said: Option<f64>, known: f64) -> Result<f64, Refusal> {
    match said {
        Some(value) if !(0.0..=WEIGHT).contains(&value) => {
            Err(Refusal::invalid(format!("{field} is {value}, not from 0 to {WEIGHT}"))
                .at(format!("weights.{field}")))
        }
        said => Ok(said.unwrap_or(known)),
    }
}

impl Queries for Library {
    fn retrieve(&self, cx: &Context, op: Retrieve) -> Result<Vec<AnyHit>, Refusal> {
        let filters = Filters {
            range: op.range.as_ref().map(Range::millis).transpose()?,
            kind: op.kind,
            tags: op.tags,
            session: op.session,
            include_superseded: op.include_superseded,
            ..Filters::default()
        };
        let ask = Ask {
            layers: op.layers,
            filters,
            limit: limit(op.limit)?,
            strategy: way(op.strategy),
            ..self.question(cx, query(&op.query)?)?
        };
        match op.strategy {
            Strategy::Graph => self.any_hits(cx, &self.finder.follow(cx, &ask, 2)?),
            _ => self.asked(cx, &ask),
        }
    }

    fn bm25_search(&self, cx: &Context, op: Bm25Search) -> Result<Vec<AnyHit>, Refusal> {
        let ask = Ask {
            layers: op.layers,
            limit: limit(op.limit)?,
            strategy: Way::Bm25,
            ..Ask::new(query(&op.query)?)
        };
        self.asked(cx, &ask)
    }

    fn vector_search(&self, cx: &Context, op: VectorSearch) -> Result<Vec<AnyHit>, Refusal> {
        let ask = Ask { layers: op.layers, limit: limit(op.limit)?, strategy: Way::Vector, ..Ask::default() };
        match (op.query, self.finder.model()) {
            (TextOrVector::Vector(_), None) => {
                Err(Refusal::new(Code::Unavailable, "there is no model whose vectors could be searched")
                    .hint("athena model install; or give a text"))
            }
            (TextOrVector::Vector(vector), Some(_)) => self.asked(cx, &Ask { vector: Some(vector), ..ask }),
            // Words are the only meaning there is; the signals say so.
            (TextOrVector::Text(text), None) => {
                self.asked(cx, &Ask { strategy: Way::Bm25, query: query(&text)?.to_owned(), ..ask })
            }
            (TextOrVector::Text(text), Some(_)) => {
                self.asked(cx, &Ask { query: query(&text)?.to_owned(), ..ask })
            }
        }
    }

    fn hybrid_search(&self, cx: &Context, op: HybridSearch) -> Result<Vec<AnyHit>, Refusal> {
        let known = if self.finder.model().is_some() { Weights::STATIC } else { Weights::WORDS };
        let said = op.weights;
        let weights = Weights {
            bm25: weight("bm25", said.bm25, known.bm25)?,
            vector: weight("vector", said.vector, known.vector)?,
            recency: weight("recency", said.recency, known.recency)?,
            ..known
        };
        let most = limit(op.limit)?;
        let ask = Ask {
            layers: op.layers,
            limit: most,
            strategy: Way::Hybrid,
            weights: Some(weights),
            ..Ask::new(query(&op.query)?)
        };
        let mut found = self.finder.search(cx, &ask)?;
        let by_names = weight("graph", said.graph, 0.0)?;
        if by_names > 0.0 {
            let followed = self.finder.follow(cx, &ask, 1)?;
            let best = followed.first().map_or(1.0, |hit| hit.score).max(1e-9);
            for hit in followed {
                let gain = by_names * hit.score / best;
                match found.iter_mut().find(|known| known.id == hit.id) {
                    Some(known) => {
                        known.score += gain;
                        known.signals.graph = Some(gain);
                    }
                    None => {
                        let signals = Signals { graph: Some(gain), ..Signals::default() };
                        found.push(Found { score: gain, signals, ..hit });
                    }
                }
            }
            found.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| b.id.cmp(&a.id)));
            found.truncate(most);
        }
        self.any_hits(cx, &found)
    }

    fn graph_search(&self, cx: &Context, op: GraphSearch) -> Result<Vec<AnyHit>, Refusal> {
        if !(1..=2).contains(&op.hops) {
            return Err(Refusal::invalid(format!("hops is {}, not 1 or 2", op.hops)).at("hops"));
        }
        let ask = Ask { layers: op.layers, limit: limit(op.limit)?, ..Ask::new(query(&op.query)?) };
        self.any_hits(cx, &self.finder.follow(cx, &ask, op.hops)?)
    }

    fn plan_query(&self, cx: &Context, op: PlanQuery) -> Result<Plan, Refusal> {
        let now = match &op.now {
            Some(now) => millis(now).map_err(|refusal| refusal.at("now"))?,
            None => i64::try_from(cx.now_ms).unwrap_or(i64::MAX),
        };
        Ok(self.plan(cx, query(&op.query)?, now))
    }

    fn expand_query(&self, cx: &Context, op: ExpandQuery) -> Result<Vec<String>, Refusal> {
        if !(1..=EXPANSIONS).contains(&op.n) {
            return Err(Refusal::invalid(format!("n is {}, not from 1 to {EXPANSIONS}", op.n)).at("n"));
        }
        let text = query(&op.query)?;
        let words = self.finder.expansion(cx, text, op.n as usize)?;
        Ok(words.into_iter().map(|word| format!("{text} {word}")).collect())
    }

    fn hyde(&self, cx: &Context, op: Hyde) -> Result<Drafted, Refusal> {
        let text = query(&op.query)?;
        let (draft, drafter) = match op.draft.filter(|draft| !draft.trim().is_empty()) {
            Some(draft) => (draft, Drafter::Caller),
            None => {
                let words = self.finder.expansion(cx, text, DRAFT_WORDS)?;
                (format!("{text} {}", words.join(" ")).trim_end().to_owned(), Drafter::Unavailable)
            }
        };
        let hits = self.asked(cx, &Ask { limit: limit(op.limit)?, ..Ask::new(draft.as_str()) })?;
        Ok(Drafted { draft, drafter, hits })
    }

    fn rerank(&self, cx: &Context, op: Rerank) -> Result<Vec<AnyHit>, Refusal> {
        if op.ids.len() > IDS {
            return Err(
                Refusal::new(Code::LimitExceeded, format!("{} ids; at most {IDS}", op.ids.len())).at("ids")
            );
        }
        let filters = Filters { only: Some(op.ids.clone()), include_superseded: true, ..Filters::default() };
        let ask = Ask { filters, limit: IDS, ..Ask::new(query(&op.query)?) };
        let mut found = self.finder.search(cx, &ask)?;
        // What has nothing to do with the query comes last, in the order given.
        let seen: HashSet<Id> = found.iter().map(|hit| hit.id.clone()).collect();
        for id in op.ids.into_iter().filter(|id| !seen.contains(id)) {
            if let Some(layer) = Layer::of(&id) {
                found.push(Found { id, layer, score: 0.0, signals: Signals::default() });
            }
        }
        self.any_hits(cx, &found)
    }

    fn pack(&self, cx: &Context, op: Pack) -> Result<Packed, Refusal> {
        if op.budget_tokens > BUDGET {
            return Err(
                Refusal::new(Code::LimitExceeded, format!("at most {BUDGET} tokens")).at("budget_tokens")
            );
        }
        let ask = Ask { layers: op.layers, limit: PACKED, ..self.question(cx, query(&op.query)?)? };
        let mut documents = Vec::new();
        for found in self.finder.search(cx, &ask)? {
            documents.extend(self.finder.document(&found.id)?);
        }
        let date = |at_ms| time(at_ms).chars().take(10).collect();
        let (lines, used) = pack(documents, date, op.budget_tokens);
        let mut packed = Packed { text: String::new(), used, citations: Vec::new() };
        for (mark, (line, document)) in (1..).zip(lines) {
            packed.text.push_str(&format!("[{mark}] {line}\n"));
            packed.citations.push(Citation { mark, id: document.id, time: time(document.at_ms) });
        }
        Ok(packed)
    }

    fn explain(&self, cx: &Context, op: Explain) -> Result<Explained, Refusal> {
        let text = query(&op.query)?;
        let ask = Ask { limit: MOST, ..self.question(cx, text)? };
        let found = self.finder.search(cx, &ask)?;
        let visible =
            Filters { only: Some(vec![op.id.clone()]), include_superseded: true, ..Filters::default() };
        if !self.finder.sees(cx, &Ask { filters: visible, ..ask }, &op.id) {
            return Err(missing(&op.id));
        }
        let place = found.iter().position(|hit| hit.id == op.id);
        let hit = place.and_then(|place| found.get(place));
        let (matched, absent) = self.finder.matched(text, &op.id)?;
        Ok(Explained {
            rank: place.map(|place| place as u32 + 1),
            score: hit.map(|hit| hit.score),
            signals: hit.map(|hit| hit.signals).unwrap_or_default(),
            matched,
            missing: absent,
            plan: self.plan(cx, text, i64::try_from(cx.now_ms).unwrap_or(i64::MAX)),
        })
    }
}

/// What tells the used items from the unused ones, for the layer to record. Where no unused ones are named, they are the other
/// ones among the first ten.
///
/// # Errors
/// When the index cannot be read.
pub(crate) fn lessons(library: &Library, cx: &Context, op: &Feedback) -> Result<Option<Value>, Refusal> {
    let found = library.finder.search(cx, &Ask { limit: MOST, ..library.question(cx, &op.query)? })?;
    let (used, rest): (Vec<&Found>, Vec<&Found>) = found.iter().partition(|hit| op.used.contains(&hit.id));
    let unused: Vec<&Found> = if op.unused.is_empty() {
        let first: HashSet<&Id> = found.iter().take(10).map(|hit| &hit.id).collect();
        rest.into_iter().filter(|hit| first.contains(&hit.id)).collect()
    } else {
        rest.into_iter().filter(|hit| op.unused.contains(&hit.id)).collect()
    };
    if used.is_empty() || unused.is_empty() {
        return Ok(None);
    }
    let mean = |hits: &[&Found], read: fn(&Signals) -> Option<f64>| {
        hits.iter().map(|hit| read(&hit.signals).unwrap_or(0.0)).sum::<f64>() / hits.len() as f64
    };
    type Read = fn(&Signals) -> Option<f64>;
    let signals: [(Signal, Read); 5] = [
        (Signal::Words, |s| s.bm25),
        (Signal::Meaning, |s| s.vector),
        (Signal::Neighbours, |s| s.neighbours),
        (Signal::Session, |s| s.session),
        (Signal::Actor, |s| s.actor),
    ];
    let lessons: Vec<Lesson> = signals
        .into_iter()
        .filter_map(|(signal, read)| {
            let gain = ((mean(&used, read) - mean(&unused, read)) * 1e3).round().clamp(-1e3, 1e3) as i16;
            (gain != 0).then_some(Lesson { signal, gain })
        })
        .collect();
    to_json(lessons).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::Options;
    use athena_schemas::catalog::Command;
    use athena_schemas::context::{Caller, Scope};
    use athena_schemas::envelope::{Draft, Family, Meta, Record};
    use athena_schemas::event::Event;
    use athena_schemas::id::CommandId;
    use athena_schemas::layers::common::Origin;
    use athena_schemas::layers::{episodic, graph};
    use athena_schemas::ports::{Recorded, Views};
    use std::sync::Arc;

    fn cx(now_ms: u64, project: &str) -> Context {
        let scope = Scope::project(project);
        let caller = Caller { holds: scope.clone(), scope: scope.clone(), ..Caller::system() };
        Context::new(now_ms, caller, scope, CommandId(u128::from(now_ms).to_le_bytes()))
    }

    fn library() -> Library {
        let library = Library::open(Options::default()).unwrap();
        let said = [
            "Ann: where did you put the kettle?",
            "Bob: it is in the cupboard, I put it there",
            "Ann: my sister Carol moved to Lisbon",
            "Bob: Carol from the garden club? She loves the garden",
            "Bob: I planted tomatoes in the garden",
        ];
        let events = (1..).zip(said).map(|(seq, content)| {
            episodic::Event::from(episodic::Remembered {
                id: Id::from_text(format!("ep_{seq}")),
                content: content.into(),
                kind: "message".into(),
                time_ms: i64::from(seq) * 86_400_000,
                session: Some("s".into()),
                outcome: None,
                importance: 500,
                tags: Vec::new(),
                meta: String::new(),
                origin: Origin::default(),
                untrusted: false,
            })
            .into()
        });
        feed(&library, 0, events.collect());
        library
    }

    /// Gives a library what happened after a position.
    fn feed(library: &Library, after: u64, events: Vec<Event>) {
        let recorded = |(seq, event): (u64, Event)| {
            let (kind, schema, payload) = event.encode().unwrap();
            let meta = Meta::of(&cx(seq * 1_000, "p"));
            let id = athena_schemas::id::EventId(u128::from(seq).to_le_bytes());
            let draft = Draft { stream: "test".into(), id, kind, schema, meta, payload };
            let record = Record { seq, version: seq, draft, leaf: [0; 32], chain: [0; 32] };
            Recorded { record: Arc::new(record), event: Some(event) }
        };
        let events: Vec<Recorded> = (after + 1..).zip(events).map(recorded).collect();
        for mut projection in library.projections() {
            projection.apply(&events).unwrap();
        }
    }

    fn call(library: &Library, project: &str, op: &str, params: Value) -> Result<Value, Refusal> {
        match parse(op, params) {
            Some(Ok(Call::Query(query))) => Queries::answer(library, &cx(9_000_000_000, project), query),
            Some(Ok(Call::Command(command))) => {
                let evidence = library.gather(&cx(9_000_000_000, project), &Command::Rag(command))?;
                Ok(evidence.proposal.unwrap_or_default())
            }
            Some(Err(refusal)) => Err(refusal),
            _ => panic!("{op} is no operation of this layer"),
        }
    }

    fn ids(hits: &Value) -> Vec<&str> {
        hits.as_array().unwrap().iter().map(|hit| hit["id"].as_str().unwrap()).collect()
    }

    #[test]
    fn every_query_s_example_is_answered_without_a_model() {
        let library = library();
        for entry in ENTRIES {
            let params = serde_json::from_str(&entry.traits.example.replace("$id", "ep_1")).unwrap();
            call(&library, "p", entry.name, params)
                .unwrap_or_else(|refusal| panic!("{}: {refusal}", entry.id()));
        }
    }

    fn signal(hits: &Value, id: &str, name: &str) -> Option<f64> {
        hits.as_array().unwrap().iter().find(|hit| hit["id"] == id)?["signals"][name].as_f64()
    }

    #[test]
    fn a_time_in_the_query_ranks_and_leaves_nothing_out() {
        let library = library();
        let ask = |query: &str| call(&library, "p", "retrieve", json!({"query": query})).unwrap();
        let dated = ask("what of Carol in the garden on 1970-01-04?");
        assert_eq!(ids(&dated).len(), ids(&ask("what of Carol in the garden?")).len(), "{dated}");
        let time = |id| signal(&dated, id, "time");
        assert_eq!((time("ep_3"), time("ep_2")), (Some(0.3), None), "on the day; the day before: {dated}");
        assert!(time("ep_5").is_some_and(|after| 0.0 < after && after < 0.3), "told a day later: {dated}");
        assert_eq!(signal(&ask("what may Carol like in the garden?"), "ep_4", "time"), None);
        let why =
            call(&library, "p", "explain", json!({"query": "Carol on 1970-01-05", "id": "ep_4"})).unwrap();
        assert_eq!(why["signals"]["time"], 0.3, "{why}");
    }

    #[test]
    fn the_graph_leads_from_a_name_to_what_speaks_of_its_neighbours() {
        let library = library();
        let entity = |n: u64, name: &str| {
            let id = Id::from_text(format!("en_{n}"));
            let (kind, aliases, attrs) = ("person".into(), Vec::new(), String::new());
            graph::Event::from(graph::EntityAdded { id, name: name.into(), kind, aliases, attrs }).into()
        };
        let edge = graph::EdgeAdded {
            id: Id::from_text("ed_1"),
            from: Id::from_text("en_1"),
            relation: "sister".into(),
            to: Id::from_text("en_2"),
            valid_from_ms: None,
            valid_to_ms: None,
            weight: 1_000,
            origin: Origin::default(),
        };
        let asked = json!({"query": "what does the sister of Ann love?", "limit": 5});
        let before = call(&library, "p", "retrieve", asked.clone()).unwrap();
        assert_eq!(signal(&before, "ep_4", "graph"), None);
        feed(&library, 5, vec![entity(1, "Ann"), entity(2, "Carol"), graph::Event::from(edge).into()]);
        let led = call(&library, "p", "retrieve", asked.clone()).unwrap();
        assert_eq!(signal(&led, "ep_4", "graph"), Some(0.2), "Bob speaks of Carol: {led}");
        assert_eq!(signal(&led, "ep_2", "graph"), None, "nothing of Carol: {led}");
        for hit in led.as_array().unwrap() {
            let sum: f64 = hit["signals"].as_object().unwrap().values().filter_map(Value::as_f64).sum();
            assert!((sum - hit["score"].as_f64().unwrap()).abs() < 1e-9, "{hit}");
        }
        // An edge that holds no longer leads nowhere.
        let id = Id::from_text("ed_1");
        let over = graph::EdgeInvalidated { id, valid_to_ms: 1, reason: None };
        feed(&library, 8, vec![graph::Event::from(over).into()]);
        let after = call(&library, "p", "retrieve", asked).unwrap();
        assert_eq!(signal(&after, "ep_4", "graph"), None, "{after}");
    }

    #[test]
    fn each_of_two_questions_has_its_answer() {
        let asked = json!({"query": "where is the kettle and who planted tomatoes?", "limit": 5});
        let hits = call(&library(), "p", "retrieve", asked).unwrap();
        let part = |id| signal(&hits, id, "part").unwrap_or(0.0);
        assert!(part("ep_5") > 0.09, "the second question's: {hits}");
        assert!(part("ep_1") > 0.09, "the first question's: {hits}");
    }

    #[test]
    fn a_hit_is_whole_and_its_signals_sum_up_to_its_score() {
        let hits =
            call(&library(), "p", "retrieve", json!({"query": "where is the kettle?", "limit": 3})).unwrap();
        assert!(ids(&hits)[..2].contains(&"ep_2"), "the answer stands beside its question: {hits}");
        for hit in hits.as_array().unwrap() {
            assert!(hit["item"]["content"].is_string());
            let sum: f64 = hit["signals"].as_object().unwrap().values().filter_map(Value::as_f64).sum();
            assert!((sum - hit["score"].as_f64().unwrap()).abs() < 1e-9, "{hit}");
        }
    }

    #[test]
    fn another_project_learns_nothing() {
        let library = library();
        for (op, params) in [
            ("retrieve", json!({"query": "kettle"})),
            ("graph_search", json!({"query": "Carol", "hops": 2})),
            ("expand_query", json!({"query": "kettle"})),
            ("rerank", json!({"query": "kettle", "ids": ["ep_1"]})),
        ] {
            assert_eq!(call(&library, "q", op, params).unwrap(), json!([]), "{op}");
        }
        let plan = call(&library, "q", "plan_query", json!({"query": "what did ann say?"})).unwrap();
        assert_eq!(plan["entities"], json!([]), "who speaks elsewhere is not known here");
        assert!(call(&library, "q", "explain", json!({"query": "kettle", "id": "ep_1"})).is_err());
        assert_eq!(
            call(&library, "q", "pack", json!({"query": "kettle", "budget_tokens": 100})).unwrap()["text"],
            ""
        );
    }

    #[test]
    fn names_lead_from_one_memory_to_the_next() {
        let hits = call(&library(), "p", "graph_search", json!({"query": "Lisbon", "hops": 1})).unwrap();
        let found = ids(&hits);
        assert_eq!(found.first(), Some(&"ep_3"));
        assert!(found.contains(&"ep_4"), "Carol is the name between: {hits}");
    }

    #[test]
    fn a_plan_has_parts_time_and_names() {
        let params = json!({"query": "What did Bob plant and where is Carol since last week?", "now": "2026-11-24T09:00:00Z"});
        let plan = call(&library(), "p", "plan_query", params).unwrap();
        assert_eq!(plan["sub_queries"].as_array().unwrap().len(), 2);
        assert_eq!(plan["entities"], json!(["Bob", "Carol"]));
        assert!(plan["range"]["from"].is_string(), "{plan}");
    }

    #[test]
    fn a_pack_cites_in_the_order_of_time_within_its_budget() {
        let packed =
            call(&library(), "p", "pack", json!({"query": "garden kettle", "budget_tokens": 40})).unwrap();
        assert!(packed["used"].as_u64().unwrap() <= 40);
        let citations = packed["citations"].as_array().unwrap();
        let times: Vec<&str> = citations.iter().map(|c| c["time"].as_str().unwrap()).collect();
        assert!(times.is_sorted() && !times.is_empty());
        assert!(packed["text"].as_str().unwrap().starts_with("[1] 1970-01-"), "{packed}");
    }

    #[test]
    fn what_was_used_teaches_and_what_was_not_found_does_not() {
        let library = library();
        let lessons = call(&library, "p", "feedback", json!({"query": "kettle", "used": ["ep_2"]})).unwrap();
        assert!(!lessons.as_array().unwrap().is_empty(), "{lessons}");
        assert_eq!(
            call(&library, "p", "feedback", json!({"query": "kettle", "used": ["ep_99"]})).unwrap(),
            Value::Null
        );
    }

    #[test]
    fn limits_are_refused_with_their_field() {
        let library = library();
        let path =
            |op: &str, params: Value| call(&library, "p", op, params).unwrap_err().path.unwrap_or_default();
        assert_eq!(path("retrieve", json!({"query": " "})), "query");
        assert_eq!(path("retrieve", json!({"query": "x", "limit": 0})), "limit");
        assert_eq!(path("graph_search", json!({"query": "x", "hops": 3})), "hops");
        assert_eq!(path("expand_query", json!({"query": "x", "n": 99})), "n");
        assert_eq!(path("hybrid_search", json!({"query": "x", "weights": {"bm25": -1}})), "weights.bm25");
        let refusal = call(&library, "p", "vector_search", json!({"query": [0.1, 0.2]})).unwrap_err();
        assert_eq!(refusal.code, Code::Unavailable);
    }
}
