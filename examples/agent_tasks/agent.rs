//! The agent: it knows the question, the tool list and the replies, and nothing else. Which tool is
//! for what it tells from the arguments that each takes.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rmcp::model::Tool;
use serde_json::{Value, json};

use crate::client::{Session, list, number, text};

/// What is asked.
pub enum Question {
    /// Which of these wordings should be rendered?
    WhichWording { wordings: Vec<String> },
    /// The best of the seeds 0, 1, … within so many denoiser evaluations.
    BestSeed {
        prompt: String,
        seeds: u32,
        evaluations: u64,
    },
    /// Which of these objects will be missing or wrong?
    WhichObject {
        prompt: String,
        seed: u32,
        objects: Vec<String>,
    },
    /// Will more than half of the seeds come out good?
    WorthRendering { prompt: String },
    /// Which of two prompts comes out better?
    WhichPrompt { prompts: [String; 2] },
    /// A seed that is good with a chance of at least `chance`.
    SureSeed {
        prompt: String,
        seeds: u32,
        chance: f64,
    },
    /// A better wording of this.
    BetterWording { prompt: String },
    /// Look at a candidate, then finish it, for no more than one render in all.
    Finish { prompt: String, seed: u32 },
    /// Order the seeds 0, 1, … within so many denoiser evaluations.
    Order {
        prompt: String,
        seeds: u32,
        evaluations: u64,
    },
    /// A good picture within so many denoiser evaluations.
    GoodPicture { prompt: String, evaluations: u64 },
}

/// What the agent says.
pub enum Answer {
    Choice(usize),
    Yes(bool),
    Text(String),
    /// `None`: no seed is sure enough.
    Seed(Option<u32>),
    Order(Vec<u32>),
    Picture {
        path: PathBuf,
        seed: u32,
    },
}

/// What a tool is for.
#[derive(Clone, Copy)]
enum Job {
    Predict,
    Rank,
    Refine,
    Render,
}

/// The tools by what they are for.
struct Tools {
    predict: String,
    rank: String,
    refine: String,
    render: String,
    list: String,
}

impl Tools {
    fn found_in(tools: &[Tool]) -> Result<Self> {
        let takes = |tool: &Tool, argument: &str| {
            let schema = tool.input_schema.get("properties");
            schema.is_some_and(|fields| fields.get(argument).is_some())
        };
        let gives = |tool: &Tool, field: &str| {
            let schema = tool.output_schema.as_ref();
            let fields = schema.and_then(|schema| schema.get("properties"));
            fields.is_some_and(|fields| fields.get(field).is_some())
        };
        let named = |what: &str, fits: &dyn Fn(&Tool) -> bool| {
            let tool = tools.iter().find(|tool| fits(tool));
            tool.map(|tool| tool.name.to_string())
                .with_context(|| format!("no tool to {what}"))
        };
        Ok(Self {
            predict: named("predict", &|t| gives(t, "prompt_risk"))?,
            rank: named("rank", &|t| takes(t, "budget") && takes(t, "keep"))?,
            refine: named("refine", &|t| takes(t, "variants"))?,
            render: named("render", &|t| takes(t, "handle"))?,
            list: named("list models", &|t| gives(t, "models"))?,
        })
    }
}

pub struct Agent {
    session: Session,
    tools: Tools,
    /// The steps at which the default model's probe predicts, ascending, and all steps.
    at_steps: Vec<u64>,
    steps: u64,
    /// Denoiser evaluations of all replies so far.
    pub spent: u64,
}

impl Agent {
    /// Reads the tool list, and what the default model's probe knows.
    pub async fn new(session: Session) -> Result<Self> {
        let tools = Tools::found_in(&session.tools().await?)?;
        let models = session.call(&tools.list, json!({})).await?;
        let models = list(&models, "/models")?;
        let default = models.iter().find(|m| m["default"] == true);
        let probe = default
            .and_then(|m| m["probes"].get(0))
            .context("the default model has no probe")?;
        let at_steps = list(probe, "/at_steps")?.iter().filter_map(Value::as_u64);
        Ok(Self {
            at_steps: at_steps.collect(),
            steps: probe["steps"].as_u64().context("no steps")?,
            session,
            tools,
            spent: 0,
        })
    }

