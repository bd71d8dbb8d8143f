//! The figures as a table, as JSON, and against the targets.

use serde_json::{Value, json};

use crate::{
    measure::Memory,
    rounds::{BUSY_CONNECTIONS, Figures, PACED_CONNECTIONS, PACED_RATE, Plan},
};

/// What Lanemesh must not exceed: (ours, measured against, times).
const CPU_TARGETS: &[(&str, &str, f64)] = &[
    ("lanemesh pair", "nginx pair", 1.3),
    ("lanemesh pair", "envoy pair", 0.6),
    ("lanemesh hop", "nginx hop", 1.3),
    ("lanemesh pair, 20 lanes", PAIR, 1.03),
    ("lanemesh pair, 20 lanes, entry", PAIR, 1.03),
];
/// What the pairs with lanes are measured against.
const PAIR: &str = "lanemesh pair";
/// Resident memory of an idle sidecar, in bytes.
const IDLE_TARGET: u64 = 12 * 1024 * 1024;

/// Prints the tables.
pub(crate) fn print(figures: &[Figures], plan: &Plan) {
    println!(
        "CPU: all proxies on the way, {BUSY_CONNECTIONS} connections, closed loop, medians of {} rounds; ratios are \
         medians of the ratios of each round. \"= nginx\" is the nginx of the same shape without access log.",
        plan.rounds
    );
    for (index, body) in plan.bodies.iter().enumerate() {
        println!("\nanswers of {body} B              CPU µs/request  = nginx  = envoy  requests/s");
        for of in figures {
            let busy = &of.busy[index];
            println!(
                "{:<30} {:>14.2}  {:>7}  {:>7}  {:>10.0}",
                of.name,
                median(&busy.cpu),
                times(cpu_ratio(figures, of, reference(of.name), index)),
                times(cpu_ratio(figures, of, "envoy pair", index).filter(|_| of.name.contains("pair"))),
                median(&busy.rate),
            );
        }
    }
    for of in figures.iter().filter(|of| of.name.starts_with(PAIR) && of.name != PAIR) {
        for (index, body) in plan.bodies.iter().enumerate() {
            if let Some(ratio) = cpu_ratio(figures, of, PAIR, index) {
                println!("\n{} = {ratio:.3} × {PAIR} (answers of {body} B)", of.name);
            }
        }
    }
    println!(
        "\nlatency at {PACED_CONNECTIONS} connections and {PACED_RATE} requests/s; memory of the largest proxy on the way"
    );
    println!(
        "{:<30} {:>7} {:>7}  {:>7}  {:>9} {:>9} {:>9} {:>9}  {:>14}",
        "", "p50 µs", "p99 µs", "= nginx", "idle RSS", "idle PSS", "busy RSS", "busy PSS", "idle conn., B"
    );
    for of in figures {
        let p99 = median(&of.p99);
        let nginx = named(figures, reference(of.name)).map(|nginx| p99 / median(&nginx.p99));
        println!(
            "{:<30} {:>7.0} {:>7.0}  {:>7}  {:>9} {:>9} {:>9} {:>9}  {:>14.0}",
            of.name,
            median(&of.p50),
            p99,
            times(nginx),
            mebibytes(&of.idle, |memory| memory.resident),
            mebibytes(&of.idle, |memory| memory.proportional),
            mebibytes(&of.loaded, |memory| memory.resident),
            mebibytes(&of.loaded, |memory| memory.proportional),
            of.connection,
        );
    }
}

/// The figures, for machines.
pub(crate) fn json(figures: &[Figures], plan: &Plan) -> Value {
    let memory = |all: &[Memory]| {
        all.iter().map(|one| json!({"resident": one.resident, "proportional": one.proportional})).collect::<Vec<_>>()
    };
    let contenders = figures.iter().map(|of| {
        let busy = plan.bodies.iter().zip(&of.busy).enumerate().map(|(index, (body, busy))| {
            json!({
                "body_bytes": body,
                "cpu_microseconds_per_request": busy.cpu,
                "requests_per_second": busy.rate,
                "cpu_to_nginx": cpu_ratio(figures, of, reference(of.name), index),
                "cpu_to_envoy": cpu_ratio(figures, of, "envoy pair", index),
                "cpu_to_lanemesh_pair": cpu_ratio(figures, of, PAIR, index),
            })
        });
        json!({
            "name": of.name,
            "busy": busy.collect::<Vec<_>>(),
            "paced": {"p50_microseconds": of.p50, "p99_microseconds": of.p99},
            "memory_idle": memory(&of.idle),
            "memory_busy": memory(&of.loaded),
            "bytes_per_idle_connection": of.connection,
        })
    });
    json!({
        "rounds": plan.rounds,
        "busy_connections": BUSY_CONNECTIONS,
        "paced_connections": PACED_CONNECTIONS,
        "paced_requests_per_second": PACED_RATE,
        "contenders": contenders.collect::<Vec<_>>(),
    })
}

/// Every target that is missed, as a sentence. A contender that did not run misses nothing.
pub(crate) fn missed(figures: &[Figures]) -> Vec<String> {
    let mut missed = Vec::new();
    for &(ours, other, limit) in CPU_TARGETS {
        let ratio = named(figures, ours).and_then(|of| cpu_ratio(figures, of, other, 0));
        if let Some(ratio) = ratio.filter(|&ratio| ratio > limit) {
            missed.push(format!("{ours}: {ratio:.2} × the CPU per request of {other}; at most {limit} allowed"));
        }
    }
    for of in figures.iter().filter(|of| of.name.starts_with("lanemesh")) {
        for memory in of.idle.iter().filter(|memory| memory.resident > IDLE_TARGET) {
            missed.push(format!("{}: {} bytes idle; at most {IDLE_TARGET} allowed", of.name, memory.resident));
        }
    }
    missed
}

/// The nginx of the same shape.
fn reference(name: &str) -> &'static str {
    if name.contains("pair") { "nginx pair" } else { "nginx hop" }
}

fn named<'a>(figures: &'a [Figures], name: &str) -> Option<&'a Figures> {
    figures.iter().find(|of| of.name == name)
}

fn cpu_ratio(figures: &[Figures], of: &Figures, other: &str, body: usize) -> Option<f64> {
    let other = named(figures, other)?;
    let rounds = of.busy.get(body)?.cpu.iter().zip(&other.busy.get(body)?.cpu);
    Some(median(&rounds.map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>()))
}

/// Of values in any order; not a number where there are none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
}

fn mebibytes(proxies: &[Memory], of: impl Fn(&Memory) -> u64) -> String {
    let largest = proxies.iter().map(of).max().unwrap_or_default();
    format!("{:.1} MB", largest as f64 / f64::from(1 << 20))
}
