//! How to do things: procedures by name and by what they are for, their versions, and how well they work.

use super::{cut, identifiers, limit, query};
use crate::library::Library;
use crate::patterns::{Search as Mining, recurring};
use crate::procedures::{ProcedureRow, VersionRow, info, wilson_low};
use crate::timeline::Which;
use athena_schemas::context::Context;
use athena_schemas::layers::common::{Hit, Layer, Paged, Range, Signals, time};
use athena_schemas::layers::procedural::*;
use athena_schemas::operation::to_json;
use athena_schemas::refusal::Refusal;
use serde_json::Value;
use std::collections::HashSet;
use std::fmt::Write as _;

/// Most events that are mined for sequences.
const MINED: usize = 50_000;
/// Half-life of how recently a procedure ran, in days.
const RECENT_DAYS: f64 = 30.0;

impl Library {
    fn procedure(&self, cx: &Context, name: &str) -> Result<ProcedureRow, Refusal> {
        let projects = self.items.projects(&cx.scope)?;
        self.procedures.named(cx, &projects, name)?.ok_or_else(|| {
            Refusal::not_found(format!("there is no procedure {name:?} in this scope"))
                .at("name")
                .hint("procedural/list names those there are")
        })
    }

    fn numbered(&self, row: &ProcedureRow, version: u32) -> Result<VersionRow, Refusal> {
        self.procedures.version(&row.newest.id, version)?.ok_or_else(|| {
            Refusal::not_found(format!("{} has no version {version}", row.newest.name))
                .at("version")
                .hint("procedural/versions")
        })
    }

    /// One version as JSON: what a rollback carries on.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn version(&self, cx: &Context, name: &str, version: u32) -> Result<Option<Value>, Refusal> {
        let projects = self.items.projects(&cx.scope)?;
        let Some(row) = self.procedures.named(cx, &projects, name)? else { return Ok(None) };
        self.procedures.version(&row.newest.id, version)?.map(|found| to_json(found.body)).transpose()
    }

    /// The procedures that may be called by who asks, each as its newest version.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn callable(&self, cx: &Context) -> Result<Vec<Learned>, Refusal> {
        let rows = self.procedures.all(cx, &self.items.projects(&cx.scope)?)?;
        Ok(rows.into_iter().filter(|row| !row.archived).map(|row| row.newest).collect())
    }

    /// How well procedures fit a text, best first: shared words, those of the name counting most.
    fn fitting_procedures(&self, cx: &Context, text: &str) -> Result<Vec<(f64, ProcedureRow)>, Refusal> {
        let wanted: HashSet<String> = self.finder.analyzer.terms(text).collect();
        let mut fitting = Vec::new();
        for row in self.procedures.all(cx, &self.items.projects(&cx.scope)?)? {
            if row.archived || wanted.is_empty() {
                continue;
            }
            let share = |text: &str| {
                let terms: HashSet<String> = self.finder.analyzer.terms(text).collect();
                wanted.intersection(&terms).count() as f64 / wanted.len() as f64
            };
            let newest = &row.newest;
            let score = share(&newest.name.replace('_', " "))
                + 0.8 * share(&newest.description)
                + 0.6 * share(&newest.tags.join(" "))
                + 0.3 * share(&identifiers(&newest.code));
            if score > 0.0 {
                fitting.push((score, row));
            }
        }
        sort(&mut fitting);
        Ok(fitting)
    }
}

fn sort(rows: &mut [(f64, ProcedureRow)]) {
    rows.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.newest.name.cmp(&b.1.newest.name)));
}

fn hit(score: f64, row: &ProcedureRow) -> Hit<ProcedureInfo> {
    Hit {
        id: row.newest.id.clone(),
        layer: Layer::Procedural,
        score,
        signals: Signals { bm25: Some(score), ..Signals::default() },
        item: info(&row.newest, row.archived),
        prov: row.newest.origin.clone().into(),
        stale: row.runs >= 5 && wilson_low(row.good, row.runs) < 0.3,
        superseded_by: None,
        conflicts: Vec::new(),
    }
}

impl Queries for Library {
    fn get(&self, cx: &Context, op: Get) -> Result<Procedure, Refusal> {
        let row = self.procedure(cx, &op.name)?;
        let body = match op.version {
            Some(version) => self.numbered(&row, version)?.body,
            None => row.newest.clone(),
        };
        let params = serde_json::from_str(&body.params).unwrap_or(Value::Null);
        Ok(Procedure { info: info(&body, row.archived), code: body.code, params })
    }

    fn list(&self, cx: &Context, op: List) -> Result<Paged<ProcedureInfo>, Refusal> {
        let rows = self.procedures.all(cx, &self.items.projects(&cx.scope)?)?;
        let listed = rows
            .iter()
            .filter(|row| {
                !row.archived
                    && op.tags.iter().all(|tag| row.newest.tags.contains(tag))
                    && (op.category.is_none() || op.category == row.newest.category)
            })
            .map(|row| info(&row.newest, row.archived))
            .collect();
        cut(listed, op.limit, op.cursor.as_deref())
    }

