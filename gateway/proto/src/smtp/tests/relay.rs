use std::sync::Arc;

use crate::smtp::{
    BadByte, DOT_DEADLINE, Extensions, LineEnds, Message, Question, RelayEnd, RelayEvent, RelayProfile,
    SubmissionRelay, Totals, Verdict,
};

const LIST: &str = "PIPELINING\nSIZE 1000\n8BITMIME\nENHANCEDSTATUSCODES";

fn profile() -> RelayProfile {
    let list = Extensions::read(LIST);
    RelayProfile { hostname: Arc::from("mail.example.fr"), offered: list, cell: list, line_ends: LineEnds::Reject }
}

/// A relay between a client and a cell that a test plays.
struct World {
    relay: SubmissionRelay,
    /// Sent by the client and not taken yet.
    unsent: Vec<u8>,
    cell_got: String,
    client_got: String,
    questions: Vec<Question>,
    messages: Vec<Message>,
    /// What to say to the next questions; `Go` when there is nothing.
    verdicts: Vec<Verdict>,
}

impl World {
    fn new(profile: RelayProfile) -> Self {
        Self {
            relay: SubmissionRelay::new(profile),
            unsent: Vec::new(),
            cell_got: String::new(),
            client_got: String::new(),
            questions: Vec::new(),
            messages: Vec::new(),
            verdicts: Vec::new(),
        }
    }

    fn go_on(&mut self) {
        loop {
            let taken = self.relay.on_client(&self.unsent);
            self.unsent.drain(..taken);
            let mut moved = taken > 0;
            while let Some(event) = self.relay.poll_event() {
                moved = true;
                match event {
                    RelayEvent::Message(message) => self.messages.push(message),
                    RelayEvent::Ask(question) => {
                        self.questions.push(question);
                        let verdict = if self.verdicts.is_empty() { Verdict::Go } else { self.verdicts.remove(0) };
                        self.relay.on_verdict(verdict);
                    }
                }
            }
            self.cell_got.push_str(&String::from_utf8_lossy(self.relay.to_cell()));
            self.relay.sent_to_cell(self.relay.to_cell().len());
            self.client_got.push_str(&String::from_utf8_lossy(self.relay.to_client()));
            self.relay.sent_to_client(self.relay.to_client().len());
            if !moved {
                return;
            }
        }
    }

    fn client(&mut self, bytes: impl AsRef<[u8]>) {
        self.unsent.extend_from_slice(bytes.as_ref());
        self.go_on();
    }

    fn cell(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let mut taken = 0;
        while taken < bytes.len() && self.relay.wants_cell() {
            taken += self.relay.on_cell(&bytes[taken..]);
            self.go_on();
        }
    }

    /// Plays a script: `C:` the client sends, `S:` the cell sends, `>` the cell has got, `<` the client has got.
    fn play(&mut self, script: &str) -> &mut Self {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (who, text) = line.split_once(' ').unwrap_or((line, ""));
            match who {
                "C:" => self.client(format!("{text}\r\n")),
                "S:" => self.cell(format!("{text}\r\n")),
                _ => {
                    let got = if who == ">" { &mut self.cell_got } else { &mut self.client_got };
                    let expected = format!("{text}\r\n");
                    assert!(got.starts_with(&expected), "expected {line:?}, got {got:?}");
                    got.drain(..expected.len());
                }
            }
        }
        assert_eq!((self.cell_got.as_str(), self.client_got.as_str()), ("", ""), "more than the script has");
        self
    }
}

fn play(script: &str) -> World {
    let mut world = World::new(profile());
    world.play(script);
    world
}

const OPENED: &str = "
    C: MAIL FROM:<alice@x.fr> SIZE=9
    > MAIL FROM:<alice@x.fr> SIZE=9
    S: 250 2.1.0 Ok
    < 250 2.1.0 Ok
    C: RCPT TO:<bob@x.fr>
    > RCPT TO:<bob@x.fr>
    S: 250 2.1.5 Ok
    < 250 2.1.5 Ok