    pub async fn answer(&mut self, question: &Question) -> Result<Answer> {
        match question {
            Question::WhichWording { wordings } => self.which_wording(wordings).await,
            Question::BestSeed {
                prompt,
                seeds,
                evaluations,
            } => self.best_within(prompt, *seeds, *evaluations).await,
            Question::GoodPicture {
                prompt,
                evaluations,
            } => self.best_within(prompt, 8, *evaluations).await,
            Question::WhichObject {
                prompt,
                seed,
                objects,
            } => self.which_object(prompt, *seed, objects).await,
            Question::WorthRendering { prompt } => {
                let reply = self
                    .call(Job::Predict, json!({"prompt": prompt, "count": 8}))
                    .await?;
                Ok(Answer::Yes(number(&reply, "/prompt_risk")? < 0.5))
            }
            Question::WhichPrompt { prompts } => {
                let mut expected = Vec::new();
                for prompt in prompts {
                    let reply = self
                        .call(Job::Predict, json!({"prompt": prompt, "count": 8}))
                        .await?;
                    expected.push(number(&reply, "/expected_quality")?);
                }
                Ok(Answer::Choice(usize::from(expected[1] > expected[0])))
            }
            Question::SureSeed {
                prompt,
                seeds,
                chance,
            } => self.sure_seed(prompt, *seeds, *chance).await,
            Question::BetterWording { prompt } => {
                let reply = self.call(Job::Refine, json!({"prompt": prompt})).await?;
                // Where none is worth a change: that which comes nearest.
                let others = list(&reply, "/tried")?.iter();
                let others: Vec<&Value> = others.filter(|t| t["prompt"] != **prompt).collect();
                Ok(Answer::Text(match text(&reply, "/best/prompt")? {
                    best if best == *prompt => most_promising(&others)?,
                    best => best,
                }))
            }
            Question::Finish { prompt, seed } => {
                let asked = json!({"prompt": prompt, "seeds": [seed]});
                let seen = self.call(Job::Predict, asked).await?;
                let (_, answer) = self.finish(&text(&seen, "/candidates/0/handle")?).await?;
                Ok(answer)
            }
            Question::Order {
                prompt,
                seeds,
                evaluations,
            } => {
                // Half of them: it is the order that is asked for, not the best alone.
                let asked = json!({"prompt": prompt, "count": seeds, "keep": seeds / 2,
                                   "budget": evaluations});
                let reply = self.call(Job::Rank, asked).await?;
                let ranking = list(&reply, "/ranking")?.iter();
                let seeds = ranking.filter_map(|r| r["seed"].as_u64());
                Ok(Answer::Order(seeds.map(|s| s as u32).collect()))
            }
        }
    }

    async fn which_wording(&mut self, wordings: &[String]) -> Result<Answer> {
        let asked = json!({"prompt": wordings[0], "variants": wordings[1..], "rounds": 1});
        let reply = self.call(Job::Refine, asked).await?;
        // Not the best that is worth a change: there is none to be changed.
        let tried: Vec<&Value> = list(&reply, "/tried")?.iter().collect();
        let best = most_promising(&tried)?;
        let place = wordings.iter().position(|wording| *wording == best);
        Ok(Answer::Choice(place.context("none of the wordings")?))
    }

    /// Ranks for a part of what may be spent, renders the best, and goes on to the next for as long
    /// as the pictures disappoint and can be paid.
    async fn best_within(&mut self, prompt: &str, seeds: u32, most: u64) -> Result<Answer> {
        let begun = self.spent;
        // A full render's cost is not known yet; a ranking for 60 % leaves enough of any.
        let asked = json!({"prompt": prompt, "count": seeds, "keep": 1, "budget": most * 3 / 5});
        let ranked = self.call(Job::Rank, asked).await?;
        let full = number(&ranked, "/cost/full_evaluations")? as u64 / u64::from(seeds);
        let ranking = list(&ranked, "/ranking")?;
        let metric = text(&ranked, "/metric")?;
        let mut best: Option<(f64, Answer)> = None;
        for candidate in ranking {
            let done = candidate["stopped_at_step"].as_u64().unwrap_or(0);
            let left = full - full * done / self.steps;
            let spent = self.spent - begun;
            let promises_more = best
                .as_ref()
                .is_none_or(|(score, _)| *score < number(candidate, "/quality").unwrap_or(0.0));
            if spent + left > most || !promises_more {
                break;
            }
            let (reply, answer) = self.finish(&text(candidate, "/handle")?).await?;
            let score = number(&reply, &format!("/measured/{metric}"))?;
            if best.as_ref().is_none_or(|(known, _)| score > *known) {
                best = Some((score, answer));
            }
        }
        Ok(best.context("nothing could be rendered")?.1)
    }

