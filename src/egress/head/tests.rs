use proptest::prelude::*;

use super::*;

fn rewritten(head: &str) -> String {
    match rewrite(head.as_bytes()) {
        Rewritten::Final(head) => String::from_utf8(head).unwrap(),
        other => panic!("{head:?}: {other:?}"),
    }
}

/// Returns the status and the fields as a strict parser reads them.
fn parsed(head: &[u8]) -> (u16, Vec<(String, Vec<u8>)>) {
    let mut fields = vec![httparse::EMPTY_HEADER; 100];
    let mut response = httparse::Response::new(&mut fields);
    assert_eq!(response.parse(head), Ok(httparse::Status::Complete(head.len())));
    let fields = response.headers.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()));
    (response.code.unwrap(), fields.collect())
}

#[test]
fn odd_lines_are_mended_or_left_out() {
    for (line, fields) in [
        ("x-a: b\r\n  c\r\n\td", "x-a: b c d\r\n"),
        ("x-a : b", "x-a: b\r\n"),
        ("no colon at all", ""),
        (": no name", ""),
        ("na me: x", ""),
        ("n\u{e4}me: x\r\n folded", ""),
        ("x-a: b\u{1}c\0d\u{7f}e", "x-a: b c d e\r\n"),
        ("x-a: b\rc", "x-a: b c\r\n"),
        ("x-a: gr\u{fc}n", "x-a: gr\u{fc}n\r\n"),
        (" folded onto nothing", ""),
        ("content-length: 5O", "connection: close\r\n"),
        ("connection: keep-alive\r\nContent-Length: -1", "connection: close\r\n"),
        ("content-length:", "connection: close\r\n"),
        ("content-length: 99999999999999999999", "connection: close\r\n"),
        ("content-length: 5\r\ncontent-length: 6", "connection: close\r\n"),
        ("content-length: 5, 5\r\nContent-Length : 05", "content-length: 5\r\n"),
    ] {
        let expected = format!("HTTP/1.1 200 \r\n{fields}\r\n");
        assert_eq!(rewritten(&format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n")), expected, "{line:?}");
        let bare = line.replace("\r\n", "\n");
        assert_eq!(rewritten(&format!("HTTP/1.1 200 OK\n{bare}\n\n")), expected, "{line:?}");
    }
}

#[test]
fn status_lines_are_read_by_their_version_and_number() {
    for (line, expected) in [
        ("HTTP/1.1  503\tDown", "HTTP/1.1 503 "),
        ("HTTP/1.1 200", "HTTP/1.1 200 "),
        ("HTTP/1.1 200 O\u{1}K", "HTTP/1.1 200 "),
        ("HTTP/1.0 200 OK", "HTTP/1.0 200 "),
        ("HTTP/2.0 204 No Content", "HTTP/1.1 204 "),
        ("\r\nHTTP/1.1 200 OK", "HTTP/1.1 200 "),
    ] {
        assert_eq!(rewritten(&format!("{line}\r\n\r\n")), format!("{expected}\r\n\r\n"), "{line:?}");
    }
    for line in [
        "SSH-2.0-OpenSSH",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 OK 200",
        "HTTP/x 200 OK",
        "ICY 200 OK",
        "HTTP/1.1 099 x",
    ] {
        assert_eq!(rewrite(format!("{line}\r\n\r\n").as_bytes()), Rewritten::NotHttp, "{line}");
    }
    assert_eq!(rewrite(b"HTTP/1.1 103 Early Hints\r\nlink : x\r\n\r\n"), Rewritten::Interim);
}

#[test]
fn chunks_of_one_who_says_that_it_speaks_http_1_0_are_read() {
    let head = rewritten("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n");
    assert_eq!(head, "HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n");
}

#[test]
fn of_very_many_fields_those_that_the_service_reads_are_kept() {
    let many = "x-a: b\r\n".repeat(120);
    let head = rewritten(&format!("HTTP/1.1 503 X\r\n{many}Retry-After: 5\r\nContent-Length: 7\r\n\r\n"));
    let (status, fields) = parsed(head.as_bytes());
    let value = |name: &str| fields.iter().find(|(known, _)| known == name).unwrap().1.clone();
    assert_eq!(
        (status, fields.len(), value("retry-after"), value("content-length")),
        (503, 92, b"5".into(), b"7".into())
    );
}

#[test]
fn what_hyper_reads_is_left_as_it_is() {
    for (head, expected) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"code\": 0}", true),
        ("HTTP/1.1 204 No Content\r\nx-a: \u{e4}\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", true),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5O\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nserver : x\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nserver: x\r\n", false),
    ] {
        assert_eq!(is_strict(head.as_bytes()), expected, "{head:?}");
    }
}

proptest! {
    /// A rewritten head can be parsed, and has the same status.
    #[test]
    fn a_head_that_is_written_again_is_strict(
        status in 200u16..1000,
        lines in proptest::collection::vec("[ -~\\t\\r\u{0}-\u{1f}ä]{0,30}|content-length ?:[ 0-9,x]{0,9}", 0..130),
    ) {
        let head = format!("HTTP/1.1 {status} OK\r\n{}\r\n\r\n", lines.join("\r\n").replace("\n\n", "\n"));
        let end = EndFinder::default().find(head.as_bytes()).unwrap();
        let Rewritten::Final(strict) = rewrite(head.get(..end).unwrap().as_bytes()) else { unreachable!() };
        prop_assert_eq!(parsed(&strict).0, status);
        let (_, fields) = parsed(&strict);
        prop_assert!(fields.iter().filter(|(name, _)| name == "content-length").count() <= 1);
    }

    /// A valid head loses nothing.
    #[test]
    fn a_strict_head_keeps_its_fields(
        status in 200u16..600, fields in proptest::collection::vec(("x-[a-z]{1,9}", "[!-~]([ -~]{0,20}[!-~])?"), 0..23),
    ) {
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("HTTP/1.1 {status} OK\r\n{lines}content-length: 3\r\n\r\n");
        prop_assert!(is_strict(head.as_bytes()));
        let Rewritten::Final(strict) = rewrite(head.as_bytes()) else { unreachable!() };
        prop_assert_eq!(parsed(&strict), parsed(head.as_bytes()));
    }

    /// However a head is split into pieces, it ends at its empty line.
    #[test]
    fn the_end_is_found_in_pieces(cuts in proptest::collection::vec(1usize..9, 1..60), old in any::<bool>()) {
        let line_end = if old { "\n" } else { "\r\n" };
        let head = ["", "HTTP/1.1 200 OK", "a: b", " c", "", "body", "", "more"].join(line_end);
        let expected = head.find("body").unwrap();
        let (mut finder, mut seen, mut found) = (EndFinder::default(), 0, None);
        for cut in cuts.into_iter().chain([head.len()]) {
            seen = (seen + cut).min(head.len());
            found = finder.find(&head.as_bytes()[..seen]);
            if found.is_some() {
                break;
            }
            prop_assert!(seen < expected);
        }
        prop_assert_eq!(found, Some(expected));
    }
}
