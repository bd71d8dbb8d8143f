//! Tests of calls to language models: the official SDKs of OpenAI and Anthropic, and clients without any, against a
//! stand-in for providers.
#![cfg(test)]

#[path = "models/example.rs"]
mod example;
#[path = "models/stand_in.rs"]
mod stand_in;
