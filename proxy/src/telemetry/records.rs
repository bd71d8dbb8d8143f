//! Takes the records of all workers and hands each to the access log and to the spans.

use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{
    access_log::Log,
    spans::{FLUSH_INTERVAL, Spans},
    worker::Record,
};

/// Runs until every worker is gone, then sends what is left.
pub async fn run(mut records: mpsc::Receiver<Box<Record>>, log: Log, spans: Option<Spans>) {
    let Some(mut spans) = spans else {
        while let Some(record) = records.recv().await {
            log.write(&record);
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
