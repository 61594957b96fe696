//! The text of a message on its way to the cell: where it ends, and that everybody will think so.
//!
//! A message ends with CRLF `.` CRLF (RFC 5321 §4.1.1.4). Servers that also take a bare LF or CR for a line end see ends
//! where others see text, and what follows such an end is a second message that nobody checked: SMTP smuggling. So only
//! CRLF ends a line here, and a CR is never forwarded without its LF: what has passed reads the same to every server.
//!
//! ```text
//!             other            .                CR              LF
//!   Middle ◄────────── Start ─────► Dot ──────────────► DotCr ─────► the end
//!     │  └─ CR ─► Cr ─LF─► ▲         └─ other ─► Middle
//!     ▲           │        └── of the data, and behind each CRLF
//!     └───────────┘ CR without LF: Bad, or a line end is made (MadeStart), or it passes
//! ```
//! Memory is the state: at most `.` CR are held back from one piece to the next. Nothing is copied; while nothing changes
//! a piece is forwarded as one slice.

/// What becomes of a bare CR, a bare LF and NUL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineEnds {
    /// The message is refused.
    #[default]
    Reject,
    /// A bare CR or LF becomes CRLF, NUL is refused. For programs that write their own lines.
    ///
    /// The message stays what a strict server would have read, with its bare line ends made whole. Such a server sees no
    /// line start behind a bare LF, so a dot there is text and is doubled (RFC 5321 §4.5.2); and it sees no end in `.` LF
    /// at the start of a line, so that dot is the one that is taken away. Whoever smuggles gets one message with dots in it.
    Normalise,
    /// Everything passes, also what a cell may take for an end. Only for cells that refuse bare line ends themselves.
    Off,
}

/// What may not be in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BadByte {
    /// CR without LF.
    BareCr,
    /// LF without CR.
    BareLf,
    /// NUL.
    Nul,
}

impl BadByte {
    /// For logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BareCr => "bare_cr",
            Self::BareLf => "bare_lf",
            Self::Nul => "nul",
        }
    }
}

/// How far one piece came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Bytes of the piece that belong to the message; less than all only at its end.
    pub taken: usize,
    /// What was found.
    pub found: Found,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The message goes on.
    More,
    /// Its end, which is forwarded like the rest.
    End,
    /// A byte that may not be there, `at` counted from the start of the data. The message is over, and nobody can say
    /// where the next command begins.
    Bad {
        /// Offset, bytes.
        at: u64,
        /// Which.
        kind: BadByte,
    },
}

/// Reads the data of one message, from behind the 354 to its end.
#[derive(Debug)]
pub struct DataScanner {
    policy: LineEnds,
    at: At,
    position: u64,
}

/// Where the scanner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Behind a CRLF, or at the start.
    Start,
    /// Behind a line end that we made.
    MadeStart,
    Middle,
    /// Behind a CR.
    Cr,
    /// Behind a dot at the start of a line.
    Dot,
    /// Behind that and a CR.
    DotCr,
    Over(Found),
}

impl At {
    /// What was taken and not forwarded: the next byte decides.
    fn held(self) -> &'static [u8] {
        match self {
            Self::Cr => b"\r",
            Self::Dot => b".",
            Self::DotCr => b".\r",
            Self::Start | Self::MadeStart | Self::Middle | Self::Over(_) => b"",
        }
    }
}

/// What is forwarded of what was held back from the last piece and of this one, counted as one row of bytes.
struct Piece<'a, F> {
    carried: &'static [u8],
    bytes: &'a [u8],
    /// Forwarded, replaced or left out so far.
    done: usize,
    forward: F,
}

impl<F: FnMut(&[u8])> Piece<'_, F> {
    /// Forwards all in front of `end`.
    fn forward(&mut self, end: usize) {
        let carried = self.carried.len();
        for (bytes, before) in [(self.carried, 0), (self.bytes, carried)] {
            let range = self.done.saturating_sub(before)..end.saturating_sub(before).min(bytes.len());
            if let Some(slice) = bytes.get(range).filter(|slice| !slice.is_empty()) {
                (self.forward)(slice);
            }
        }
        self.done = self.done.max(end);
    }

    /// Forwards all in front of `start`, then `with` for what lies between `start` and `end`.
    fn replace(&mut self, start: usize, end: usize, with: &[u8]) {
        self.forward(start);
        (self.forward)(with);
        self.done = end;
    }
}

