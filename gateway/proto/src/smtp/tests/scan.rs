use proptest::{prelude::*, sample::select};

use crate::smtp::{BadByte, DataScanner, Found, LineEnds};

/// What passed, what was found, how much was taken.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    passed: Vec<u8>,
    found: Found,
    taken: usize,
}

impl Outcome {
    fn accepted(&self) -> bool {
        self.found == Found::End
    }
}

fn scan(bytes: &[u8], policy: LineEnds, cuts: &[usize]) -> Outcome {
    let mut scanner = DataScanner::new(policy);
    let mut outcome = Outcome { passed: Vec::new(), found: Found::More, taken: 0 };
    let mut cuts = cuts.iter().copied().cycle();
    while outcome.found == Found::More && outcome.taken < bytes.len() {
        let rest = &bytes[outcome.taken..];
        let piece = &rest[..cuts.next().unwrap_or(usize::MAX).clamp(1, rest.len())];
        let scanned = scanner.scan(piece, |slice| outcome.passed.extend_from_slice(slice));
        assert!(scanned.taken == piece.len() || scanned.found != Found::More);
        outcome.taken += scanned.taken;
        outcome.found = scanned.found;
        assert_eq!(scanner.position(), outcome.taken as u64);
    }
    outcome
}

fn whole(bytes: &[u8], policy: LineEnds) -> Outcome {
    scan(bytes, policy, &[])
}

/// Every way a server may spell a line end, strict or not.
const LINE_ENDS: [&[u8]; 7] = [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\n\n", b"\r\r"];

/// Where some server would see the end of data: the offset of its dot. The data starts behind the CRLF of `DATA`.
fn ends_by_any_reading(message: &[u8]) -> Vec<usize> {
    let message = [b"\r\n", message].concat();
    let dots = (0..message.len()).filter(|at| {
        message[*at] == b'.'
            && LINE_ENDS.iter().any(|end| message[..*at].ends_with(end))
            && LINE_ENDS.iter().any(|end| message[at + 1..].starts_with(end))
    });
    dots.map(|at| at - 2).collect()
}

/// What a strict server makes of the data (RFC 5321 §4.5.2): the text without its doubled dots, and what it took.
fn strict_reading(data: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut text, mut at) = (Vec::new(), 0);
    loop {
        let line = data[at..].windows(2).position(|pair| pair == b"\r\n")?;
        let line = &data[at..at + line];
        at += line.len() + 2;
        if line == b"." {
            return Some((text, at));
        }
        text.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        text.extend_from_slice(b"\r\n");
    }
}

/// CRLF, a bare CR and a bare LF all become CRLF.
fn made_whole(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text).replace("\r\n", "\n").replace('\r', "\n");
    text.replace('\n', "\r\n").into_bytes()
}

/// A message, the sequence, and a second message behind it as an attacker would send it.
fn smuggled(sequence: &str) -> Vec<u8> {
    format!("Subject: one\r\n\r\nfirst{sequence}MAIL FROM:<boss@x.fr>\r\nRCPT TO:<b@x.fr>\r\nDATA\r\nsecond\r\n.\r\n")
        .into_bytes()
}

fn refused(sequence: &str, kind: BadByte) {
    let data = smuggled(sequence);
    let outcome = whole(&data, LineEnds::Reject);
    assert!(matches!(outcome.found, Found::Bad { kind: found, .. } if found == kind), "{:?}", outcome.found);
    assert_eq!(ends_by_any_reading(&outcome.passed), Vec::<usize>::new(), "what passed holds no end by any reading");
    if kind != BadByte::Nul {
        let outcome = whole(&data, LineEnds::Normalise);
        assert!(outcome.accepted() && outcome.taken == data.len(), "one message, whole");
        assert_eq!(ends_by_any_reading(&outcome.passed), [outcome.passed.len() - 3], "with one end by any reading");
        assert_eq!(strict_reading(&outcome.passed).unwrap().0, made_whole(&strict_reading(&data).unwrap().0));
    }
}

