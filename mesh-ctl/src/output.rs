//! How results are shown: tables for people, JSON and YAML for programs.
//!
//! Tables have colour on a terminal only, and no borders, so that `cut` and `awk` work on them.

use clap::ValueEnum;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::exit::Failure;

/// Format of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    #[default]
    Table,
    /// JSON, stable names
    Json,
    /// YAML, same content as JSON
    Yaml,
}

/// How a cell is to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Neither good nor bad.
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Odd,
    /// Not well.
    Bad,
}

/// A cell of a table.
pub(crate) type Text = (String, Tone);

/// A cell without judgement.
pub(crate) fn plain(text: impl Into<String>) -> Text {
    (text.into(), Tone::Plain)
}

/// Columns with headings, as wide as their content: a line of the table is a line of the output, so that it can be cut,
/// searched and drawn over.
pub(crate) fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<Text>>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.iter().map(|heading| Cell::new(heading).add_attribute(Attribute::Bold)));
    for row in rows {
        table.add_row(row.into_iter().map(|(text, tone)| match tone {
            Tone::Plain => Cell::new(text),
            Tone::Good => Cell::new(text).fg(Color::Green),
            Tone::Odd => Cell::new(text).fg(Color::Yellow),
            Tone::Bad => Cell::new(text).fg(Color::Red),
        }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// The table as text, without blanks at the ends of lines.
pub(crate) fn lines(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// The value as JSON or YAML; `None` for a table, which the caller makes.
///
/// # Errors
/// When the value has no such form, which is a defect.
pub(crate) fn structured(value: &impl Serialize, format: Format) -> Result<Option<String>, Failure> {
    match format {
        Format::Table => Ok(None),
        Format::Json => serde_json::to_string_pretty(value)
            .map(|text| Some(text + "\n"))
            .map_err(|error| Failure::not_well("cannot write JSON", error)),
        Format::Yaml => {
            serde_yaml_ng::to_string(value).map(Some).map_err(|error| Failure::not_well("cannot write YAML", error))
        }
    }
}

/// Says on standard error what is going on, for what takes longer than a moment.
pub(crate) fn progress(text: &str) {
    anstream::eprintln!("{text}");
}

/// Writes to standard output; a reader that went away (`| head`) is no failure.
pub(crate) fn print(text: &str) {
    use std::io::Write as _;
    let mut out = anstream::stdout().lock();
    // The only failure here is that nobody reads any more.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_in_a_pipe_has_no_colour_and_aligned_columns() {
        let rows = [vec![plain("b"), ("behind".to_owned(), Tone::Bad)], vec![plain("gateway"), plain("current")]];
        let text = lines(&table(&["NAME", "STATE"], rows));
        assert_eq!(text, "NAME     STATE\nb        behind\ngateway  current\n");
    }

    #[test]
    fn formats_for_programs_hold_the_same_content() {
        let value = serde_json::json!({"items": [{"name": "b"}]});
        let json = structured(&value, Format::Json).unwrap().unwrap();
        let yaml = structured(&value, Format::Yaml).unwrap().unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
        assert_eq!(serde_yaml_ng::from_str::<serde_json::Value>(&yaml).unwrap(), value);
        assert!(structured(&value, Format::Table).unwrap().is_none());
    }
}
