//! The file that says which Nacos servers there are.

use std::{fs, path::Path};

use mesh_core::resources::{Problem, nacos};

use super::wire;

/// Reads the file.
///
/// # Errors
/// All problems of it, or that it cannot be read.
pub fn read(file: &Path) -> Result<Vec<nacos::Server>, Vec<Problem>> {
    let shown = file.display().to_string();
    match fs::read_to_string(file) {
        Ok(text) => nacos::parse(&shown, &text),
        Err(error) => Err(vec![Problem {
            file: Some(shown),
            line: None,
            path: String::new(),
            message: format!("cannot be read: {error}"),
        }]),
    }
}

/// What the connection to one namespace of a server needs to know.
pub fn options(server: &nacos::Server, namespace: &str) -> wire::Options {
    wire::Options {
        name: server.name.clone(),
        addresses: server.addresses.clone(),
        namespace: namespace.to_owned(),
        tls: server.tls.clone(),
        login: server.login.clone(),
    }
}
