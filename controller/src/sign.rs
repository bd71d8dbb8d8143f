//! Who may be whom: the certificate authority, the tokens by which workloads prove themselves, and the files of both.

pub mod authority;
pub mod files;
pub mod refresh;
pub mod tokens;