    fn search(&self, cx: &Context, op: Search) -> Result<Vec<Hit<ProcedureInfo>>, Refusal> {
        let most = limit(op.limit)?;
        let found = self.fitting_procedures(cx, query(&op.query)?)?;
        Ok(found.iter().take(most).map(|(score, row)| hit(*score, row)).collect())
    }

    fn suggest(&self, cx: &Context, op: Suggest) -> Result<Vec<Hit<ProcedureInfo>>, Refusal> {
        let task = query(&op.context.task).map_err(|refusal| refusal.at("context.task"))?;
        let mut found = self.fitting_procedures(cx, task)?;
        found.retain(|(_, row)| {
            op.context.tags.is_empty() || op.context.tags.iter().any(|tag| row.newest.tags.contains(tag))
        });
        for (score, row) in &mut found {
            let worked = if row.runs == 0 { 0.5 } else { wilson_low(row.good, row.runs) };
            let touched = row.last_ms.unwrap_or(row.head.recorded_ms);
            let days = cx.now_ms.saturating_sub(touched) as f64 / 86_400_000.0;
            *score *= (0.5 + worked) * (0.5 + 0.5 * 0.5_f64.powf(days / RECENT_DAYS));
        }
        sort(&mut found);
        Ok(found.iter().take(10).map(|(score, row)| hit(*score, row)).collect())
    }

    fn docs(&self, cx: &Context, op: Docs) -> Result<String, Refusal> {
        let row = self.procedure(cx, &op.name)?;
        let (newest, effect) = (&row.newest, row.effect());
        let mut text = format!("# {}\n\n{}\n\n", newest.name, newest.description);
        let params = if newest.params.is_empty() { "any object" } else { &newest.params };
        let ending = newest.language.ending();
        let _ = write!(
            text,
            "Call: `athena.procedural.execute({{ name: \"{}\", args: {{…}} }})`; file `/skills/{}.{ending}`, which other code imports\n\nArguments: {params}\n\nRisk: {}\n\n",
            newest.name, newest.name, newest.risk
        );
        let rate = effect.success_rate.map_or("never run".into(), |rate| {
            format!("{} runs, {:.0} % did what was wanted, {} ms", effect.runs, rate * 100.0, effect.p50_ms)
        });
        let _ = write!(text, "Runs: {rate}\n\nVersions:\n");
        for version in self.procedures.versions(&row)?.iter().rev().take(20) {
            let why = version.body.reason.as_deref().unwrap_or("");
            let at = time(version.recorded_ms as i64);
            let _ = writeln!(text, "- {} ({at}, {}) {why}", version.body.version, version.by);
        }
        Ok(text)
    }

    fn versions(&self, cx: &Context, op: Versions) -> Result<Vec<Version>, Refusal> {
        let row = self.procedure(cx, &op.name)?;
        let versions = self.procedures.versions(&row)?;
        let commit = |body: &Learned| {
            let commit = self.commits.of(&body.name, &body.id, body.version);
            commit.unwrap_or_else(|| content_hash(body.language, &body.code))
        };
        Ok(versions
            .into_iter()
            .rev()
            .map(|version| Version {
                version: version.body.version,
                commit: commit(&version.body),
                recorded: time(version.recorded_ms as i64),
                by: version.by,
                reason: version.body.reason,
            })
            .collect())
    }

    fn diff(&self, cx: &Context, op: Diff) -> Result<String, Refusal> {
        let row = self.procedure(cx, &op.name)?;
        let (a, b) = (self.numbered(&row, op.a)?.body, self.numbered(&row, op.b)?.body);
        let failed = |error: git2::Error| Refusal::internal(format!("the diff failed: {error}"));
        let path = std::path::PathBuf::from(format!("{}.{}", op.name, b.language.ending()));
        let mut patch =
            git2::Patch::from_buffers(a.code.as_bytes(), Some(&path), b.code.as_bytes(), Some(&path), None)
                .map_err(failed)?;
        let text = patch.to_buf().map_err(failed)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn effectiveness(&self, cx: &Context, op: Effectiveness) -> Result<Effect, Refusal> {
        Ok(self.procedure(cx, &op.name)?.effect())
    }

    fn extract(&self, cx: &Context, op: Extract) -> Result<Vec<Candidate>, Refusal> {
        let range = op.lookback.as_ref().map(Range::millis).transpose()?;
        let (rows, _) = self.items.page(cx, &Which { range, ..Which::default() }, MINED, None)?;
        let min_support = op.min_support.unwrap_or(3).max(2) as usize;
        let (found, _) = recurring(&rows, Mining { min_support, max_length: 8, gap: 2 }, usize::MAX);
        Ok(found
            .into_iter()
            .filter(|pattern| pattern.types.iter().collect::<HashSet<_>>().len() > 1)
            .take(20)
            .map(|pattern| Candidate {
                name: pattern.types.join("_then_").to_lowercase(),
                steps: pattern.types,
                support: pattern.support,
                example: pattern.example,
            })
            .collect())
    }
}
