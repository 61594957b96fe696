//! Behind a load balancer: the client's address comes from the PROXY header, and only from who may send one.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use guichet_tests::{ALICE, Dialogue, Gateway, HOST, House, wait};

const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn behind_balancer(house: &House, name: &str) -> Gateway {
    house.start(house.settings(name).proxy_from("\"127.0.0.0/8\""))
}

/// What the gateway says (and whether it closes) after these first bytes on the STARTTLS port.
fn first_bytes(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.imap())).expect("connects");
    stream.set_read_timeout(Some(wait::PATIENCE)).expect("timeout");
    stream.write_all(bytes).expect("written");
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut all = String::new();
    let _ = stream.read_to_string(&mut all);
    all
}

#[test]
fn curl_tells_its_client_and_the_cell_learns_it() {
    let house = House::new("proxy-good");
    let gateway = behind_balancer(&house, "gateway");
    let user = format!("{}:{}", ALICE.address, ALICE.password);
    // 192.0.2.77 is nobody: only the header can have said so.
    let told = house.program().ask(&gateway.url("/echo"), &["--haproxy-protocol", "--user", &user]);
    assert!(told.body.contains("[\"x-forwarded-for\", \"127.0.0.1\"]"), "{told:?}");

    let mut stream = TcpStream::connect(("127.0.0.1", gateway.imaps())).expect("connects");
    stream.write_all(b"PROXY TCP4 192.0.2.77 192.0.2.1 40000 993\r\n").expect("written");
    let mut imap = Dialogue::tls_after(stream, HOST, &house.world.pki().ca());
    imap.expect("* OK");
    assert!(imap.answer("a", &format!("LOGIN {} {}", ALICE.address, ALICE.password)).starts_with("a OK"));
    wait::until("the cell's log", || house.alpha.log().contains("rip=192.0.2.77").then_some(()));

    let mut v2 = V2_SIGNATURE.to_vec();
    v2.extend_from_slice(&[0x21, 0x21, 0, 36]);
    v2.extend_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    v2.extend_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    v2.extend_from_slice(&[0x9c, 0x40, 0x03, 0xe1]);
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.imaps())).expect("connects");
    stream.write_all(&v2).expect("written");
    let mut imap = Dialogue::tls_after(stream, HOST, &house.world.pki().ca());
    imap.expect("* OK");
    assert!(imap.answer("a", &format!("LOGIN {} {}", ALICE.address, ALICE.password)).starts_with("a OK"));
    wait::until("the cell's log", || house.alpha.log().contains("rip=2001:db8::7").then_some(()));
}

#[test]
fn a_header_may_arrive_in_pieces_with_tls_right_behind() {
    let house = House::new("proxy-pieces");
    let gateway = behind_balancer(&house, "gateway");
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.imaps())).expect("connects");
    stream.set_nodelay(true).expect("nodelay");
    for byte in b"PROXY TCP4 192.0.2.78 192.0.2.1 40000 993\r\n" {
        stream.write_all(&[*byte]).expect("written");
    }
    let mut imap = Dialogue::tls_after(stream, HOST, &house.world.pki().ca());
    imap.expect("* OK");
}

#[test]
fn a_missing_or_broken_header_closes_the_connection() {
    let house = House::new("proxy-broken");
    let gateway = behind_balancer(&house, "gateway");
    let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 600], b"\r\n"].concat();
    let huge = [V2_SIGNATURE, &[0x21, 0x11, 0xff, 0xff], &[0; 2000]].concat();
    let short_v2 = [V2_SIGNATURE, &[0x21, 0x11, 0, 2, 1, 2]].concat();
    for bytes in [
        b"a NOOP\r\n".as_slice(),
        b"PROXY TCP4 192.0.2.7 192.0.2.1 40000\r\n",
        b"PROXY TCP4 192.0.2.999 192.0.2.1 1 2\r\n",
        b"PROXY TCP4 2001:db8::1 192.0.2.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 1 99999\r\n",
        b"PROXY \0\r\n",
        &long,
        &huge,
        &short_v2,
        b"PRO",
    ] {
        assert_eq!(first_bytes(&gateway, bytes), "", "{}", String::from_utf8_lossy(bytes));
    }
    assert!(
        first_bytes(&gateway, b"PROXY UNKNOWN\r\na LOGOUT\r\n").starts_with("* OK"),
        "a health check of the balancer"
    );
    assert!(
        gateway.metric("guichet_proxy_header_rejections_total", &["reason=\"broken\""]) >= 7.0,
        "{}",
        gateway.metrics()
    );
    let web = house.program().ask(&gateway.url("/"), &[]);
    assert_eq!(web.status, 0, "HTTPS without a header: {web:?}");
    assert_eq!(house.program().ask(&gateway.plain_url("/"), &["--haproxy-protocol"]).status, 301);
}

#[test]
fn a_stranger_may_not_send_a_header() {
    let house = House::new("proxy-stranger");
    let trusting_others = house.start(house.settings("others").proxy_from("\"198.51.100.0/24\""));
    let said = first_bytes(&trusting_others, b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 143\r\na LOGOUT\r\n");
    assert_eq!(said, "", "only the balancer may come here");
    assert!(trusting_others.metric("guichet_proxy_header_rejections_total", &["reason=\"untrusted\""]) >= 1.0);
    // Without the setting a header is just a bad first command.
    let open = house.start(house.settings("open"));
    let said = first_bytes(&open, b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 143\r\na LOGOUT\r\n");
    assert!(said.starts_with("* OK") && !said.contains("192.0.2.7"), "{said}");
}
