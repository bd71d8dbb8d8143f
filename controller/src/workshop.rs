//! One thread for whatever computes for long: reading files, compiling. Only one, so that its memory is used again: to the
//! system's allocator every thread has a heap of its own, which keeps the most that it ever held.

use std::{sync::mpsc, thread};

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// The thread; it ends with the last handle. Jobs wait in line: each owner of a handle awaits its own before the next.
#[derive(Clone, Debug)]
pub struct Workshop {
    jobs: mpsc::Sender<Job>,
}

impl Workshop {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no room for one more.
    pub fn open() -> std::io::Result<Workshop> {
        let (jobs, waiting) = mpsc::channel::<Job>();
        thread::Builder::new().name("workshop".to_owned()).spawn(move || waiting.into_iter().for_each(|job| job()))?;
        Ok(Workshop { jobs })
    }

    /// Does `work` there.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = oneshot::channel();
        // Who asked may have gone.
        let job = move || drop(done.send(work()));
        self.jobs.send(Box::new(job)).expect("the thread takes jobs as long as there is a handle");
        result.await.expect("reading and compiling do not panic")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_of_all_is_done_on_one_thread() {
        let workshop = Workshop::open().unwrap();
        let other = workshop.clone();
        let (one, two) =
            tokio::join!(workshop.run(|| (1, thread::current().id())), other.run(|| (2, thread::current().id())));
        assert_eq!((one.0, two.0), (1, 2));
        assert!(one.1 == two.1 && one.1 != thread::current().id());
    }
}
