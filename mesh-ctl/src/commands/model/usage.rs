//! `mesh-ctl model usage`: tokens and money, added up by who used them, in all or within the last hours or days.

use std::{collections::BTreeMap, io::IsTerminal as _};

use mesh_core::resources::edit::moment;
use serde_json::{Map, Value, json};

use crate::{
    args::{self, By, UsageFormat},
    cluster::Controller,
    exit::{Exit, Failure},
    output::{self, Format, Text, Tone, plain},
};

/// Cells of the longest bar.
const BAR: f64 = 20.0;
/// Amounts of a row, in the order of columns.
const AMOUNTS: [&str; 7] = ["served", "failed", "input", "cached", "output", "estimated", "money"];

/// Shows usage.
///
/// # Errors
/// When the controller cannot be reached.
pub(super) async fn run(controller: &Controller, usage: &args::Usage) -> Result<Exit, Failure> {
    let within = usage.since.map(|since| format!("?since={}", since.as_secs().max(1)));
    let whole = controller.read(&format!("/api/v1/models/usage{}", within.unwrap_or_default())).await?;
    let since = whole["since"].as_u64().unwrap_or_default();
    let rows = added_up(whole["items"].as_array().map(Vec::as_slice).unwrap_or_default(), &usage.by);
    let text = match usage.output {
        UsageFormat::Table => table(&rows, &usage.by, since, std::io::stdout().is_terminal()),
        UsageFormat::Csv => csv(&rows, &usage.by),
        UsageFormat::Json => {
            let total = Sum::of_all(&rows).described();
            let items: Vec<Value> = rows.iter().map(|row| row.described(&usage.by)).collect();
            let whole = json!({ "since": since, "items": items, "total": total });
            output::structured(&whole, Format::Json)?.unwrap_or_default()
        }
    };
    output::print(&text);
    Ok(Exit::Well)
}

/// What was used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sum {
    served: u64,
    failed: u64,
    input: u64,
    cached: u64,
    output: u64,
    estimated: u64,
    money: f64,
}

impl Sum {
    fn add(&mut self, item: &Value) {
        let amount = |field: &str| item[field].as_u64().unwrap_or_default();
        self.served += amount("served");
        self.failed += amount("failed");
        self.input += amount("input");
        self.cached += amount("cached");
        self.output += amount("output");
        self.estimated += amount("estimated");
        self.money += item["money"].as_f64().unwrap_or_default();
    }

    fn of_all(rows: &[Row]) -> Sum {
        let mut sum = Sum::default();
        for Row { used, .. } in rows {
            sum.served += used.served;
            sum.failed += used.failed;
            sum.input += used.input;
            sum.cached += used.cached;
            sum.output += used.output;
            sum.estimated += used.estimated;
            sum.money += used.money;
        }
        sum
    }

    fn tokens(&self) -> u64 {
        self.input + self.output
    }

    /// Share of the tokens that no target told, 0 to 1.
    fn estimated_share(&self) -> f64 {
        if self.tokens() == 0 { 0.0 } else { self.estimated as f64 / self.tokens() as f64 }
    }

    fn amounts(&self) -> [Value; 7] {
        let Sum { served, failed, input, cached, output, estimated, money } = *self;
        // In millionths, as it is counted; sums of fractions have more digits.
        let money = (money * 1_000_000.0).round() / 1_000_000.0;
        [json!(served), json!(failed), json!(input), json!(cached), json!(output), json!(estimated), json!(money)]
    }

    fn described(&self) -> Map<String, Value> {
        let amounts = AMOUNTS.iter().map(|name| (*name).to_owned()).zip(self.amounts());
        amounts.chain([("estimatedShare".to_owned(), json!(self.estimated_share()))]).collect()
    }

    fn cells(&self) -> Vec<Text> {
        let [served, failed, input, cached, output, _, money] = self.amounts();
        let failed = (failed.to_string(), if self.failed > 0 { Tone::Odd } else { Tone::Plain });
        let share = plain(format!("{:.0}%", self.estimated_share() * 100.0));
        let [served, input, cached, output, money] =
            [served, input, cached, output, money].map(|amount| plain(amount.to_string()));
        vec![served, failed, input, cached, output, share, money]
    }
}

/// A line of the result.
#[derive(Debug, PartialEq)]
struct Row {
    /// Values of what it is added up by.
    of: Vec<String>,
    used: Sum,
}

impl Row {
    fn described(&self, by: &[By]) -> Value {
        let names = by.iter().map(|by| by.field().to_owned());
        let mut described: Map<String, Value> = names.zip(self.of.iter().map(|value| json!(value))).collect();
        described.extend(self.used.described());
        Value::Object(described)
    }
}

/// Rows of the controller, added up; who used most stands first.
fn added_up(items: &[Value], by: &[By]) -> Vec<Row> {
    let mut sums: BTreeMap<Vec<String>, Sum> = BTreeMap::new();
    for item in items {
        let of = by.iter().map(|by| item[by.field()].as_str().unwrap_or_default().to_owned()).collect();
        sums.entry(of).or_default().add(item);
    }
    let mut rows: Vec<Row> = sums.into_iter().map(|(of, used)| Row { of, used }).collect();
    rows.sort_by_key(|row| std::cmp::Reverse((row.used.tokens(), row.used.served)));
    rows
}