macro_rules! smuggling {
    ($($name:ident: $sequence:expr => $kind:ident;)*) => {$(
        #[test]
        fn $name() {
            refused($sequence, BadByte::$kind);
        }
    )*};
}

smuggling! {
    lf_dot_lf_is_no_end: "\n.\n" => BareLf;
    lf_dot_crlf_is_no_end: "\n.\r\n" => BareLf;
    crlf_dot_lf_is_no_end: "\r\n.\n" => BareLf;
    lf_lf_dot_crlf_is_no_end: "\n\n.\r\n" => BareLf;
    cr_crlf_dot_cr_crlf_is_no_end: "\r\r\n.\r\r\n" => BareCr;
    cr_dot_cr_is_no_end: "\r.\r" => BareCr;
    cr_dot_crlf_is_no_end: "\r.\r\n" => BareCr;
    crlf_dot_cr_is_no_end: "\r\n.\r" => BareCr;
    cr_dot_lf_is_no_end: "\r.\n" => BareCr;
    lf_dot_cr_is_no_end: "\n.\r" => BareLf;
    crlf_nul_dot_crlf_is_no_end: "\r\n\0.\r\n" => Nul;
    crlf_dot_nul_crlf_is_no_end: "\r\n.\0\r\n" => Nul;
}

#[test]
fn a_message_passes_as_one_slice() {
    let data = b"From: a\r\n\r\n..dots\r\n.x\r\n\xe9t\xe9\r\n.\r\nQUIT\r\n";
    let mut slices = Vec::new();
    let scanned = DataScanner::new(LineEnds::Reject).scan(data, |slice| slices.push(slice.to_vec()));
    assert_eq!((scanned.found, scanned.taken), (Found::End, data.len() - 6), "what is behind the end is not taken");
    assert_eq!(slices, [data[..data.len() - 6].to_vec()]);
}

#[test]
fn an_empty_message_ends_at_once() {
    for policy in [LineEnds::Reject, LineEnds::Normalise, LineEnds::Off] {
        let outcome = scan(b".\r\nQUIT\r\n", policy, &[1]);
        assert_eq!(outcome, Outcome { passed: b".\r\n".to_vec(), found: Found::End, taken: 3 });
    }
}

#[test]
fn a_cr_waits_for_its_lf() {
    let mut scanner = DataScanner::new(LineEnds::Reject);
    let mut passed = Vec::new();
    for (piece, expected) in [("a\r", "a"), ("\n", "a\r\n"), (".\r", "a\r\n"), ("\n", "a\r\n.\r\n")] {
        scanner.scan(piece.as_bytes(), |slice| passed.extend_from_slice(slice));
        assert_eq!(passed, expected.as_bytes());
    }
}

#[test]
fn bad_bytes_are_counted_from_the_start_of_the_data() {
    for (data, at, kind) in [
        ("\n", 0, BadByte::BareLf),
        ("ab\ncd", 2, BadByte::BareLf),
        ("ab\r\n\r\r\n", 4, BadByte::BareCr),
        ("ab\0", 2, BadByte::Nul),
        ("\r\0", 0, BadByte::BareCr),
        (".\n", 1, BadByte::BareLf),
    ] {
        for cuts in [&[][..], &[1], &[2]] {
            let outcome = scan(data.as_bytes(), LineEnds::Reject, cuts);
            assert_eq!(outcome.found, Found::Bad { at, kind }, "{data:?}");
        }
    }
}

#[test]
fn line_ends_are_made_whole() {
    for (data, passed) in [
        ("a\nb\r\n.\r\n", "a\r\nb\r\n.\r\n"),
        ("a\rb\r\n.\r\n", "a\r\nb\r\n.\r\n"),
        ("a\r\r\nb\r\n.\r\n", "a\r\n\r\nb\r\n.\r\n"),
        ("a\n.b\r\n.\r\n", "a\r\n..b\r\n.\r\n"),
        ("a\n..b\r\n.\r\n", "a\r\n...b\r\n.\r\n"),
        ("a\r\n.\nb\r\n.\r\n", "a\r\n\r\nb\r\n.\r\n"),
        (".\n.\r\n.\r\n", "\r\n..\r\n.\r\n"),
        (".\r.\r\n.\r\n", "\r\n..\r\n.\r\n"),
        ("\n.\n.\r\n.\r\n", "\r\n..\r\n..\r\n.\r\n"),
    ] {
        assert_eq!(whole(data.as_bytes(), LineEnds::Normalise).passed, passed.as_bytes(), "{data:?}");
    }
}

