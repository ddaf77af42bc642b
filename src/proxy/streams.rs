//! Runs the streams of an HTTP/2 connection, and gives up those whose client does not take its answer: with a window of zero it
//! could hold one for ever, and hyper has no time limit of its own. Only that stream ends; its connection goes on.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

thread_local! {
    /// What the stream that is polled now waits for, as far as its body has said.
    static WAITS_FOR: Cell<Option<Waits>> = const { Cell::new(None) };
}

/// What a stream waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// The client: a piece of the answer was handed over, and no other was asked for since.
    Client,
    /// The endpoint.
    Endpoint,
}

/// Says what the answer that is polled now waits for.
pub(super) fn note(waits: Waits) {
    WAITS_FOR.set(Some(waits));
}

/// Spawns streams.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams {
    /// How long a client may take nothing of an answer.
    pub(super) write_timeout: Duration,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        tokio::spawn(Paced { stream, limit: self.write_timeout, timer: None, running: false });
    }
}

pin_project! {
    /// A stream with a timer, which exists only once it had to wait for its client.
    struct Paced<F> {
        #[pin]
        stream: F,
        limit: Duration,
        timer: Option<Pin<Box<Sleep>>>,
        running: bool,
    }
}

impl<F: Future<Output = ()>> Future for Paced<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        WAITS_FOR.set(None);
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match WAITS_FOR.take() {
            Some(Waits::Client) => {
                let deadline = Instant::now() + *this.limit;
                this.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline))).as_mut().reset(deadline);
                *this.running = true;
            }
            Some(Waits::Endpoint) => *this.running = false,
            // Still for the same.
            None => {}
        }
        match this.timer.as_mut().filter(|_| *this.running) {
            // It is dropped then: that resets it, and its request is recorded.
            Some(timer) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::time::{advance, sleep};

    use super::*;

    struct OnDrop(Arc<AtomicBool>);

    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// A stream that says each second what it waits for, and after that nothing more. When was it given up?
    async fn given_up_after(says: &'static [Option<Waits>]) -> Option<u64> {
        let gone = Arc::new(AtomicBool::new(false));
        let guard = OnDrop(Arc::clone(&gone));
        let (mut says, mut tick) = (says.iter(), Box::pin(sleep(Duration::ZERO)));
        let stream = async move {
            let _guard = guard;
            poll_fn::<(), _>(|cx| {
                while tick.as_mut().poll(cx).is_ready() {
                    let Some(said) = says.next() else { return Poll::Pending };
                    said.iter().for_each(|waits| note(*waits));
                    tick.as_mut().reset(Instant::now() + Duration::from_secs(1));
                }
                Poll::Pending
            })
            .await;
        };
        Streams { write_timeout: Duration::from_secs(60) }.execute(stream);
        for second in 0..600 {
            tokio::task::yield_now().await;
            if gone.load(Ordering::Relaxed) {
                return Some(second);
            }
            advance(Duration::from_secs(1)).await;
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_client_takes_nothing_is_given_up() {
        let found = given_up_after(&[Some(Waits::Client)]).await.unwrap();
        assert!((60..=61).contains(&found), "{found}");
        let found = given_up_after(&[Some(Waits::Endpoint), None, Some(Waits::Client), None]).await.unwrap();
        assert!((62..=63).contains(&found), "{found}");
        let found = given_up_after(&[Some(Waits::Client), Some(Waits::Client), Some(Waits::Client)]).await.unwrap();
        assert!((62..=63).contains(&found), "each piece that was taken begins anew: {found}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_waits_for_its_endpoint_is_not() {
        assert_eq!(given_up_after(&[Some(Waits::Endpoint)]).await, None);
        assert_eq!(given_up_after(&[Some(Waits::Client), Some(Waits::Endpoint), None]).await, None);
        assert_eq!(given_up_after(&[None]).await, None);
    }
}