fn table(rows: &[Row], by: &[By], since: u64, is_terminal: bool) -> String {
    let head = format!(
        "since {}; attempts at targets, of the proxies that report to this controller\n",
        moment(since * 1_000)
    );
    if rows.is_empty() {
        return format!("{head}nothing was used\n");
    }
    let mut headings: Vec<String> = by.iter().map(|by| by.field().to_uppercase()).collect();
    headings.extend(["SERVED", "FAILED", "INPUT", "CACHED", "OUTPUT", "ESTIMATED", "MONEY"].map(str::to_owned));
    if is_terminal {
        headings.push("TOKENS".to_owned());
    }
    let most = rows.iter().map(|row| row.used.tokens()).max().unwrap_or_default();
    let name = |value: &String| plain(if value.is_empty() { "-" } else { value });
    let row = |of: Vec<Text>, used: &Sum, bar: String| {
        let bar = is_terminal.then(|| plain(bar));
        of.into_iter().chain(used.cells()).chain(bar).collect::<Vec<Text>>()
    };
    let mut lines: Vec<Vec<Text>> =
        rows.iter().map(|of| row(of.of.iter().map(name).collect(), &of.used, bar(of.used.tokens(), most))).collect();
    if rows.len() > 1 {
        let names = (0..by.len()).map(|at| plain(if at == 0 { "total" } else { "" })).collect();
        lines.push(row(names, &Sum::of_all(rows), String::new()));
    }
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    format!("{head}\n{}", output::lines(&output::table(&headings, lines)))
}

/// A bar in eighths of a cell.
fn bar(amount: u64, most: u64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if most == 0 {
        return String::new();
    }
    let eighths = (amount as f64 / most as f64 * BAR * 8.0).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// As RFC 4180 has it, with LF as end of lines.
fn csv(rows: &[Row], by: &[By]) -> String {
    let quoted = |text: &str| match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    };
    let names: Vec<&str> = by.iter().map(|by| by.field()).chain(AMOUNTS).collect();
    let mut text = names.join(",") + "\n";
    for row in rows {
        let amounts = row.used.amounts().map(|amount| amount.to_string());
        let cells: Vec<String> = row.of.iter().map(|value| quoted(value)).chain(amounts).collect();
        text.push_str(&(cells.join(",") + "\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(identity: &str, target: &str, input: u64, money: f64) -> Value {
        json!({
            "identity": identity, "route": "chat.ai", "model": "chat, large", "target": target, "lane": "", "served": 2,
            "failed": 1, "input": input, "output": 10, "cached": 4, "estimated": 5, "money": money,
        })
    }

    fn items() -> [Value; 3] {
        [item("a", "small", 90, 0.1), item("a", "gpt", 190, 0.2), item("b", "gpt", 490, 0.1)]
    }

    #[test]
    fn rows_are_added_up_by_what_is_asked_and_who_used_most_stands_first() {
        let by_target = added_up(&items(), &[By::Target]);
        let used = |row: &Row| (row.of[0].clone(), row.used.tokens(), row.used.served);
        let rows: Vec<_> = by_target.iter().map(used).collect();
        assert_eq!(rows, [("gpt".to_owned(), 700, 4), ("small".to_owned(), 100, 2)]);
        assert_eq!(added_up(&items(), &[By::Identity, By::Target]).len(), 3);
        let total = Sum::of_all(&by_target).described();
        assert_eq!((&total["money"], &total["estimated"]), (&json!(0.4), &json!(15)));
        let row = by_target[1].described(&[By::Target]);
        assert_eq!((&row["target"], &row["estimatedShare"]), (&json!("small"), &json!(0.05)));
    }

    #[test]
    fn table_has_bars_on_a_terminal_and_a_total_and_says_since_when() {
        let rows = added_up(&items(), &[By::Target, By::Lane]);
        let text = table(&rows, &[By::Target, By::Lane], 1_700_000_000, true);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("since 2023-11-14T22:13:20"), "{text}");
        let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(cells(lines[3]), ["gpt", "-", "4", "2", "680", "8", "20", "1%", "0.3", &"█".repeat(20)]);
        assert_eq!(cells(lines[4])[9], "██▉");
        assert_eq!(cells(lines[5]), ["total", "6", "3", "770", "12", "30", "2%", "0.4"]);
        assert!(!table(&rows, &[By::Target, By::Lane], 0, false).contains('█'));
        assert!(table(&[], &[By::Target], 0, false).ends_with("nothing was used\n"));
    }

    #[test]
    fn csv_has_a_line_of_names_and_quotes_what_needs_it() {
        let text = csv(&added_up(&items()[..1], &[By::Model, By::Target]), &[By::Model, By::Target]);
        let expected = "model,target,served,failed,input,cached,output,estimated,money\n\
                        \"chat, large\",small,2,1,90,4,10,5,0.1\n";
        assert_eq!(text, expected);
    }
}
