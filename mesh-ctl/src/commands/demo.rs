//! `mesh-ctl demo`: a whole mesh on this machine, as processes, with traffic through it.
//!
//! Everything it starts is a child of the guard, which ends it when the demo is gone, however that came about.

use std::{
    ffi::{OsStr, OsString},
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval, sleep},
};

use super::files;
use crate::{
    args,
    exit::{Exit, Failure},
    output,
};

mod answers;
mod changes;
mod check;
mod command;
pub(crate) mod guard;
mod leftovers;
mod mesh;
mod namespaces;
mod processes;
mod programs;
mod scrape;
mod strangers;
mod streams;
mod topology;
mod traffic;
mod view;

use mesh::{Mesh, Resources};
use programs::Programs;
pub(crate) use topology::{Instance, of_chain};
use topology::{Place, Topology};

/// Time between two drawings of the live table.
const REDRAW: Duration = Duration::from_secs(1);

/// Runs the demo.
///
/// # Errors
/// When the mesh cannot be started or something of it is left at the end.
pub(crate) async fn run(demo: &args::Demo) -> Result<Exit, Failure> {
    let place = if demo.netns { Place::Namespaces } else { Place::Loopback };
    let resources = match &demo.resources[..] {
        [] => Resources::OfDemo,
        files => Resources::Given(files::read(files)?),
    };
    topology::fit(&demo.instances).map_err(|error| Failure::not_well("cannot start the demo", error))?;
    let programs = Programs::find().map_err(|error| {
        Failure::not_well("cannot start the demo", error)
            .advise("in a source tree run examples/demo/run, which builds them; else install the whole package")
    })?;
    if demo.netns {
        namespaces::possible().await.map_err(|error| Failure::not_well("cannot start the demo", error))?;
    }
    let free = |block| place == Place::Namespaces || addresses_free(block);
    let (block, cleared) =
        leftovers::claim(free).await.map_err(|error| Failure::not_well("cannot make a place for the demo", error))?;
    if !cleared.is_empty() {
        output::progress(&format!("cleared away from an earlier demo: {}", cleared.join(", ")));
    }
    let topology = if demo.command.is_empty() {
        Topology::of_demo(place, block.number)
    } else {
        Topology::with(&demo.instances, place, block.number)
    };
    let mesh = Mesh::new(topology, &resources, block, &programs);
    let mut mesh = mesh.map_err(|error| Failure::not_well("cannot start", error))?;
    mesh.without_application = demo.without_application.clone();
    mesh.nacos = demo.nacos.clone();
    match &demo.command[..] {
        [program, arguments @ ..] => commanded(mesh, demo, program, arguments).await,
        [] if demo.check => checked(mesh, demo).await,
        [] => shown(mesh, demo).await,
    }
}

/// Whether nobody else listens on the addresses of a block.
fn addresses_free(block: u8) -> bool {
    let topology = Topology::with(&[], Place::Loopback, block);
    [topology.entry(), topology.console(), topology.controller()]
        .into_iter()
        .all(|address| std::net::TcpListener::bind(address).is_ok())
}

async fn start(mesh: &mut Mesh, programs: &str) -> anyhow::Result<()> {
    output::progress(programs);
    if mesh.topology.place == Place::Namespaces {
        mesh.make_namespaces().await?;
    }
    mesh.start().await
}

/// Starts, runs every check, ends, and makes "nothing is left" the last check.
async fn checked(mut mesh: Mesh, demo: &args::Demo) -> Result<Exit, Failure> {
    let mut report = check::Report::new();
    let began = Instant::now();
    let mut interrupted = Interrupt::new()?;
    let scenario = async {
        let started = start(&mut mesh, "starting controller, gateway, applications and sidecars").await;
        let ready = started.is_ok();
        let detail = format!("controller and {} pods ready", mesh.topology.pods.len());
        report.note("a mesh starts from nothing", began, started.map(|()| detail));
        if ready {
            check::run(&mut mesh, &mut report).await;
        }
    };
    tokio::select! {
        () = scenario => {}
        () = interrupted.wait() => report.note("interrupted", began, Err(anyhow::anyhow!("by a signal"))),
    }
    let began = Instant::now();
    output::progress("ending everything");
    let left = mesh.stop(demo.keep.as_deref()).await.and_then(|left| {
        anyhow::ensure!(left.is_empty(), "still there: {}", left.join(", "));
        Ok("no process, namespace or file".to_owned())
    });
    report.note("nothing is left", began, left);
    output::print(&report.table());
    let passed = report.passed();
    output::print(if passed { "\nall checks passed\n" } else { "\na check FAILED\n" });
    Ok(if passed { Exit::Well } else { Exit::NotWell })
}

