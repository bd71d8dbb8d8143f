//! A stream of whole messages: one at once, then one whenever it has become another.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, stream};
use tonic::Status;

use super::{Published, Watch};
use crate::{index::View, telemetry::OpenStream};

/// A stream of answers, boxed because the generated traits want a named type.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

struct Following<T, F> {
    published: Arc<Published>,
    watch: Watch,
    compute: F,
    last: Option<T>,
    open: OpenStream,
}

/// Sends what `compute` makes of the newest view whenever `watch` says that it may have changed and it did. An error of
/// `compute` is the last thing sent.
pub fn follow<T, F>(published: Arc<Published>, watch: Watch, open: OpenStream, compute: F) -> Answers<T>
where
    T: Clone + PartialEq + Send + 'static,
    F: Fn(&View) -> Result<T, Status> + Send + 'static,
{
    let start = Following { published, watch, compute, last: None, open };
    Box::pin(stream::unfold(Some(start), next))
}

async fn next<T, F>(this: Option<Following<T, F>>) -> Option<(Result<T, Status>, Option<Following<T, F>>)>
where
    T: Clone + PartialEq,
    F: Fn(&View) -> Result<T, Status>,
{
    let mut this = this?;
    loop {
        if this.last.is_some()
            && let Err(stopped) = this.watch.changed().await
        {
            return Some((Err(stopped), None));
        }
        match (this.compute)(&this.published.view()) {
            Err(status) => return Some((Err(status), None)),
            Ok(message) if this.last.as_ref() == Some(&message) => (),
            Ok(message) => {
                this.last = Some(message.clone());
                this.open.sent();
                return Some((Ok(message), Some(this)));
            }
        }
    }
}
