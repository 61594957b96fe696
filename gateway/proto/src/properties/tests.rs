use proptest::{prelude::*, sample::select};

use crate::proxy_header::write_v2;

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1_usize..40, 1..6)
}

/// Bytes made of pieces a parser knows, so that they come far, and of noise.
fn bytes_of(pieces: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => select(pieces).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

const CLIENT: &[&str] = &[
    "a ",
    "b2 ",
    "LOGIN ",
    "LOGIN alice secret\r\n",
    "AUTHENTICATE PLAIN",
    "AUTHENTICATE PLAIN\r\n",
    " AGEAYg==\r\n",
    "AGEAYg==\r\n",
    "*\r\n",
    "AUTHENTICATE LOGIN\r\n",
    "AUTHENTICATE LOGIN YQ==\r\n",
    "AUTHENTICATE EXTERNAL\r\n",
    "a AUTHENTICATE XOAUTH2 dXNlcj1hAWF1dGg9QmVhcmVyIHQBAQ==\r\n",
    "a AUTHENTICATE OAUTHBEARER biwsAWF1dGg9QmVhcmVyIHQBAQ==\r\n",
    "AQ==\r\n",
    "NOOP\r\n",
    "c NOOP\r\n",
    "CAPABILITY\r\n",
    "ID NIL\r\n",
    "ID (\"a\" ",
    "\"",
    "\\",
    "STARTTLS\r\n",
    "LOGOUT\r\n",
    "{3}\r\n",
    "{1+}\r\n",
    "{3+}\r\n",
    "{5000}\r\n",
    "{5000+}\r\n",
    "{0+}\r\n",
    "bob",
    " ",
    "\r\n",
    "\n",
    "\r",
    "\0",
    "(",
    ")",
    "GET / HTTP/1.1\r\n",
    "SELECT x\r\n",
    "=",
    "\u{e9}",
    "{",
    "}",
];

const CELL: &[&str] = &[
    "* OK ready\r\n",
    "* OK [CAPABILITY IMAP4rev1 SASL-IR ID AUTH=PLAIN] hi\r\n",
    "* OK [CAPABILITY IMAP4rev1 LITERAL+] hi\r\n",
    "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi\r\n",
    "* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n",
    "* CAPABILITY IMAP4rev1\r\n",
    "G1 OK done\r\n",
    "G2 OK done\r\n",
    "G3 OK [CAPABILITY IMAP4rev1] in\r\n",
    "G1 NO [LIMIT] x\r\n",
    "G2 NO no\r\n",
    "+ \r\n",
    "+\r\n",
    "* BYE\r\n",
    "* PREAUTH\r\n",
    "* ID (\"a\" \"b\")\r\n",
    "* 3 EXISTS\r\n",
    "\r\n",
    "\n",
    "G1 ",
    "* ",
    "\r",
];

const POP3_CLIENT: &[&str] = &[
    "USER alice\r\n",
    "PASS secret\r\n",
    "USER ",
    "PASS ",
    "AUTH\r\n",
    "AUTH PLAIN\r\n",
    "AUTH PLAIN AGEAYg==\r\n",
    "AUTH LOGIN YQ==\r\n",
    "AUTH EXTERNAL =\r\n",
    "AUTH XOAUTH2 dXNlcj1hAWF1dGg9QmVhcmVyIHQBAQ==\r\n",
    "AGEAYg==\r\n",
    "AQ==\r\n",
    "*\r\n",
    "CAPA\r\n",
    "STLS\r\n",
    "QUIT\r\n",
    "NOOP\r\n",
    "STAT\r\n",
    "GET / HTTP/1.1\r\n",
    "=",
    " ",
    "\r\n",
    "\n",
    "\r",
    "\0",
    "\u{e9}",
];

const POP3_CELL: &[&str] = &[
    "+OK ready\r\n",
    "+OK\r\n",
    "+OK\r\nSASL PLAIN\r\n.\r\n",
    "+OK\r\nUSER\r\n.\r\n",
    "SASL PLAIN LOGIN\r\n",
    "USER\r\n",
    ".\r\n",
    "-ERR no\r\n",
    "-ERR [SYS/TEMP] later\r\n",
    "+ \r\n",
    "+\r\n",
    "\r\n",
    "\n",
    "+OK",
    "\r",
];

const SIEVE_CLIENT: &[&str] = &[
    "AUTHENTICATE \"PLAIN\"\r\n",
    "AUTHENTICATE \"PLAIN\" \"AGEAYg==\"\r\n",
    "AUTHENTICATE \"PLAIN\" {8+}\r\nAGEAYg==\r\n",
    "AUTHENTICATE \"LOGIN\"\r\n",
    "AUTHENTICATE \"XOAUTH2\" \"dXNlcj1hAWF1dGg9QmVhcmVyIHQBAQ==\"\r\n",
    "AUTHENTICATE \"EXTERNAL\" \"\"\r\n",
    "AUTHENTICATE ",
    "\"AGEAYg==\"\r\n",
    "\"AQ==\"\r\n",
    "\"*\"\r\n",
    "\"PLAIN\"",
    "CAPABILITY\r\n",
    "STARTTLS\r\n",
    "LOGOUT\r\n",
    "NOOP\r\n",
    "NOOP \"tag\"\r\n",
    "NOOP ",
    "{3+}\r\n",
    "{3}\r\n",
    "{9000+}\r\n",
    "{13000+}\r\n",
    "bob",
    "LISTSCRIPTS\r\n",
    "\"",
    "\\",
    " ",
    "\r\n",
    "\n",
    "\r",
    "\0",
    "\u{e9}",
];

const SIEVE_CELL: &[&str] = &[
    "\"SASL\" \"PLAIN\"\r\n",
    "\"SASL\" {5}\r\nPLAIN\r\n",
    "\"SIEVE\" \"fileinto\"\r\n",
    "{4}\r\nSASL \"PLAIN\"\r\n",
    "\"STARTTLS\"\r\n",
    "OK\r\n",
    "OK \"hi\"\r\n",
    "NO \"no\"\r\n",
    "NO (TRYLATER) \"later\"\r\n",
    "BYE\r\n",
    "{3}\r\n",
    "{9000}\r\n",
    "\"\"\r\n",
    "\"",
    "\r\n",
    "\n",
    "\r",
    " ",
];

const SASL: &[&[u8]] = &[
    b"\0",
    b"alice",
    b"secret",
    b"user=",
    b"n,a=alice,",
    b"n,,",
    b"\x01",
    b"auth=Bearer ",
    b"tok",
    b"\x01\x01",
    b"\r\n",
    b"=2C",
];

fn encoded(message: &[u8]) -> Vec<u8> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(message).into_bytes()
}

