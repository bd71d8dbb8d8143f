//! A worker's life: it takes connections at its doors, serves, and goes down stage by stage as core decides.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use mesh_core::{
    drain::{Application, Descent, Step},
    shedding::{ALWAYS, Pressure, Shed},
};
use tokio::{net::TcpStream, sync::watch};

use super::{
    Door, Stage, Worker,
    guests::{self, Bounded, Place},
};
use crate::{
    datapath::{self, lane::oracle::Known, model_route, probe},
    net::{listener::Listener, memory},
};

/// How often a worker on its way down looks whether its exchanges have ended, and any worker at its pools.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// Pause of accepting while every connection that a listener may have is busy.
const PLACE_PAUSE: Duration = Duration::from_millis(20);

pub(super) async fn run(
    worker: &Rc<Worker>,
    doors: Vec<(Listener, Door)>,
    application: watch::Receiver<Application>,
    reached: &watch::Sender<Stage>,
) {
    for (listener, door) in doors {
        worker.tasks.spawn_local(accept(Rc::clone(worker), listener, door));
    }
    worker.tasks.spawn_local(probe::run(Rc::clone(worker)));
    worker.tasks.spawn_local(model_route::warm::run(Rc::clone(worker)));
    worker.tasks.spawn_local(answer(Rc::clone(worker)));
    let mut draining = worker.shared.draining.clone();
    loop {
        tokio::select! {
            result = draining.wait_for(|draining| *draining) => {
                // A control thread that is gone ends the process as an order to drain does.
                let _ = result.is_ok();
                break;
            }
            () = tokio::time::sleep(TICK) => worker.tick(),
        }
    }
    let end = descend(worker, application, reached).await;
    worker.tasks.close();
    // What is still open at the end ends with the runtime; its guards record that.
    while worker.now() < end {
        worker.upstreams.close();
        if tokio::time::timeout(TICK, worker.tasks.wait()).await.is_ok() {
            break;
        }
    }
}

/// The way down, up to the last stage. Returns when everything is over, whatever is still under way.
async fn descend(
    worker: &Rc<Worker>,
    mut application: watch::Receiver<Application>,
    reached: &watch::Sender<Stage>,
) -> Duration {
    let (mut descent, first) = Descent::begin(worker.config.drain, worker.now());
    let mut step = Some(first);
    loop {
        while let Some(Step { stage, why }) = step {
            tracing::debug!(stage = stage.label(), why = why.label(), "on the way down");
            worker.drain.enter(stage);
            if stage >= Stage::Outbound {
                // An application that shuts down waits for connections that nobody uses.
                worker.upstreams.close();
            }
            reached.send_replace(stage);
            step = descent.advance(worker.now(), worker.under_way.get(), seen(&application));
        }
        if descent.stage() == Stage::Done {
            return descent.end();
        }
        let is_known = seen(&application) == Application::Gone;
        tokio::select! {
            _ = application.changed(), if !is_known => {}
            () = tokio::time::sleep(TICK) => worker.tick(),
        }
        step = descent.advance(worker.now(), worker.under_way.get(), seen(&application));
    }
}

/// Whoever started the worker and is gone wants nothing of it any more.
fn seen(application: &watch::Receiver<Application>) -> Application {
    if application.has_changed().is_err() { Application::Gone } else { *application.borrow() }
}

/// Answers questions from the admin port until the worker has drained.
async fn answer(worker: Rc<Worker>) {
    let Some(mut questions) = worker.memory.questions() else { return };
    let seat = worker.drain.seat();
    loop {
        tokio::select! {
            question = questions.recv() => match question {
                Some(question) => question.answer(Known {
                    memory: &worker.memory,
                    health: &worker.health,
                    shared: &worker.shared,
                    now: worker.now(),
                }),
                None => return,
            },
            () = seat.reached(Stage::Done) => return,
        }
    }
}

async fn accept(worker: Rc<Worker>, listener: Listener, door: Door) {
    let exhausted = || {
        worker.sink.metrics.accept_pauses.add(1);
        worker.relieve();
    };
    let seat = worker.drain.seat();
    let last = worker.last_stage(door.direction());
    let bounded = if worker.takes_calls(door.direction()) { Bounded::Yes } else { Bounded::No };
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = next(&worker, &listener, door, exhausted) => accepted,
            // What waited in the queue was accepted before: closing resets nobody.
            () = seat.reached(last) => return,
        };
        let (io, peer) = accepted;
        worker.sink.metrics.accepted[door.direction() as usize].add(1);
        match worker.guests.admit(peer.ip().to_canonical(), door, bounded, worker.now()) {
            Ok(place) => drop(worker.tasks.spawn_local(serve(Rc::clone(&worker), io, peer, (door, place)))),
            Err(why) => worker.shed(why),
        }
    }
}

/// The next connection, once there is a place for it; until then it waits where the kernel keeps it.
async fn next(worker: &Worker, listener: &Listener, door: Door, exhausted: impl Fn()) -> (TcpStream, SocketAddr) {
    let mut is_told = false;
    loop {
        // What is there is served or refused first: a connection takes memory before it says anything.
        if memory::pressure() >= Pressure::Short && worker.guests.count() > ALWAYS {
            worker.sink.metrics.accept_pauses.add(1);
            tokio::time::sleep(PLACE_PAUSE).await;
            continue;
        }
        match worker.guests.has_place(door) {
            Place::Free => return listener.accept(exhausted).await,
            Place::Made => worker.shed(Shed::Idle),
            Place::None => {
                worker.sink.metrics.accept_pauses.add(1);
                if !std::mem::replace(&mut is_told, true) {
                    worker.shed(Shed::Connections);
                }
                tokio::time::sleep(PLACE_PAUSE).await;
            }
        }
    }
}

async fn serve(worker: Rc<Worker>, io: TcpStream, peer: SocketAddr, (door, place): (Door, guests::Seat)) {
    let open = &worker.sink.metrics.open[door.direction() as usize];
    open.add(1);
    tokio::select! {
        biased;
        // Nothing is under way on it.
        () = place.guest.unwanted() => {}
        () = datapath::connection(&worker, io, peer, (door, &place.guest)) => {}
    }
    open.subtract(1);
}
