//! What is wrong with what somebody wrote: where it stands, what is wrong, and what is allowed.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

use serde::Serialize;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// File, as given to [`parse`](super::parse).
    pub file: Option<String>,
    /// Line in the file, from 1.
    pub line: Option<u32>,
    /// Field, e.g. `Lane demo/canary: spec.percentage.value`.
    pub path: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
        }
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if self.file.is_some() || self.line.is_some() {
            f.write_str(" ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Where a document and its fields stand. Fields are looked for only when something is wrong with one.
#[derive(Clone, Debug)]
pub struct Origin {
    file: String,
    first_line: u32,
    document: Arc<str>,
    lines: OnceLock<BTreeMap<String, u32>>,
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        (&self.file, self.first_line, &self.document) == (&other.file, other.first_line, &other.document)
    }
}

impl Origin {
    /// `document` begins at `first_line` (from 1) of `file`.
    pub fn new(file: &str, first_line: u32, document: Arc<str>) -> Self {
        Origin { file: file.to_owned(), first_line, document, lines: OnceLock::new() }
    }

    /// A problem with the field at `path` (as in `spec.lanes[2].name`), which stands at its own line or the line of the
    /// nearest field around it. `subject` names the resource and may be empty.
    pub fn problem(&self, subject: &str, path: &str, message: String) -> Problem {
        let shown = match (subject, path) {
            ("", path) => path.to_owned(),
            (subject, "") => subject.to_owned(),
            (subject, path) => format!("{subject}: {path}"),
        };
        Problem { file: Some(self.file.clone()), line: Some(self.line(path)), path: shown, message }
    }

    /// `<file>:<line>` of the field at `path`.
    pub fn place(&self, path: &str) -> String {
        format!("{}:{}", self.file, self.line(path))
    }

    /// Line of the field at `path`, or of the nearest field around it. Exact for block style; what stands in flow style
    /// has the line of the field that the flow belongs to.
    pub fn line(&self, path: &str) -> u32 {
        let lines = self.lines.get_or_init(|| Scanner::default().scan(self.first_line, &self.document));
        let mut path = path;
        loop {
            if let Some(line) = lines.get(path) {
                return *line;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return lines.values().min().copied().unwrap_or(self.first_line),
            }
        }
    }
}

/// Finds the line of every key and list element by indentation.
#[derive(Default)]
struct Scanner {
    /// Open keys and elements, outermost first.
    open: Vec<Open>,
    /// Elements seen so far of each list, by the list's path.
    elements: BTreeMap<String, usize>,
    lines: BTreeMap<String, u32>,
    /// Indentation of the key whose block scalar (`|`, `>`) is being skipped.
    scalar: Option<usize>,
}

struct Open {
    column: usize,
    element: bool,
    path: String,
}

impl Scanner {
    fn scan(mut self, first_line: u32, document: &str) -> BTreeMap<String, u32> {
        for (number, line) in (first_line..).zip(document.lines()) {
            let content = line.trim_start_matches(' ');
            let column = line.len() - content.len();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            if self.scalar.is_some_and(|parent| column > parent) {
                continue;
            }
            self.scalar = None;
            self.line(number, column, content);
        }
        self.lines
    }

    fn line(&mut self, number: u32, mut column: usize, mut content: &str) {
        while content == "-" || content.starts_with("- ") {
            self.open.retain(|open| open.column < column || (open.column == column && !open.element));
            let list = self.open.last().map_or(String::new(), |open| open.path.clone());
            let index = self.elements.entry(list.clone()).or_default();
            let path = format!("{list}[{index}]");
            *index += 1;
            self.lines.insert(path.clone(), number);
            self.open.push(Open { column, element: true, path });
            let rest = content[1..].trim_start_matches(' ');
            column += content.len() - rest.len();
            content = rest;
        }
        let Some((key, value)) = key_and_value(content) else { return };
        self.open.retain(|open| open.column < column);
        let path = match self.open.last() {
            Some(open) => format!("{}.{key}", open.path),
            None => key.to_owned(),
        };
        self.lines.insert(path.clone(), number);
        self.open.push(Open { column, element: false, path });
        if value.starts_with(['|', '>']) {
            self.scalar = Some(column);
        }
    }
}

/// Splits `key: value`, where the key may be quoted.
fn key_and_value(content: &str) -> Option<(&str, &str)> {
    let quote = content.chars().next().filter(|first| matches!(first, '"' | '\''));
    let (key, rest) = match quote {
        Some(quote) => content[1..].split_once(quote)?,
        None => content.split_at(content.find(": ").or_else(|| content.strip_suffix(':').map(str::len))?),
    };
    let rest = rest.strip_prefix(':')?;
    (rest.is_empty() || rest.starts_with(' ')).then_some((key, rest.trim()))
}
