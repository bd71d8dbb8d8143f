//! Files of resources as arguments name them: files, folders of `*.yaml`, or standard input.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use mesh_core::resources::document::FILE_MAX;

use crate::exit::Failure;

/// A file of resources.
pub(crate) struct File {
    /// Name for messages; `-` is standard input.
    pub(crate) name: String,
    /// Content.
    pub(crate) text: String,
}

/// Reads every file; a folder means the `*.yaml` and `*.yml` in it, in order of name.
///
/// # Errors
/// When one cannot be read, or a folder holds none.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<File>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            files.push(File { name: "-".to_owned(), text: limited(path, io::stdin().lock())? });
        } else if path.is_dir() {
            let found = in_folder(path)?;
            if found.is_empty() {
                return Err(Failure::plain(format!("no *.yaml file in {}", path.display()))
                    .advise("name the files, or a folder that holds them"));
            }
            for path in found {
                files.push(one(&path)?);
            }
        } else {
            files.push(one(path)?);
        }
    }
    Ok(files)
}

fn one(path: &Path) -> Result<File, Failure> {
    let file = fs::File::open(path).map_err(|error| unreadable(path, error))?;
    Ok(File { name: path.display().to_string(), text: limited(path, file)? })
}

fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        let path = entry.map_err(|error| unreadable(folder, error))?.path();
        if path.is_file() && path.extension().is_some_and(|end| end == "yaml" || end == "yml") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn limited(path: &Path, reader: impl io::Read) -> Result<String, Failure> {
    let mut text = String::new();
    // One byte more than allowed, so that the parser says that it is too large.
    reader.take(FILE_MAX as u64 + 1).read_to_string(&mut text).map_err(|error| unreadable(path, error))?;
    Ok(text)
}

fn unreadable(path: &Path, error: io::Error) -> Failure {
    Failure::unreachable(format!("cannot read {}", path.display()), error)
        .advise("see that the file is there, is text in UTF-8, and may be read")
}