const SUBMISSION: &[&str] = &[
    "EHLO a\r\n",
    "MAIL FROM:<a@x.fr>\r\n",
    "MAIL FROM:<a> AUTH=<b>\r\n",
    "RCPT TO:<b@x.fr>\r\n",
    "DATA\r\n",
    ".\r\n",
    "\r\n.\r\n",
    "RSET\r\n",
    "NOOP\r\n",
    "QUIT\r\n",
    "VRFY a\r\n",
    "XCLIENT ADDR=1.2.3.4\r\n",
    " XCLIENT A=b\r\n",
    "XFORWARD A=b\r\n",
    "AUTH PLAIN AGEAYg==\r\n",
    "AUTH PLAIN\r\n",
    "AUTH LOGIN\r\n",
    "AGEAYg==\r\n",
    "*\r\n",
    "STARTTLS\r\n",
    "BDAT 3 LAST\r\n",
    "\r\n",
    "\n",
    "\r",
    "\0",
    ".",
    " ",
    "text",
    "\t",
];

const SUBMISSION_CELL: &[&str] = &[
    "220 cell ESMTP\r\n",
    "250 cell\r\n",
    "250-cell\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n",
    "250-cell\r\n250-XCLIENT NAME ADDR PORT HELO\r\n250 AUTH PLAIN\r\n",
    "250-cell\r\n250-XCLIENT ADDR\r\n250-AUTH=LOGIN\r\n250 SIZE 1000\r\n",
    "250-",
    "250 ",
    "AUTH PLAIN\r\n",
    "334 \r\n",
    "334 VXNlcm5hbWU6\r\n",
    "235 2.7.0 in\r\n",
    "421 4.3.2 later\r\n",
    "454 4.7.0 later\r\n",
    "535 5.7.8 no\r\n",
    "504 5.5.4 no\r\n",
    "\r\n",
    "\n",
    "\r",
    "22",
    "\u{e9}",
];

const HEAD: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /x HTTP/1.0\r\n",
    "GET http://a.fr/ HTTP/1.1\r\n",
    "Host: a.fr\r\n",
    "Host: a.fr\r\n\r\n",
    "X: y\r\n",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    " ",
    ":",
    "\0",
    "a",
];

const PROXY: &[&[u8]] = &[
    b"",
    b"PROXY ",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    b"\r\n\r\n\0\r\nQUIT\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0",
];