";
const DATA: &str = "
    C: DATA
    > DATA
    S: 354 go
    < 354 go
";

#[test]
fn a_message_is_sent_and_told() {
    let mut world = play(OPENED);
    world.play(DATA).play(
        "
        C: Subject: hi
        > Subject: hi
        C: MAIL FROM:<x>
        > MAIL FROM:<x>
        C: .
        > .
        ",
    );
    assert_eq!(world.relay.deadline(), DOT_DEADLINE);
    world.play(
        "
        S: 250-2.0.0 Ok:
        S: 250 2.0.0 queued as 4711\u{7}
        < 250-2.0.0 Ok:
        < 250 2.0.0 queued as 4711?
        C: QUIT
        > QUIT
        S: 221 bye
        < 221 bye
        ",
    );
    let message = Message {
        sender: "alice@x.fr".into(),
        recipients: 1,
        bytes: 28,
        code: 250,
        said: "2.0.0 queued as 4711?".into(),
    };
    assert_eq!(world.messages, [message]);
    assert_eq!(world.relay.totals(), Totals { messages: 1, recipients: 1, bytes: 28 });
    assert_eq!(world.relay.end(), Some(RelayEnd::Quit));
}

#[test]
fn what_a_client_may_not_say_never_reaches_the_cell() {
    for (line, reply) in [
        ("XCLIENT LOGIN=boss@x.fr ADDR=192.0.2.1", "550 5.7.0"),
        ("xforward ADDR=192.0.2.1", "550 5.7.0"),
        (" XCLIENT ADDR=192.0.2.1", "500 5.5.1"),
        ("NOOP\tXCLIENT", "500 5.5.2"),
        ("NOOP\rXCLIENT ADDR=192.0.2.1", "500 5.5.2"),
        ("AUTH PLAIN AGEAYg==", "503 5.5.1"),
        ("STARTTLS", "503 5.5.1"),
        ("VRFY bob", "252 2.1.5"),
        ("EXPN staff", "502 5.5.1"),
        ("ETRN x.fr", "502 5.5.1"),
        ("VERB", "502 5.5.1"),
        ("TURN", "502 5.5.1"),
        ("HELP", "214 2.0.0"),
        ("XYZZY", "500 5.5.1"),
        ("", "500 5.5.1"),
        ("DATA now", "501 5.5.4"),
        ("RSET now", "501 5.5.4"),
        ("EHLO", "501 5.5.4"),
        ("RCPT TO:<bob@x.fr>", "503 5.5.1"),
        ("MAIL FROM:alice@x.fr", "501 5.1.7"),
        ("MAIL FROM:<alice@x.fr> XVERP", "555 5.5.4"),
    ] {
        let mut world = World::new(profile());
        world.client(format!("{line}\r\n"));
        assert_eq!(world.cell_got, "", "{line}");
        assert!(world.client_got.starts_with(reply), "{line}: {}", world.client_got);
        assert_eq!((world.relay.end(), world.client_got.lines().count()), (None, 1));
    }
    let long = format!("XCLIENT LOGIN={}\r\nNOOP\r\n", "x".repeat(5000));
    let mut world = World::new(profile());
    world.client(long);
    assert_eq!((world.cell_got.as_str(), world.client_got.as_str()), ("NOOP\r\n", "500 5.5.2 Line too long\r\n"));
}

#[test]
fn a_chunk_is_never_read_as_commands() {
    let mut world = World::new(profile());
    world.client("BDAT 60 LAST\r\nMAIL FROM:<boss@x.fr>\r\n");
    assert_eq!((world.cell_got.as_str(), world.client_got.as_str()), ("", "502 5.5.1 Command not implemented\r\n"));
    assert_eq!(world.relay.end(), Some(RelayEnd::FramingLost));
}

