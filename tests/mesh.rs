//! Tests of the whole mesh: real processes, real applications, one file per behaviour.
