//! The method by simulation.
