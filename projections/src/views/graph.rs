//! What there is and how it relates: entities by name, neighbourhoods, paths, ranks and communities.

use super::{limit, missing, query};
use crate::communities::communities;
use crate::library::Library;
use crate::network::{Link, Network, Node};
use athena_schemas::context::Context;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Hit, Layer, Prov, Signals, millis};
use athena_schemas::layers::graph::*;
use athena_schemas::refusal::{Code, Refusal};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::sync::{Arc, PoisonError};

/// Most edges of a path, and most paths of an answer.
const PATH: u8 = 10;
const PATHS: usize = 3;
/// Most entities named at once.
const NAMED: usize = 1_000;

impl Library {
    /// The graph that who asks may see; kept until it changes.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn network(&self, cx: &Context) -> Result<Arc<Network>, Refusal> {
        let version = self.graph.version()?;
        let mut kept = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((scope, at, network)) = kept.as_ref()
            && *at == version
            && *scope == cx.scope
        {
            return Ok(Arc::clone(network));
        }
        let network = Arc::new(self.graph.network(cx, &self.items.projects(&cx.scope)?)?);
        *kept = Some((cx.scope.clone(), version, Arc::clone(&network)));
        Ok(network)
    }

    /// How well entities fit a text: their names as whole words in it first, then words they share.
    fn fitting(&self, network: &Network, text: &str) -> Vec<(f64, usize)> {
        let lower = text.to_lowercase();
        let wanted: HashSet<String> = self.finder.analyzer.terms(text).collect();
        let named: HashSet<&Id> = network.named_in(&lower).iter().map(|node| &node.row.body.id).collect();
        let mut fitting: Vec<(f64, usize)> = Vec::new();
        for (at, node) in network.nodes.iter().enumerate() {
            let share = |text: &str| {
                let terms: HashSet<String> = self.finder.analyzer.terms(text).collect();
                let common = terms.intersection(&wanted).count();
                if terms.is_empty() { 0.0 } else { common as f64 / terms.len() as f64 }
            };
            let by_name = node.names.iter().map(|name| share(name)).fold(0.0, f64::max);
            let exact = if named.contains(&node.row.body.id) { 1.0 } else { 0.0 };
            let beside = share(&format!("{} {}", node.row.body.kind, node.row.body.attrs));
            let score = exact + by_name + 0.3 * beside;
            if score > 0.0 {
                fitting.push((score + 0.1 * node.importance, at));
            }
        }
        fitting.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        fitting
    }
}

fn found<'a>(network: &'a Network, id: &Id) -> Result<(usize, &'a Node), Refusal> {
    let at = network.find(id).ok_or_else(|| missing(id))?;
    network.nodes.get(at).map(|node| (at, node)).ok_or_else(|| missing(id))
}

fn bounded(field: &'static str, said: Option<u8>, default: u8, most: u8) -> Result<u8, Refusal> {
    match said.unwrap_or(default) {
        n if (1..=most).contains(&n) => Ok(n),
        n => {
            Err(Refusal::new(Code::LimitExceeded, format!("{field} is {n}, not from 1 to {most}")).at(field))
        }
    }
}

/// The nodes within some steps, nearest first, and how far each is.
fn reach(network: &Network, start: &[usize], steps: u8, takes: &dyn Fn(&Link) -> bool) -> Vec<(usize, u8)> {
    let mut far: HashMap<usize, u8> = start.iter().map(|at| (*at, 0)).collect();
    let mut order: Vec<(usize, u8)> = start.iter().map(|at| (*at, 0)).collect();
    let mut next = 0;
    while let Some((at, distance)) = order.get(next).copied() {
        next += 1;
        if distance == steps {
            continue;
        }
        for (link, other) in network.at.get(at).into_iter().flatten() {
            if network.links.get(*link).is_some_and(takes) && !far.contains_key(other) {
                far.insert(*other, distance + 1);
                order.push((*other, distance + 1));
            }
        }
    }
    order
}

/// The part of the graph that holds these nodes and the edges among them, in this order.
fn part(network: &Network, nodes: &[usize], takes: &dyn Fn(&Link) -> bool) -> SubGraph {
    let inside: HashSet<usize> = nodes.iter().copied().collect();
    let edges = network
        .links
        .iter()
        .filter(|link| inside.contains(&link.from) && inside.contains(&link.to) && takes(link))
        .map(|link| network.edge(link))
        .collect();
    SubGraph {
        entities: nodes.iter().filter_map(|at| network.nodes.get(*at)).map(Node::item).collect(),
        edges,
    }
}

