//! What the live views have in common: numbers as people read them, what was counted lately, and the terminal.

pub(in crate::cli) mod background;
#[cfg(test)]
pub(in crate::cli) mod testing;
pub(in crate::cli) mod text;
pub(in crate::cli) mod window;
