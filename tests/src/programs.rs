//! Where the programs are: ours beside the test or where `MESH_TEST_BINARIES` says, other people's where `tests/run`
//! installed them. A missing program is a failure, never a reason to skip.

use std::path::{Path, PathBuf};

/// One of our own: `mesh-proxy`, `mesh-controller`, `mesh-ctl`, `demo-app`.
///
/// # Panics
/// When it is not built.
pub fn ours(name: &str) -> PathBuf {
    let place = std::env::var_os("MESH_TEST_BINARIES").map_or_else(beside_the_test, PathBuf::from);
    must_exist(place.join(name), "build it (cargo build --workspace --bins) or name its folder in MESH_TEST_BINARIES")
}

/// A Go program that `tests/run` built: `h2spec`, `grpc-interop-client`, `grpc-interop-server`.
///
/// # Panics
/// When it is not installed.
pub fn go(name: &str) -> PathBuf {
    let place = std::env::var_os("MESH_TEST_TOOLS").map_or_else(|| cache().join("go/bin"), PathBuf::from);
    must_exist(place.join(name), "`tests/run mesh` installs it")
}

/// The Python that has grpcio, h2, httpx and websockets.
///
/// # Panics
/// When it is not installed.
pub fn python() -> PathBuf {
    let place = std::env::var_os("MESH_TEST_PYTHON").map(PathBuf::from).or_else(|| {
        let entries = std::fs::read_dir(cache()).ok()?;
        let mut places: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.join(".complete").exists())
            .collect();
        places.sort();
        places.pop().map(|place| place.join("bin/python"))
    });
    must_exist(place.unwrap_or_else(|| cache().join("python/bin/python")), "`tests/run mesh` installs it")
}

/// A program of the system.
///
/// # Panics
/// When it is on no path.
pub fn system(name: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default();
    let places = path.split(':').chain(["/usr/sbin", "/usr/lib/postgresql/15/bin"]);
    places
        .map(|place| Path::new(place).join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed; `tests/run mesh` installs it"))
}

/// A file of `tests/apps`: small applications of the tests.
pub fn app(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("apps").join(name)
}

/// Root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn beside_the_test() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    test.ancestors().nth(2).expect("a test lies in target/<profile>/deps").to_owned()
}

fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    base.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache")).join("lanemesh")
}

fn must_exist(program: PathBuf, remedy: &str) -> PathBuf {
    assert!(program.is_file(), "{} is missing: {remedy}", program.display());
    program
}