fn moment(cx: &Context, field: &'static str, said: Option<&String>) -> Result<i64, Refusal> {
    said.map_or(Ok(cx.now_ms as i64), |time| millis(time).map_err(|refusal| refusal.at(field)))
}

impl Queries for Library {
    fn get_entity(&self, cx: &Context, op: GetEntity) -> Result<Entity, Refusal> {
        let network = self.network(cx)?;
        let wanted = op.id_or_name.trim().to_lowercase();
        let by_id = network.find(&Id::from_text(op.id_or_name.trim())).and_then(|at| network.nodes.get(at));
        by_id
            .or_else(|| {
                let is = |name: &String| name.to_lowercase() == wanted;
                network.nodes.iter().find(|node| node.names.iter().any(is))
            })
            .map(Node::item)
            .ok_or_else(|| {
                Refusal::not_found(format!("there is no entity {:?} in this scope", op.id_or_name))
                    .hint("graph/search_entities finds entities by their words")
            })
    }

    fn search_entities(&self, cx: &Context, op: SearchEntities) -> Result<Vec<Hit<Entity>>, Refusal> {
        let network = self.network(cx)?;
        let most = limit(op.limit)?;
        let hits = self.fitting(&network, query(&op.query)?);
        Ok(hits
            .into_iter()
            .filter_map(|(score, at)| Some((score, network.nodes.get(at)?)))
            .filter(|(_, node)| op.kind.as_ref().is_none_or(|kind| *kind == node.row.body.kind))
            .take(most)
            .map(|(score, node)| Hit {
                id: node.row.body.id.clone(),
                layer: Layer::Graph,
                score,
                signals: Signals { bm25: Some(score), graph: Some(node.importance), ..Signals::default() },
                item: node.item(),
                prov: Prov::default(),
                stale: false,
                superseded_by: None,
                conflicts: Vec::new(),
            })
            .collect())
    }

