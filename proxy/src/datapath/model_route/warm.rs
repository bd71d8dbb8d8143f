//! Keeps connections ready to targets outside of the mesh, TLS done, so that a request need not wait for them. Nothing is
//! ever sent on one: a target is asked, and paid, for what callers want alone.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use futures_util::future::join_all;
use mesh_core::{model::model_route::ModelTarget, outcome::Outcome};
use tokio::time::sleep;

use super::attempt;
use crate::{
    datapath::{
        enforce::{Refused, To},
        reach::{self, Upstream},
    },
    providers::Offer,
    worker::{Stage, Worker},
};

/// How often it is looked whether connections are there.
const LOOK: Duration = Duration::from_secs(5);

/// Addresses of a target that are tried: as many as a request tries.
const ADDRESSES_MAX: usize = attempt::TRIES as usize;

/// Keeps connections warm until the proxy drains.
pub async fn run(worker: Rc<Worker>) {
    let seat = worker.drain.seat();
    loop {
        let due = worker.providers.warm.due(worker.now());
        let dialled = join_all(due.iter().map(|(target, limit)| warm(&worker, target, *limit)));
        let round = async {
            dialled.await;
            let is_idle = worker.providers.warm.is_empty();
            tokio::select! {
                () = worker.providers.warm.changed.notified() => {}
                () = sleep(LOOK), if !is_idle => {}
            }
        };
        tokio::select! {
            () = seat.reached(Stage::Leaving) => return,
            () = round => {}
        }
    }
}

/// Makes sure that a connection to a target waits for a request.
async fn warm(worker: &Rc<Worker>, target: &Arc<ModelTarget>, limit: Duration) {
    if let Err(refused) = dial(worker, target, limit).await {
        tracing::debug!(target = target.name, why = refused.detail, "a target is not kept warm");
        worker.providers.warm.failed(target, worker.now());
    }
}

async fn dial(worker: &Worker, target: &ModelTarget, limit: Duration) -> Result<(), Refused> {
    let Some(plan) = attempt::outside(worker, worker.shared.load(), target, limit, Offer::Both).await? else {
        return Ok(());
    };
    let To::Provider(addresses, way) = &plan.to else { return Ok(()) };
    let place = |address: &SocketAddr| worker.upstreams.provider(worker, *address, way);
    let places: Vec<Rc<Upstream>> = addresses.iter().take(ADDRESSES_MAX).map(place).collect();
    let warmed = reach::warm(worker, &places, limit, plan.traffic.limits).await;
    warmed.map_err(|unreachable| Refused::new(Outcome::ConnectFailed, unreachable.detail))
}
