//! What stands in labels of metrics; each type is a closed set of words.

/// gRPC services that have streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Destination.Get.
    Destination,
    /// Destination.GetProfile.
    Profile,
    /// OutboundPolicies.Watch.
    Outbound,
    /// InboundServerPolicies.WatchPort.
    Inbound,
    /// MeshPolicy.Watch.
    Mesh,
    /// MeshHealth.Share.
    Health,
}

impl Service {
    pub(super) fn label(self) -> &'static str {
        match self {
            Service::Destination => "destination",
            Service::Profile => "profile",
            Service::Outbound => "outbound",
            Service::Inbound => "inbound",
            Service::Mesh => "mesh",
            Service::Health => "health",
        }
    }
}

/// What became of a request for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertifyResult {
    /// Signed.
    Issued,
    /// The token does not count.
    TokenRefused,
    /// The token proves somebody else.
    WrongIdentity,
    /// The signing request or the name in it is wrong.
    RequestRefused,
    /// The authority cannot sign now.
    Failed,
}

impl CertifyResult {
    pub(super) fn label(self) -> &'static str {
        match self {
            CertifyResult::Issued => "issued",
            CertifyResult::TokenRefused => "token_refused",
            CertifyResult::WrongIdentity => "wrong_identity",
            CertifyResult::RequestRefused => "request_refused",
            CertifyResult::Failed => "failed",
        }
    }
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsRefused {
    /// The handshake failed.
    Handshake,
    /// The handshake took too long.
    Timeout,
    /// The certificate proves no identity of the trust domain.
    Identity,
}

impl TlsRefused {
    pub(super) fn label(self) -> &'static str {
        match self {
            TlsRefused::Handshake => "handshake",
            TlsRefused::Timeout => "timeout",
            TlsRefused::Identity => "identity",
        }
    }
}

/// Whether something was taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// In force now.
    Loaded,
    /// The last good state stays in force.
    Refused,
}

impl Load {
    pub(super) fn label(self) -> &'static str {
        match self {
            Load::Loaded => "loaded",
            Load::Refused => "refused",
        }
    }
}

/// What became of a list that a registry sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// In force as it is.
    Believed,
    /// In force with instances that it does not have.
    Held,
    /// Dropped: made before the last one.
    Old,
}

impl List {
    pub(super) fn label(self) -> &'static str {
        match self {
            List::Believed => "believed",
            List::Held => "held",
            List::Old => "old",
        }
    }
}

/// How many instances that rules select for a registry stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// Registered.
    pub registered: usize,
    /// Not yet.
    pub waiting: usize,
    /// Not, for a reason that a person can do something about.
    pub failed: usize,
    /// Not to be.
    pub left_out: usize,
}
