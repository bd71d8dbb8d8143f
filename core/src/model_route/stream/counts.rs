//! Numbers of a usage object, field by field: the last value of each counts.

use super::Reported;
use crate::model::model_route::Dialect;

/// A number in a usage object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// `prompt_tokens`, `input_tokens`, `promptTokenCount`.
    Input,
    /// `completion_tokens`, `output_tokens`, `candidatesTokenCount`.
    Output,
    /// Read from the cache.
    Cached,
    /// Anthropic: read, and written into the cache.
    CacheWritten,
    /// `reasoning_tokens`, `thoughtsTokenCount`.
    Reasoning,
    /// Gemini: what its own tools added to the prompt.
    ToolPrompt,
    /// Sum that the target gives.
    Total,
}

const COUNTS: usize = 7;

/// The numbers that are known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    values: [u64; COUNTS],
    /// Bit per value: known.
    known: u8,
}

impl Counts {
    /// Sets a number.
    pub(super) fn set(&mut self, count: Count, value: u64) {
        self.values[count as usize] = value;
        self.known |= 1 << count as usize;
    }

    /// Whether nothing is known.
    pub(super) fn is_empty(&self) -> bool {
        self.known == 0
    }

    /// Takes what `newer` knows over.
    pub(super) fn overwrite(&mut self, newer: &Counts) {
        for (at, value) in newer.values.iter().enumerate().filter(|(at, _)| newer.known & (1 << at) != 0) {
            self.values[at] = *value;
        }
        self.known |= newer.known;
    }

    fn get(&self, count: Count) -> Option<u64> {
        (self.known & (1 << count as usize) != 0).then(|| self.values[count as usize])
    }

    fn or_none(&self, count: Count) -> u64 {
        self.get(count).unwrap_or(0)
    }

    /// What was used, in the mesh's terms.
    pub(super) fn reported(&self, dialect: Dialect) -> Reported {
        let (input, output, cached) = (self.get(Count::Input), self.get(Count::Output), self.get(Count::Cached));
        let (more_input, more_output) = match dialect {
            Dialect::Openai => (0, self.reasoning_beside_output()),
            // Cached tokens are not part of `input_tokens` there.
            Dialect::Anthropic => (self.or_none(Count::Cached).saturating_add(self.or_none(Count::CacheWritten)), 0),
            // Neither are thoughts part of what the candidates say, nor tools of the prompt.
            Dialect::Gemini => (self.or_none(Count::ToolPrompt), self.or_none(Count::Reasoning)),
        };
        // An answer may be all thought.
        let output = output.or_else(|| (more_output > 0).then_some(0));
        Reported {
            input: input.map(|input| input.saturating_add(more_input)),
            output: output.map(|output| output.saturating_add(more_output)),
            cached,
        }
    }

    /// OpenAI's `completion_tokens` contain reasoning; some that speak its API leave it out, which their total shows.
    fn reasoning_beside_output(&self) -> u64 {
        let reasoning = self.or_none(Count::Reasoning);
        let inside = self.or_none(Count::Input).saturating_add(self.or_none(Count::Output));
        let is_beside = self.get(Count::Total).is_some_and(|total| inside.checked_add(reasoning) == Some(total));
        if is_beside { reasoning } else { 0 }
    }
}
