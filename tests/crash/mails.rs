//! Kills the service while it sends mails. SMTP has no idempotency key by which a server could drop a repeat, so only
//! few mails may be sent twice.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::crash::campaign::{Campaign, closed};
use crate::support::after;
use crate::support::api::{LOOK, PATIENCE};

/// The messages that a kill may repeat: `EMAIL_WORKERS`, and the attempts that may wait for their record.
const AT_STAKE: usize = 64 + fanfare::channels::MAX_UNRECORDED;

/// Returns the number of mails. `make crash-test` sets twenty thousand.
fn mails() -> usize {
    std::env::var("FANFARE_TEST_MAILS").map_or(4000, |text| text.parse().expect("a number"))
}

/// A mail that the server accepted.
struct Mail {
    to: String,
    id: String,
}

/// A mail server that outlives the service, and records the mails that it accepted.
struct MailServer {
    port: u16,
    taken: Arc<Mutex<Vec<Mail>>>,
}

impl MailServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let taken = Arc::default();
        let book = Arc::clone(&taken);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // a killed client ends its connection
                tokio::spawn(converse(stream, Arc::clone(&book)));
            }
        });
        Self { port, taken }
    }

    fn taken(&self) -> MutexGuard<'_, Vec<Mail>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn took(&self, count: usize) {
        let began = Instant::now();
        while self.taken().len() < count {
            assert!(began.elapsed() < PATIENCE, "only {} of {count} mails", self.taken().len());
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Serves one connection until its client disconnects.
async fn converse(mut stream: TcpStream, book: Arc<Mutex<Vec<Mail>>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (reading, mut writing) = stream.split();
    let mut lines = BufReader::new(reading).lines();
    writing.write_all(b"220 sink\r\n").await?;
    let mut to = String::new();
    while let Some(line) = lines.next_line().await? {
        let command = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply: &[u8] = match command.as_str() {
            "EHLO" => b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
            "RCPT" => {
                to = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                b"250 2.1.5 ok\r\n"
            }
            "DATA" => {
                writing.write_all(b"354 go on\r\n").await?;
                let mut id = String::new();
                loop {
                    // an incomplete mail is not accepted
                    let Some(line) = lines.next_line().await? else { return Ok(()) };
                    if line == "." {
                        break;
                    }
                    if let Some(value) = line.strip_prefix("Message-ID: ") {
                        id = value.to_owned();
                    }
                }
                book.lock().unwrap_or_else(PoisonError::into_inner).push(Mail { to: to.clone(), id });
                b"250 2.0.0 ok\r\n"
            }
            "QUIT" => return writing.write_all(b"221 bye\r\n").await,
            _ => b"250 2.0.0 ok\r\n",
        };
        writing.write_all(reply).await?;
    }
    Ok(())
}

crate::on_each_database! {
    async fn a_kill_repeats_few_mails_under_the_same_message_id_and_loses_none(kind: Database) {
        let mails = mails();
        let smtp = MailServer::start().await;
        let url = format!("smtp://127.0.0.1:{}", smtp.port);
        let settings = [
            ("SMTP_URL", url.as_str()),
            ("SMTP_TLS", "none"),
            ("SMTP_FROM", "Shop <news@example.com>"),
        ];
        let mut campaign = Campaign::new(kind, &[], &settings).await;
        let mut server = campaign.serve().await;
        let rows = (0..mails).map(|i| format!("{},user{i}@example.net\n", 79_030_000_000 + i));
        let csv = format!("phone_number,email\n{}", rows.collect::<String>());
        server.import_csv(csv).await.expect("a report");
        let body = json!({"channel": "email", "subject": "News", "text": "hello", "ends_at": after(Duration::from_secs(3000))});
        let mailing = server.post("/mailings", body).await["id"].as_str().expect("an id").to_owned();
        smtp.took(mails * 2 / 5).await;
        campaign.kill(&mut server.process);
        let before = smtp.taken().len();
        assert!(before < mails, "it was killed in the middle");

        let server = campaign.serve().await;
        let counts = closed(&server, &mailing, 0).await;
        assert_eq!(counts["sent"], mails, "{counts}");
        let taken = smtp.taken();
        let mut ids: HashMap<&str, HashSet<&str>> = HashMap::new();
        for mail in taken.iter() {
            ids.entry(&mail.to).or_default().insert(&mail.id);
        }
        assert_eq!(ids.len(), mails, "none was lost");
        let several = ids.iter().find(|(_, ids)| ids.len() > 1 || ids.iter().any(|id| id.is_empty()));
        assert!(several.is_none(), "another Message-ID: {several:?}");
        let repeated = taken.len() - mails;
        println!("{mails} mails, killed after {before}: {repeated} repeated");
        assert!(repeated <= AT_STAKE, "{repeated} repeated, where {AT_STAKE} may be");
    }
}
