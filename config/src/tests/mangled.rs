//! No text brings the reader down, and whatever is refused says why and where.

use proptest::prelude::*;

use super::{Copy, EXAMPLES};

/// A file of an example, in a copy that is used again and again.
struct Target {
    copy: Copy,
    name: String,
    bytes: Vec<u8>,
}

impl Target {
    fn all() -> Vec<Self> {
        let mut targets = Vec::new();
        for example in EXAMPLES {
            let copy = Copy::of(example);
            let name = copy.main_name();
            targets.push((copy, name));
        }
        targets.push((Copy::of("fleet/fleet.toml"), "tenants.d/univ-sud.toml".to_owned()));
        targets.push((Copy::of("minimal.toml"), "users.toml".to_owned()));
        let target = |(copy, name): (Copy, String)| {
            let bytes = std::fs::read(copy.path(&name)).unwrap();
            Self { copy, name, bytes }
        };
        targets.into_iter().map(target).collect()
    }

    /// Loads the example with this file replaced. A report is never empty and its places are in files that were given.
    fn survives(&self, bytes: &[u8]) {
        std::fs::write(self.copy.path(&self.name), bytes).unwrap();
        if let Err(report) = self.copy.load() {
            assert!(!report.problems.is_empty());
            for problem in &report.problems {
                assert!(problem.place.line > 0 && problem.place.column > 0, "{problem}");
                assert!(problem.place.file.is_file(), "{problem}");
            }
        }
    }
}

thread_local! {
    static TARGETS: Vec<Target> = Target::all();
}

/// What a hand or a disk does to a file.
#[derive(Clone, Debug)]
enum Slip {
    Cut(prop::sample::Index),
    Drop(prop::sample::Index, usize),
    Put(prop::sample::Index, String),
    Byte(prop::sample::Index, u8),
    Copy(prop::sample::Index, prop::sample::Index, usize),
}

impl Slip {
    fn make(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len() + 1;
        let upto = |at: usize, count: usize| at..(at + count).min(len - 1);
        match self {
            Self::Cut(at) => bytes.truncate(at.index(len)),
            Self::Drop(at, count) => drop(bytes.drain(upto(at.index(len), *count))),
            Self::Put(at, text) => drop(bytes.splice(upto(at.index(len), 0), text.bytes())),
            Self::Byte(at, byte) => drop(bytes.splice(upto(at.index(len), 1), [*byte])),
            Self::Copy(from, to, count) => {
                let piece = bytes[upto(from.index(len), *count)].to_vec();
                bytes.splice(upto(to.index(len), 0), piece);
            }
        }
    }
}

fn slip() -> impl Strategy<Value = Slip> {
    let index = any::<prop::sample::Index>;
    let text = prop_oneof![
        "[\\[\\]{}=\".,#\\\\n é\u{0}-9]{1,6}",
        Just("\"\"\"".to_owned()),
        Just("[[a]]\n".to_owned()),
        Just("= [[[[{a={b=".to_owned()),
        Just("-99999999999999999999".to_owned()),
        Just("1979-05-27T07:32:00Z".to_owned()),
    ];
    prop_oneof![
        index().prop_map(Slip::Cut),
        (index(), 1..40_usize).prop_map(|(at, count)| Slip::Drop(at, count)),
        (index(), text).prop_map(|(at, text)| Slip::Put(at, text)),
        (index(), any::<u8>()).prop_map(|(at, byte)| Slip::Byte(at, byte)),
        (index(), index(), 1..200_usize).prop_map(|(from, to, count)| Slip::Copy(from, to, count)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mangled_file_is_refused_or_read_but_never_a_crash(
        file in any::<prop::sample::Index>(),
        slips in prop::collection::vec(slip(), 1..4),
    ) {
        TARGETS.with(|targets| {
            let target = &targets[file.index(targets.len())];
            let mut bytes = target.bytes.clone();
            for slip in &slips {
                slip.make(&mut bytes);
            }
            target.survives(&bytes);
        });
    }

    #[test]
    fn a_name_is_stable_once_it_is_parsed(text in "\\PC{0,20}@\\PC{1,20}") {
        if let Ok(address) = text.parse::<crate::Address>() {
            prop_assert_eq!(address.as_str().parse::<crate::Address>(), Ok(address.clone()));
            prop_assert_eq!(format!("{}@{}", address.local(), address.domain()), address.as_str());
            prop_assert!(address.domain().parse::<crate::Domain>().is_ok_and(|domain| domain.as_str() == address.domain()));
        }
    }
}

#[test]
fn every_truncation_of_an_example_is_survived() {
    for target in Target::all() {
        // Line ends and some places within lines: enough to cut every construct.
        let bytes = &target.bytes;
        for end in (0..bytes.len()).filter(|end| end % 23 == 0 || bytes[*end] == b'\n') {
            target.survives(&bytes[..end]);
        }
    }
}

#[test]
fn deep_and_huge_files_are_refused() {
    let target = Target::all().swap_remove(0);
    for text in [
        "a = ".to_owned() + &"[".repeat(100_000),
        "a".to_owned() + &".a".repeat(100_000) + " = 1",
        "[a]\n".repeat(1000),
    ] {
        target.survives(text.as_bytes());
    }
    let file = std::fs::File::create(target.copy.path("minimal.toml")).unwrap();
    file.set_len(17 << 20).unwrap();
    assert!(target.copy.report().contains("the file cannot be read: longer than 16777216 bytes"));
}
