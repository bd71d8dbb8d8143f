//! Policies out of Nacos' configurations: each a document that is in force until a better one is. Pure; the controller
//! reads the configurations and tries what is proposed here.

use std::collections::{BTreeMap, BTreeSet};

use super::disk;
use crate::resources::{Problem, Resource, parse};

/// The documents of a group.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    /// What stands before an id, as problems name the file.
    place: String,
    known: BTreeMap<String, Document>,
    /// Unix milliseconds at which every document was gone from the list.
    vanished: Option<u64>,
}

/// A document.
#[derive(Clone, Debug, Default)]
struct Document {
    /// Of the text that was read last; empty before.
    md5: String,
    /// What it says that is in force.
    good: Readable,
    /// What it says now, where that is not in force yet and was not refused.
    proposed: Option<Readable>,
    /// Why what it says now is not in force.
    problems: Vec<Problem>,
    /// It is no longer in the list.
    removed: bool,
}

/// A text that can be read.
#[derive(Clone, Debug, Default)]
struct Readable {
    text: String,
    resources: Vec<Resource>,
}

impl Documents {
    /// None yet; `place` is how problems name their files, before the id.
    pub fn new(place: &str) -> Self {
        Documents { place: place.to_owned(), ..Documents::default() }
    }

    /// The documents, and which text of each was read last.
    pub fn known(&self) -> impl Iterator<Item = (&str, &str)> {
        self.known.iter().map(|(id, document)| (id.as_str(), document.md5.as_str()))
    }

    /// Takes in which documents there are. One that is gone is proposed to be without effect; where all are gone at
    /// once, as on a server that lost its data, only after `guard` milliseconds.
    pub fn listed(&mut self, ids: &BTreeSet<String>, now: u64, guard: u64) {
        for id in ids {
            let document = self.known.entry(id.clone()).or_default();
            document.removed = false;
        }
        let all_gone = ids.is_empty() && self.known.values().any(|document| !document.good.resources.is_empty());
        self.vanished = all_gone.then(|| self.vanished.unwrap_or(now));
        if self.vanished.is_some_and(|since| now.saturating_sub(since) < guard) {
            return;
        }
        for (_, document) in self.known.iter_mut().filter(|(id, _)| !ids.contains(*id)) {
            *document = Document {
                good: std::mem::take(&mut document.good),
                proposed: Some(Readable::default()),
                removed: true,
                ..Document::default()
            };
        }
        self.forget();
    }

    /// Whether all documents are gone and still in force.
    pub fn is_held(&self) -> bool {
        self.vanished.is_some() && self.known.values().any(|document| !document.good.resources.is_empty())
    }

    /// Takes in what a document says. A text that cannot be read changes nothing but its problems.
    pub fn read(&mut self, id: &str, md5: &str, text: &str) {
        let document = self.known.entry(id.to_owned()).or_default();
        if document.md5 == md5 && !md5.is_empty() {
            return;
        }
        md5.clone_into(&mut document.md5);
        match parse(&format!("{}{id}", self.place), text) {
            Ok(resources) => {
                document.problems.clear();
                document.proposed = Some(Readable { text: text.to_owned(), resources });
            }
            Err(problems) => {
                document.problems = problems;
                document.proposed = None;
            }
        }
    }

    /// Takes in what was in force in an earlier run: it is proposed, and read again as soon as the server is there.
    pub fn restore(&mut self, documents: Vec<disk::Document>) {
        for disk::Document { id, text } in documents {
            self.read(&id, "", &text);
        }
    }

    /// What is in force, for the next run.
    pub fn stored(&self) -> Vec<disk::Document> {
        let is_good = |(_, document): &(&String, &Document)| !document.good.resources.is_empty();
        let stored =
            |(id, document): (&String, &Document)| disk::Document { id: id.clone(), text: document.good.text.clone() };
        self.known.iter().filter(is_good).map(stored).collect()
    }

    /// Documents that say something new.
    pub fn proposed(&self) -> BTreeSet<String> {
        let is_new = |(id, document): (&String, &Document)| document.proposed.is_some().then(|| id.clone());
        self.known.iter().filter_map(is_new).collect()
    }

    /// All resources, with what these documents propose.
    pub fn resources(&self, with: &BTreeSet<String>) -> Vec<Resource> {
        let of = |(id, document): (&String, &Document)| match &document.proposed {
            Some(proposed) if with.contains(id) => proposed.resources.clone(),
            Some(_) | None => document.good.resources.clone(),
        };
        self.known.iter().flat_map(of).collect()
    }

    /// What these documents proposed is in force.
    pub fn accepted(&mut self, ids: &BTreeSet<String>) {
        for id in ids {
            let Some(document) = self.known.get_mut(id) else { continue };
            if let Some(proposed) = document.proposed.take() {
                document.good = proposed;
                document.problems.clear();
            }
        }
        self.forget();
    }

    /// What a document proposed does not go together with everything else: the last good one stays. It stays
    /// proposed, for it may go together with what comes.
    pub fn refused(&mut self, id: &str, problems: Vec<Problem>) {
        if let Some(document) = self.known.get_mut(id) {
            document.problems = problems;
        }
    }

    /// What is wrong with documents whose newest text is not in force.
    pub fn problems(&self) -> Vec<Problem> {
        self.known.values().flat_map(|document| document.problems.iter().cloned()).collect()
    }

