use proptest::prelude::*;
use tokio::io::ReadBuf;

use super::*;

async fn replies(bytes: &[u8]) -> (Vec<SmtpReply>, NoReply) {
    let (mut inbox, mut found) = (ReplyBuffer::default(), Vec::new());
    let mut from = bytes;
    loop {
        match inbox.reply(&mut from).await {
            Ok(reply) => found.push(reply),
            Err(why) => return (found, why),
        }
    }
}

fn reply(code: u16, lines: &[&str]) -> SmtpReply {
    SmtpReply { code, lines: lines.iter().map(ToString::to_string).collect() }
}

#[tokio::test]
async fn answers_are_read_one_after_the_other() {
    let bytes = b"220 mail.example.com ESMTP\r\n250-mail.example.com\r\n250-SIZE 1000\r\n250 PIPELINING\r\n354\r\n250 \n";
    let (found, end) = replies(bytes).await;
    assert_eq!(
        found,
        [
            reply(220, &["mail.example.com ESMTP"]),
            reply(250, &["mail.example.com", "SIZE 1000", "PIPELINING"]),
            reply(354, &[""]),
            reply(250, &[""]),
        ]
    );
    assert_eq!(end, NoReply::Closed);
}

#[tokio::test]
async fn what_is_no_answer_is_not_taken_for_one() {
    for text in [
        "HTTP/1.1 200 OK\r\n",
        "\r\n",
        "25\r\n",
        "2500 x\r\n",
        "250_x\r\n",
        "199 x\r\n",
        "600 x\r\n",
        "+25 x\r\n",
        " 250 x\r\n",
        "250-a\r\n251 b\r\n",
        "\0\0\0\n",
        "\u{ff}\u{ff}\u{ff} a\n",
        "250\rx\r\n",
    ] {
        assert_eq!(replies(text.as_bytes()).await, (vec![], NoReply::Garbage), "{text:?}");
    }
    for text in ["", "250 ok", "250-ok\r\n", "250-ok\r\n250 x"] {
        assert_eq!(replies(text.as_bytes()).await, (vec![], NoReply::Closed), "{text:?}");
    }
    assert_eq!(replies(b"250 \xff\xfe\r\n").await.0, [reply(250, &["\u{fffd}\u{fffd}"])]);
}

/// Returns the same byte forever.
struct Endless(u8);

impl AsyncRead for Endless {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        buf.put_slice(&vec![self.0; buf.remaining()]);
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn answers_that_do_not_end_are_given_up() {
    let mut inbox = ReplyBuffer::default();
    assert_eq!(inbox.reply(&mut Endless(b'2')).await, Err(NoReply::Garbage));
    assert!(inbox.0.capacity() < 20_000, "{}", inbox.0.capacity());
    let many = "250-x\r\n".repeat(101);
    assert_eq!(replies(many.as_bytes()).await.1, NoReply::Garbage);
    let most = format!("{}250 x\r\n", "250-x\r\n".repeat(99));
    assert_eq!(replies(most.as_bytes()).await.0.len(), 1);
    let long = format!("250 {}\r\n", "x".repeat(2044));
    assert_eq!(replies(long.as_bytes()).await.1, NoReply::Garbage);
    assert_eq!(replies(format!("250 {}\r\n", "x".repeat(2043)).as_bytes()).await.0.len(), 1);
}

#[test]
fn enhanced_codes_are_of_the_class_of_their_answer() {
    for (code, text, enhanced) in [
        (550, "5.1.1 <x@y.z>: unknown", Some("5.1.1")),
        (550, "5.1.10", Some("5.1.10")),
        (421, "4.7.28 slow down", Some("4.7.28")),
        (250, "2.0.0 Ok", Some("2.0.0")),
        (550, "4.1.1 of another class", None),
        (550, "5.1 x", None),
        (550, "5.1.1.1 x", None),
        (550, "5.1.1000 x", None),
        (550, "5..1 x", None),
        (550, "5.1.1x", None),
        (550, "No such user", None),
        (354, "3.0.0 x", None),
        (250, "", None),
    ] {
        assert_eq!(reply(code, &[text]).enhanced(), enhanced, "{code} {text}");
    }
    assert_eq!(reply(550, &["5.1.1 <x@y.z>: unknown"]).codes(), "550 5.1.1");
    assert_eq!(reply(550, &["x@y.z is unknown"]).codes(), "550");
}

#[test]
fn the_servers_name_for_a_mail_is_found() {
    for (text, id) in [
        ("2.0.0 Ok: queued as 4F3kQ25xYzz1", Some("4F3kQ25xYzz1")),
        ("2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as AB12;", Some("AB12")),
        ("OK id=1sXyZa-0001Ab-2C", Some("1sXyZa-0001Ab-2C")),
        ("Ok 010001923e5f-aabb-000000", Some("010001923e5f-aabb-000000")),
        ("2.0.0 Ok", None),
        ("Ok thank you", None),
        ("queued as <x@y.z>", None),
        ("queued as ", None),
        ("Message accepted for delivery", None),
        ("", None),
    ] {
        assert_eq!(reply(250, &[text]).queue_id().as_deref(), id, "{text}");
    }
    assert_eq!(reply(250, &[&format!("queued as {}", "a".repeat(101))]).queue_id(), None);
    assert_eq!(reply(250, &["2.6.0 message received", "queued as 12"]).queue_id().as_deref(), Some("12"));
}

proptest! {
    #[test]
    fn any_bytes_end_in_answers_or_an_error(bytes: Vec<u8>, tail in "(2[0-9]{2}[ -][a-z]{0,5}\r?\n){0,5}") {
        let bytes = [bytes, tail.into_bytes()].concat();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for reply in runtime.block_on(replies(&bytes)).0 {
            prop_assert!((200..600).contains(&reply.code) && !reply.lines.is_empty());
            let _ = (reply.codes(), reply.queue_id());
        }
    }
}