impl DataScanner {
    /// At the start of the data.
    pub fn new(policy: LineEnds) -> Self {
        Self { policy, at: At::Start, position: 0 }
    }

    /// Bytes taken so far: when the end is found, the message with its last `.` CRLF.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes on with `bytes`. What the cell may have of it goes to `forward`, in order; what is made or was held back comes
    /// as a slice of its own.
    pub fn scan(&mut self, bytes: &[u8], forward: impl FnMut(&[u8])) -> Scanned {
        if let At::Over(found) = self.at {
            return Scanned { taken: 0, found };
        }
        let mut piece = Piece { carried: self.at.held(), bytes, done: 0, forward };
        let mut index = 0;
        while let Some(byte) = bytes.get(index).copied() {
            if self.at == At::Middle {
                let plain = next_special(bytes.get(index..).unwrap_or_default());
                if plain > 0 {
                    index += plain;
                    continue;
                }
            }
            self.step(byte, index, &mut piece);
            index += 1;
            if let At::Over(found) = self.at {
                self.position += index as u64;
                return Scanned { taken: index, found };
            }
        }
        piece.forward(piece.carried.len() + index - self.at.held().len());
        self.position += index as u64;
        Scanned { taken: index, found: Found::More }
    }

    fn step<F: FnMut(&[u8])>(&mut self, byte: u8, index: usize, piece: &mut Piece<'_, F>) {
        let here = piece.carried.len() + index;
        if matches!(self.at, At::Cr | At::DotCr) && byte != b'\n' {
            match self.policy {
                LineEnds::Reject => return self.bad(BadByte::BareCr, index, piece),
                LineEnds::Normalise => {
                    piece.replace(here - self.at.held().len(), here, b"\r\n");
                    self.at = At::MadeStart;
                }
                LineEnds::Off => self.at = At::Middle,
            }
        }
        self.at = match (self.at, byte) {
            (_, 0) if self.policy != LineEnds::Off => return self.bad(BadByte::Nul, index, piece),
            (At::DotCr, b'\n') => {
                piece.forward(here + 1);
                At::Over(Found::End)
            }
            (At::Cr, b'\n') => At::Start,
            (_, b'\n') => match self.policy {
                LineEnds::Reject => return self.bad(BadByte::BareLf, index, piece),
                LineEnds::Normalise => {
                    piece.replace(here - self.at.held().len(), here + 1, b"\r\n");
                    At::MadeStart
                }
                LineEnds::Off => At::Middle,
            },
            (At::Dot, b'\r') => At::DotCr,
            (_, b'\r') => At::Cr,
            (At::Start, b'.') => At::Dot,
            (At::MadeStart, b'.') => {
                piece.replace(here, here, b".");
                At::Middle
            }
            _ => At::Middle,
        };
    }

    /// What came before is still forwarded, so that it does not depend on how the input was cut.
    fn bad<F: FnMut(&[u8])>(&mut self, kind: BadByte, index: usize, piece: &mut Piece<'_, F>) {
        piece.forward(piece.carried.len() + index - self.at.held().len());
        let here = self.position + index as u64;
        let at = if kind == BadByte::BareCr { here.saturating_sub(1) } else { here };
        self.at = At::Over(Found::Bad { at, kind });
    }
}

/// Index of the first CR, LF or NUL; the length when there is none. Whole blocks first, which the compiler turns into
/// vector instructions.
fn next_special(bytes: &[u8]) -> usize {
    const BLOCK: usize = 32;
    let special = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
    let blocks = bytes.chunks_exact(BLOCK);
    let plain =
        blocks.take_while(|block| !block.iter().fold(false, |found, byte| found | special(byte))).count() * BLOCK;
    let rest = bytes.get(plain..).unwrap_or_default();
    plain + rest.iter().position(special).unwrap_or(rest.len())
}