#[test]
fn own_replies_wait_for_those_of_the_cell() {
    play(
        "
        C: MAIL FROM:<a> AUTH=<boss@x.fr>
        > MAIL FROM:<a>
        C: XCLIENT ADDR=192.0.2.1
        C: RCPT TO:<b>
        > RCPT TO:<b>
        C: VRFY c
        C: NOOP x
        > NOOP
        S: 250 one
        < 250 one
        < 550 5.7.0 Not for you
        S: 250 two
        < 250 two
        < 252 2.1.5 Send mail, and you will hear
        S: 250 three
        < 250 three
        ",
    );
}

#[test]
fn ehlo_after_login_resets_and_shows_our_list() {
    let mut world = play(OPENED);
    world.play(
        "
        C: EHLO again
        > RSET
        S: 250 flushed
        < 250-mail.example.fr
        < 250-PIPELINING
        < 250-SIZE 1000
        < 250-8BITMIME
        < 250 ENHANCEDSTATUSCODES
        C: RCPT TO:<c>
        < 503 5.5.1 MAIL first
        C: HELO again
        > RSET
        S: 250 flushed
        < 250 mail.example.fr
        C: EHLO again
        > RSET
        S: 451 hm
        < 451 hm
        ",
    );
}

#[test]
fn a_second_mail_waits_for_the_word_on_the_first() {
    play(
        "
        C: MAIL FROM:<a>
        > MAIL FROM:<a>
        C: RSET
        > RSET
        C: MAIL FROM:<b>
        S: 250 one
        < 250 one
        > MAIL FROM:<b>
        S: 250 two
        < 250 two
        S: 250 three
        < 250 three
        ",
    );
}

#[test]
fn a_cell_without_pipelining_gets_one_command_at_a_time() {
    let cell = Extensions::default();
    World::new(RelayProfile { cell, ..profile() }).play(
        "
        C: MAIL FROM:<a>
        > MAIL FROM:<a>
        C: RCPT TO:<b>
        C: VRFY x
        S: 250 one
        < 250 one
        > RCPT TO:<b>
        S: 250 two
        < 250 two
        < 252 2.1.5 Send mail, and you will hear
        ",
    );
}

#[test]
fn limits_speak_through_the_verdict() {
    let mut world = World::new(profile());
    world.verdicts = vec![
        Verdict::Later("Limit of messages\r\nreached".into()),
        Verdict::Go,
        Verdict::Go,
        Verdict::Later("Limit of recipients reached".into()),
    ];
    world.play(
        "
        C: MAIL FROM:<a@x.fr> SIZE=7
        < 450 4.7.1 Limit of messagesreached
        C: RCPT TO:<b>
        < 503 5.5.1 MAIL first
        C: MAIL FROM:<>
        > MAIL FROM:<>
        C: RCPT TO:<b>
        > RCPT TO:<b>
        C: RCPT TO:<c>
        S: 250 one
        < 250 one
        S: 250 two
        < 250 two
        < 452 4.5.3 Limit of recipients reached
        ",
    );
    assert_eq!(
        world.questions,
        [
            Question::Mail { sender: "a@x.fr".into(), size: Some(7) },
            Question::Mail { sender: String::new(), size: None },
            Question::Recipient { recipient: "b".into(), before: 0 },
            Question::Recipient { recipient: "c".into(), before: 1 },
        ]
    );
}

#[test]
fn text_is_text_only_after_the_cells_354() {
    let mut world = play(OPENED);
    world.client("DATA\r\nXCLIENT ADDR=1.2.3.4\r\n.\r\n");
    assert_eq!(world.cell_got, "DATA\r\n", "the text is held back");
    world.cell("354 go\r\n");
    assert_eq!(world.cell_got, "DATA\r\nXCLIENT ADDR=1.2.3.4\r\n.\r\n");

    let mut world = World::new(profile());
    world.client("DATA\r\nMAIL FROM:<boss@x.fr>\r\n.\r\n");
    world.cell("503 5.5.1 MAIL first\r\n");
    assert_eq!(world.cell_got, "DATA\r\n", "text is not read as commands");
    assert_eq!(world.relay.end(), Some(RelayEnd::FramingLost));

    play("C: DATA\n> DATA\nS: 503 no\n< 503 no\nC: NOOP\n> NOOP\nS: 250 ok\n< 250 ok");
}

