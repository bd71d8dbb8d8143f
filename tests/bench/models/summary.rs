//! The figures of models as tables, as JSON, and against the targets.

use serde_json::{Value, json};

use super::{
    Figures, Report,
    events::STREAMS,
    failover::{FIRST_TOKEN, Fault},
    first_byte::PROMPT,
    memory, pacer, percentile,
};
use crate::summary::median;

/// What reading and counting may add to an event, microseconds of CPU.
const ADDED_PER_EVENT: f64 = 1.0;
/// What an exchange with a model may hold more than an ordinary one, bytes per open stream.
const ADDED_PER_STREAM: f64 = 4096.0;

/// Prints the tables.
pub(super) fn print(report: &Report) {
    println!(
        "\nmodels: OpenAI chat streams, medians of {} rounds; what the model route adds to the ordinary exchange is the \
         median of the differences of each round",
        report.rounds
    );
    println!("\n{:<30} {:>14} {:>12}", format!("full speed, {STREAMS} streams"), "CPU µs/event", "events/s");
    for of in proxied(report) {
        println!("{:<30} {:>14.3} {:>12.0}", of.name, median(&of.events.cpu), median(&of.events.rate));
    }
    println!("{:<30} {:>14.3}", "model route adds", added(report, |of| &of.events.cpu));

    let paced = format!("{} streams, {} ms an event", pacer::STREAMS, pacer::PERIOD.as_millis());
    println!(
        "\n{paced:<30} {:>14} {:>9} {:>12} {:>12} {:>9}",
        "CPU µs/event", "CPU %", "delay p50 µs", "delay p99 µs", "events"
    );
    for of in &report.ways {
        println!(
            "{:<30} {:>14.3} {:>9.1} {:>12.0} {:>12.0} {:>9}",
            of.name,
            median(&of.paced.cpu),
            median(&of.paced.share) * 100.0,
            median(&of.paced.p50),
            median(&of.paced.p99),
            of.paced.events
        );
    }
    println!("{:<30} {:>14.3}", "model route adds", added(report, |of| &of.paced.cpu));

    println!("\n{:<30} {:>14} {:>14}", format!("{} open streams", memory::STREAMS), "B/stream", "RSS");
    for of in report.ways.iter().filter(|of| !of.memory.each.is_empty()) {
        let all = median(&of.memory.all) / f64::from(1 << 20);
        println!("{:<30} {:>14.0} {:>11.1} MB", of.name, median(&of.memory.each), all);
    }
    println!("{:<30} {:>14.0}", "model route adds", added(report, |of| &of.memory.each));

    println!("\n{:<30} {:>14} {:>12}", format!("first byte, {} KB prompt", PROMPT / 1024), "p50 µs", "p99 µs");
    for of in &report.ways {
        let (p50, p99) = (percentile(&of.first_byte, 50), percentile(&of.first_byte, 99));
        println!("{:<30} {p50:>14.0} {p99:>12.0}", of.name);
    }

    println!("\n{:<30} {:>14} {:>12} {:>14}", "first byte, first target", "p50 µs", "p99 µs", "above healthy");
    for (fault, delays) in &report.failover {
        let (p50, p99) = (percentile(delays, 50), percentile(delays, 99));
        println!("{:<30} {p50:>14.0} {p99:>12.0} {:>14.0}", fault.name(), above(report, *fault));
    }
    println!("({} ms of the timer firstToken taken off the last column)", FIRST_TOKEN.as_millis());
}

/// The figures, for machines.
pub(super) fn json(report: &Report) -> Value {
    let ways = report.ways.iter().map(|of| {
        json!({
            "name": of.name,
            "full_speed": {"cpu_microseconds_per_event": of.events.cpu, "events_per_second": of.events.rate},
            "paced": {
                "cpu_microseconds_per_event": of.paced.cpu,
                "cpu_share": of.paced.share,
                "p50_microseconds": of.paced.p50,
                "p99_microseconds": of.paced.p99,
                "events": of.paced.events,
            },
            "memory": {"bytes_per_stream": of.memory.each, "resident": of.memory.all},
            "first_byte_microseconds": microseconds(&of.first_byte),
        })
    });
    let failover = report.failover.iter().map(|(fault, delays)| {
        json!({
            "first_target": fault.name(),
            "first_byte_microseconds": microseconds(delays),
            "above_healthy_and_timer_microseconds": above(report, *fault),
        })
    });
    json!({
        "rounds": report.rounds,
        "added_microseconds_per_event": {
            "full_speed": added(report, |of| &of.events.cpu),
            "paced": added(report, |of| &of.paced.cpu),
        },
        "added_bytes_per_stream": added(report, |of| &of.memory.each),
        "ways": ways.collect::<Vec<_>>(),
        "failover": failover.collect::<Vec<_>>(),
    })
}

fn microseconds(delays: &[std::time::Duration]) -> Value {
    json!({"p50": percentile(delays, 50), "p99": percentile(delays, 99), "samples": delays.len()})
}

/// Every target that is missed, as a sentence.
pub(super) fn missed(report: &Report) -> Vec<String> {
    let mut missed = Vec::new();
    let cases = [("full speed", added(report, |of| &of.events.cpu)), ("paced", added(report, |of| &of.paced.cpu))];
    for (name, added) in cases {
        // What could not be measured is missed.
        if added.is_nan() || added > ADDED_PER_EVENT {
            missed.push(format!("models, {name}: {added:.3} µs added to an event; at most {ADDED_PER_EVENT} allowed"));
        }
    }
    let added = added(report, |of| &of.memory.each);
    if added.is_nan() || added > ADDED_PER_STREAM {
        missed.push(format!("models: {added:.0} bytes added to an open stream; at most {ADDED_PER_STREAM} allowed"));
    }
    missed
}

/// Ways with a proxy.
fn proxied(report: &Report) -> impl Iterator<Item = &Figures> {
    report.ways.iter().filter(|of| !of.events.cpu.is_empty())
}

/// What the model route adds to the ordinary exchange: these two stand last.
fn added(report: &Report, of: impl Fn(&Figures) -> &Vec<f64>) -> f64 {
    let [.., ordinary, model] = report.ways.as_slice() else { return f64::NAN };
    median(&of(model).iter().zip(of(ordinary)).map(|(model, ordinary)| model - ordinary).collect::<Vec<_>>())
}

/// What a failing first target costs beyond a healthy one and the timer that has to run out, microseconds at the median.
fn above(report: &Report, fault: Fault) -> f64 {
    let median_of = |fault: Fault| {
        let delays = report.failover.iter().find(|(of, _)| *of == fault).map(|(_, delays)| percentile(delays, 50));
        delays.unwrap_or(f64::NAN)
    };
    median_of(fault) - median_of(Fault::None) - fault.timer().as_secs_f64() * 1e6
}
