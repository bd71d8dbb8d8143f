//! OpenAI's Chat Completions: requests of clients, requests to targets, and answers both ways.

mod from_client;
mod from_target;
mod to_client;
mod to_target;

pub(super) use self::{
    from_client::read as read_request,
    from_target::{Events, read as read_answer},
    to_client::{Chunks, write as write_answer},
    to_target::write as write_request,
};
