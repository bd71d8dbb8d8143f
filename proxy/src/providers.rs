//! What one worker keeps of servers that model routes name: what they showed, their keys, addresses and TLS.

pub mod credentials;
mod names;
mod trust;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    path::PathBuf,
};

use mesh_core::{
    model::model_route::{ModelTarget, UsageInStreams},
    model_route::{estimate::Estimates, standing::Standings},
};

pub use self::{
    credentials::{Credentials, Key, NoCredential},
    names::{Names, NoAddress},
    trust::{NoTrust, Roots},
};

/// State of one worker about providers.
#[derive(Debug)]
pub struct Providers {
    /// Who rests, who is slow, how much may be repeated.
    pub standings: RefCell<Standings>,
    /// Bytes of requests to models that are held.
    pub held: Cell<usize>,
    /// Keys.
    pub credentials: Credentials,
    /// Targets that refuse to be asked for usage in streams, by route and name.
    pub without_usage: RefCell<BTreeSet<String>>,
    /// Tokens from bytes, as learned by model.
    pub estimates: RefCell<Estimates>,
    /// Addresses of hosts.
    pub names: Names,
    /// TLS by whom is trusted.
    pub roots: Roots,
}

impl Providers {
    /// How usage is had from streams of a target.
    pub fn usage_of(&self, route: &str, target: &ModelTarget) -> UsageInStreams {
        match target.capabilities.usage {
            UsageInStreams::Auto if self.without_usage.borrow().contains(&format!("{route}/{}", target.name)) => {
                UsageInStreams::Never
            }
            known => known,
        }
    }

    /// A target refused to be asked for usage; false where that was known already.
    pub fn refuse_usage(&self, route: &str, target: &ModelTarget) -> bool {
        self.without_usage.borrow_mut().insert(format!("{route}/{}", target.name))
    }

    /// Nothing is known yet; secrets are looked for in this folder.
    pub fn new(secrets: PathBuf) -> Providers {
        Providers {
            standings: RefCell::default(),
            held: Cell::new(0),
            credentials: Credentials::new(secrets),
            without_usage: RefCell::default(),
            estimates: RefCell::default(),
            names: Names::default(),
            roots: Roots::default(),
        }
    }
}