proptest! {
    #[test]
    fn any_cutting_gives_a_submitting_client_the_same_transcript(
        bytes in bytes_of(SUBMISSION), cuts in cuts(), answers in any::<u64>(), tls in any::<bool>(),
    ) {
        super::smtp_client(&bytes, &cuts, answers, tls);
        super::smtp_client(&[b"EHLO a\r\n", &bytes[..]].concat(), &cuts, answers, tls);
    }

    #[test]
    fn no_command_that_is_not_the_clients_reaches_a_submission_cell(
        bytes in bytes_of(SUBMISSION), cuts in cuts(), pipelining in any::<bool>(),
        line_ends in select(&[crate::smtp::LineEnds::Reject, crate::smtp::LineEnds::Normalise][..]),
    ) {
        super::smtp_relay(&bytes, &cuts, line_ends, pipelining);
        let in_data = [b"MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n", &bytes[..]].concat();
        super::smtp_relay(&in_data, &cuts, line_ends, pipelining);
    }

    #[test]
    fn any_cutting_gives_a_client_the_same_transcript(
        bytes in bytes_of(CLIENT), cuts in cuts(), answers in any::<u64>(), tls in any::<bool>(),
    ) {
        super::imap_client(&bytes, &cuts, answers, tls);
    }

    #[test]
    fn any_length_of_line_is_cut_alike(
        start in select(&["a AUTHENTICATE PLAIN ", "a LOGIN b ", "a AUTHENTICATE PLAIN\r\n", "a ID (\"", ""][..]),
        length in prop_oneof![8_100_usize..8_220, 12_200_usize..12_500, 33_000_usize..40_000],
        cut in 1_usize..20_000,
    ) {
        let bytes = format!("{start}{}\r\nb NOOP\r\n", "A".repeat(length));
        super::imap_client(bytes.as_bytes(), &[cut], 7, true);
    }

    #[test]
    fn any_cutting_of_a_cells_bytes_leads_to_the_same_end(bytes in bytes_of(CELL), cuts in cuts(), starttls in any::<bool>()) {
        super::imap_cell(&bytes, &cuts, starttls);
    }

    #[test]
    fn any_cutting_gives_a_pop3_client_the_same_transcript(
        bytes in bytes_of(POP3_CLIENT), cuts in cuts(), answers in any::<u64>(), tls in any::<bool>(),
    ) {
        super::pop3_client(&bytes, &cuts, answers, tls);
    }

    #[test]
    fn any_length_of_a_pop3_line_is_cut_alike(
        start in select(&["AUTH PLAIN ", "auth plain\r\n", "PASS ", "AUT", ""][..]),
        length in prop_oneof![8_100_usize..8_220, 12_200_usize..12_500, 33_000_usize..40_000],
        cut in 1_usize..20_000,
    ) {
        let bytes = format!("{start}{}\r\nCAPA\r\n", "A".repeat(length));
        super::pop3_client(bytes.as_bytes(), &[cut], 7, true);
    }

    #[test]
    fn any_cutting_of_a_pop3_cells_bytes_leads_to_the_same_end(
        bytes in bytes_of(POP3_CELL), cuts in cuts(), starttls in any::<bool>(),
    ) {
        super::pop3_cell(&bytes, &cuts, starttls);
    }

    #[test]
    fn any_cutting_gives_a_sieve_client_the_same_transcript(
        bytes in bytes_of(SIEVE_CLIENT), cuts in cuts(), answers in any::<u64>(), tls in any::<bool>(),
    ) {
        super::sieve_client(&bytes, &cuts, answers, tls);
    }

    #[test]
    fn any_length_of_a_sieve_line_is_cut_alike(
        start in select(&[
            "AUTHENTICATE \"PLAIN\" \"", "authenticate \"plain\"\r\n\"", "AUTHENTICATE {12288+}\r\n", "NOOP \"", "A", "",
        ][..]),
        length in prop_oneof![8_100_usize..8_220, 12_200_usize..12_500, 24_000_usize..40_000],
        cut in 1_usize..20_000,
    ) {
        let bytes = format!("{start}{}\"\r\nNOOP\r\n", "A".repeat(length));
        super::sieve_client(bytes.as_bytes(), &[cut], 7, true);
    }

    #[test]
    fn any_cutting_of_a_sieve_cells_bytes_leads_to_the_same_end(
        bytes in bytes_of(SIEVE_CELL), cuts in cuts(), starttls in any::<bool>(),
    ) {
        super::sieve_cell(&bytes, &cuts, starttls);
    }

    #[test]
    fn any_cutting_of_a_submission_cells_bytes_leads_to_the_same_end(
        bytes in bytes_of(SUBMISSION_CELL), cuts in cuts(), starttls in any::<bool>(), xclient in any::<bool>(),
    ) {
        super::smtp_cell(&bytes, &cuts, starttls, xclient);
        super::smtp_cell(&[b"220 cell ESMTP\r\n", &bytes[..]].concat(), &cuts, starttls, xclient);
    }

    #[test]
    fn any_cutting_of_a_head_gets_the_same_verdict(bytes in bytes_of(HEAD), cuts in cuts()) {
        super::http1_gate(&bytes, &cuts);
    }

    #[test]
    fn heads_around_their_bounds_get_the_same_verdict(
        start in select(&["GET /", "GET / HTTP/1.1\r\nX: ", "\r\n", "\r\nGET /"][..]),
        length in prop_oneof![8_150_usize..8_260, 32_700_usize..32_800],
        end in select(&["\r\n\r\n", " HTTP/1.0\r\n\r\n", "\n", ""][..]),
        cut in 1_usize..9_000,
    ) {
        super::http1_gate(format!("{start}{}{end}", "a".repeat(length)).as_bytes(), &[cut]);
    }

    #[test]
    fn any_proxy_header_gets_one_verdict(
        start in select(PROXY),
        noise in prop::collection::vec(any::<u8>(), 0..700),
    ) {
        super::proxy_header(&[start, &noise].concat());
    }

    #[test]
    fn addresses_survive_a_proxy_header(source in any::<std::net::SocketAddr>(), destination in any::<std::net::SocketAddr>()) {
        super::proxy_header(&write_v2(source, destination));
    }

    #[test]
    fn any_sasl_exchange_ends_and_asks_what_is_fit_to_ask(
        choice in any::<u8>(),
        messages in prop::collection::vec(
            prop_oneof![
                "[ -~]{0,60}".prop_map(String::into_bytes),
                prop::collection::vec(select(SASL), 0..12).prop_map(|parts| encoded(&parts.concat())),
                prop::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| encoded(&bytes)),
                (250_usize..1_100).prop_map(|length| encoded(format!("\0a\0{}", "p".repeat(length)).as_bytes())),
                (8_100_usize..8_300).prop_map(|length| {
                    encoded(format!("user=a\u{1}auth=Bearer {}\u{1}\u{1}", "t".repeat(length)).as_bytes())
                }),
            ],
            0..4,
        ),
    ) {
        super::sasl_exchange(&[&[choice][..], &messages.join(&b'\n')].concat());
    }

    #[test]
    fn any_sasl_line_is_read_or_refused(line in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        "[A-Za-z0-9+/]{0,60}={0,2}".prop_map(String::into_bytes),
    ]) {
        super::sasl_plain(&line);
    }
}

