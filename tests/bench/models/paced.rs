//! Streams as models send them: 300 at a time, a token every 20 ms. CPU of the proxy, how late events come, and whether all
//! come.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::{
    chat,
    client::{Stream, Way},
    pacer::{PERIOD, STREAMS},
    provider::Behaviour,
};
use crate::measure::Measured;

/// How long all streams may take to begin.
const BEGIN_WAIT: Duration = Duration::from_secs(10);
/// How often that is looked for.
const LOOK: Duration = Duration::from_millis(5);
/// Tokens before and behind what is measured, of each stream.
const SPARE: u64 = 75;

/// What was measured of one way.
#[derive(Default)]
pub(super) struct Figures {
    /// CPU of the proxy as a share of one core, by round; empty without a proxy.
    pub(super) share: Vec<f64>,
    /// CPU microseconds of the proxy per event, by round; empty without a proxy.
    pub(super) cpu: Vec<f64>,
    /// 50th percentile of an event's delay in microseconds, by round.
    pub(super) p50: Vec<f64>,
    /// 99th percentile, by round.
    pub(super) p99: Vec<f64>,
    /// Events that came, all rounds together.
    pub(super) events: usize,
}

/// A token: when it was written, and when it was read.
type Token = (u64, u64);

/// Measures one way once, for about `lasts`.
///
/// # Errors
/// When an event is missing or comes twice, or a stream does not end in order.
pub(super) fn measure(
    way: &Way,
    proxy: Option<&Measured>,
    lasts: Duration,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let tokens = u64::try_from(lasts.as_nanos() / PERIOD.as_nanos())? + 2 * SPARE;
    let (begun, read) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (way_there, has_begun, has_read) = (way.clone(), begun.clone(), read.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let work = move || {
        runtime.block_on(async {
            let follow = || follow(way_there.clone(), tokens, has_begun.clone(), has_read.clone());
            let streams: Vec<_> = (0..STREAMS).map(|_| tokio::spawn(follow())).collect();
            let mut all = Vec::new();
            for stream in streams {
                all.extend(stream.await??);
            }
            anyhow::Ok(all)
        })
    };
    let thread = thread::Builder::new().name("streams".into()).spawn(work)?;
    let since = Instant::now();
    while begun.load(Ordering::Relaxed) < STREAMS && !thread.is_finished() {
        ensure!(since.elapsed() < BEGIN_WAIT, "{} of {STREAMS} streams begin", begun.load(Ordering::Relaxed));
        thread::sleep(LOOK);
    }
    let cpu = || proxy.map(Measured::cpu).transpose();
    let (from, cpu_before, read_before) = (chat::now(), cpu()?, read.load(Ordering::Relaxed));
    thread::sleep(lasts);
    let (to, cpu_after, read_after) = (chat::now(), cpu()?, read.load(Ordering::Relaxed));
    let all: Vec<Token> = thread.join().map_err(|_| anyhow::anyhow!("the streams' thread panicked"))??;
    figures.events += all.len();
    if let (Some(before), Some(after)) = (cpu_before, cpu_after) {
        let spent = (after - before).as_secs_f64();
        figures.share.push(spent / chat::between(from, to).as_secs_f64());
        figures.cpu.push(spent * 1e6 / (read_after - read_before) as f64);
    }
    let within = all.iter().filter(|(written, _)| (from..to).contains(written));
    let mut delays: Vec<Duration> = within.map(|&(written, read)| chat::between(written, read)).collect();
    delays.sort_unstable();
    figures.p50.push(super::percentile(&delays, 50));
    figures.p99.push(super::percentile(&delays, 99));
    Ok(())
}

/// Reads one stream to its end.
async fn follow(way: Way, tokens: u64, begun: Arc<AtomicUsize>, read: Arc<AtomicUsize>) -> anyhow::Result<Vec<Token>> {
    let mut stream = Stream::open(&way, &way.request(Behaviour::Paced, tokens)).await?;
    let (mut events, mut seen, mut held) = (0, Vec::new(), Vec::new());
    loop {
        let mut now = None;
        let goes_on = stream.read(|bytes| {
            let now = *now.get_or_insert_with(chat::now);
            held.extend_from_slice(bytes);
            while let Some(end) = held.windows(2).position(|window| window == b"\n\n") {
                let event: Vec<u8> = held.drain(..end + 2).collect();
                events += 1;
                if let Some(written) = chat::stamp(&event) {
                    seen.push((written, now));
                    read.fetch_add(1, Ordering::Relaxed);
                    if seen.len() == 1 {
                        begun.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        if !goes_on.await.with_context(|| format!("after {events} events"))? {
            break;
        }
    }
    ensure!(held.is_empty(), "a stream ends within an event");
    ensure!(seen.is_sorted_by(|(one, _), (next, _)| one < next), "an event comes twice or not in its place");
    let wanted = usize::try_from(tokens)? + chat::AROUND;
    ensure!(events == wanted, "{events} events of {wanted}");
    Ok(seen)
}
