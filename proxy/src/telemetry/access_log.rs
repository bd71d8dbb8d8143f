//! The access log: one JSON line per exchange on standard output. Rendered on the control thread, written by a thread of
//! its own behind a bounded queue, so that a reader who stops reading stops nobody else.

use std::{
    io::Write,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_core::{model::model_route::Reason, outcome::Level};
use serde::Serialize;

use super::{
    control::ControlCounters,
    model_call::ModelCall,
    worker::{AccessLog, Record, Trace},
};

/// Lines that wait to be written; more are dropped and counted.
const LINE_QUEUE: usize = 4_096;

/// Takes records in.
pub struct Log {
    mode: AccessLog,
    lines: SyncSender<String>,
    counters: Arc<ControlCounters>,
}

/// The log and its writing end, to be run in a thread.
pub fn open(mode: AccessLog, counters: Arc<ControlCounters>) -> (Log, Writer) {
    let (lines, queue) = sync_channel(LINE_QUEUE);
    (Log { mode, lines, counters }, Writer { queue })
}

impl Log {
    /// Writes a line for a record, if the mode wants one.
    pub fn write(&self, record: &Record) {
        if !self.mode.wants(record.outcome) {
            return;
        }
        match self.lines.try_send(line(record)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                ControlCounters::add(&self.counters.log_lines_dropped);
            }
        }
    }
}

/// The writing end.
pub struct Writer {
    queue: Receiver<String>,
}

impl Writer {
    /// Writes until the log is dropped; flushes when nothing waits.
    pub fn run(self, output: impl Write) {
        let mut output = std::io::BufWriter::new(output);
        while let Ok(line) = self.queue.recv() {
            let mut written = output.write_all(line.as_bytes());
            while let Ok(line) = self.queue.try_recv() {
                written = written.and_then(|()| output.write_all(line.as_bytes()));
            }
            if written.and_then(|()| output.flush()).is_err() {
                // Standard output is closed: lines are counted as dropped from here on.
                return;
            }
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    severity: &'static str,
    direction: &'static str,
    protocol: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    method: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    authority: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    path: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    status: u16,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    duration_ms: f64,
    service: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    client: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lane: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pick: Option<&'static str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<&'a str>,
    bytes_in: u64,
    bytes_out: u64,
    attempts: u32,
    #[serde(flatten)]
    call: Option<CallFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
}

/// Fields of calls to models alone.
#[derive(Serialize)]
struct CallFields<'a> {
    operation: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_model: Option<&'a str>,
    /// Place of an attempt among those of its call; a line without it is of the call itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_in: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_out: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_source: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_token_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overhead_ms: Option<f64>,
}

impl<'a> CallFields<'a> {
    fn of(call: &'a ModelCall) -> Self {
        let asked = call.asked.as_ref();
        CallFields {
            operation: call.operation,
            model: &call.model,
            target: asked.map(|asked| asked.target.as_str()),
            target_model: asked.map(|asked| asked.model.as_str()),
            attempt: call.attempt(),
            reasons: call.reasons().map(Reason::as_str).collect(),
            tokens_in: call.usage.map(|(usage, _)| usage.input),
            tokens_out: call.usage.map(|(usage, _)| usage.output),
            usage_source: call.usage.map(|(_, source)| source.as_str()),
            first_token_ms: call.first_token.map(milliseconds),
            overhead_ms: call.overhead().map(milliseconds),
        }
    }
}

/// With microseconds behind the point.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn is_zero(status: &u16) -> bool {
    *status == 0
}

/// A record as JSON, with line end.
pub fn line(record: &Record) -> String {
    let line = Line {
        time: rfc3339(record.start),
        severity: match record.outcome.level() {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
        },
        direction: record.direction.label(),
        protocol: record.protocol.label(),
        method: &record.method,
        authority: &record.authority,
        path: &record.path,
        status: record.status,
        outcome: record.outcome.label(),
        detail: record.detail.as_deref(),
        duration_ms: milliseconds(record.duration),
        service: &record.service,
        endpoint: record.endpoint.map(|endpoint| endpoint.to_string()),
        client: record.client.to_string(),
        peer: record.peer.as_deref(),
        lane: record.lane.as_deref(),
        level: record.level.as_deref(),
        reason: record.reason,
        zone: record.zone,
        pick: record.pick,
        source: record.source,
        entry: record.entry.as_deref(),
        bytes_in: record.bytes_in,
        bytes_out: record.bytes_out,
        attempts: record.attempts,
        call: record.model.as_deref().map(CallFields::of),
        trace_id: record.trace.as_ref().map(trace_id),
    };
    let mut text = serde_json::to_string(&line).expect("a record is made of strings and numbers: always JSON");
    text.push('\n');
    text
}

