//! Looking through the records: page by page, and by how they begin.

use rusqlite::params;

use super::history::{render_of, scored};
use super::{PredictionRecord, RenderRecord, Store, from_json};
use crate::Result;
use crate::candidate::Handle;

impl Store {
    /// The latest render of each candidate, newest first, each with its place; those after the
    /// place `after` where one is given.
    pub fn renders_after(
        &self,
        after: Option<i64>,
        at_most: usize,
    ) -> Result<Vec<(i64, RenderRecord)>> {
        self.read(|connection| {
            let renders: Vec<(i64, RenderRecord)> = connection
                .prepare_cached(
                    "SELECT handle, path, rendered_at, chosen_after, told, id FROM renders r \
                     WHERE id < ?1 AND NOT EXISTS (SELECT 1 FROM renders later \
                         WHERE later.handle = r.handle AND later.id > r.id) \
                     ORDER BY id DESC LIMIT ?2",
                )?
                .query_map(params![after.unwrap_or(i64::MAX), limit(at_most)], |row| {
                    Ok((row.get(5)?, render_of(row)?))
                })?
                .collect::<rusqlite::Result<_>>()?;
            renders
                .into_iter()
                .map(|(id, render)| Ok((id, scored(connection, render)?)))
                .collect()
        })
    }

    /// All that was predicted of a candidate, in the order of the steps.
    pub fn predictions_of(&self, handle: &Handle) -> Result<Vec<PredictionRecord>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT metric, at_step, probe, prediction FROM predictions \
                     WHERE handle = ?1 ORDER BY at_step, metric, probe",
                )?
                .query_map([&handle.0], |row| {
                    Ok(PredictionRecord {
                        handle: handle.clone(),
                        metric: row.get(0)?,
                        at_step: row.get::<_, i64>(1)?.max(0) as usize,
                        probe: row.get(2)?,
                        prediction: from_json(row, 3)?,
                    })
                })?
                .collect()
        })
    }

    /// Handles that begin like this, the newest candidates first.
    pub fn handles_like(&self, beginning: &str, at_most: usize) -> Result<Vec<String>> {
        self.beginnings(
            "SELECT handle FROM candidates WHERE substr(handle, 1, length(?1)) = ?1 \
             ORDER BY first_seen DESC, handle LIMIT ?2",
            beginning,
            at_most,
        )
    }

    /// Prompts that begin like this, in whatever case, the newest first.
    pub fn prompts_like(&self, beginning: &str, at_most: usize) -> Result<Vec<String>> {
        self.beginnings(
            "SELECT prompt FROM candidates WHERE lower(substr(prompt, 1, length(?1))) = lower(?1) \
             GROUP BY prompt ORDER BY max(first_seen) DESC, prompt LIMIT ?2",
            beginning,
            at_most,
        )
    }

    fn beginnings(&self, sql: &str, beginning: &str, at_most: usize) -> Result<Vec<String>> {
        self.read(|connection| {
            connection
                .prepare_cached(sql)?
                .query_map(params![beginning, limit(at_most)], |row| row.get(0))?
                .collect()
        })
    }
}

fn limit(at_most: usize) -> i64 {
    at_most.min(i64::MAX as usize) as i64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::candidate::{Candidate, Seed, Settings};

    fn candidate(prompt: &str, seed: u32) -> (Handle, Candidate) {
        let candidate = Candidate {
            prompt: prompt.into(),
            seed: Seed(seed),
            settings: Settings {
                model: "pocket".into(),
                negative_prompt: None,
                steps: 25,
                guidance: 5.0,
                width: 64,
                height: 64,
            },
        };
        (candidate.handle("weights"), candidate)
    }

    #[test]
    fn renders_come_page_by_page_and_each_candidate_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let rendered = |n: u32| RenderRecord {
            handle: candidate("a ring", n).0,
            path: format!("{n}.png").into(),
            measured: BTreeMap::new(),
            rendered_at: 1,
            chosen_after: 0,
            told: None,
        };
        for n in [0, 1, 2, 1, 3] {
            store.keep_render(&rendered(n)).unwrap();
        }
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = store.renders_after(after, 2).unwrap();
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            seen.extend(page.into_iter().map(|(_, r)| r.path));
        }
        let names: Vec<_> = seen.iter().map(|p| p.to_str().unwrap()).collect();
        assert_eq!(names, ["3.png", "1.png", "2.png", "0.png"]);
    }

    #[test]
    fn prompts_and_handles_are_found_by_how_they_begin() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let known = [
            candidate("A ring", 0),
            candidate("A ring", 1),
            candidate("50% red", 2),
        ];
        store.remember("weights", &known).unwrap();
        assert_eq!(store.prompts_like("a r", 9).unwrap(), ["A ring"]);
        assert_eq!(store.prompts_like("50%", 9).unwrap(), ["50% red"]);
        assert_eq!(store.prompts_like("%", 9).unwrap(), [""; 0]);
        assert_eq!(store.handles_like("fs_", 2).unwrap().len(), 2);
        assert_eq!(
            store.handles_like(&known[0].0.0, 9).unwrap(),
            [known[0].0.0.clone()]
        );
    }
}
