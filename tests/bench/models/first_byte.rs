//! How long a client waits for the first byte of an answer to a long prompt, alone on the machine.

use std::time::Duration;

use super::{
    chat,
    client::{self, Way},
    provider::Behaviour,
};

/// Length of the prompt, bytes.
pub(super) const PROMPT: usize = 400 * 1024;
/// Tokens of the answer.
const TOKENS: u64 = 4;
/// A piece of a prompt, with what has to be escaped in JSON and what has not.
const WORDS: &str = "The quick \\\"brown\\\" fox jumps over the lazy dog; über 100 Zebras schauen zu.\\n";

/// Asks `count` times on one connection.
///
/// # Errors
/// When a stream is not whole.
pub(super) fn measure(way: &Way, count: usize, delays: &mut Vec<Duration>) -> anyhow::Result<()> {
    let prompt = WORDS.repeat(PROMPT.div_ceil(WORDS.len()));
    let request = chat::request(&way.authority, Behaviour::Short.model(), TOKENS, &prompt);
    let mut socket = way.connect()?;
    client::ask(&mut socket, &request, TOKENS as usize)?;
    for _ in 0..count {
        delays.push(client::ask(&mut socket, &request, TOKENS as usize)?.first_byte);
    }
    Ok(())
}
