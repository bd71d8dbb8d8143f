//! What people write: resources of `lanemesh.io/v1alpha1`, Gateway API routes, and the service list of the file source.
//! Strict: an unknown field is an error that names its path, and all problems of a document are reported together.
