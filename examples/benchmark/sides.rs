//! Each side runs in a process of its own, is told over its stdin what to do, and answers with the
//! seconds that it took and its peak memory.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;

use crate::{CANDIDATES, GUIDANCE, PROMPT, Result, STEPS, TO_STEP};

#[derive(Clone, Copy)]
pub enum Work {
    /// Many candidates to the predicted step, as a prediction needs them: tapped there.
    Candidates,
    Render,
    /// Many candidates over the first steps, untapped.
    Plain,
    /// The same, tapped at every step.
    Tapped,
    /// What a prediction takes beyond the steps.
    Judged,
    /// The same at a later step.
    JudgedLate,
}

impl Work {
    pub fn word(self) -> &'static str {
        match self {
            Work::Candidates => "candidates",
            Work::Render => "render",
            Work::Plain => "plain",
            Work::Tapped => "tapped",
            Work::Judged => "judged",
            Work::JudgedLate => "judged-late",
        }
    }

    /// Seeds that no other work uses.
    pub fn first_seed(self) -> u32 {
        match self {
            Work::Candidates => 0,
            Work::Render => 1_000_000,
            Work::Plain | Work::Tapped | Work::Judged | Work::JudgedLate => 2_000_000,
        }
    }

    pub fn title(self) -> String {
        match self {
            Work::Render => format!("a full render: {STEPS} steps and the picture"),
            _ => format!("{CANDIDATES} candidates to step {TO_STEP}"),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    seconds: f64,
    peak_bytes: u64,
}

pub struct Side {
    name: &'static str,
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    pub peak_bytes: u64,
}

impl Side {
    pub fn ours(model: &str, threads: usize) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["our-side", model])
            .env("RAYON_NUM_THREADS", threads.to_string());
        Self::start("foreseed", command)
    }

    pub fn theirs(python: &str, model: &str, threads: usize, side: usize) -> Result<Self> {
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/examples/benchmark/diffusers_side.py"
        );
        let mut command = Command::new(python);
        command.args([script, model, PROMPT, &threads.to_string()]);
        command.args([CANDIDATES, TO_STEP, STEPS].map(|n| n.to_string()));
        command.args([format!("{GUIDANCE:?}"), side.to_string()]);
        command.env("OMP_NUM_THREADS", threads.to_string());
        Self::start("diffusers", command)
    }

    fn start(name: &'static str, mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().ok_or("no stdin")?;
        let stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        Ok(Self {
            name,
            child,
            stdin,
            stdout,
            peak_bytes: 0,
        })
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.stdin, "{line}")?;
        let mut answer = String::new();
        self.stdout.read_line(&mut answer)?;
        if answer.is_empty() {
            return Err(format!("the {} side ended: {}", self.name, self.child.wait()?).into());
        }
        Ok(answer)
    }

    /// The side of the picture that the model is made for.
    pub fn side(&mut self) -> Result<usize> {
        Ok(self.ask("side 0")?.trim().parse()?)
    }

    /// The seconds that `work` takes.
    pub fn time(&mut self, work: Work, seed: u32) -> Result<f64> {
        let answer: Answer = serde_json::from_str(&self.ask(&format!("{} {seed}", work.word()))?)?;
        self.peak_bytes = self.peak_bytes.max(answer.peak_bytes);
        Ok(answer.seconds)
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
