//! Arguments of `mesh-ctl zone …`.

use clap::{Args as ClapArgs, Subcommand};

use crate::output::Format;

/// Commands about zones.
#[derive(Debug, Subcommand)]
pub(crate) enum Zone {
    /// Zones with their instances and their share of the calls now; of one service, who serves callers of each zone
    List {
        /// Service, NAME or NAME.NAMESPACE
        service: Option<String>,
        /// Format of the result
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Move the traffic of a zone away: its instances are left wherever others can take over
    Drain(ZoneChange),
    /// Let the traffic of a zone come back, bit by bit
    Restore(ZoneChange),
}

/// Arguments of the commands that change a zone.
#[derive(Debug, ClapArgs)]
pub(crate) struct ZoneChange {
    /// Zone, as instances name it
    pub(crate) zone: String,
    /// Why, for people who look later
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    /// Format of the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}
