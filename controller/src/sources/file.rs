//! The file source: one YAML file or a folder of them, watched. All files are read, parsed and compiled together; with
//! any problem the last good world stays in force.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_core::{
    model::lane::LaneRef,
    resources::{Problem, Resource, parse},
};
use notify::{RecursiveMode, Watcher};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Change, Shared,
    folder::{self, ApplyError, Parsed, Text},
    lanes::{self, Order, OrderError},
    zones::{self, ZoneOrder},
};
use crate::{
    compose::{News, Said},
    sign::files,
    telemetry::{Load, Metrics},
    workshop::Workshop,
};

/// Name of this source.
pub const NAME: &str = "file";
/// Writers change several files at once, and editors write one file in several steps: wait until they are done. Where
/// loading takes longer than this, wait as long as the last load took, so that files which change all the time take half a
/// core at most …
const DEBOUNCE: Duration = Duration::from_millis(50);
/// … and never longer than this.
const DEBOUNCE_MAX: Duration = Duration::from_millis(500);
/// The folder is looked at this often even when nobody tells: network file systems send no events.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);
/// Requests of the console that wait for the source.
pub const REQUEST_QUEUE: usize = 16;

/// Something that the console wants of the source.
#[derive(Debug)]
pub enum Request {
    /// Check YAML against everything else.
    Validate {
        /// The YAML.
        yaml: String,
        /// What is wrong.
        answer: oneshot::Sender<Vec<Problem>>,
    },
    /// Check YAML against everything else and write it into the folder.
    Apply {
        /// The YAML.
        yaml: String,
        /// The resources written, or why not.
        answer: oneshot::Sender<Result<Vec<Resource>, ApplyError>>,
    },
    /// Change a lane and write it into the folder.
    Lane {
        /// Which.
        lane: LaneRef,
        /// How.
        order: Order,
        /// Done, or why not.
        answer: oneshot::Sender<Result<(), LaneError>>,
    },
    /// Drain or restore a zone and write it into the folder.
    Zone {
        /// What is wanted.
        order: ZoneOrder,
        /// Done, or why not.
        answer: oneshot::Sender<Result<(), ApplyError>>,
    },
}

/// Why a lane was not changed.
#[derive(Debug, Error)]
pub enum LaneError {
    /// The order cannot be carried out.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// What it leads to is refused.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// Answers a console; called when what was written is in force.
type Answer = Box<dyn FnOnce() + Send>;

/// What was seen last.
#[derive(Default)]
struct Seen {
    texts: Option<Result<Vec<Text>, Vec<Problem>>>,
    parsed: Parsed,
}

/// The source.
pub struct FileSource {
    /// File or folder.
    pub place: PathBuf,
    /// What all sources say, for checks of what is not yet written.
    pub said: watch::Receiver<Arc<Said>>,
    /// State for the console.
    pub state: Arc<Shared>,
    /// To where one world is made of all sources.
    pub changes: mpsc::Sender<Change>,
    /// From the console.
    pub requests: mpsc::Receiver<Request>,
    /// Where files are understood.
    pub workshop: Workshop,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl FileSource {
    /// Runs until `stopping`.
    pub async fn run(mut self, stopping: CancellationToken) {
        let (signal, mut signalled) = mpsc::channel(1);
        // Held while we run: dropping it ends the watch.
        let _watcher = watcher(&self.place, signal);
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut seen, mut took) = (Seen::default(), Duration::ZERO);
        loop {
            let mut answer = None;
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = look.tick() => (),
                Some(()) = signalled.recv() => {
                    sleep(took.clamp(DEBOUNCE, DEBOUNCE_MAX)).await;
                    while signalled.try_recv().is_ok() {}
                }
                Some(request) = self.requests.recv() => answer = Some(self.request(request).await),
            }
            let began = Instant::now();
            self.load(&mut seen).await;
            took = began.elapsed();
            if let Some(answer) = answer {
                answer();
            }
        }
    }

    /// Loads the files unless they are what was seen last.
    async fn load(&self, seen: &mut Seen) {
        let place = self.place.clone();
        let texts = blocking(move || folder::read(&place)).await;
        if seen.texts.as_ref() == Some(&texts) {
            return;
        }
        seen.texts = Some(texts.clone());
        let mut parsed = std::mem::take(&mut seen.parsed);
        let work = move || {
            let resources = texts.and_then(|texts| parsed.resources(texts));
            (resources, parsed)
        };
        let (resources, parsed) = self.workshop.run(work).await;
        seen.parsed = parsed;
        match resources {
            Ok(resources) => self.read(Arc::new(resources)).await,
            Err(problems) => self.refused(problems),
        }
    }

    /// Tells what was read; it is loaded when it fits together with what the other sources say.
    async fn read(&self, resources: Arc<Vec<Resource>>) {
        let (done, taken) = oneshot::channel();
        let news = News::Resources { source: NAME.into(), resources: Arc::clone(&resources) };
        // Both fail only when the index is gone because everything stops.
        if self.changes.send(Change { news, done: Some(done) }).await.is_err() {
            return;
        }
        match taken.await {
            Ok(Ok(())) => self.loaded(resources),
            Ok(Err(problems)) => self.refused(problems),
            Err(_) => (),
        }
    }

