//! Measures the rate of mail into Postfix's smtp-sink: with the channel's adapter, and with a bare loop that writes the
//! same bytes for every mail and accepts any response. The loop is the upper bound of one exchange at a time.
//!
//! ```text
//! $(scripts/setup-smtp-sink) 127.0.0.1:2525 1000 &
//! cargo run --release --example mail_speed -- 127.0.0.1:2525 --connections 16 --mails 100000
//! ```
#![expect(clippy::print_stdout, reason = "it prints figures")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use fanfare::channels::email::{Email, SmtpSettings, Tls};
use fanfare::channels::{Channel, Delivery, DeliveryResult};
use fanfare::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Parser)]
struct Args {
    /// Address of smtp-sink, without TLS
    sink: SocketAddr,
    /// Number of concurrent connections
    #[arg(long, default_value_t = 16)]
    connections: u64,
    /// Number of mails in each run
    #[arg(long, default_value_t = 50_000)]
    mails: u64,
    /// Number of runs
    #[arg(long, default_value_t = 3)]
    runs: u32,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let mut settings =
        SmtpSettings::new(&format!("smtp://{}", args.sink), Some(Tls::None), "news@example.com")?;
    settings.unsubscribe_url = Some("https://example.com/unsubscribe?id={id}".into());
    let email = Arc::new(Email::new(settings, Clock::System)?);
    for run in 1..=args.runs {
        let left = Left::new(args.mails);
        let raw = timed(&args, |_| raw(args.sink, Arc::clone(&left))).await?;
        let left = Left::new(args.mails);
        let plain = timed(&args, |_| channel(Arc::clone(&email), false, Arc::clone(&left))).await?;
        let left = Left::new(args.mails);
        let html = timed(&args, |_| channel(Arc::clone(&email), true, Arc::clone(&left))).await?;
        println!("run {run}: bare loop {raw:.0} mails/s, channel {plain:.0}, channel with HTML {html:.0}");
    }
    Ok(())
}

/// The number of mails still to be sent.
struct Left(AtomicU64);

impl Left {
    fn new(mails: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(mails)))
    }

    fn take(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// Returns the rate in mails a second.
async fn timed<F>(args: &Args, sender: impl Fn(u64) -> F) -> Result<f64, Failure>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let began = Instant::now();
    let senders: Vec<_> = (0..args.connections).map(|at| tokio::spawn(sender(at))).collect();
    for sender in senders {
        sender.await??;
    }
    Ok(args.mails as f64 / began.elapsed().as_secs_f64())
}

/// Returns 300 bytes of text, as in the other benchmarks.
fn text() -> String {
    "Hello, this is a message of some length, as mailings are.\n".repeat(5)
}

async fn channel(email: Arc<Email>, has_html: bool, left: Arc<Left>) -> Result<(), Failure> {
    while left.take() {
        let delivery = Delivery {
            subject: Some("Spring sale".into()),
            html: has_html.then(|| format!("<p>Grüße!</p>\n<p>{}</p>", text())),
            is_bulk: true,
            ..Delivery::to("anna@example.net", text())
        };
        let answer = email.send(delivery).await;
        if answer.verdict != DeliveryResult::Delivered {
            return Err(format!("{answer:?}").into());
        }
    }
    Ok(())
}

async fn raw(sink: SocketAddr, left: Arc<Left>) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(sink).await?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 4096];
    let mail = format!(
        "From: news@example.com\r\nSubject: Spring sale\r\n\r\n{}.\r\n",
        text().replace('\n', "\r\n")
    );
    answers(&mut stream, &mut buffer, 1).await?;
    stream.write_all(b"HELO localhost\r\n").await?;
    answers(&mut stream, &mut buffer, 1).await?;
    while left.take() {
        stream.write_all(b"MAIL FROM:<news@example.com>\r\nRCPT TO:<anna@example.net>\r\nDATA\r\n").await?;
        answers(&mut stream, &mut buffer, 3).await?;
        stream.write_all(mail.as_bytes()).await?;
        answers(&mut stream, &mut buffer, 1).await?;
    }
    Ok(())
}

/// Reads this number of lines.
async fn answers(stream: &mut TcpStream, buffer: &mut [u8], count: usize) -> Result<(), Failure> {
    let mut lines = 0;
    while lines < count {
        let read = stream.read(buffer).await?;
        if read == 0 {
            return Err("the sink has closed the connection".into());
        }
        lines += buffer.iter().take(read).filter(|byte| **byte == b'\n').count();
    }
    Ok(())
}
