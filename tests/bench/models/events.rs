//! What an event costs: CPU of the proxy per event of streams that come at full speed.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    client::{Stream, Way, line_feeds},
    provider::Behaviour,
};
use crate::measure::Measured;

/// Streams that are read at the same time.
pub(super) const STREAMS: usize = 16;
/// Tokens of a stream: more than any lasts, so that only events are measured, and no beginning or end.
const TOKENS: u64 = 1 << 40;

/// What was measured of one way.
#[derive(Default)]
pub(super) struct Figures {
    /// CPU microseconds of the proxy per event, by round.
    pub(super) cpu: Vec<f64>,
    /// Events per second, by round.
    pub(super) rate: Vec<f64>,
}

/// Streams that are read by a thread until it is stopped.
struct Reading {
    feeds: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    failure: Arc<Mutex<Option<anyhow::Error>>>,
    thread: thread::JoinHandle<()>,
}

impl Reading {
    fn start(way: &Way) -> anyhow::Result<Reading> {
        let (feeds, stop, failure): (Arc<AtomicUsize>, Arc<AtomicBool>, Arc<Mutex<Option<_>>>) = Default::default();
        let (way, count, ending, problem) = (way.clone(), feeds.clone(), stop.clone(), failure.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || {
            let done = runtime.block_on(async {
                let readers = (0..STREAMS).map(|_| tokio::spawn(read(way.clone(), count.clone(), ending.clone())));
                for ended in readers.collect::<Vec<_>>() {
                    ended.await??;
                }
                anyhow::Ok(())
            });
            if let Err(error) = done {
                problem.lock().expect("nobody panics holding it").get_or_insert(error);
            }
        };
        let thread = thread::Builder::new().name("streams".into()).spawn(work)?;
        Ok(Reading { feeds, stop, failure, thread })
    }

    fn events(&self) -> usize {
        self.feeds.load(Ordering::Relaxed) / 2
    }

    fn stop(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the streams' thread panicked"))?;
        let failure = self.failure.lock().expect("nobody panics holding it").take();
        failure.map_or(Ok(()), Err)
    }
}

async fn read(way: Way, feeds: Arc<AtomicUsize>, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
    let mut stream = Stream::open(&way, &way.request(Behaviour::Packed, TOKENS)).await?;
    while !stop.load(Ordering::Relaxed) {
        let mut came = 0;
        stream.read(|bytes| came += line_feeds(bytes)).await?;
        feeds.fetch_add(came, Ordering::Relaxed);
    }
    Ok(())
}

/// Measures one way once.
///
/// # Errors
/// When a stream breaks.
pub(super) fn measure(
    way: &Way,
    proxy: &Measured,
    (warm_up, lasts): (Duration, Duration),
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let reading = Reading::start(way)?;
    thread::sleep(warm_up);
    let (cpu, events) = (proxy.cpu()?, reading.events());
    thread::sleep(lasts);
    let (cpu, events) = (proxy.cpu()? - cpu, reading.events() - events);
    reading.stop()?;
    anyhow::ensure!(events > 0, "no event in {lasts:?}");
    figures.cpu.push(cpu.as_secs_f64() * 1e6 / events as f64);
    figures.rate.push(events as f64 / lasts.as_secs_f64());
    Ok(())
}
