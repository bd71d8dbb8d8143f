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

/// A Go program that `tests/run` built: `h2spec`, `grpc-interop-client`, `grpc-interop-server`, `lane-link`.
///
/// # Panics
/// When it is not installed.
pub fn go(name: &str) -> PathBuf {
    let place = std::env::var_os("MESH_TEST_TOOLS").map_or_else(|| cache().join("go/bin"), PathBuf::from);
    must_exist(place.join(name), "`tests/run mesh` installs it")
}

/// The Python that has grpcio, h2, httpx, redis and websockets.
///
/// # Panics
/// When it is not installed.
pub fn python() -> PathBuf {
    installed("MESH_TEST_PYTHON", "python", "bin/python", "mesh")
}

/// The Python that has web frameworks and OpenTelemetry's instrumentation.
///
/// # Panics
/// When it is not installed.
pub fn opentelemetry_python() -> PathBuf {
    installed("MESH_TEST_OPENTELEMETRY_PYTHON", "opentelemetry-python", "bin/python", "lanes")
}

/// The Python that has Flask and SkyWalking's agent.
///
/// # Panics
/// When it is not installed.
pub fn skywalking_python() -> PathBuf {
    installed("MESH_TEST_SKYWALKING_PYTHON", "skywalking-python", "bin/python", "lanes")
}

/// The link of a chain made with Express, beside the modules that it needs.
///
/// # Panics
/// When it is not installed.
pub fn node_link() -> PathBuf {
    installed("MESH_TEST_NODE_LINK", "node-link", "link.js", "lanes")
}

/// rnacos, a registry that speaks Nacos's protocol.
///
/// # Panics
/// When it is not installed.
pub fn rnacos() -> PathBuf {
    installed("MESH_TEST_RNACOS", "rnacos", "bin/rnacos", "nacos")
}

/// The jar of the Java server of Nacos; its libraries lie in `lib` beside it.
///
/// # Panics
/// When it is not installed.
pub fn nacos_server() -> PathBuf {
    installed("MESH_TEST_NACOS_SERVER", "nacos-server", "nacos-server.jar", "nacos")
}

/// The Python that has Nacos's SDK and requests.
///
/// # Panics
/// When it is not installed.
pub fn nacos_python() -> PathBuf {
    installed("MESH_TEST_NACOS_PYTHON", "nacos-python", "bin/python", "nacos")
}

/// The Python that has the newest SDKs of OpenAI and Anthropic.
///
/// # Panics
/// When it is not installed.
pub fn models_python() -> PathBuf {
    installed("MESH_TEST_MODELS_PYTHON", "models-python", "bin/python", "models")
}

/// The Python that has SDKs of OpenAI and Anthropic of long ago.
///
/// # Panics
/// When it is not installed.
pub fn earlier_models_python() -> PathBuf {
    installed("MESH_TEST_EARLIER_MODELS_PYTHON", "earlier-models-python", "bin/python", "models")
}

/// A file that the variable names, or of the newest folder `<name>-<hash>` that was filled in the cache.
fn installed(variable: &str, name: &str, file: &str, group: &str) -> PathBuf {
    let place = std::env::var_os(variable).map(PathBuf::from).or_else(|| newest(name).map(|place| place.join(file)));
    must_exist(place.unwrap_or_else(|| cache().join(name).join(file)), &format!("`tests/run {group}` installs it"))
}

fn newest(name: &str) -> Option<PathBuf> {
    let filled = |path: &Path| path.join(".complete").metadata().and_then(|mark| mark.modified()).ok();
    let is_named = |path: &Path| {
        let stem = path.file_name().and_then(|file| file.to_str()).and_then(|file| file.rsplit_once('-'));
        stem.is_some_and(|(stem, _)| stem == name)
    };
    let places = std::fs::read_dir(cache()).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    places
        .filter(|place| is_named(place))
        .filter_map(|place| Some((filled(&place)?, place)))
        .max()
        .map(|(_, place)| place)
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