#[test]
fn nothing_follows_the_end_before_the_cells_word() {
    let mut world = play(OPENED);
    world.play(DATA);
    world.client("hi\r\n.\r\nQUIT\r\n");
    assert_eq!(world.cell_got, "hi\r\n.\r\n");
    world.cell("250 queued\r\n");
    assert_eq!(world.cell_got, "hi\r\n.\r\nQUIT\r\n");
}

#[test]
fn bad_bytes_end_both_legs() {
    for (text, kind) in
        [("a\nb", BadByte::BareLf), ("a\rb", BadByte::BareCr), ("a\0", BadByte::Nul), ("a\n.\r\n", BadByte::BareLf)]
    {
        let mut world = play(OPENED);
        world.play(DATA);
        // In one piece with its beginning, nothing of which has left: the cell gets nothing more.
        world.client(text);
        world.client("\r\n.\r\nQUIT\r\n");
        assert_eq!(world.client_got, "550 5.5.2 A line of a message ends with CR LF\r\n");
        assert!(!world.cell_got.contains("\r\n.\r\n") && world.relay.to_cell().is_empty());
        assert!(matches!(world.relay.end(), Some(RelayEnd::BadData { kind: found, .. }) if found == kind), "{text:?}");
        assert_eq!(world.messages, []);
    }
}

#[test]
fn a_message_that_never_ends_is_cut_off() {
    let mut world = play(OPENED);
    world.play(DATA);
    for _ in 0..20 {
        world.client([b'x'; 60_000]);
    }
    assert_eq!(world.relay.end(), Some(RelayEnd::TooMuchData));
    assert!(world.client_got.starts_with("552 5.3.4"));
}

#[test]
fn a_cell_that_speaks_out_of_turn_is_left() {
    for (script, said, end) in [
        ("", "250 hm", RelayEnd::CellProtocol("a reply to nothing")),
        (DATA, "250 smuggled", RelayEnd::CellProtocol("a reply to nothing")),
        ("C: DATA\n> DATA", "250 ok", RelayEnd::CellProtocol("a reply that does not fit")),
        ("C: DATA\n> DATA", "334 ok", RelayEnd::CellProtocol("a reply that does not fit")),
        ("C: NOOP\n> NOOP", "354 go", RelayEnd::CellProtocol("a reply that does not fit")),
        ("C: NOOP\n> NOOP", "what", RelayEnd::CellProtocol("no reply code")),
        ("", "421 4.3.2 shutting down", RelayEnd::CellClosed),
        (DATA, "421 4.4.2 timeout", RelayEnd::CellClosed),
    ] {
        let mut world = play(script);
        world.cell(format!("{said}\r\n"));
        assert_eq!(world.relay.end(), Some(end), "{said}");
        assert!(world.client_got.starts_with("421 4."), "{}", world.client_got);
    }
}

#[test]
fn errors_come_to_an_end_in_order() {
    let mut world = play("C: NOOP\n> NOOP");
    world.client("XCLIENT X\r\n".repeat(20));
    assert_eq!((world.client_got.as_str(), world.relay.end()), ("", None));
    world.cell("250 ok\r\n");
    assert!(world.client_got.starts_with("250 ok\r\n550 "));
    assert!(world.client_got.ends_with("550 5.7.0 Not for you\r\n421 4.7.0 Too many errors\r\n"));
    assert_eq!(world.relay.end(), Some(RelayEnd::TooManyErrors));
}

