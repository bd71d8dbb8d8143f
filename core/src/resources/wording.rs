//! Words that messages about wrong input share.

/// Text as messages show it.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

/// `; did you mean x?` where a word is close, and all allowed words.
pub(super) fn suggestion(word: &str, allowed: &[&str]) -> String {
    let close = allowed.iter().map(|candidate| (distance(word, candidate), candidate)).min();
    let hint = match close {
        Some((distance, candidate)) if distance <= 1 + candidate.len() / 4 => format!("; did you mean {candidate:?}?"),
        Some(_) | None => String::new(),
    };
    format!("{hint} (allowed: {})", allowed.join(", "))
}

/// Edits (insert, remove, replace) between two words, without case.
fn distance(one: &str, other: &str) -> usize {
    let (one, other) = (shortened(one).to_lowercase(), shortened(other).to_lowercase());
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, left) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
