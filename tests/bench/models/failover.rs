//! How long a client waits where the first target of its model fails and the second one serves.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::ensure;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::{
    chat,
    client::{self, Way},
    provider::{Behaviour, Provider},
    world::{self, Failing, World},
};

/// How long a first token may take, where the first target sends none.
pub(super) const FIRST_TOKEN: Duration = Duration::from_millis(500);
/// Tokens of an answer.
const TOKENS: u64 = 4;

/// How a first target fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It does not: what the others are measured against.
    None,
    /// Nobody listens there.
    Refused,
    /// 429.
    Rate,
    /// A head and an event without token, then silence, until `timers.firstToken`.
    Hang,
}

impl Fault {
    /// All, in the order of the table.
    pub(super) const ALL: [Fault; 4] = [Fault::None, Fault::Refused, Fault::Rate, Fault::Hang];

    /// Name in tables and results.
    pub(super) fn name(self) -> &'static str {
        match self {
            Fault::None => "healthy first target",
            Fault::Refused => "connection refused",
            Fault::Rate => "429",
            Fault::Hang => "no first token",
        }
    }

    /// What the client has to wait anyway.
    pub(super) fn timer(self) -> Duration {
        match self {
            Fault::None | Fault::Refused | Fault::Rate => Duration::ZERO,
            Fault::Hang => FIRST_TOKEN,
        }
    }

    fn behaviour(self) -> Behaviour {
        match self {
            Fault::None | Fault::Refused => Behaviour::Short,
            Fault::Rate => Behaviour::Rate,
            Fault::Hang => Behaviour::Hang,
        }
    }

    fn timers(self) -> Value {
        match self {
            Fault::None | Fault::Refused | Fault::Rate => json!({}),
            Fault::Hang => json!({"firstToken": format!("{}ms", FIRST_TOKEN.as_millis())}),
        }
    }
}

/// Virtual models whose first targets fail, each measured once: a target that failed is not asked for a while.
pub(super) struct Faults {
    models: Vec<(Fault, Failing)>,
    /// Hold the ports at which nobody listens.
    _closed: Vec<Socket>,
}

impl Faults {
    /// `count` of each fault.
    ///
    /// # Errors
    /// When an address cannot be had.
    pub(super) fn new(provider: &Provider, count: usize) -> anyhow::Result<Faults> {
        let (mut models, mut closed) = (Vec::new(), Vec::new());
        for number in 0..count {
            for (place, fault) in Fault::ALL.into_iter().enumerate() {
                let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let first = match fault {
                    Fault::None | Fault::Rate | Fault::Hang => provider.listen(any)?,
                    Fault::Refused => {
                        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
                        socket.bind(&any.into())?;
                        let address = socket.local_addr()?.as_socket();
                        closed.push(socket);
                        address.ok_or_else(|| anyhow::anyhow!("an address without port"))?
                    }
                };
                let name = format!("fault-{place}-{number}");
                let failing = Failing { name, first, behaviour: fault.behaviour(), timers: fault.timers() };
                models.push((fault, failing));
            }
        }
        Ok(Faults { models, _closed: closed })
    }

    /// Starts the mesh and asks every model once; faults take turns.
    ///
    /// # Errors
    /// When an answer is not whole, or not the second target's.
    pub(super) fn measure(self, provider: &Provider) -> anyhow::Result<Vec<(Fault, Vec<Duration>)>> {
        let (faults, failing): (Vec<Fault>, Vec<Failing>) = self.models.into_iter().unzip();
        let world = World::start(provider, &failing, &[])?;
        let _sidecar = world.sidecar()?;
        let way: Way = world.model();
        let mut found: Vec<(Fault, Vec<Duration>)> = Fault::ALL.map(|fault| (fault, Vec::new())).into();
        let mut socket = way.connect()?;
        let warm = chat::request(&way.authority, Behaviour::Short.model(), TOKENS, "");
        client::ask(&mut socket, &warm, TOKENS as usize)?;
        for (fault, model) in faults.into_iter().zip(&failing) {
            let request = chat::request(&way.authority, &model.name, TOKENS, "Say something.");
            let whole = client::ask(&mut socket, &request, TOKENS as usize)?;
            let second = whole.target.as_deref() == Some(world::second(&model.name).as_str());
            ensure!(second == (fault != Fault::None), "{}: served by {:?}", fault.name(), whole.target);
            found.iter_mut().filter(|(of, _)| *of == fault).for_each(|(_, delays)| delays.push(whole.first_byte));
        }
        Ok(found)
    }
}
