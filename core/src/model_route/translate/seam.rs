//! Where the text of one target ends and that of the next begins: nothing is said twice.

use std::borrow::Cow;

use super::{Cause, Untranslatable};

/// Bytes of the beginning of a text which, said once more, show that a target begins anew instead of going on.
const AGAIN: usize = 32;

/// Takes the first text of the target that goes on.
pub(super) struct Seam {
    /// White space at the end of what was said that the target was not given; where it says it, too, that is left out.
    blank: String,
    /// Beginning of what was said.
    beginning: String,
    /// What the target said, as long as it is what that beginning says.
    held: String,
    passed: Passed,
}

/// Whether text has passed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passed {
    Nothing,
    Some,
}

impl Seam {
    /// Behind `said`, of which the target was given all but `blank` at its end.
    pub(super) fn new(said: &str, blank: &str) -> Seam {
        let beginning = said[..said.floor_char_boundary(AGAIN)].to_owned();
        Seam { blank: blank.to_owned(), beginning, held: String::new(), passed: Passed::Nothing }
    }

    /// Whether text has passed.
    pub(super) fn has_passed(&self) -> bool {
        self.passed == Passed::Some
    }

    /// What is passed on of this text; `None` = nothing yet.
    ///
    /// # Errors
    /// The target begins anew.
    pub(super) fn text<'a>(&mut self, text: Cow<'a, str>) -> Result<Option<Cow<'a, str>>, Untranslatable> {
        if self.has_passed() {
            return Ok(Some(text));
        }
        let new = self.without_blank(&text);
        self.held.push_str(new);
        if self.held.starts_with(&self.beginning) {
            return Err(Untranslatable { member: "content".to_owned(), cause: Cause::Repeated });
        }
        if self.beginning.starts_with(&self.held) {
            return Ok(None);
        }
        Ok(self.rest().map(Cow::Owned))
    }

    /// What was held back, once the target has nothing more to say.
    pub(super) fn rest(&mut self) -> Option<String> {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return None;
        }
        self.passed = Passed::Some;
        Some(held)
    }

    /// The text without white space that was said already.
    fn without_blank<'t>(&mut self, text: &'t str) -> &'t str {
        let same = self.blank.bytes().zip(text.bytes()).take_while(|(said, says)| said == says).count();
        let same = text.floor_char_boundary(same);
        if same < text.len() {
            self.blank.clear();
        } else {
            self.blank.drain(..same);
        }
        &text[same..]
    }
}
