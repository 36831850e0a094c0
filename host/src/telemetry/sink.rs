//! Lines for a file, or for standard output. Workers put what they have to tell into a bounded queue and never wait; a thread
//! writes it. What does not fit, or cannot be written, is dropped and counted, and the log says so.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use prometheus_client::metrics::counter::Counter;

/// Lines that wait are written at once, up to so many.
const BURST: usize = 64;

/// It is looked after the file no more often.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The log tells of losses no more often, in seconds.
const TELL_EVERY: u64 = 10;

/// The workers' end of the queue.
pub struct Sink<T> {
    queue: mpsc::SyncSender<Box<T>>,
    losses: Arc<Losses>,
}

/// Waits for the last lines when it is dropped after all ends of the queue are.
pub struct Writer(Option<thread::JoinHandle<()>>);

/// How lines are made of what is told.
pub struct Form<T> {
    /// What the lines are, for the log and for the thread: "access log".
    pub name: &'static str,
    pub line: Box<dyn Fn(&T) -> String + Send>,
    /// What stands where so many lines are missing, if anything does.
    pub gap: Option<fn(u64) -> String>,
}

/// What was lost.
struct Losses {
    name: &'static str,
    all: Counter,
    /// Lines of which the log does not know yet, and when it was told of others.
    untold: AtomicU64,
    told_at: AtomicU64,
    /// Lines of which the file does not know yet.
    gap: AtomicU64,
}

/// Where lines go.
struct Output {
    stream: Box<dyn Write + Send>,
    /// The path, and which file was found there.
    file: Option<(PathBuf, Option<FileId>)>,
    looked: Instant,
    /// It ends within a line.
    torn: bool,
}

type FileId = (u64, u64);

impl<T: Send + 'static> Sink<T> {
    /// Opens the file (standard output where there is none) and starts the writer.
    pub fn start(
        form: Form<T>,
        file: Option<&Path>,
        queue: usize,
        dropped: Counter,
    ) -> io::Result<(Sink<T>, Writer)> {
        let output = match file {
            Some(path) => Output::open(path)?,
            None => Output::to(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
        };
        let (queue, entries) = mpsc::sync_channel(queue);
        let losses = Arc::new(Losses::new(form.name, dropped));
        let writer = thread::Builder::new().name(form.name.replace(' ', "-")).spawn({
            let losses = losses.clone();
            move || write_all(&entries, &form, output, &losses)
        })?;
        Ok((Sink { queue, losses }, Writer(Some(writer))))
    }

    pub fn write(&self, entry: Box<T>) {
        if self.queue.try_send(entry).is_err() {
            self.losses.add(1, "more are told than are written");
        }
    }
}