    fn loaded(&self, resources: Arc<Vec<Resource>>) {
        info!(place = %self.place.display(), resources = resources.len(), "files loaded");
        self.metrics.source_load(NAME, Load::Loaded, 0);
        self.state.change(|state| {
            state.loaded = Some(SystemTime::now());
            state.refused = None;
            state.problems = Vec::new();
            state.resources = resources;
        });
    }

    fn refused(&self, problems: Vec<Problem>) {
        for problem in &problems {
            let Problem { file, line, path, message } = problem;
            warn!(file, line, field = path, problem = message, "files refused; the last good state stays in force");
        }
        self.metrics.source_load(NAME, Load::Refused, problems.len());
        self.state.change(|state| {
            state.refused = Some(SystemTime::now());
            state.problems = problems;
        });
    }

    /// Carries a request out; the answer is given when it is in force. A console that hung up needs none.
    async fn request(&self, request: Request) -> Answer {
        let (place, said) = (self.place.clone(), Arc::clone(&self.said.borrow()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        match request {
            Request::Validate { yaml, answer } => {
                let checked = blocking(move || check(&Ground::read(&place)?, &said, &yaml, now)).await;
                Box::new(move || drop(answer.send(checked.err().map(problems_of).unwrap_or_default())))
            }
            Request::Apply { yaml, answer } => {
                let written = blocking(move || write(&Ground::read(&place)?, &said, &yaml, now)).await;
                Box::new(move || drop(answer.send(written)))
            }
            Request::Lane { lane, order, answer } => {
                let written = blocking(move || {
                    let ground = Ground::read(&place)?;
                    let yaml = lanes::ordered(&ground.resources, &lane, &order, now)?;
                    write(&ground, &said, &yaml, now)?;
                    Ok(())
                });
                let written = written.await;
                Box::new(move || drop(answer.send(written)))
            }
            Request::Zone { order, answer } => {
                let written = blocking(move || {
                    let ground = Ground::read(&place)?;
                    write(&ground, &said, &zones::ordered(&ground.resources, &order, now), now).map(drop)
                });
                let written = written.await;
                Box::new(move || drop(answer.send(written)))
            }
        }
    }
}

/// What stands in the place now.
struct Ground<'p> {
    place: &'p Path,
    resources: Vec<(PathBuf, Resource)>,
}

impl<'p> Ground<'p> {
    fn read(place: &'p Path) -> Result<Self, ApplyError> {
        let texts = folder::read(place).map_err(ApplyError::Problems)?;
        Ok(Ground { place, resources: folder::placed(&texts).map_err(ApplyError::Problems)? })
    }
}

fn problems_of(error: ApplyError) -> Vec<Problem> {
    match error {
        ApplyError::Problems(problems) => problems,
        ApplyError::NotFolder(_) | ApplyError::Write(_) => Vec::new(),
    }
}

/// What an application of resources will write.
struct Plan {
    resources: Vec<Resource>,
    files: Vec<(PathBuf, String)>,
}

/// Checks new resources together with everything in force.
fn check(ground: &Ground<'_>, said: &Said, yaml: &str, now: u64) -> Result<Plan, ApplyError> {
    let Ground { place, resources: in_place } = ground;
    let refused = |problems| ApplyError::Problems(nameless(problems));
    let fresh = parse("", yaml).map_err(refused)?;
    let fresh = lanes::marked(place, in_place, fresh, now).map_err(refused)?;
    let mut together: Vec<Resource> = in_place
        .iter()
        .filter(|(file, old)| !fresh.iter().any(|new| folder::replaces(place, new, file, old)))
        .map(|(_, resource)| resource.clone())
        .collect();
    together.extend(fresh.iter().cloned());
    said.compiled_with(NAME, &together).map_err(refused)?;
    let files = folder::plan(place, in_place, &fresh)?;
    Ok(Plan { resources: fresh, files })
}

/// Checks and writes.
fn write(ground: &Ground<'_>, said: &Said, yaml: &str, now: u64) -> Result<Vec<Resource>, ApplyError> {
    let plan = check(ground, said, yaml, now)?;
    plan.files.iter().try_for_each(|(file, text)| files::replace(file, text.as_bytes(), files::PUBLIC))?;
    Ok(plan.resources)
}

/// What came over the console stands in no file.
fn nameless(mut problems: Vec<Problem>) -> Vec<Problem> {
    for problem in &mut problems {
        problem.file = problem.file.take().filter(|file| !file.is_empty());
    }
    problems
}

/// Runs what reads disks or computes for long on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("reading and compiling files does not panic")
}

/// Tells through `signal` that something in the place changed. A place that cannot be watched is looked at now and then.
fn watcher(place: &Path, signal: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let tell = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // Full means that it is told already.
            let _ = signal.try_send(());
        }
    };
    // A file is replaced by renaming: its folder tells, the file itself would not.
    let folder = if place.is_dir() { place } else { place.parent().unwrap_or(place) };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let watched = notify::recommended_watcher(tell).and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watched.inspect_err(|error| warn!(place = %place.display(), %error, "cannot watch; looking every 3 s instead")).ok()
}
