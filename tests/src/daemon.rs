//! A server process of a story, and everything it starts.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process, kill_process_group};

use crate::wait;

/// Runs as the leader of its own process group with a watcher beside it, whose input is a pipe from the test process:
/// when that pipe closes, by whatever death, the group ends and the scratch folder goes.
const WATCHED: &str = r#"
exec 3<&0
scratch=$1; shift
(
    trap '' TERM INT HUP
    cat <&3 >/dev/null
    kill -TERM -$$ 2>/dev/null
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        kill -0 $$ 2>/dev/null || break
        sleep 0.1
    done
    [ -z "$scratch" ] || rm -rf "$scratch"
    kill -KILL -$$ 2>/dev/null
) &
exec "$@" </dev/null 3<&-
"#;

/// A running server. Dropped: its process group is ended.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command`, its output going to `NAME.log` in `dir`. `scratch` is removed when it ends.
    pub fn start(name: &str, command: &Command, dir: &Path, scratch: Option<&Path>) -> Self {
        let log = dir.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log).expect("log file");
        let mut watched = Command::new("sh");
        watched.arg("-c").arg(WATCHED).arg("sh").arg(scratch.unwrap_or(Path::new("")));
        watched.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => watched.env(key, value),
                None => watched.env_remove(key),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            watched.current_dir(dir);
        }
        watched.stdin(Stdio::piped()).stdout(out.try_clone().expect("log handle")).stderr(out).process_group(0);
        let child = watched.spawn().unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        Self { name: name.to_owned(), child, log }
    }

    /// Process id of the server itself.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its log file.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Sends a signal to the server itself (not to its children).
    pub fn signal(&self, signal: Signal) {
        kill_process(self.rustix_pid(), signal).unwrap_or_else(|e| panic!("signal to {}: {e}", self.name));
    }

    /// Sends a signal to the whole group, so that `STOP` freezes every worker.
    pub fn signal_group(&self, signal: Signal) {
        kill_process_group(self.rustix_pid(), signal).unwrap_or_else(|e| panic!("signal to {}: {e}", self.name));
    }

    /// Exit status, once it has ended by itself.
    pub fn exited(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().expect("child can be waited for")
    }

    /// Waits for its end and returns the exit code (`None`: by a signal).
    pub fn wait_exit(&mut self) -> Option<i32> {
        let name = self.name.clone();
        wait::until(&format!("{name} ends"), || self.exited()).code()
    }

    /// Waits until `ready` says so; panics with the log when the server ends first.
    pub fn wait_ready<T>(&mut self, mut ready: impl FnMut(&Self) -> Option<T>) -> T {
        let name = self.name.clone();
        wait::until(&format!("{name} is ready (see its log beside)"), || {
            if let Some(status) = self.exited() {
                panic!("{name} ended at once ({status}):\n{}", self.log());
            }
            ready(self)
        })
    }

    /// Ends the whole group at once.
    pub fn kill(&mut self) {
        let _ = kill_process_group(self.rustix_pid(), Signal::KILL);
        let _ = self.child.wait();
    }

    fn rustix_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A frozen group cannot hear TERM.
        let _ = kill_process_group(self.rustix_pid(), Signal::CONT);
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            eprintln!("--- last lines of {} ({})", self.name, self.log.display());
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
        }
        // Closing the pipe wakes the watcher, which ends the group; waiting here keeps ports and folders ours until then.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