/// Starts, runs a command in the mesh, ends everything; well is what the command calls well. A command that runs until
/// Ctrl-C has not said anything.
async fn commanded(
    mut mesh: Mesh,
    demo: &args::Demo,
    program: &OsStr,
    arguments: &[OsString],
) -> Result<Exit, Failure> {
    let mut interrupted = Interrupt::new()?;
    let attended = async {
        start(&mut mesh, "starting controller, gateway, applications and sidecars").await?;
        command::run(&mut mesh, program, arguments).await
    };
    let outcome = tokio::select! {
        outcome = attended => outcome,
        () = interrupted.wait() => Ok(Exit::NotWell),
    };
    let left = ended(mesh, demo, outcome.is_ok()).await?;
    let exit = outcome.map_err(|error| {
        Failure::not_well("the demo failed", error).advise("run it with --keep FOLDER to look at every log")
    })?;
    left.map(|()| exit)
}

/// Starts, sends traffic and shows it until Ctrl-C or the end of `--duration`, then ends everything.
async fn shown(mut mesh: Mesh, demo: &args::Demo) -> Result<Exit, Failure> {
    let mut interrupted = Interrupt::new()?;
    let outcome = tokio::select! {
        outcome = show(&mut mesh, demo.duration) => outcome,
        () = interrupted.wait() => Ok(()),
    };
    let left = ended(mesh, demo, outcome.is_ok()).await?;
    outcome.map_err(|error| {
        Failure::not_well("the demo failed", error).advise("run it with --keep FOLDER to look at every log")
    })?;
    left.map(|()| Exit::Well)
}

/// Ends everything, in order where all went well; inside, whether something had to be ended by force.
async fn ended(mesh: Mesh, demo: &args::Demo, in_order: bool) -> Result<Result<(), Failure>, Failure> {
    output::progress("ending everything");
    let keep = demo.keep.as_deref();
    let stopped = if in_order { mesh.stop(keep).await } else { mesh.abandon(keep).await };
    let left = stopped.map_err(|error| Failure::not_well("cannot end the demo in order", error))?;
    if left.is_empty() {
        output::progress("everything has ended, nothing is left");
        return Ok(Ok(()));
    }
    Ok(Err(Failure::plain(format!("still there and now ended by force: {}", left.join(", ")))))
}

async fn show(mesh: &mut Mesh, duration: Option<Duration>) -> anyhow::Result<()> {
    start(mesh, "starting controller, gateway, applications and sidecars").await?;
    let topology = mesh.topology.clone();
    output::progress(&format!(
        "a request travels gateway → a → b → c → d; try it yourself:\n  \
         curl -H 'host: a.demo:8080' -H 'x-mesh-lane: canary' http://{}/\n  \
         mesh-ctl --controller http://{} proxy status\nCtrl-C ends everything.\n",
        topology.entry(),
        topology.console()
    ));
    let traffic = traffic::Traffic::start(topology.entry());
    let mut view = view::View::new(topology);
    let mut ticks = interval(REDRAW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = async {
        match duration {
            Some(duration) => sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    let mut end = std::pin::pin!(end);
    loop {
        tokio::select! {
            () = end.as_mut() => return Ok(()),
            _ = ticks.tick() => view.refresh(&traffic.seen()).await,
            gone = mesh.processes.watch() => {
                gone?;
                if let Some((name, how)) = mesh.processes.fallen().first_key_value() {
                    anyhow::bail!("{name} has ended: {how}");
                }
            }
        }
    }
}

/// Ctrl-C and SIGTERM.
struct Interrupt {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Interrupt {
    fn new() -> Result<Interrupt, Failure> {
        let watch = |kind| signal(kind).map_err(|error| Failure::not_well("cannot watch for signals", error));
        Ok(Interrupt { interrupt: watch(SignalKind::interrupt())?, terminate: watch(SignalKind::terminate())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
