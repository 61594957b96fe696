//! Mail in files: what a synchroniser left, and what lies in a cell.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

/// A message, its line ends LF.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Message {
    /// All of it.
    pub bytes: Vec<u8>,
    /// Maildir's letters, sorted: `F`lagged, `R`eplied, `S`een …
    pub flags: String,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(self.bytes.get(..400).unwrap_or(&self.bytes)).into_owned();
        let id = text.lines().find(|line| line.starts_with("Message-ID:")).unwrap_or("no Message-ID");
        write!(f, "{id}, flags {:?}, {} bytes", self.flags, self.bytes.len())
    }
}

/// Folders by their path below the root, the messages of each in the order of their bytes.
pub type Folders = BTreeMap<String, Vec<Message>>;

/// Reads every Maildir at and below `root`.
pub fn read(root: &Path) -> Folders {
    let mut folders = Folders::new();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        if dir.join("cur").is_dir() {
            let name = dir.strip_prefix(root).expect("below the root").display().to_string();
            let mut messages: Vec<_> = files(&dir).iter().map(|file| message(file)).collect();
            messages.sort();
            folders.insert(name, messages);
        }
        let below = entries(&dir).into_iter().filter(|path| path.is_dir());
        todo.extend(below.filter(|path| !["cur", "new", "tmp"].iter().any(|own| path.ends_with(own))));
    }
    folders
}

/// The first difference between two readings, in words.
pub fn difference(one: &Folders, other: &Folders) -> Option<String> {
    let names = |folders: &Folders| folders.keys().cloned().collect::<Vec<_>>();
    if names(one) != names(other) {
        return Some(format!("folders {:?} and {:?}", names(one), names(other)));
    }
    for (name, messages) in one {
        let others = other.get(name).map(Vec::as_slice).unwrap_or_default();
        if let Some((a, b)) = messages.iter().zip(others).find(|(a, b)| a != b) {
            let at = a.bytes.iter().zip(&b.bytes).position(|(a, b)| a != b);
            return Some(format!("in {name:?}: {a:?} and {b:?}, bytes differ from {at:?}"));
        }
        if messages.len() != others.len() {
            return Some(format!("in {name:?}: {} messages and {}", messages.len(), others.len()));
        }
    }
    None
}

/// The file of the one message of a Maildir that holds `words` near its start.
pub fn find(maildir: &Path, words: &str) -> Option<PathBuf> {
    files(maildir).into_iter().find(|file| {
        let bytes = std::fs::read(file).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(..2000).unwrap_or(&bytes)).contains(words)
    })
}

/// Flags of a file, sorted.
pub fn flags(file: &Path) -> String {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut letters: Vec<char> = name.split_once(":2,").map(|(_, flags)| flags.chars().collect()).unwrap_or_default();
    letters.sort_unstable();
    letters.into_iter().collect()
}

/// Gives a file other flags, as a program that reads mail does.
pub fn set_flags(file: &Path, flags: &str) {
    let name = file.file_name().expect("a file").to_string_lossy().into_owned();
    let stem = name.split_once(":2,").map_or(name.as_str(), |(stem, _)| stem);
    let folder = file.parent().and_then(Path::parent).expect("a file of a Maildir");
    std::fs::rename(file, folder.join("cur").join(format!("{stem}:2,{flags}"))).expect("renamed");
}

fn files(maildir: &Path) -> Vec<PathBuf> {
    ["cur", "new"].iter().flat_map(|folder| entries(&maildir.join(folder))).collect()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn message(file: &Path) -> Message {
    let mut bytes = std::fs::read(file).expect("a message");
    without_mark(&mut bytes);
    Message { bytes, flags: flags(file) }
}

/// mbsync marks each of its copies to find it again.
fn without_mark(bytes: &mut Vec<u8>) {
    const MARK: &[u8] = b"\nX-TUID: ";
    let head = bytes.windows(2).position(|two| two == b"\n\n").unwrap_or(bytes.len());
    let mark = bytes.get(..head).and_then(|head| head.windows(MARK.len()).position(|part| part == MARK));
    if let Some(start) = mark {
        let line = bytes.iter().skip(start + 1).position(|byte| *byte == b'\n').map_or(0, |length| length + 1);
        bytes.drain(start..start + line);
    }
}