#[test]
fn no_password_comes_back_in_a_reply() {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use crate::{
        Dialogue, InputBuf, Mechanism, Step,
        imap::{ImapDialogue, ImapProfile},
        sasl::Mechanisms,
    };

    let profile = Arc::new(ImapProfile {
        tls: true,
        mechanisms: Mechanisms::from_iter(Mechanism::ALL),
        extra_capabilities: Arc::from([]),
        login_deadline: Duration::from_secs(60),
        hostname: Arc::from("h"),
    });
    for command in [
        "a LOGIN alice hunter2",
        "a LOGIN alice hunter2 x",
        "a LOGIN alice \"hunter2",
        "a hunter2 x",
        "a AUTHENTICATE PLAIN hunter2",
        "a AUTHENTICATE hunter2",
        "a AUTHENTICATE LOGIN hunter2",
        "a AUTHENTICATE LOGIN YQ==\r\nhunter2",
        "a AUTHENTICATE XOAUTH2 hunter2",
        // user=a, auth=Bearer hunter2
        "a AUTHENTICATE XOAUTH2 dXNlcj1hAWF1dGg9QmVhcmVyIGh1bnRlcjIBAQ==",
        "a AUTHENTICATE EXTERNAL hunter2",
        "a AUTHENTICATE PLAIN\r\nhunter2",
        "hunter2+ NOOP",
        "a ID (\"x\" hunter2)",
    ] {
        let now = Instant::now();
        let Step::Wait { next, .. } = ImapDialogue::greet(profile.clone(), now) else { panic!("greets") };
        let mut input = InputBuf::new();
        input.extend(format!("{command}\r\n").as_bytes());
        let shown = match next.on_bytes(&mut input, now) {
            step @ (Step::Ask { .. } | Step::Upgrade { .. } | Step::HandOff { .. }) => format!("{step:?}"),
            Step::Wait { reply, next, .. } => format!("{} {next:?}", reply.escape_ascii()),
            Step::Close { reply, .. } => reply.escape_ascii().to_string(),
        };
        assert!(!shown.contains("hunter2"), "{command:?}: {shown}");
    }
}
