//! A Rust file split into code and literals, so that a rule about code is not misled by text and the other way round.
//! It knows as much of the language as the rules need: comments, strings, characters, braces.

/// A file of Rust.
pub(crate) struct Source {
    /// Path from the root of the repository.
    pub(crate) file: String,
    /// The text as it stands.
    pub(crate) text: String,
    /// The text with the contents of comments and literals replaced by spaces; same lines, same columns.
    pub(crate) code: String,
    /// String literals with the line (from 1) on which they begin.
    pub(crate) literals: Vec<(usize, String)>,
    /// First line (from 1) of the unit tests at the end of the file, or one past the last line.
    pub(crate) tests_from: usize,
}

/// A function with a body.
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// Line of `fn`, from 1.
    pub(crate) line: usize,
    /// Lines from `fn` to the closing brace.
    pub(crate) lines: usize,
}

impl Source {
    /// Reads `text`.
    pub(crate) fn new(file: &str, text: &str) -> Source {
        let (code, literals) = blank(text);
        let is_test = |line: &str| line.trim_start().starts_with("#[cfg(test)]") && !line.starts_with(' ');
        let tests_from = match code.lines().position(is_test) {
            // A file of its own for the unit tests of a module.
            _ if file.ends_with("/tests.rs") => 1,
            Some(at) => at + 1,
            None => text.lines().count() + 1,
        };
        Source { file: file.to_owned(), text: text.to_owned(), code, literals, tests_from }
    }

    /// Lines of code with their number, without those of the unit tests at the end.
    pub(crate) fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().take_while(|(number, _)| *number < self.tests_from)
    }

    /// Lines of code with their number.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(at, line)| (at + 1, line))
    }

    /// Generated code: somebody else's rules.
    pub(crate) fn is_generated(&self) -> bool {
        self.file.starts_with("proto/src/gen/")
    }

    /// Belongs to the tests of the whole mesh.
    pub(crate) fn is_whole_mesh_test(&self) -> bool {
        self.file.starts_with("tests/")
    }

    /// Functions with a body, outside the unit tests.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let lines: Vec<&str> = self.product_lines().map(|(_, line)| line).collect();
        let mut found = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            if let Some(name) = function_name(line)
                && let Some(length) = body_length(&lines[at..])
            {
                found.push(Function { name, line: at + 1, lines: length });
            }
        }
        found
    }
}

fn function_name(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "fn")?;
    let known = |word: &&str| {
        word.starts_with("pub") || ["const", "async", "unsafe", "extern", "super)", "crate)", "in"].contains(word)
    };
    if !words[..at].iter().all(known) {
        return None;
    }
    let rest = words.get(at + 1)?;
    Some(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
}

/// Lines up to the brace that closes the first one; `None` for a declaration without body.
fn body_length(lines: &[&str]) -> Option<usize> {
    let mut depth = 0usize;
    for (at, line) in lines.iter().enumerate() {
        for c in line.chars() {
            match c {
                ';' if depth == 0 && !line.contains('[') => return None,
                '{' => depth += 1,
                '}' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
    }
    None
}

/// Blanks comments and literals.
fn blank(text: &str) -> (String, Vec<(usize, String)>) {
    let chars: Vec<char> = text.chars().collect();
    let mut blanker =
        Blanker { chars: &chars, at: 0, line: 1, code: String::with_capacity(text.len()), literals: vec![] };
    while blanker.at < chars.len() {
        blanker.next();
    }
    (blanker.code, blanker.literals)
}

struct Blanker<'a> {
    chars: &'a [char],
    at: usize,
    line: usize,
    code: String,
    literals: Vec<(usize, String)>,
}

impl Blanker<'_> {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn keep(&mut self) {
        let c = self.peek(0);
        if c == '\n' {
            self.line += 1;
        }
        self.code.push(c);
        self.at += 1;
    }

    fn hide(&mut self) {
        let c = self.peek(0);
        if c == '\n' {
            self.line += 1;
        }
        self.code.push(if c == '\n' { '\n' } else { ' ' });
        self.at += 1;
    }

    fn next(&mut self) {
        let before = self.at.checked_sub(1).and_then(|at| self.chars.get(at)).copied().unwrap_or(' ');
        let in_word = before.is_alphanumeric() || before == '_';
        match (self.peek(0), self.peek(1)) {
            ('/', '/') => {
                while self.at < self.chars.len() && self.peek(0) != '\n' {
                    self.hide();
                }
            }
            ('/', '*') => self.block_comment(),
            ('r', '"' | '#') if !in_word || before == 'b' => self.raw_string(),
            ('"', _) => self.string(),
            ('\'', _) => self.character(),
            _ => self.keep(),
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0usize;
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => {
                    depth += 1;
                    self.hide();
                }
                ('*', '/') => {
                    depth -= 1;
                    self.hide();
                }
                _ => {}
            }
            self.hide();
            if depth == 0 {
                return;
            }
        }
    }

    fn raw_string(&mut self) {
        let hashes = (1..).take_while(|ahead| self.peek(*ahead) == '#').count();
        if self.peek(1 + hashes) != '"' {
            return self.keep();
        }
        let line = self.line;
        (0..hashes + 2).for_each(|_| self.keep());
        let mut text = String::new();
        while self.at < self.chars.len() {
            if self.peek(0) == '"' && (1..=hashes).all(|ahead| self.peek(ahead) == '#') {
                (0..=hashes).for_each(|_| self.keep());
                break;
            }
            text.push(self.peek(0));
            self.hide();
        }
        self.literals.push((line, text));
    }

    fn string(&mut self) {
        let line = self.line;
        let mut text = String::new();
        self.keep();
        while self.at < self.chars.len() && self.peek(0) != '"' {
            if self.peek(0) == '\\' {
                text.push(self.peek(0));
                self.hide();
            }
            text.push(self.peek(0));
            self.hide();
        }
        self.keep();
        self.literals.push((line, text));
    }

    /// A character literal; a lifetime is kept.
    fn character(&mut self) {
        if self.peek(1) == '\\' {
            (0..3).for_each(|_| self.hide());
            while self.at < self.chars.len() && self.peek(0) != '\'' {
                self.hide();
            }
            self.hide();
        } else if self.peek(2) == '\'' {
            (0..3).for_each(|_| self.hide());
        } else {
            self.keep();
        }
    }
}