#[test]
fn off_ends_at_the_strict_end_only() {
    let data = b"\n.\na\r.\r\n.\0\r\n.\r\r\n.\n\r\n.\r\nQUIT\r\n";
    let outcome = whole(data, LineEnds::Off);
    assert_eq!((outcome.found, outcome.passed.as_slice()), (Found::End, &data[..data.len() - 6]));
}

#[test]
fn behind_the_end_nothing_is_taken() {
    let mut scanner = DataScanner::new(LineEnds::Reject);
    scanner.scan(b".\r\n", |_| {});
    let scanned = scanner.scan(b"more", |_| panic!("nothing passes"));
    assert_eq!((scanned.taken, scanned.found), (0, Found::End));
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        12 => select(&["\r\n", "\r", "\n", ".", "\r\n.\r\n", "a", "Subject: x"][..]).prop_map(|text| text.as_bytes().to_vec()),
        1 => Just(b"\0".to_vec()),
        2 => prop::collection::vec(any::<u8>(), 0..80),
    ];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

fn policy() -> impl Strategy<Value = LineEnds> {
    select(&[LineEnds::Reject, LineEnds::Normalise, LineEnds::Off][..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_cutting_is_scanned_alike(data in data(), policy in policy(), cuts in prop::collection::vec(1_usize..40, 1..6)) {
        let expected = whole(&data, policy);
        prop_assert_eq!(&scan(&data, policy, &[1]), &expected);
        prop_assert_eq!(&scan(&data, policy, &cuts), &expected);
    }

    #[test]
    fn what_is_accepted_has_one_end_by_any_reading(data in data(), policy in policy()) {
        // A line end behind it makes every message one that ends somewhere.
        let outcome = whole(&[&data[..], b"\r\n.\r\n"].concat(), policy);
        let ends = ends_by_any_reading(&outcome.passed);
        match (outcome.found, policy) {
            (_, LineEnds::Off) => {}
            (Found::End, _) => prop_assert_eq!(ends, [outcome.passed.len() - 3]),
            _ => prop_assert!(ends.is_empty()),
        }
        prop_assert!(policy == LineEnds::Off || !outcome.passed.contains(&0));
    }

    #[test]
    fn what_is_forwarded_is_what_was_sent(data in data(), policy in policy()) {
        let outcome = whole(&data, policy);
        prop_assert!(outcome.passed.len() <= 2 * outcome.taken + 2);
        if policy != LineEnds::Normalise {
            prop_assert!(data.starts_with(&outcome.passed));
        }
        if outcome.accepted() && policy != LineEnds::Normalise {
            prop_assert_eq!(outcome.passed.len(), outcome.taken);
        }
    }

    #[test]
    fn the_strict_reading_survives(data in data(), policy in policy()) {
        let outcome = whole(&data, policy);
        let strict = strict_reading(&data);
        if !matches!(outcome.found, Found::Bad { .. }) {
            prop_assert_eq!(outcome.accepted().then_some(outcome.taken), strict.as_ref().map(|(_, taken)| *taken));
        }
        if outcome.accepted() {
            let (text, _) = strict.expect("accepted");
            let (passed, taken) = strict_reading(&outcome.passed).expect("ends");
            prop_assert_eq!(taken, outcome.passed.len());
            if policy == LineEnds::Normalise {
                // The comparison is of bytes: Latin-1 keeps each of them.
                let latin = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>().into_bytes();
                prop_assert_eq!(latin(&passed), made_whole(&latin(&text)));
            } else {
                prop_assert_eq!(passed, text);
            }
        }
    }
}
