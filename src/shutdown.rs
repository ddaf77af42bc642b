//! The end of the process, seen from everything that has to know: one signal with three stages. Who hears it finishes what
//! it has begun; nothing is cut off here.

use tokio::sync::watch;

/// How far the end has come. Later stages are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serving.
    #[default]
    Running,
    /// `/ready` says no, so that balancers stop sending; everything is still served.
    Announced,
    /// No new connections; those that are open are told to close after their request.
    Draining,
    /// Idle connections are closed.
    Closing,
    /// Whatever is left is cut off.
    Aborted,
}

/// The side that decides.
#[derive(Debug)]
pub struct Shutdown {
    stage: watch::Sender<Stage>,
}

/// The side that hears.
#[derive(Clone, Debug)]
pub struct Listen {
    stage: watch::Receiver<Stage>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { stage: watch::Sender::new(Stage::Running) }
    }
}

impl Shutdown {
    /// Enters a stage; never goes back.
    pub fn enter(&self, stage: Stage) {
        self.stage.send_if_modified(|current| {
            let later = stage > *current;
            if later {
                *current = stage;
            }
            later
        });
    }

    /// Somebody else who hears.
    pub fn listen(&self) -> Listen {
        Listen { stage: self.stage.subscribe() }
    }
}

impl Listen {
    /// The stage of this moment.
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Waits for a stage, or for the deciding side to go away.
    pub async fn reached(&mut self, stage: Stage) {
        // An error means that nobody decides any more: as good as reached.
        let _ = self.stage.wait_for(|current| *current >= stage).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stage_is_heard_by_all_and_never_taken_back() {
        let shutdown = Shutdown::default();
        let (mut one, other) = (shutdown.listen(), shutdown.listen());
        assert_eq!(one.stage(), Stage::Running);
        shutdown.enter(Stage::Draining);
        one.reached(Stage::Announced).await;
        shutdown.enter(Stage::Announced);
        assert_eq!(other.stage(), Stage::Draining);
        drop(shutdown);
        one.reached(Stage::Aborted).await;
    }
}