    fn read_graph(&self, cx: &Context, op: ReadGraph) -> Result<GraphPage, Refusal> {
        let network = self.network(cx)?;
        let most = limit(op.limit)?;
        if op.names.len() > NAMED {
            let many = format!("{} names; at most {NAMED} are taken at once", op.names.len());
            return Err(Refusal::new(Code::LimitExceeded, many).at("names"));
        }
        let wanted: HashSet<String> = op.names.iter().map(|name| name.trim().to_lowercase()).collect();
        let named = |node: &Node| {
            wanted.is_empty()
                || wanted.contains(node.row.body.id.as_str())
                || node.names.iter().any(|name| wanted.contains(&name.to_lowercase()))
        };
        let mut ids: Vec<(&Id, usize)> = network
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| named(node))
            .map(|(at, node)| (&node.row.body.id, at))
            .filter(|(id, _)| op.cursor.as_deref().is_none_or(|after| id.as_str() > after))
            .collect();
        ids.sort();
        let more = ids.len() > most;
        ids.truncate(most);
        let next = ids.last().filter(|_| more).map(|(id, _)| id.to_string());
        let inside: HashSet<usize> = ids.iter().map(|(_, at)| *at).collect();
        let now = cx.now_ms as i64;
        let edges = network
            .links
            .iter()
            .filter(|link| inside.contains(&link.from) && link.row.holds(now, u64::MAX))
            .filter(|link| wanted.is_empty() || network.nodes.get(link.to).is_some_and(named))
            .map(|link| network.edge(link))
            .collect();
        let entities = ids.iter().filter_map(|(_, at)| network.nodes.get(*at)).map(Node::item).collect();
        Ok(GraphPage { entities, edges, next })
    }

    fn neighbors(&self, cx: &Context, op: Neighbors) -> Result<SubGraph, Refusal> {
        let network = self.network(cx)?;
        let (at, _) = found(&network, &op.id)?;
        let valid = moment(cx, "valid_at", op.valid_at.as_ref())?;
        let takes = |link: &Link| {
            link.row.holds(valid, u64::MAX)
                && op.relation.as_ref().is_none_or(|relation| *relation == link.row.body.relation)
        };
        let depth = bounded("depth", op.depth, 1, 3)?;
        let mut nodes = reach(&network, &[at], depth, &takes);
        nodes.truncate(limit(op.limit.unwrap_or(50))?);
        let nodes: Vec<usize> = nodes.into_iter().map(|(at, _)| at).collect();
        Ok(part(&network, &nodes, &takes))
    }

    fn find_path(&self, cx: &Context, op: FindPath) -> Result<Vec<Vec<Edge>>, Refusal> {
        let network = self.network(cx)?;
        let ((from, _), (to, _)) = (found(&network, &op.from)?, found(&network, &op.to)?);
        let most = bounded("max_depth", op.max_depth, 6, PATH)?;
        let now = cx.now_ms as i64;
        let mut used: HashSet<usize> = HashSet::new();
        let mut paths = Vec::new();
        while paths.len() < PATHS {
            let takes = |number: usize, link: &Link| !used.contains(&number) && link.row.holds(now, u64::MAX);
            let Some(path) = shortest(&network, from, to, most, &takes).filter(|path| !path.is_empty())
            else {
                break;
            };
            paths
                .push(path.iter().filter_map(|at| network.links.get(*at)).map(|l| network.edge(l)).collect());
            used.extend(path);
        }
        Ok(paths)
    }

    fn search_graph(&self, cx: &Context, op: SearchGraph) -> Result<SubGraph, Refusal> {
        let network = self.network(cx)?;
        let most = limit(op.limit)?;
        let hops = bounded("hops", op.hops, 2, 4)?;
        let valid = moment(cx, "valid_at", op.valid_at.as_ref())?;
        let takes = |link: &Link| link.row.holds(valid, u64::MAX);
        let fitting = self.fitting(&network, query(&op.query)?);
        let mut seeds = vec![0.0; network.nodes.len()];
        for (score, at) in fitting.iter().take(10) {
            if let Some(seed) = seeds.get_mut(*at) {
                *seed = *score;
            }
        }
        let start: Vec<usize> = fitting.iter().take(10).map(|(_, at)| *at).collect();
        let rank = network.rank(&seeds, &takes);
        let mut near: Vec<usize> =
            reach(&network, &start, hops, &takes).into_iter().map(|(at, _)| at).collect();
        let of = |at: &usize| rank.get(*at).copied().unwrap_or(0.0);
        near.sort_by(|a, b| of(b).total_cmp(&of(a)).then_with(|| a.cmp(b)));
        near.truncate(most);
        Ok(part(&network, &near, &takes))
    }

    fn as_of(&self, cx: &Context, op: AsOf) -> Result<SubGraph, Refusal> {
        let network = self.network(cx)?;
        let (at, _) = found(&network, &op.id)?;
        let valid = moment(cx, "valid_at", Some(&op.valid_at))?;
        let known = match &op.known_at {
            Some(_) => u64::try_from(moment(cx, "known_at", op.known_at.as_ref())?).unwrap_or(0),
            None => u64::MAX,
        };
        let takes = |link: &Link| link.row.holds(valid, known);
        let nodes: Vec<usize> = reach(&network, &[at], 1, &takes).into_iter().map(|(at, _)| at).collect();
        Ok(part(&network, &nodes, &takes))
    }

    fn get_communities(&self, cx: &Context, op: GetCommunities) -> Result<Vec<Community>, Refusal> {
        let network = self.network(cx)?;
        let least = op.min_size.unwrap_or(2) as usize;
        let groups = grouped(cx, &network, usize::from(op.level.unwrap_or(0)));
        Ok(groups
            .iter()
            .filter(|group| group.len() >= least)
            .map(|group| community(&network, group))
            .collect())
    }

    fn summarize_community(&self, cx: &Context, op: SummarizeCommunity) -> Result<CommunitySummary, Refusal> {
        let network = self.network(cx)?;
        for level in 0..10 {
            for group in grouped(cx, &network, level) {
                let found = community(&network, &group);
                if found.id == op.id {
                    return Ok(summary(cx, &network, &group, found));
                }
            }
        }
        Err(Refusal::not_found(format!("there is no community {}", op.id))
            .hint("its members have changed; graph/get_communities names those there are"))
    }
}

