//! Calls to language models: a stand-in for providers ([`stand_in`]), clients that are the official SDKs of OpenAI and
//! Anthropic ([`sdk`]), and streams of events as bytes ([`events`]).

pub mod events;
pub mod front;
pub mod multiplexed;
pub mod sdk;
pub mod stand_in;
pub mod web_socket;
