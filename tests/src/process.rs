//! Child processes that end with the test: killed when dropped, and by the kernel when the test itself is killed.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    time::Duration,
};

use crate::{programs, wait};

/// Lines of a log that are shown when a test fails.
const SHOWN_LINES: usize = 40;

/// What to run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Name in messages and of the log.
    pub name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    namespace: Option<String>,
    user: Option<u32>,
    directory: Option<PathBuf>,
    input: bool,
}

impl Spec {
    /// Runs `program` without arguments.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Spec {
        Spec {
            name: name.into(),
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            namespace: None,
            user: None,
            directory: None,
            input: false,
        }
    }

    /// One more argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Spec {
        self.arguments.push(argument.into());
        self
    }

    /// More arguments.
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Spec {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// One more variable; a later one of the same name wins.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Spec {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Runs under a program of the system: its name, and its own arguments; none = by itself.
    pub fn under(mut self, words: &[String]) -> Spec {
        if let Some((program, own)) = words.split_first() {
            let inner = std::mem::replace(&mut self.program, programs::system(program)).into();
            self.arguments.splice(0..0, own.iter().map(OsString::from).chain([inner]));
        }
        self
    }

    /// Runs in this network namespace.
    pub fn in_namespace(mut self, namespace: impl Into<String>) -> Spec {
        self.namespace = Some(namespace.into());
        self
    }

    /// Runs as this user, without groups and capabilities.
    pub fn as_user(mut self, user: u32) -> Spec {
        self.user = Some(user);
        self
    }

    /// Runs in this folder.
    pub fn in_directory(mut self, directory: impl Into<PathBuf>) -> Spec {
        self.directory = Some(directory.into());
        self
    }

    /// Its standard input stays open for [`Process::say`], until the process is dropped or [`Process::hang_up`].
    pub fn with_input(mut self) -> Spec {
        self.input = true;
        self
    }

    /// The command: `[ip netns exec NS] setpriv --pdeathsig KILL [user] program`; each execs the next, so that the
    /// child's pid is the program's.
    fn command(&self) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(namespace) = &self.namespace {
            words.extend(["ip", "netns", "exec", namespace].map(OsString::from));
        }
        words.extend(["setpriv", "--pdeathsig", "KILL"].map(OsString::from));
        if let Some(user) = self.user {
            let user = user.to_string();
            words.extend(["--reuid", &user, "--regid", &user, "--clear-groups", "--no-new-privs"].map(OsString::from));
            words.extend(["--inh-caps=-all"].map(OsString::from));
        }
        words.push("--".into());
        words.push(self.program.clone().into());
        words.extend(self.arguments.iter().cloned());
        let mut command = Command::new(programs::system(&words[0].to_string_lossy()));
        command.args(&words[1..]).stdin(if self.input { Stdio::piped() } else { Stdio::null() });
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }

    /// Starts it; output goes to `<logs>/<name>.log`, appended.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&self, logs: &Path) -> Process {
        let log = logs.join(format!("{}.log", self.name));
        let open = || File::options().create(true).append(true).open(&log).expect("the folder of logs is writable");
        let mut command = self.command();
        command.stdout(open()).stderr(open());
        let child = spawn(command).unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        Process { spec: self.clone(), child, log }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it cannot be started or does not end within `limit`.
    pub async fn run(&self, logs: &Path, limit: Duration) -> Finished {
        let earlier = std::fs::metadata(logs.join(format!("{}.log", self.name))).map_or(0, |log| log.len() as usize);
        let mut process = self.start(logs);
        let status = process.ended(limit).await;
        let output = process.log().get(earlier..).unwrap_or_default().to_owned();
        Finished { status, output }
    }
}

/// A program that ran to its end.
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output and standard error, as they came.
    pub output: String,
}

/// A running child.
pub struct Process {
    spec: Spec,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything written so far, also by earlier processes of the same name in the same folder.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The file of [`Process::log`].
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether it has ended, asked of the kernel: nobody's child is waited for.
    pub fn has_ended(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
    }

    /// `SIGKILL`, and waits for the end.
    pub fn kill(&mut self) {
        // An error says that it is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by name, e.g. `TERM`.
    pub fn signal(&self, name: &str) {
        let signalled = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status();
        assert!(signalled.is_ok_and(|status| status.success()), "{} took no SIG{name}", self.spec.name);
    }

    /// Writes a line to its standard input, which [`Spec::with_input`] asked for.
    ///
    /// # Panics
    /// When nobody reads there any more.
    pub fn say(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().unwrap_or_else(|| panic!("{} has no open input", self.spec.name));
        let said = writeln!(input, "{line}");
        said.unwrap_or_else(|error| panic!("{} reads no more: {error}\n{}", self.spec.name, self.log()));
    }

    /// Closes its standard input.
    pub fn hang_up(&mut self) {
        self.child.stdin = None;
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it does not end within `limit`.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("end of {}", self.spec.name);
        wait::until(&what, limit, || std::future::ready(self.child.try_wait().ok().flatten())).await
    }

    /// Starts the same program once more; the old one must have ended.
    pub fn start_again(&mut self) {
        self.kill();
        let folder = self.log.parent().expect("a log lies in a folder").to_owned();
        *self = self.spec.start(&folder);
    }

    /// What it was started with.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// Resident memory, KiB.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|figure| figure.parse().ok()).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(SHOWN_LINES);
            eprintln!("--- end of the log of {}\n{}", self.spec.name, lines[from..].join("\n"));
        }
    }
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts a child from a thread that never ends: the kernel's parent-death signal follows the thread, and the thread of a
/// test ends before others that use the same mesh.
fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, taken) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in taken {
                // Nobody waits for the answer any more when the test has panicked meanwhile.
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, child) = mpsc::channel();
    spawner.send((command, answer)).expect("the spawner lives as long as the process");
    child.recv().expect("the spawner answers every order")
}