impl<T> Clone for Sink<T> {
    fn clone(&self) -> Self {
        Sink { queue: self.queue.clone(), losses: self.losses.clone() }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

fn write_all<T>(entries: &mpsc::Receiver<Box<T>>, form: &Form<T>, mut output: Output, losses: &Losses) {
    let mut text = String::new();
    while let Ok(first) = entries.recv() {
        for entry in std::iter::once(first).chain(entries.try_iter()).take(BURST) {
            text.push_str(&(form.line)(&entry));
            text.push('\n');
        }
        output.follow(Instant::now());
        mark_gap(&mut output, form.gap, losses);
        write(&mut output, &text, losses);
        text.clear();
    }
    mark_gap(&mut output, form.gap, losses);
}

/// What was lost until now would have stood here.
fn mark_gap(output: &mut Output, line: Option<fn(u64) -> String>, losses: &Losses) {
    if let Some(line) = line
        && let missing @ 1.. = losses.gap.load(Relaxed)
        && output.write(format!("{}\n", line(missing)).as_bytes()).is_ok()
    {
        losses.gap.fetch_sub(missing, Relaxed);
    }
}

fn write(output: &mut Output, text: &str, losses: &Losses) {
    if let Err((written, error)) = output.write(text.as_bytes()) {
        let rest = text.as_bytes().get(written..).unwrap_or_default();
        let lost = rest.iter().filter(|&&byte| byte == b'\n').count();
        losses.add(lost as u64, &error.to_string());
    }
}

impl Output {
    fn open(path: &Path) -> io::Result<Output> {
        // Opening a pipe waits for its reader, unless it is opened for reading as well.
        let is_pipe = fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
        let file = OpenOptions::new().read(is_pipe).append(true).create(true).open(path)?;
        let id = file.metadata().ok().map(|found| id(&found));
        Ok(Output { file: Some((path.to_owned(), id)), ..Output::to(file) })
    }

    fn to(stream: impl Write + Send + 'static) -> Output {
        Output { stream: Box::new(stream), file: None, looked: Instant::now(), torn: false }
    }

    /// A file that was moved away or removed is made anew. Where that fails, lines go where they went before.
    fn follow(&mut self, now: Instant) {
        let Some((path, known)) = &self.file else { return };
        if now.duration_since(self.looked) < LOOK_EVERY {
            return;
        }
        self.looked = now;
        if *known == fs::metadata(path).ok().map(|found| id(&found)) {
            return;
        }
        if let Ok(output) = Output::open(path) {
            *self = output;
        }
    }

    /// The error tells how many bytes are written.
    fn write(&mut self, text: &[u8]) -> Result<(), (usize, io::Error)> {
        if self.torn {
            self.stream.write_all(b"\n").map_err(|error| (0, error))?;
            self.torn = false;
        }
        let mut written = 0;
        while let Some(rest) = text.get(written..).filter(|rest| !rest.is_empty()) {
            let error = match self.stream.write(rest) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(more) => {
                    written += more;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            self.torn = written > 0 && text.get(written - 1) != Some(&b'\n');
            return Err((written, error));
        }
        Ok(())
    }
}

fn id(found: &fs::Metadata) -> FileId {
    (found.dev(), found.ino())
}

impl Losses {
    fn new(name: &'static str, all: Counter) -> Self {
        let [untold, told_at, gap] = Default::default();
        Losses { name, all, untold, told_at, gap }
    }

    fn add(&self, lines: u64, why: &str) {
        self.all.inc_by(lines);
        self.untold.fetch_add(lines, Relaxed);
        self.gap.fetch_add(lines, Relaxed);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let told_at = self.told_at.load(Relaxed);
        let is_due = now.abs_diff(told_at) >= TELL_EVERY;
        if is_due && self.told_at.compare_exchange(told_at, now, Relaxed, Relaxed).is_ok() {
            let (name, untold) = (self.name, self.untold.swap(0, Relaxed));
            tracing::error!("the {name} cannot be written, {untold} lines are lost: {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(gap: Option<fn(u64) -> String>) -> Form<u32> {
        Form { name: "test log", line: Box::new(u32::to_string), gap }
    }

    /// Takes so many bytes at a time, and then no more.
    struct Full(Vec<usize>, Arc<std::sync::Mutex<Vec<u8>>>);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let room = self.0.remove(0).min(bytes.len());
            if room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.1.lock().unwrap().extend(&bytes[..room]);
            Ok(room)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_what_follows_begins_a_line() {
        let written = Arc::default();
        // Room for a line and a half, and then for all.
        let mut output = Output::to(Full(vec![3, 0, 1000, 1000], Arc::clone(&written)));
        let losses = Losses::new("test log", Counter::default());
        write(&mut output, "1\n22\n3\n", &losses);
        assert_eq!(losses.all.get(), 2);
        write(&mut output, "4\n", &losses);
        assert_eq!(String::from_utf8(written.lock().unwrap().clone()).unwrap(), "1\n2\n4\n");
    }

    #[test]
    fn a_gap_is_told_where_it_is_and_at_the_end() {
        let written = Arc::default();
        let (sender, receiver) = mpsc::sync_channel(9);
        sender.send(Box::new(7)).unwrap();
        drop(sender);
        let losses = Losses::new("test log", Counter::default());
        losses.add(3, "");
        let output = Output::to(Full(vec![1000; 9], Arc::clone(&written)));
        write_all(&receiver, &numbers(Some(|lost| format!("{lost} lost"))), output, &losses);
        assert_eq!(String::from_utf8(written.lock().unwrap().clone()).unwrap(), "3 lost\n7\n");
        let output = Output::to(Full(vec![2, 0, 1000], Arc::clone(&written)));
        let (sender, receiver) = mpsc::sync_channel(9);
        [1, 2].into_iter().for_each(|number| sender.send(Box::new(number)).unwrap());
        drop(sender);
        write_all(&receiver, &numbers(Some(|lost| format!("{lost} lost"))), output, &losses);
        assert!(written.lock().unwrap().ends_with(b"7\n1\n1 lost\n"));
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (queue, receiver) = mpsc::sync_channel(1);
        let sink = Sink { queue, losses: Arc::new(Losses::new("test log", Counter::default())) };
        sink.write(Box::new(1));
        sink.write(Box::new(2));
        assert_eq!(sink.losses.all.get(), 1);
        assert!(receiver.try_recv().is_ok() && receiver.try_recv().is_err());
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_opened_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        let (done, opened) = mpsc::channel();
        thread::spawn({
            let path = path.clone();
            move || done.send(Output::open(&path))
        });
        let mut output = opened.recv_timeout(Duration::from_secs(10)).unwrap().unwrap();
        write(&mut output, "1\n", &Losses::new("test log", Counter::default()));
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(File::open(&path).unwrap()), &mut line).unwrap();
        assert_eq!(line, "1\n", "who comes later reads what was written before");
    }

    #[test]
    fn a_file_that_is_moved_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let losses = Losses::new("test log", Counter::default());
        let mut output = Output::open(&path).unwrap();
        write(&mut output, "1\n", &losses);
        fs::rename(&path, &moved).unwrap();
        let soon = Instant::now() + LOOK_EVERY;
        output.follow(soon);
        write(&mut output, "2\n", &losses);
        let text = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!((text(&moved).as_str(), text(&path).as_str()), ("1\n", "2\n"));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        output.follow(soon + LOOK_EVERY);
        write(&mut output, "3\n", &losses);
        assert_eq!(losses.all.get(), 0, "the file that nobody sees any more takes it");
    }
}
