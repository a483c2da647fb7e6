//! A load test of `foreseed serve --http`: many clients at once on one engine, with mixed tools, some
//! cancelling and some vanishing.
//!
//! ```text
//! cargo run --release --example load -- --seconds 600
//! ```
//!
//! It prints what was measured, and fails where a client starves, an answer is malformed, the
//! server's memory grows, the engine idles while work waits, or a full queue does not say when to
//! come back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tokio::task::JoinSet;

mod behaviour;
mod client;
mod figures;
mod server;

use behaviour::{Tally, live};
use figures::{Samples, median, quantile};
use server::Server;

#[derive(Parser)]
struct Args {
    /// How long the clients call.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// The slowest of like calls may wait so many times the median.
    #[arg(long, default_value_t = 2.0)]
    fairness: f64,
    /// The server. Default: the one that was built beside this example.
    #[arg(long)]
    foreseed: Option<PathBuf>,
    /// What the clients' choices are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let binary = match &args.foreseed {
        Some(binary) => binary.clone(),
        None => beside_this()?,
    };
    steady(&args, &binary).await?;
    crowded(&args, &binary).await
}

/// `target/release/foreseed` beside `target/release/examples/load`.
fn beside_this() -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let folder = me.parent().and_then(|examples| examples.parent());
    let binary = folder.context("no folder")?.join("foreseed");
    ensure!(
        binary.is_file(),
        "{} is not there: cargo build --release",
        binary.display()
    );
    Ok(binary)
}

/// All clients at once, for as long as was asked.
async fn steady(args: &Args, binary: &std::path::Path) -> Result<()> {
    // The cache is small, so that it is full long before the end: then nothing else may grow.
    let server = Server::start(binary, &["--cache-mib", "64"]).await?;
    let began = Instant::now();
    let until = began + Duration::from_secs_f64(args.seconds);
    let mut clients = JoinSet::new();
    for number in 0..args.clients {
        let url = server.url.clone();
        clients.spawn(live(url, number, args.seed, until));
    }
    let samples = Samples::take_until(&server, until).await?;
    let mut tally = Tally::default();
    while let Some(ended) = clients.join_next().await {
        tally.add(ended??);
    }
    println!(
        "{} clients for {:.0} s:",
        args.clients,
        began.elapsed().as_secs_f64()
    );
    tally.print();

    let probes = &tally.probes;
    ensure!(
        !probes.is_empty(),
        "no call was answered: give it more seconds"
    );
    let (typical, slowest) = (median(probes), quantile(probes, 1.0));
    println!(
        "like calls (2 fresh seeds): median {typical:.2} s, 99 % {:.2} s, slowest {slowest:.2} s: {:.2} times the median",
        quantile(probes, 0.99),
        slowest / typical
    );
    let fewest = tally.answered_by_client.iter().min().copied().unwrap_or(0);
    println!("the client with fewest answers had {fewest}");
    println!(
        "overhead of a call over the work it reports: median {:.1} ms, 99 % {:.1} ms",
        median(&tally.overheads) * 1e3,
        quantile(&tally.overheads, 0.99) * 1e3
    );
    println!(
        "the engine was busy {:.1} % of the time",
        samples.busy() * 100.0
    );
    let (early, late) = samples.memory();
    println!(
        "resident memory: {:.0} MiB in the second quarter, {:.0} MiB in the last",
        early, late
    );
    ensure!(
        slowest <= args.fairness * typical,
        "the slowest like call waited more than {} times the median",
        args.fairness
    );
    ensure!(fewest > 0, "a client was never answered");
    ensure!(
        samples.busy() >= 0.95,
        "the engine idled while clients waited"
    );
    // Ten minutes tell; in a few seconds caches still fill.
    if args.seconds >= 300.0 {
        ensure!(late <= early * 1.05, "memory grows");
    }
    let idle = server.idle().await?;
    println!(
        "after the last client left, the engine was done in {:.1} s",
        idle.as_secs_f64()
    );
    Ok(())
}

/// More clients than the queue takes: who is refused hears when to come back, and comes back.
async fn crowded(args: &Args, binary: &std::path::Path) -> Result<()> {
    let server = Server::start(binary, &["--queue", "8"]).await?;
    let url = Arc::new(server.url.clone());
    let mut clients = JoinSet::new();
    for number in 0..args.clients {
        clients.spawn(behaviour::insist(Arc::clone(&url), number));
    }
    let most = tokio::spawn(Samples::most_waiting(server.url.clone()));
    let mut refusals = 0;
    while let Some(ended) = clients.join_next().await {
        refusals += ended??;
    }
    most.abort();
    println!(
        "a queue of 8 for {} clients: {refusals} were told when to come back, and all were served",
        args.clients
    );
    ensure!(args.clients <= 8 || refusals > 0, "nobody was refused");
    Ok(())
}
