//! The harness of whole-mesh tests: the mesh as real processes on loopback addresses or in network namespaces.
