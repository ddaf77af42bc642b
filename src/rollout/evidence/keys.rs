//! Which keys of a sticky route have erred already: there the coin belongs to the key, and only its first bad event is a draw.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Keys that are remembered. When more have erred in one step, the oldest is forgotten and may count again.
const MOST: usize = 1_024;

/// The keys that erred in this step. 32 bits of each are kept: one in four million others is taken for one of a full set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys(VecDeque<u32>);

impl Keys {
    /// Whether this is the key's first bad event. It is remembered.
    pub fn is_first(&mut self, key: u64) -> bool {
        let short = (key ^ (key >> 32)) as u32;
        let (one, other) = self.0.as_slices();
        if one.contains(&short) || other.contains(&short) {
            return false;
        }
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(short);
        true
    }

    /// Forgets all: a new step draws again.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
