//! Tokens from bytes, where nobody counted them: before a request, to reserve; behind an answer without usage, to account.
//!
//! How many bytes a token has depends on the model's tokenizer and on the language; both are learned from exchanges whose
//! usage was told.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

/// Bytes of a token where nothing is known: English text and code.
const BYTES_PER_TOKEN: f64 = 4.0;
/// What a sample may say; outside of it are images, audio and errors of counting.
const LEAST_BYTES: f64 = 1.0;
const MOST_BYTES: f64 = 16.0;
/// Part of a new sample in the mean.
const NEW: f64 = 0.1;
/// Fewer tokens say nothing about the text: what surrounds it weighs more.
const LEAST_TOKENS: u64 = 16;
/// Models that are learned; of others nothing is remembered.
const MODELS_MAX: usize = 1_024;
/// Tokens of an answer where nothing is known.
const UNKNOWN_OUTPUT: u64 = 512;
/// Answers after which their lengths are believed.
const ENOUGH: u32 = 10;
/// Answers after which older ones count half.
const HALVING: u32 = 1_024;
/// Classes of answers' lengths: four to a doubling, up to 2^20 tokens.
const CLASSES: usize = 81;

/// Bytes per token of one kind of text: a mean in which old samples fade.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    bytes_per_token: f64,
}

impl Default for Ratio {
    fn default() -> Self {
        Ratio { bytes_per_token: BYTES_PER_TOKEN }
    }
}

impl Ratio {
    /// Learns from text whose tokens were counted. Too little text teaches nothing.
    pub fn learn(&mut self, bytes: u64, tokens: u64) {
        if tokens < LEAST_TOKENS {
            return;
        }
        let sample = (bytes as f64 / tokens as f64).clamp(LEAST_BYTES, MOST_BYTES);
        self.bytes_per_token += NEW * (sample - self.bytes_per_token);
    }

    /// Tokens of text of this length, rounded up.
    pub fn estimate(&self, bytes: u64) -> u64 {
        (bytes as f64 / self.bytes_per_token).ceil() as u64
    }

    /// Bytes of a token, 1 to 16.
    pub fn bytes_per_token(&self) -> f64 {
        self.bytes_per_token
    }
}

/// How long answers are: counts by class of length, old ones fading.
#[derive(Clone, Debug)]
struct Lengths {
    classes: [u32; CLASSES],
    total: u32,
}

impl Default for Lengths {
    fn default() -> Self {
        Lengths { classes: [0; CLASSES], total: 0 }
    }
}

impl Lengths {
    fn learn(&mut self, tokens: u64) {
        if self.total >= HALVING {
            self.classes.iter_mut().for_each(|count| *count /= 2);
            self.total = self.classes.iter().sum();
        }
        self.classes[class(tokens)] += 1;
        self.total += 1;
    }

    /// Length that nine of ten answers do not exceed, at most a fifth too high.
    fn ninth_tenth(&self) -> Option<u64> {
        if self.total < ENOUGH {
            return None;
        }
        let wanted = (u64::from(self.total) * 9).div_ceil(10);
        let mut seen = 0;
        let class = self.classes.iter().position(|count| {
            seen += u64::from(*count);
            seen >= wanted
        })?;
        Some(longest(class))
    }
}

/// Class of a length.
fn class(tokens: u64) -> usize {
    let tokens = tokens.clamp(1, 1 << 20);
    let doubling = tokens.ilog2();
    // Quarters of the doubling, by the two bits behind the first.
    let quarter = ((tokens << 2) >> doubling) & 3;
    ((doubling as usize) * 4 + quarter as usize).min(CLASSES - 1)
}

/// Longest length of a class.
fn longest(class: usize) -> u64 {
    let (doubling, quarter) = (class / 4, class as u64 % 4);
    (((quarter + 5) << doubling).div_ceil(4)).saturating_sub(1).max(1)
}

/// What is known of a model.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    /// Of requests, bodies as they are sent.
    pub input: Ratio,
    /// Of answers, [`super::stream::Reader::written_bytes`].
    pub output: Ratio,
    lengths: Lengths,
}

impl Learned {
    /// Tokens that an answer will hardly exceed: what nine of ten did not, and not more than the request allows.
    pub fn estimate_output(&self, most: Option<u64>) -> u64 {
        let usual = self.lengths.ninth_tenth().unwrap_or(UNKNOWN_OUTPUT);
        most.map_or(usual, |most| usual.min(most))
    }
}

/// An exchange whose usage was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Bytes of the request's body.
    pub input_bytes: u64,
    /// Tokens read.
    pub input: u64,
    /// Bytes of what the answer said.
    pub output_bytes: u64,
    /// Tokens written.
    pub output: u64,
}

/// What is known of all models, by the name that their targets use.
#[derive(Clone, Debug, Default)]
pub struct Estimates {
    models: HashMap<String, Learned>,
    unknown: Learned,
}

impl Estimates {
    /// What is known of a model, or what holds where nothing is.
    pub fn of(&self, model: &str) -> &Learned {
        self.models.get(model).unwrap_or(&self.unknown)
    }

    /// Tokens that a request with a body of this length will have read.
    pub fn estimate_input(&self, model: &str, bytes: u64) -> u64 {
        self.of(model).input.estimate(bytes)
    }

    /// Tokens that an answer will hardly exceed, given the `max_tokens` of its request.
    pub fn estimate_output(&self, model: &str, most: Option<u64>) -> u64 {
        self.of(model).estimate_output(most)
    }

    /// Tokens of an answer, or of the part of it that came, by what it says.
    pub fn estimate_written(&self, model: &str, bytes: u64) -> u64 {
        self.of(model).output.estimate(bytes)
    }

    /// Learns from an exchange that came to its end.
    pub fn learn(&mut self, model: &str, sample: Sample) {
        if !self.models.contains_key(model) {
            if self.models.len() >= MODELS_MAX {
                return;
            }
            self.models.insert(model.to_owned(), Learned::default());
        }
        let Some(learned) = self.models.get_mut(model) else { return };
        learned.input.learn(sample.input_bytes, sample.input);
        learned.output.learn(sample.output_bytes, sample.output);
        learned.lengths.learn(sample.output);
    }
}
