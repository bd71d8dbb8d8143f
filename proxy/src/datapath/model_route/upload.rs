//! A request that is not held: one target gets it while it comes, renamed where its model stands.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use mesh_core::{
    model::model_route::{Failure, ModelRoute, Reason, VirtualModel},
    model_route::{
        client_error, failure,
        request::{Delivery, Generate, Long},
        rewrite::Piece,
        translate,
    },
};

use super::body::{Beginning, IDLE_LIMIT, Why};
use crate::datapath::relay::{Feed, Part};

/// What there is of the request before a target is known.
pub(super) struct Upload {
    generate: Generate,
    /// What came already.
    beginning: RefCell<Vec<Bytes>>,
    is_whole: bool,
    /// Its length, where the client says it.
    pub(super) length: Option<u64>,
    /// Why it is not held.
    pub(super) why: Why,
}

/// A request on its way to its target.
pub(super) struct Sending {
    long: Long,
    feed: Rc<Feed>,
    /// When the client has been silent for too long.
    pub(super) silent_at: Duration,
    /// Bytes that came of it so far.
    pub(super) came: u64,
}

impl Upload {
    /// Reads what there is of a request: the upload, what is known of the body, and its virtual model.
    ///
    /// # Errors
    /// Why nobody could be given it.
    pub(super) fn new<'r>(
        route: &'r ModelRoute,
        generate: &Generate,
        (beginning, length): (&Beginning, Option<u64>),
        find: impl Fn(&str) -> Result<&'r Arc<VirtualModel>, Failure>,
    ) -> Result<(Upload, Long, &'r Arc<VirtualModel>), Failure> {
        let mut parts = vec![beginning.held.bytes.clone()];
        if let Part::Data(bytes, _) = &beginning.next {
            parts.push(bytes.clone());
        }
        let mut long = Long::new(generate, None);
        for bytes in &parts {
            long.pass(bytes, &mut Vec::new()).map_err(|refused| client_error::of_refused(&refused))?;
        }
        let model = match (long.model(), &route.models[..]) {
            (Some(model), _) => find(model)?,
            // Whatever it says, there is no other; what it says is looked at when it comes.
            (None, [only]) => only,
            (None, _) => return Err(too_long(route, beginning.why, "it names its model behind what is held")),
        };
        let serves = |dialect| translate::toward(generate.api, dialect) == Some(generate.api);
        if !model.targets.iter().any(|target| serves(target.provider.dialect())) {
            return Err(too_long(route, beginning.why, "no target speaks the request's own dialect"));
        }
        let (is_whole, beginning_parts) = (beginning.next.is_last(), RefCell::new(parts));
        let generate = generate.clone();
        let upload = Upload { generate, beginning: beginning_parts, is_whole, length, why: beginning.why };
        Ok((upload, long, model))
    }

    /// Begins to send it to a target that calls its model `rename`; with its length there, where that is known.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn begin(&self, rename: Option<&str>, now: Duration) -> Result<(Sending, Option<u64>), Failure> {
        let (long, feed) = (Long::new(&self.generate, rename), Rc::new(Feed::default()));
        let mut sending = Sending { long, feed, silent_at: now.saturating_add(IDLE_LIMIT), came: 0 };
        let mut given = 0;
        for bytes in self.beginning.borrow().iter() {
            given += sending.pass(bytes)?;
        }
        let is_settled = rename.is_none() || sending.long.model().is_some();
        let length = self.length.filter(|_| is_settled).map(|length| {
            let given = given + sending.long.kept_back() as u64;
            length.saturating_sub(sending.came).saturating_add(given)
        });
        if self.is_whole {
            sending.end()?;
        }
        Ok((sending, length))
    }

    /// Nobody else gets it.
    pub(super) fn release(&self) {
        self.beginning.take();
    }

    /// Whether all of it came already.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }
}

impl Sending {
    /// Where the attempt takes it from.
    pub(super) fn feed(&self) -> Rc<Feed> {
        Rc::clone(&self.feed)
    }

    /// Whether more of it should be read of the client.
    pub(super) fn has_room(&self) -> bool {
        self.feed.has_room()
    }

    /// Passes on what came; whether it was the last.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn part(&mut self, part: &Part, model: &VirtualModel, now: Duration) -> Result<bool, Failure> {
        self.silent_at = now.saturating_add(IDLE_LIMIT);
        if let Part::Data(bytes, _) = part {
            let was_known = self.long.model().is_some();
            self.pass(bytes)?;
            if let (false, Some(named)) = (was_known, self.long.model())
                && model.fits(named).is_none()
            {
                let message = format!("there is no model {named} at this host");
                return Err(Failure { status: 404, message, ..failure::without_answer(Reason::NotFound) });
            }
        }
        if part.is_last() {
            self.end()?;
        }
        Ok(part.is_last())
    }

    fn end(&mut self) -> Result<(), Failure> {
        self.long.end().map_err(|refused| client_error::of_refused(&refused))?;
        self.feed.end();
        Ok(())
    }

    /// How the answer is delivered, where the request says it.
    pub(super) fn delivery(&self) -> Option<Delivery> {
        self.long.delivery()
    }

    /// Lets bytes pass; how many go on.
    fn pass(&mut self, bytes: &Bytes) -> Result<u64, Failure> {
        let mut pieces = Vec::new();
        self.long.pass(bytes, &mut pieces).map_err(|refused| client_error::of_refused(&refused))?;
        self.came += bytes.len() as u64;
        let mut given = 0;
        for piece in pieces {
            let bytes = match piece {
                Piece::Kept(range) => bytes.slice(range),
                Piece::New(bytes) => bytes.into(),
            };
            given += bytes.len() as u64;
            self.feed.give(bytes);
        }
        Ok(given)
    }
}

fn too_long(route: &ModelRoute, why: Why, besides: &str) -> Failure {
    match why {
        Why::Length => Failure {
            status: 413,
            message: format!(
                "the request is longer than the {} bytes that are held (bodyLimit of the model route), and {besides}",
                route.body_limit
            ),
            ..failure::without_answer(Reason::BadRequest)
        },
        Why::Room => Failure {
            message: format!("too many bytes of requests to models are held, and {besides}"),
            ..failure::without_answer(Reason::Overloaded)
        },
    }
}