    async fn which_object(
        &mut self,
        prompt: &str,
        seed: u32,
        objects: &[String],
    ) -> Result<Answer> {
        // As late as two fifths of the way: less than half the price of the picture.
        let late = self.at_steps.iter().filter(|s| **s * 5 <= self.steps * 2);
        let asked = json!({"prompt": prompt, "seeds": [seed], "at_step": late.max()});
        let reply = self.call(Job::Predict, asked).await?;
        let weak = list(&reply, "/weak_words")?;
        let risk = |object: &str| -> f64 {
            let words = object.split(' ');
            let risks = words.filter_map(|word| {
                let weak = weak.iter().find(|w| w["word"] == word)?;
                weak["risk"].as_f64()
            });
            risks.sum()
        };
        let riskiest = (0..objects.len())
            .max_by(|&a, &b| risk(&objects[a]).total_cmp(&risk(&objects[b])))
            .context("no objects")?;
        Ok(Answer::Choice(riskiest))
    }

    /// Ranks, and where the ranking stopped short of being sure, looks closer at its first few.
    async fn sure_seed(&mut self, prompt: &str, seeds: u32, chance: f64) -> Result<Answer> {
        const CLOSER: usize = 4;
        let asked = json!({"prompt": prompt, "count": seeds, "keep": 1});
        let reply = self.call(Job::Rank, asked).await?;
        let sure = |candidates: &[Value]| {
            let sure = candidates
                .iter()
                .find(|r| r["p_good"].as_f64().is_some_and(|p| p >= chance));
            sure.and_then(|r| r["seed"].as_u64()).map(|s| s as u32)
        };
        let ranking = list(&reply, "/ranking")?;
        if let Some(seed) = sure(ranking) {
            return Ok(Answer::Seed(Some(seed)));
        }
        let first: Vec<&Value> = ranking.iter().take(CLOSER).map(|r| &r["seed"]).collect();
        let asked = json!({"prompt": prompt, "seeds": first, "at_step": self.at_steps.last()});
        let reply = self.call(Job::Predict, asked).await?;
        Ok(Answer::Seed(sure(list(&reply, "/candidates")?)))
    }

    async fn call(&mut self, job: Job, arguments: Value) -> Result<Value> {
        let tool = match job {
            Job::Predict => &self.tools.predict,
            Job::Rank => &self.tools.rank,
            Job::Refine => &self.tools.refine,
            Job::Render => &self.tools.render,
        };
        let reply = self.session.call(tool, arguments).await?;
        self.spent += number(&reply, "/cost/evaluations")? as u64;
        Ok(reply)
    }

    pub async fn end(self) -> Result<()> {
        self.session.end().await.map(drop)
    }

    /// Renders a handle.
    async fn finish(&mut self, handle: &str) -> Result<(Value, Answer)> {
        let reply = self.call(Job::Render, json!({"handle": handle})).await?;
        ensure!(reply["handle"] == handle, "another candidate was rendered");
        let answer = Answer::Picture {
            path: text(&reply, "/path")?.into(),
            seed: number(&reply, "/seed")? as u32,
        };
        Ok((reply, answer))
    }
}

/// The wording of which most is expected.
fn most_promising(tried: &[&Value]) -> Result<String> {
    let expected = |wording: &Value| wording["expected_quality"].as_f64().unwrap_or(0.0);
    let best = tried
        .iter()
        .max_by(|a, b| expected(a).total_cmp(&expected(b)));
    text(best.context("nothing was tried")?, "/prompt")
}
