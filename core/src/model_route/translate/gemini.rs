//! Google's generateContent: requests to targets, and their answers.

mod from_target;
mod to_target;

pub(super) use self::{
    from_target::{Events, read as read_answer},
    to_target::write as write_request,
};
