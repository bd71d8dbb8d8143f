//! The states of an instance, as picks and people see them.

/// Whether an instance may be picked, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usability {
    /// Yes.
    Usable,
    /// Yes, although calls to it failed: its level needs it. Where capacity is counted, it is none.
    Kept,
    /// By one exchange, which shows whether it is back: its time out is over.
    HalfOpen,
    /// No: that exchange is under way.
    OnTrial,
    /// No: calls to it failed.
    Ejected,
    /// No: probes of it fail.
    FailingHealth,
    /// No: it asked to be left alone (`retry-after`).
    Resting,
    /// No, while another can be used: its sidecar said that it drains.
    Draining,
}

impl Usability {
    /// Every state, in order of declaration.
    pub const ALL: [Usability; 8] = [
        Usability::Usable,
        Usability::Kept,
        Usability::HalfOpen,
        Usability::OnTrial,
        Usability::Ejected,
        Usability::FailingHealth,
        Usability::Resting,
        Usability::Draining,
    ];

    /// Whether a further exchange may pick it.
    pub fn allows(self) -> bool {
        match self {
            Usability::Usable | Usability::Kept | Usability::HalfOpen => true,
            Usability::OnTrial
            | Usability::Ejected
            | Usability::FailingHealth
            | Usability::Resting
            | Usability::Draining => false,
        }
    }

    /// Whether every exchange may pick it.
    pub fn is_in_traffic(self) -> bool {
        match self {
            Usability::Usable | Usability::Kept => true,
            Usability::HalfOpen
            | Usability::OnTrial
            | Usability::Ejected
            | Usability::FailingHealth
            | Usability::Resting
            | Usability::Draining => false,
        }
    }

    /// Label for metrics and the admin page.
    pub fn label(self) -> &'static str {
        match self {
            Usability::Usable => "usable",
            Usability::Kept => "kept",
            Usability::HalfOpen => "half_open",
            Usability::OnTrial => "on_trial",
            Usability::Ejected => "ejected",
            Usability::FailingHealth => "failing_health",
            Usability::Resting => "resting",
            Usability::Draining => "draining",
        }
    }
}
