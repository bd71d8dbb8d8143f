//! How long a test takes that is long by nature: a part of it in `tests/run all`, all of it in `tests/run soak`.

/// `shortened`, or `full` in a soak run.
pub fn of<T>(shortened: T, full: T) -> T {
    if std::env::var_os("MESH_TEST_LENGTH").is_some_and(|length| length == "full") { full } else { shortened }
}