    /// Forgets what was removed, as soon as it is not in force.
    fn forget(&mut self) {
        self.known.retain(|_, document| {
            !document.removed || document.proposed.is_some() && !document.good.resources.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUARD: u64 = 300_000;

    fn policy(name: &str) -> String {
        format!(
            "apiVersion: lanemesh.io/v1alpha1\nkind: LaneGroup\nmetadata: {{name: {name}}}\nspec: {{services: ['*']}}\n"
        )
    }

    fn ids(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn in_force(documents: &Documents) -> Vec<String> {
        documents.resources(&BTreeSet::new()).iter().map(|resource| resource.metadata.name.clone()).collect()
    }

    /// Two documents in force.
    fn two() -> Documents {
        let mut documents = Documents::new("nacos/main/LANEMESH/");
        documents.listed(&ids(&["a.yaml", "b.yaml"]), 0, GUARD);
        documents.read("a.yaml", "1", &policy("a"));
        documents.read("b.yaml", "2", &policy("b"));
        let proposed = documents.proposed();
        assert_eq!(documents.resources(&proposed).len(), 2);
        documents.accepted(&proposed);
        assert_eq!(in_force(&documents), ["a", "b"]);
        documents
    }

    #[test]
    fn a_document_that_cannot_be_read_leaves_its_last_good_one_in_force() {
        let mut documents = two();
        documents.read("a.yaml", "3", "kind: LaneGruop");
        assert!(documents.proposed().is_empty());
        assert_eq!(in_force(&documents), ["a", "b"]);
        let problem = documents.problems().remove(0);
        assert_eq!(problem.file.as_deref(), Some("nacos/main/LANEMESH/a.yaml"));
        documents.read("b.yaml", "4", &policy("other"));
        documents.accepted(&documents.proposed());
        assert_eq!(in_force(&documents), ["a", "other"], "another document is not held up");
        documents.read("a.yaml", "5", &policy("mended"));
        documents.accepted(&documents.proposed());
        assert_eq!(
            (in_force(&documents), documents.problems()),
            (vec!["mended".to_owned(), "other".to_owned()], vec![])
        );
    }

    #[test]
    fn a_document_that_fits_no_other_is_refused_alone() {
        let mut documents = two();
        documents.read("a.yaml", "3", &policy("misfit"));
        let problem = Problem { file: None, line: None, path: String::new(), message: "misfit".to_owned() };
        documents.refused("a.yaml", vec![problem.clone()]);
        assert_eq!((in_force(&documents), documents.problems()), (vec!["a".to_owned(), "b".to_owned()], vec![problem]));
        assert_eq!(documents.proposed(), ids(&["a.yaml"]), "it may fit when another one changes");
    }

    #[test]
    fn a_document_that_is_gone_is_without_effect_and_forgotten() {
        let mut documents = two();
        documents.listed(&ids(&["b.yaml"]), 1, GUARD);
        assert_eq!(in_force(&documents), ["a", "b"], "until it is taken");
        documents.accepted(&documents.proposed());
        assert_eq!(in_force(&documents), ["b"]);
        assert_eq!(documents.known().collect::<Vec<_>>(), [("b.yaml", "2")]);
    }

    #[test]
    fn all_documents_gone_at_once_stay_in_force_for_a_while() {
        let mut documents = two();
        documents.listed(&BTreeSet::new(), 1_000, GUARD);
        assert!(documents.is_held() && documents.proposed().is_empty());
        documents.listed(&BTreeSet::new(), 1_000 + GUARD - 1, GUARD);
        assert!(documents.is_held() && documents.proposed().is_empty());
        documents.listed(&ids(&["a.yaml"]), 1_000 + GUARD, GUARD);
        assert!(!documents.is_held(), "one is back: the list is believed");
        documents.accepted(&documents.proposed());
        assert_eq!(in_force(&documents), ["a"]);
        documents.listed(&BTreeSet::new(), 2_000_000, GUARD);
        documents.listed(&BTreeSet::new(), 2_000_000 + GUARD, GUARD);
        documents.accepted(&documents.proposed());
        assert!(in_force(&documents).is_empty() && documents.known().next().is_none());
    }

    #[test]
    fn what_is_in_force_is_in_force_again_in_the_next_run_whatever_the_server_said_last() {
        let mut before = two();
        before.read("a.yaml", "3", "kind: LaneGruop");
        let stored = disk::documents_from_text(&disk::documents_to_text(&before.stored())).unwrap();
        let mut documents = Documents::new("nacos/main/LANEMESH/");
        documents.restore(stored);
        documents.accepted(&documents.proposed());
        assert_eq!(in_force(&documents), ["a", "b"]);
        assert_eq!(documents.known().collect::<Vec<_>>(), [("a.yaml", ""), ("b.yaml", "")], "both are read again");
        documents.listed(&BTreeSet::new(), 1_000, GUARD);
        assert!(documents.is_held(), "a server that lost its data takes nothing away at once");
        documents.listed(&ids(&["a.yaml"]), 2_000, GUARD);
        documents.read("a.yaml", "3", "kind: LaneGruop");
        documents.accepted(&documents.proposed());
        assert_eq!(in_force(&documents), ["a"], "b was removed meanwhile, a is still bad at the server");
    }
}