/// Dijkstra's way with the fewest and strongest edges; an edge costs 1 / weight.
fn shortest(
    network: &Network,
    from: usize,
    to: usize,
    most: u8,
    takes: &dyn Fn(usize, &Link) -> bool,
) -> Option<Vec<usize>> {
    let mut best: HashMap<(usize, u8), u64> = HashMap::new();
    let mut came: HashMap<(usize, u8), (usize, usize)> = HashMap::new();
    let mut open = BinaryHeap::from([Reverse((0_u64, from, 0_u8))]);
    while let Some(Reverse((cost, at, steps))) = open.pop() {
        if at == to {
            let (mut path, mut at, mut steps) = (Vec::new(), at, steps);
            while let Some((link, before)) = came.get(&(at, steps)) {
                path.push(*link);
                (at, steps) = (*before, steps - 1);
            }
            path.reverse();
            return Some(path);
        }
        if steps == most || best.get(&(at, steps)).is_some_and(|known| *known < cost) {
            continue;
        }
        for (number, other) in network.at.get(at).into_iter().flatten() {
            let Some(link) = network.links.get(*number).filter(|link| takes(*number, link)) else { continue };
            let cost = cost + (1_000.0 / link.weight()) as u64;
            let key = (*other, steps + 1);
            if best.get(&key).is_none_or(|known| cost < *known) {
                best.insert(key, cost);
                came.insert(key, (*number, at));
                open.push(Reverse((cost, *other, steps + 1)));
            }
        }
    }
    None
}

/// The members of each group of a level, the most central first; the largest group first.
fn grouped(cx: &Context, network: &Network, level: usize) -> Vec<Vec<usize>> {
    let now = cx.now_ms as i64;
    let levels = communities(network, &|link| link.row.holds(now, u64::MAX));
    let Some(of) = levels.get(level).or(levels.last()) else { return Vec::new() };
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (node, group) in of.iter().enumerate() {
        groups.entry(*group).or_default().push(node);
    }
    let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
    let central = |at: &usize| network.nodes.get(*at).map_or(0.0, |node| node.importance);
    for group in &mut groups {
        group.sort_by(|a, b| central(b).total_cmp(&central(a)).then_with(|| a.cmp(b)));
    }
    groups.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    groups
}

fn members<'a>(network: &'a Network, group: &'a [usize]) -> impl Iterator<Item = &'a Node> {
    group.iter().filter_map(|at| network.nodes.get(*at))
}

/// A group as it is answered. Its id is made of its members' ids, so that it changes when they do.
fn community(network: &Network, group: &[usize]) -> Community {
    let mut ids: Vec<&str> = members(network, group).map(|node| node.row.body.id.as_str()).collect();
    ids.sort_unstable();
    let mut bytes = [0; 16];
    blake3::Hasher::new_derive_key("athena community")
        .update(ids.join(" ").as_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    let inside: HashSet<usize> = group.iter().copied().collect();
    let mut words: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for link in &network.links {
        let count = words.entry(&link.row.body.relation).or_default();
        count.1 += 1.0;
        if inside.contains(&link.from) && inside.contains(&link.to) {
            count.0 += 1.0;
        }
    }
    let mut terms: Vec<(f64, &str)> =
        words.into_iter().filter(|(_, n)| n.0 > 0.0).map(|(word, n)| (n.0 * n.0 / n.1, word)).collect();
    terms.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    let names = members(network, group).take(2).map(|node| node.name().to_owned());
    Community {
        id: Id::new("cm", 0, u128::from_le_bytes(bytes)),
        size: group.len() as u32,
        members: members(network, group).take(10).map(|node| node.row.body.id.clone()).collect(),
        terms: names.chain(terms.into_iter().take(3).map(|(_, word)| word.to_owned())).collect(),
    }
}

fn summary(cx: &Context, network: &Network, group: &[usize], found: Community) -> CommunitySummary {
    let inside: HashSet<usize> = group.iter().copied().collect();
    let now = cx.now_ms as i64;
    let mut links: Vec<&Link> = network
        .links
        .iter()
        .filter(|link| {
            inside.contains(&link.from) && inside.contains(&link.to) && link.row.holds(now, u64::MAX)
        })
        .collect();
    links.sort_by(|a, b| b.weight().total_cmp(&a.weight()));
    let name = |at: usize| network.nodes.get(at).map_or("", Node::name);
    let sentences: Vec<String> = links
        .iter()
        .take(10)
        .map(|link| {
            format!("{} {} {}.", name(link.from), link.row.body.relation.replace('_', " "), name(link.to))
        })
        .collect();
    let title = members(network, group)
        .next()
        .map_or_else(String::new, |node| format!("{} ({})", node.name(), node.row.body.kind));
    CommunitySummary {
        title,
        terms: found.terms,
        members: members(network, group).take(100).map(Node::item).collect(),
        summary: sentences.join(" "),
    }
}
