//! Takes the records of all workers and hands each to the access log, to the spans, and, where it is of a probe, to the
//! reports for the controller.

use mesh_proto::{convert::timestamp, mesh::v1::ProbeNote};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{
    access_log::Log,
    spans::{FLUSH_INTERVAL, Spans},
    worker::Record,
};

/// Notes of probes that wait to be reported; more are left out.
pub const PROBE_QUEUE: usize = 64;

/// Runs until every worker is gone, then sends what is left.
pub async fn run(
    mut records: mpsc::Receiver<Box<Record>>,
    log: Log,
    spans: Option<Spans>,
    probes: mpsc::Sender<ProbeNote>,
) {
    let Some(mut spans) = spans else {
        while let Some(record) = records.recv().await {
            log.write(&record);
            report(&record, &probes);
        }
        return;
    };
    let mut tick = interval(FLUSH_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            record = records.recv() => {
                let Some(record) = record else { break };
                log.write(&record);
                report(&record, &probes);
                spans.take(&record);
                if spans.is_batch_full() {
                    spans.flush().await;
                }
            }
            _ = tick.tick() => spans.flush().await,
        }
    }
    spans.flush().await;
}

/// A queue that is full, or a control plane that takes no reports: the probe is not seen here.
fn report(record: &Record, probes: &mpsc::Sender<ProbeNote>) {
    let Some(trace) = &record.probe else { return };
    drop(probes.try_send(ProbeNote {
        trace: trace.clone(),
        direction: record.direction.label().to_owned(),
        service: record.service.to_string(),
        label: record.lane.clone().unwrap_or_default(),
        source: record.source.to_owned(),
        level: record.level.clone().unwrap_or_default(),
        reason: record.reason.unwrap_or_default().to_owned(),
        outcome: record.outcome.label().to_owned(),
        status: u32::from(record.status),
        endpoint: record.endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default(),
        start: Some(timestamp(record.start)),
    }));
}
