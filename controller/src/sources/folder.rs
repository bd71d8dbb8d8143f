//! Reads the files of the file source, and writes resources into its folder.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use mesh_core::resources::{Problem, Resource, Spec, document, parse};
use thiserror::Error;

use super::lanes;
use crate::sign::files;

/// Most files that are read from one folder.
const FILES_MAX: usize = 20_000;

/// The files that a path means: itself, or every `*.yaml` of a folder in order of names. Names that begin with a dot
/// are files under construction.
///
/// # Errors
/// When the path cannot be listed.
pub fn list(place: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(place)?.is_dir() {
        return Ok(vec![place.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(place)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with('.') && (name.ends_with(".yaml") || name.ends_with(".yml")) && path.is_file() {
            found.push(path);
        }
    }
    if found.len() > FILES_MAX {
        return Err(io::Error::other(format!("{} files; at most {FILES_MAX} are read", found.len())));
    }
    found.sort();
    Ok(found)
}

/// A file with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// File, as shown in problems.
    pub file: PathBuf,
    /// Content.
    pub text: String,
    /// Unix milliseconds at which it was last written.
    pub written: u64,
}

/// Reads all files of a place.
///
/// # Errors
/// One problem per file that cannot be read.
pub fn read(place: &Path) -> Result<Vec<Text>, Vec<Problem>> {
    let unreadable = |path: &Path, error: &dyn std::fmt::Display| Problem {
        file: Some(path.display().to_string()),
        line: None,
        path: String::new(),
        message: format!("cannot be read: {error}"),
    };
    let files = list(place).map_err(|error| vec![unreadable(place, &error)])?;
    let mut texts = Vec::new();
    let mut problems = Vec::new();
    for file in files {
        match content(&file) {
            Ok((text, written)) => texts.push(Text { file, text, written }),
            Err(error) => problems.push(unreadable(&file, &error)),
        }
    }
    if problems.is_empty() { Ok(texts) } else { Err(problems) }
}

fn content(file: &Path) -> io::Result<(String, u64)> {
    let metadata = fs::metadata(file)?;
    let size = metadata.len();
    if size > document::FILE_MAX as u64 {
        return Err(io::Error::other(format!("{size} bytes; at most {} are allowed", document::FILE_MAX)));
    }
    let age = metadata.modified().ok().and_then(|moment| moment.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    Ok((fs::read_to_string(file)?, u64::try_from(age.as_millis()).unwrap_or(u64::MAX)))
}

/// What files said when they were read last: those that did not change are not parsed again.
#[derive(Debug, Default)]
pub struct Parsed(BTreeMap<PathBuf, (Text, Vec<Resource>)>);

impl Parsed {
    /// What all files say together. Lanes that do not say when they were made count from when their file was written.
    ///
    /// # Errors
    /// All problems of all files; those that have none are not parsed again all the same.
    pub fn resources(&mut self, texts: Vec<Text>) -> Result<Vec<Resource>, Vec<Problem>> {
        let (mut before, mut problems) = (std::mem::take(&mut self.0), Vec::new());
        for text in texts {
            let known = before.remove(&text.file).filter(|(known, _)| *known == text).map(|(_, resources)| resources);
            match known.map_or_else(|| parse_one(&text), Ok) {
                Ok(resources) => drop(self.0.insert(text.file.clone(), (text, resources))),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() {
            Ok(self.0.values().flat_map(|(_, found)| found).cloned().collect())
        } else {
            Err(problems)
        }
    }
}

fn parse_one(Text { file, text, written }: &Text) -> Result<Vec<Resource>, Vec<Problem>> {
    let found = parse(&file.display().to_string(), text)?;
    Ok(found.into_iter().map(|resource| dated(resource, *written)).collect())
}

fn dated(mut resource: Resource, written: u64) -> Resource {
    if let Spec::Lane(lane) = &mut resource.spec {
        lane.made_at(written);
    }
    resource
}

/// Why resources were not applied.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// They, or they with everything else, are wrong.
    #[error("the resources are refused")]
    Problems(Vec<Problem>),
    /// The source is one file, which is the user's own.
    #[error("the file source is the single file {0}; give a folder to be able to apply")]
    NotFolder(String),
    /// A file cannot be written.
    #[error("cannot write into the folder of the file source")]
    Write(#[from] files::FileError),
}

/// Whether `new` takes the place of `old`, which stands in `file`: both are the same resource; or, since documents of
/// kind `Services` have no names, `old` was applied before, into the file that `new` will have.
pub fn replaces(place: &Path, new: &Resource, file: &Path, old: &Resource) -> bool {
    let nameless = new.metadata.name.is_empty();
    new.metadata == old.metadata && (!nameless || file == place.join(file_name(new)))
}

/// All resources, each with the file it stands in.
///
/// # Errors
/// All problems of all files.
pub fn placed(texts: &[Text]) -> Result<Vec<(PathBuf, Resource)>, Vec<Problem>> {
    let mut placed = Vec::new();
    for text in texts {
        let found = parse_one(text)?;
        placed.extend(found.into_iter().map(|resource| (text.file.clone(), resource)));
    }
    Ok(placed)
}

/// Files to write so that `fresh` is in force: a resource that stands somewhere is replaced there, its neighbours kept;
/// a new one gets a file of its own.
///
/// # Errors
/// When the place is no folder.
pub fn plan(
    place: &Path,
    in_place: &[(PathBuf, Resource)],
    fresh: &[Resource],
) -> Result<Vec<(PathBuf, String)>, ApplyError> {
    if !place.is_dir() {
        return Err(ApplyError::NotFolder(place.display().to_string()));
    }
    let mut files: BTreeMap<PathBuf, Vec<&Resource>> = BTreeMap::new();
    for new in fresh {
        let home = in_place.iter().find(|(file, old)| replaces(place, new, file, old));
        let file = home.map_or_else(|| place.join(file_name(new)), |(file, _)| file.clone());
        let all = files.entry(file.clone()).or_insert_with(|| {
            in_place.iter().filter(|(other, _)| *other == file).map(|(_, resource)| resource).collect()
        });
        match all
            .iter_mut()
            .find(|old| !fresh.iter().any(|new| std::ptr::eq(**old, new)) && replaces(place, new, &file, old))
        {
            Some(slot) => *slot = new,
            None => all.push(new),
        }
    }
    // What was applied before in several nameless documents is replaced whole.
    for (file, all) in &mut files {
        all.retain(|one| {
            let fresh_one = fresh.iter().any(|new| std::ptr::eq(*one, new));
            fresh_one || !fresh.iter().any(|new| replaces(place, new, file, one))
        });
    }
    Ok(files.into_iter().map(|(file, resources)| (file, join(&resources))).collect())
}

fn join(resources: &[&Resource]) -> String {
    let document = |resource: &&Resource| {
        let dated = lanes::dated(resource);
        format!("{}\n", dated.as_deref().unwrap_or(&resource.text).trim_end())
    };
    resources.iter().map(document).collect::<Vec<_>>().join("---\n")
}

/// File of a resource that was applied, within the folder.
fn file_name(resource: &Resource) -> String {
    let metadata = &resource.metadata;
    let parts = [metadata.kind, metadata.namespace.as_str(), metadata.name.as_str()];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).map(str::to_ascii_lowercase).collect();
    // Names of resources hold nothing that a path could be made of; this keeps it so whatever they become.
    let name = parts.join("-").replace(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')), "_");
    format!("{name}.yaml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, service: &str, written: u64) -> Text {
        let text = format!(
            "apiVersion: lanemesh.io/v1alpha1\nkind: Services\nservices:\n- {{name: {service}, ports: [{{port: 80}}]}}\n"
        );
        Text { file: name.into(), text, written }
    }

    fn names(resources: &[Resource]) -> Vec<&str> {
        let mut found = Vec::new();
        for resource in resources {
            let Spec::Services(services) = &resource.spec else { panic!("{resource:?}") };
            found.extend(services.iter().map(|service| service.name.as_str()));
        }
        found
    }

    #[test]
    fn files_that_did_not_change_say_what_they_said_and_all_others_what_they_say_now() {
        let mut parsed = Parsed::default();
        let (a, b) = (file("a.yaml", "one", 1), file("b.yaml", "two", 1));
        assert_eq!(names(&parsed.resources(vec![a.clone(), b.clone()]).unwrap()), ["one", "two"]);
        let other = file("b.yaml", "three", 2);
        assert_eq!(names(&parsed.resources(vec![a.clone(), other]).unwrap()), ["one", "three"]);
        let broken = Text { text: "kind: Nothing".to_owned(), ..b.clone() };
        assert!(parsed.resources(vec![a.clone(), broken]).is_err());
        assert_eq!(names(&parsed.resources(vec![a, b.clone()]).unwrap()), ["one", "two"]);
        assert_eq!(names(&parsed.resources(vec![b]).unwrap()), ["two"], "a file that is gone says nothing");
    }
}
