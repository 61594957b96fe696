use super::*;

fn member(failures: u32, successes: u32) -> Member {
    let endpoint = Endpoint { host: "127.0.0.1".into(), port: 1 };
    let member = Member::new(&"alpha".parse().unwrap(), Service::Mail(MailProtocol::Imap), &endpoint);
    member.lock().thresholds = (failures, successes);
    member
}

#[test]
fn the_first_check_decides_at_once() {
    let member = member(3, 2);
    member.on_failure("refused");
    assert!(!member.status(false).healthy);
    assert_eq!(member.status(false).last_error.as_deref(), Some("refused"));
    member.on_check_passed();
    assert!(member.status(false).healthy);
}

#[test]
fn later_it_takes_failures_in_a_row_to_leave_and_successes_in_a_row_to_join() {
    let member = member(3, 2);
    member.on_check_passed();
    member.on_failure("one");
    member.on_failure("two");
    member.on_check_passed();
    member.on_failure("one");
    member.on_failure("two");
    assert!(member.status(false).healthy);
    member.on_failure("three");
    assert!(!member.status(false).healthy);
    member.on_check_passed();
    member.on_failure("again");
    member.on_check_passed();
    assert!(!member.status(false).healthy);
    member.on_check_passed();
    assert!(member.status(false).healthy);
    assert_eq!(member.status(false).last_error, None);
}