fn trace_id(trace: &Trace) -> String {
    trace.trace_id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A time as RFC 3339 in UTC, with milliseconds. Days to date after Hinnant, "chrono-compatible low-level date algorithms".
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second % 3_600 / 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

#[cfg(test)]
pub(crate) mod tests {
    use mesh_core::{
        model::model_route::{Provider, Usage, UsageSource},
        outcome::Outcome,
    };

    use super::*;
    use crate::telemetry::{
        model_call::{AskedTarget, Part},
        models::Ended,
        worker::{Direction, Protocol},
    };

    pub(crate) fn record(outcome: Outcome) -> Record {
        Record {
            start: UNIX_EPOCH + Duration::from_millis(1_800_000_000_123),
            duration: Duration::from_micros(1_500),
            direction: Direction::Outbound,
            protocol: Protocol::Http1,
            service: "b.demo".into(),
            endpoint: Some(([10, 0, 0, 1], 8080).into()),
            client: ([127, 0, 0, 1], 40_000).into(),
            peer: Some("spiffe://cluster.local/ns/demo/sa/b".to_owned()),
            lane: Some("canary".to_owned()),
            level: Some("baseline".to_owned()),
            reason: Some("missing"),
            zone: Some("spill"),
            pick: None,
            source: "header",
            entry: None,
            outcome,
            detail: None,
            status: 200,
            method: "GET".to_owned(),
            authority: "b:8080".to_owned(),
            path: "/a\"b\n".to_owned(),
            bytes_in: 10,
            bytes_out: 20,
            attempts: 1,
            trace: Some(Trace { trace_id: [0xab; 16], parent: [1; 8], span: [2; 8] }),
            probe: None,
            model: None,
        }
    }

    /// A call whose second attempt served.
    pub(crate) fn call() -> ModelCall {
        ModelCall {
            operation: "chat",
            model: "chat-large".to_owned(),
            asked: Some(AskedTarget {
                target: "big".to_owned(),
                model: "gemini-pro".to_owned(),
                provider: Provider::Gemini,
            }),
            usage: Some((Usage { input: 30, output: 4, cached: 8 }, UsageSource::Reported)),
            first_token: Some(Duration::from_micros(250_500)),
            part: Part::Call {
                reasons: vec![Reason::Rate, Reason::TimeoutFirstToken],
                error: None,
                overhead: Some(Duration::from_millis(12)),
            },
        }
    }

    /// Its first attempt.
    pub(crate) fn attempt() -> ModelCall {
        let part = Part::Attempt { number: 1, ended: Ended::Failed(Reason::Rate) };
        ModelCall { usage: None, first_token: None, part, ..call() }
    }

    #[test]
    fn every_exchange_is_one_line_of_json_whatever_its_path_holds() {
        let line = line(&record(Outcome::Success));
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["path"], "/a\"b\n");
        assert_eq!(value["time"], "2027-01-15T08:00:00.123Z");
        assert_eq!(value["duration_ms"], 1.5);
        assert_eq!(value["zone"], "spill");
        assert_eq!(value["trace_id"], "ab".repeat(16));
    }

    #[test]
    fn call_of_a_model_says_who_served_it_what_it_used_and_why_others_did_not_serve() {
        let json = |call| -> serde_json::Value {
            serde_json::from_str(&line(&Record { model: Some(Box::new(call)), ..record(Outcome::Success) })).unwrap()
        };
        let value = json(call());
        let expected = serde_json::json!({
            "operation": "chat", "model": "chat-large", "target": "big", "target_model": "gemini-pro",
            "reasons": ["rate", "timeout_first_token"], "tokens_in": 30, "tokens_out": 4, "usage_source": "reported",
            "first_token_ms": 250.5, "overhead_ms": 12.0, "lane": "canary", "attempts": 1,
        });
        for (field, expected) in expected.as_object().unwrap() {
            assert_eq!(&value[field], expected, "{field} of {value}");
        }
        assert!(value.get("attempt").is_none(), "{value}");
        let value = json(attempt());
        assert_eq!((&value["attempt"], &value["reasons"]), (&1.into(), &serde_json::json!(["rate"])));
        let plain: serde_json::Value = serde_json::from_str(&line(&record(Outcome::Success))).unwrap();
        assert!(plain.get("model").is_none() && plain.get("tokens_in").is_none(), "{plain}");
    }

    #[test]
    fn leap_days_and_turns_of_years_are_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn mode_failures_writes_what_is_not_ordinary() {
        let counters = Arc::new(ControlCounters::default());
        for (mode, expected) in [(AccessLog::Off, 0), (AccessLog::Failures, 1), (AccessLog::All, 2)] {
            let (log, writer) = open(mode, Arc::clone(&counters));
            log.write(&record(Outcome::Success));
            log.write(&record(Outcome::Denied));
            drop(log);
            let mut output = Vec::new();
            writer.run(&mut output);
            assert_eq!(output.iter().filter(|byte| **byte == b'\n').count(), expected, "{mode:?}");
        }
    }

    #[test]
    fn lines_that_nobody_takes_are_dropped_and_counted() {
        let counters = Arc::new(ControlCounters::default());
        let (log, _writer) = open(AccessLog::All, Arc::clone(&counters));
        for _ in 0..LINE_QUEUE + 3 {
            log.write(&record(Outcome::Success));
        }
        assert_eq!(ControlCounters::get(&counters.log_lines_dropped), 3);
    }
}
