//! Policies of inbound ports.

use std::{sync::Arc, time::Duration};

use mesh_core::model::policy::{InboundProtocol, InboundServer};

use super::View;

/// How long a stock proxy waits for the first bytes on a port that nobody may use; ours refuses before.
const DETECT_TIMEOUT: Duration = Duration::from_secs(10);

impl View {
    /// Policy of a workload's port. What nobody knows, nobody may call.
    pub fn inbound(&self, namespace: &str, pod: &str, port: u16) -> Arc<InboundServer> {
        let known = self.workload(namespace, pod).and_then(|workload| workload.inbound.get(&port));
        known.cloned().unwrap_or_else(|| Arc::new(denied(port)))
    }
}

/// A port that nobody may call.
fn denied(port: u16) -> InboundServer {
    InboundServer {
        port,
        protocol: InboundProtocol::Detect { timeout: DETECT_TIMEOUT },
        authorizations: Vec::new(),
        routes: Vec::new(),
        name: "unknown-port".to_owned(),
    }
}
