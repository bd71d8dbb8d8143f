//! The words that resources, wire and logs have for the choices of a model route, each once.

use super::{Api, Counted, LimitMode, MidStream, OnExhausted, OnStoreDown, Provider, Reason, UsageInStreams};

/// A choice that is written as one word.
pub trait Word: Copy + PartialEq + 'static {
    /// Every word with what it means.
    const WORDS: &'static [(&'static str, Self)];

    /// The word for it.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, choice)| *choice == self).map_or("", |(word, _)| word)
    }

    /// What a word means.
    fn of_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, choice)| *choice)
    }
}

impl Word for Provider {
    const WORDS: &'static [(&'static str, Self)] = &Provider::ALL;
}

impl Word for Api {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("chatCompletions", Api::ChatCompletions),
        ("responses", Api::Responses),
        ("completions", Api::Completions),
        ("embeddings", Api::Embeddings),
        ("messages", Api::Messages),
        ("generateContent", Api::GenerateContent),
    ];
}

impl Word for Reason {
    const WORDS: &'static [(&'static str, Self)] = &reasons();
}

/// Every reason with its word.
const fn reasons() -> [(&'static str, Reason); Reason::ALL.len()] {
    let mut found = [("", Reason::Connect); Reason::ALL.len()];
    let mut at = 0;
    while at < found.len() {
        found[at] = (Reason::ALL[at].as_str(), Reason::ALL[at]);
        at += 1;
    }
    found
}

impl Word for UsageInStreams {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", UsageInStreams::Auto), ("never", UsageInStreams::Never), ("continuous", UsageInStreams::Continuous)];
}

impl Word for OnExhausted {
    const WORDS: &'static [(&'static str, Self)] =
        &[("lastError", OnExhausted::LastError), ("503", OnExhausted::Unavailable)];
}

impl Word for MidStream {
    const WORDS: &'static [(&'static str, Self)] =
        &[("terminate", MidStream::Terminate), ("continue", MidStream::Continue)];
}

impl Word for Counted {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("input", Counted::Input),
        ("output", Counted::Output),
        ("total", Counted::Total),
        ("requests", Counted::Requests),
        ("concurrent", Counted::Concurrent),
        ("money", Counted::Money),
    ];
}

impl Word for LimitMode {
    const WORDS: &'static [(&'static str, Self)] = &[("enforce", LimitMode::Enforce), ("shadow", LimitMode::Shadow)];
}

impl Word for OnStoreDown {
    const WORDS: &'static [(&'static str, Self)] = &[("open", OnStoreDown::Open), ("closed", OnStoreDown::Closed)];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both_ways<T: Word + std::fmt::Debug>() {
        for (word, choice) in T::WORDS {
            assert_eq!((choice.word(), T::of_word(word)), (*word, Some(*choice)));
        }
    }

    #[test]
    fn every_choice_has_one_word_and_is_found_by_it() {
        both_ways::<Provider>();
        both_ways::<Api>();
        both_ways::<Reason>();
        both_ways::<UsageInStreams>();
        both_ways::<OnExhausted>();
        both_ways::<MidStream>();
        both_ways::<Counted>();
        both_ways::<LimitMode>();
        both_ways::<OnStoreDown>();
        assert_eq!((Api::WORDS.len(), Reason::WORDS.len()), (Api::ALL.len(), Reason::ALL.len()));
    }
}
