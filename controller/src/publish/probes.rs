//! What proxies saw of probes: the newest notes, for `mesh-ctl lane probe`.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use mesh_proto::mesh::v1::ProbeNote;

/// Notes that are kept; the oldest goes when one more comes.
const NOTES_MAX: usize = 1_024;
/// Longest text of a proxy that is kept, characters.
const TEXT_MAX: usize = 200;

/// An exchange of a probe, and whose proxy saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Namespace of the workload.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// What its proxy saw.
    pub note: ProbeNote,
}

/// The newest notes, oldest first.
#[derive(Debug, Default)]
pub struct Probes(Mutex<VecDeque<Seen>>);

impl Probes {
    /// Takes in a note.
    pub fn note(&self, namespace: &str, pod: &str, note: &ProbeNote) {
        let mut note = note.clone();
        for text in [
            &mut note.trace,
            &mut note.direction,
            &mut note.service,
            &mut note.label,
            &mut note.source,
            &mut note.level,
            &mut note.reason,
            &mut note.outcome,
            &mut note.endpoint,
        ] {
            *text = text.chars().take(TEXT_MAX).collect();
        }
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() >= NOTES_MAX {
            notes.pop_front();
        }
        notes.push_back(Seen { namespace: namespace.to_owned(), pod: pod.to_owned(), note });
    }

    /// Notes of one trace.
    pub fn of(&self, trace: &str) -> Vec<Seen> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.iter().filter(|seen| seen.note.trace == trace).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_notes_are_kept_and_found_by_their_trace() {
        let probes = Probes::default();
        for number in 0..NOTES_MAX + 5 {
            let note = ProbeNote { trace: format!("{}", number % 2), ..ProbeNote::default() };
            probes.note("demo", &number.to_string(), &note);
        }
        assert_eq!(probes.of("0").len() + probes.of("1").len(), NOTES_MAX);
        assert_eq!(probes.of("1").first().map(|seen| seen.pod.as_str()), Some("5"));
    }
}
