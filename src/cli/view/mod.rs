//! What the live views have in common: numbers as people read them, what a running proxy did lately, and the terminal.

pub(in crate::cli) mod background;
pub(in crate::cli) mod poll;
pub(in crate::cli) mod recent;
pub(in crate::cli) mod show;
pub(in crate::cli) mod signals;
pub(in crate::cli) mod terminal;
#[cfg(test)]
pub(in crate::cli) mod testing;
pub(in crate::cli) mod text;
pub(in crate::cli) mod window;
