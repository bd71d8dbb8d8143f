//! A connection to Redis that carries calls of leases; what they mean is decided in `mesh_core::limits::lease`.

use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};

use mesh_core::{
    limits::{
        Place,
        lease::{Answer, Beat, Call, CellAnswer, CellWindow, News},
        shares::{Part, Shares},
    },
    model::model_route::{Credential, LimitStore, OnStoreDown},
};
use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo as _, RedisError, Script, aio::MultiplexedConnection, cmd,
};
use thiserror::Error;

/// For name resolution, connect and introduction together.
const CONNECT_LIMIT: Duration = Duration::from_millis(500);
/// For one call. One that takes longer is given up with its connection; should it arrive later, it is ignored.
const CALL_LIMIT: Duration = Duration::from_millis(500);
/// Longest password, bytes.
const PASSWORD_MAX: u64 = 64 * 1_024;
/// Prefix of every key; the braces keep them on one node of a cluster.
fn prefix(place: &Place) -> String {
    match (&*place.sharing, place.on_down) {
        ("", OnStoreDown::Open | OnStoreDown::Closed) => "{lanemesh:limits}".to_owned(),
        (service, OnStoreDown::Open) => format!("{{lanemesh:limits:{service}}}"),
        // Sharers of their own: each sidecar that has limits of both kinds would count twice otherwise.
        (service, OnStoreDown::Closed) => format!("{{lanemesh:limits:{service}:closed}}"),
    }
}

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lease.lua")));

/// Why a store does not answer.
#[derive(Debug, Error)]
pub(super) enum Unreachable {
    /// Its address makes no sense.
    #[error("{0} is no address of a Redis without TLS")]
    Address(String),
    /// Its password cannot be read.
    #[error("cannot read the password from {}", .0.display())]
    Password(PathBuf, #[source] std::io::Error),
    /// No connection.
    #[error("cannot connect")]
    Connect(#[source] RedisError),
    /// The call failed.
    #[error("a call failed")]
    Call(#[source] RedisError),
    /// It does not say which process it is.
    #[error("INFO server names no run_id")]
    Nameless,
    /// The call came late, or what was answered makes no sense.
    #[error("the answer makes no sense")]
    Answer,
}

/// A connection.
pub(super) struct Connection {
    calls: MultiplexedConnection,
    run: String,
    prefix: String,
}

impl Connection {
    /// Connects, and asks which process answers.
    pub(super) async fn open(place: &Place, secrets: &Path) -> Result<Connection, Unreachable> {
        let client = client(&place.store, secrets).await?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_LIMIT))
            .set_response_timeout(Some(CALL_LIMIT));
        let connected = tokio::time::timeout(2 * CONNECT_LIMIT, async {
            let mut calls = client.get_multiplexed_async_connection_with_config(&config).await?;
            let about: String = cmd("INFO").arg("server").query_async(&mut calls).await?;
            Ok((calls, about))
        });
        let timed_out = |_| Unreachable::Connect(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)));
        let (calls, about) = connected.await.map_err(timed_out)?.map_err(Unreachable::Connect)?;
        let run = about.lines().find_map(|line| line.strip_prefix("run_id:")).map(str::trim).map(str::to_owned);
        Ok(Connection { calls, run: run.ok_or(Unreachable::Nameless)?, prefix: prefix(place) })
    }

    /// Name of the process that answers.
    pub(super) fn run(&self) -> &str {
        &self.run
    }

    /// Carries a call. After an error the connection is of no use.
    pub(super) async fn call(&mut self, call: &Call) -> Result<Answer, Unreachable> {
        carry(&mut self.calls, call, &self.prefix, None).await
    }
}

async fn client(place: &LimitStore, secrets: &Path) -> Result<Client, Unreachable> {
    let LimitStore::Redis { url, password } = place else {
        return Err(Unreachable::Address("local".to_owned()));
    };
    // Without what stands before the @: an address may hold a password.
    let shown = || url.rsplit('@').next().unwrap_or_default().to_owned();
    let info = url.as_str().into_connection_info().map_err(|_| Unreachable::Address(shown()))?;
    let info = match password {
        None => info,
        Some(credential) => {
            let text = read_password(credential, secrets).await?;
            let settings = info.redis_settings().clone().set_password(text.trim());
            info.set_redis_settings(settings)
        }
    };
    Client::open(info).map_err(|_| Unreachable::Address(shown()))
}

async fn read_password(credential: &Credential, secrets: &Path) -> Result<String, Unreachable> {
    let path = match credential {
        Credential::File(path) => PathBuf::from(path),
        Credential::Secret { name, key } => secrets.join(name).join(key),
    };
    let read = async {
        let length = tokio::fs::metadata(&path).await?.len();
        if length > PASSWORD_MAX {
            return Err(std::io::Error::from(std::io::ErrorKind::FileTooLarge));
        }
        tokio::fs::read_to_string(&path).await
    };
    read.await.map_err(|error| Unreachable::Password(path.clone(), error))
}

type Raw = (u64, u64, Vec<u64>, Vec<u64>, Vec<String>, Vec<String>);

/// Carries a call over any connection. `time` (microseconds) stands for the store's clock, in tests.
pub(super) async fn carry(
    calls: &mut MultiplexedConnection,
    call: &Call,
    prefix: &str,
    time: Option<u64>,
) -> Result<Answer, Unreachable> {
    let mut script = SCRIPT.prepare_invoke();
    let Shares { proxies, sharers, part } = call.shares;
    script.key(prefix).arg(&call.proxy).arg(call.number).arg(&call.run).arg(proxies).arg(sharers).arg(part as u64);
    match call.beat {
        Beat::None => script.arg(""),
        Beat::Heard(told) => script.arg(told),
        Beat::Leave => script.arg("leave"),
    };
    script.arg(time.map(|time| time.to_string()).unwrap_or_default());
    for ask in &call.cells {
        script.arg(format!("{:032x}", ask.at.cell)).arg(ask.at.length).arg(ask.at.window);
        script.arg(ask.amount).arg(ask.keep).arg(ask.spent).arg(ask.more);
    }
    let raw: Raw = script.invoke_async(calls).await.map_err(Unreachable::Call)?;
    answer(call, raw).ok_or(Unreachable::Answer)
}

/// What an answer means; `None` for one that does not fit the call.
fn answer(call: &Call, (time, anew, cells, news, tight, loose): Raw) -> Option<Answer> {
    if time == 0 || cells.len() != 2 * call.cells.len() {
        return None;
    }
    let cells = cells.chunks_exact(2).map(|cell| CellAnswer { held: cell[0], left: cell[1] }).collect();
    let read = |members: Vec<String>| members.iter().map(|member| cell_window(member)).collect::<Option<Vec<_>>>();
    let news = match (call.beat, news.as_slice()) {
        (Beat::Heard(_), [proxies, sharers, part, until]) => {
            let part = *Part::ALL.get(usize::try_from(*part).ok()?)?;
            let shares = Shares { proxies: *proxies, sharers: *sharers, part };
            Some(News { shares, until: *until, tight: read(tight)?, loose: read(loose)? })
        }
        (Beat::Heard(_), _) => return None,
        (Beat::None | Beat::Leave, _) => None,
    };
    Some(Answer { time, anew, cells, news })
}

fn cell_window(member: &str) -> Option<CellWindow> {
    let mut parts = member.split(':');
    let cell = u128::from_str_radix(parts.next()?, 16).ok()?;
    Some(CellWindow { cell, length: parts.next()?.parse().ok()?, window: parts.next()?.parse().ok()? })
}