#[test]
fn ends_come_as_they_should() {
    // A client that leaves behind QUIT or the dot still gets its answer, half a message is over.
    let mut world = play("C: QUIT\n> QUIT");
    world.relay.on_client_closed();
    assert_eq!(world.relay.end(), None);
    world.relay.on_cell_closed();
    world.go_on();
    assert_eq!((world.client_got.as_str(), world.relay.end()), ("221 2.0.0 Bye\r\n", Some(RelayEnd::Quit)));

    let mut world = play(DATA);
    world.client("half");
    world.relay.on_client_closed();
    assert_eq!(world.relay.end(), Some(RelayEnd::ClientClosed));

    let mut world = play(DATA);
    world.client(".\r\n");
    world.relay.on_client_closed();
    assert_eq!(world.relay.end(), None);
    world.cell("250 queued\r\n");
    assert_eq!((world.messages.len(), world.relay.end()), (1, Some(RelayEnd::ClientClosed)));

    let mut world = play(DATA);
    world.relay.on_cell_closed();
    assert_eq!(world.relay.end(), Some(RelayEnd::CellClosed));
    let mut world = play(DATA);
    world.relay.on_deadline();
    assert_eq!(world.relay.end(), Some(RelayEnd::Deadline));
}

#[test]
fn a_stop_waits_for_the_end_of_a_message() {
    let mut world = play(OPENED);
    world.relay.on_stop();
    world.play(DATA).play("C: .\n> .");
    assert_eq!(world.relay.end(), None);
    world.play("S: 250 queued\n< 250 queued\n< 421 4.3.2 Please connect again");
    assert_eq!(world.relay.end(), Some(RelayEnd::Stopped));
}

#[test]
fn a_cut_is_told_where_a_reply_may_be_said() {
    let mut world = play("C: NOOP\n> NOOP");
    world.relay.on_cut();
    world.go_on();
    world.play("< 421 4.3.2 Please connect again");
    assert_eq!(world.relay.end(), Some(RelayEnd::Cut));

    let mut world = play(OPENED);
    world.relay.on_stop();
    assert_eq!(world.relay.end(), None, "it may still become a message");
    world.play("C: NOOP\n> NOOP\nS: 250 ok\n< 250 ok");
    world.relay.on_cut();
    world.go_on();
    world.play("< 421 4.3.2 Please connect again");
    assert_eq!(world.relay.end(), Some(RelayEnd::Cut));
}

#[test]
fn half_a_message_that_is_cut_ends_without_a_word_and_the_cell_gets_no_more_of_it() {
    let mut world = play(OPENED);
    world.play(DATA);
    world.relay.on_client(b"and so on\r\n");
    world.relay.on_cut();
    assert_eq!(world.relay.end(), Some(RelayEnd::Cut));
    assert_eq!((world.relay.to_cell(), world.relay.to_client()), (&b""[..], &b""[..]));
}

#[test]
fn a_whole_message_that_is_cut_gets_the_word_of_the_cell_first() {
    let mut world = play(OPENED);
    world.play(DATA).play("C: .\n> .");
    world.relay.on_cut();
    assert_eq!(world.relay.end(), None);
    world.play("S: 250 queued\n< 250 queued\n< 421 4.3.2 Please connect again");
    assert_eq!(world.relay.end(), Some(RelayEnd::Stopped));
}

#[test]
fn buffers_are_bounded_when_nobody_takes_anything() {
    let mut relay = SubmissionRelay::new(profile());
    let noise = b"VRFY x\r\nNOOP\r\n".repeat(20_000);
    assert!(relay.on_client(&noise) < noise.len());
    assert!(!relay.wants_client());
    assert!(relay.to_cell().len() < 4096 && relay.to_client().len() < 4096);

    let mut relay = SubmissionRelay::new(RelayProfile { line_ends: LineEnds::Normalise, ..profile() });
    relay.on_client(b"DATA\r\n");
    relay.on_cell(b"354 go\r\n");
    let text = vec![b'\n'; 1024 * 1024];
    assert!(relay.on_client(&text) <= 64 * 1024 && !relay.wants_client());
    assert!(relay.to_cell().len() <= 128 * 1024 + 16);
}

#[test]
fn nothing_of_a_message_or_a_late_password_shows_in_debug() {
    let mut world = play(OPENED);
    world.play(DATA);
    world.relay.on_client(b"hunter2");
    assert!(!format!("{:?}", world.relay).contains("hunter2"));
    let mut relay = SubmissionRelay::new(profile());
    relay.on_client(b"AUTH PLAIN hunter2");
    assert!(!format!("{relay:?}").contains("hunter2"));
}
