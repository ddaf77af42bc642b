//! The machine by its behaviour.
