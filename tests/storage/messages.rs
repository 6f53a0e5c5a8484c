//! The rows of messages: they read back as they were stored, also across a migration.

use diesel::prelude::*;
use diesel::sql_types::{Bool, SmallInt, Text};
use fanfare::db::types::{ClientId, Id, Instant, MailingId, MessageId, Timestamp};
use fanfare::db::{AnyConnection, migrations};
use fanfare::kinds::MessageStatus;
use fanfare::mailings::filter::AudienceFilter;
use fanfare::mailings::repo;
use fanfare::messages::model::{Message, MessageFilter};
use fanfare::messages::repo::insert_messages;
use fanfare::messages::repo::{self as messages, MessageRow};

use crate::on_each_database;
use crate::storage::stage::{Stage, at, mailing_at_work};

fn sent(number: Option<i32>, recipient: &str) -> MessageRow {
    MessageRow {
        id: MessageId::new(),
        client_id: Some(ClientId::new()),
        due_at: None,
        expires_at: None,
        finished_at: Some(at(1_003)),
        mailing_number: number,
        duration_ms: Some(12),
        status_code: Some(200),
        channel: 1,
        priority: 1,
        status: MessageStatus::Sent.code(),
        attempts: 1,
        revision: 1,
        recipient: recipient.into(),
        provider_id: Some("41".into()),
        error: None,
    }
}

fn insert(c: &mut AnyConnection, rows: &[MessageRow]) {
    let rows: Vec<&MessageRow> = rows.iter().collect();
    assert_eq!(insert_messages(c, &rows).unwrap().len(), rows.len());
}

fn read(c: &mut AnyConnection, mailing: Option<MailingId>) -> Vec<Message> {
    let page = messages::list(c, &MessageFilter { mailing, status: None }, 100, None).unwrap();
    assert_eq!(page.next_cursor, None);
    page.items
}

/// Creates two mailings and returns their numbers and ids.
fn two_mailings(c: &mut AnyConnection) -> [(i32, MailingId); 2] {
    [(); 2].map(|()| {
        let id = mailing_at_work(c, AudienceFilter::default(), ClientId::new());
        (repo::number(c, id).unwrap(), id)
    })
}

on_each_database! {
    async fn a_recipient_comes_back_as_it_was_given(kind: Database) {
        let stage = Stage::new(kind).await;
        let recipients = ["79030000000", "0", "007", "+79030000000", " 7", "7 ", "1e5", "-1", "9223372036854775807",
            "9223372036854775808", "anna@example.org", "", "0x10", "7.0"];
        let stored = stage.db.write(move |c| {
            let rows: Vec<MessageRow> = recipients.iter().map(|recipient| sent(None, recipient)).collect();
            insert(c, &rows);
            Ok(read(c, None))
        });
        let stored: Vec<String> = stored.await.unwrap().into_iter().map(|message| message.recipient).collect();
        assert_eq!(stored, recipients);
    }
}

on_each_database! {
    async fn a_message_shows_its_mailing_and_expires_with_it(kind: Database) {
        let stage = Stage::new(kind).await;
        let seen = stage.db.write(|c| {
            let [(one, one_id), (other, other_id)] = two_mailings(c);
            assert_ne!(one, other);
            let mut rows = [sent(Some(one), "1"), sent(Some(other), "1"), sent(None, "1")];
            rows[2].expires_at = Some(at(1_500));
            insert(c, &rows);
            let mailing = repo::get(c, one_id)?;
            repo::update(c, &fanfare::mailings::model::Mailing { ends_at: at(3_000), ..mailing })?;
            assert_eq!(read(c, Some(one_id)).len(), 1);
            let seen: Vec<_> = read(c, None).into_iter().map(|m| (m.mailing_id, m.expires_at)).collect();
            assert_eq!(seen, [(Some(one_id), Some(at(3_000))), (Some(other_id), Some(at(2_000))), (None, Some(at(1_500)))]);
            Ok(rows.map(|row| messages::get(c, row.id).unwrap().unwrap().0.created_at == row.id.created_at()))
        });
        assert_eq!(seen.await.unwrap(), [true; 3]);
    }
}

#[derive(Debug, PartialEq, QueryableByName)]
struct OldRow {
    #[diesel(sql_type = Id)]
    mailing_id: MailingId,
    #[diesel(sql_type = Text)]
    recipient: String,
    #[diesel(sql_type = SmallInt)]
    status: i16,
    #[diesel(sql_type = Instant)]
    created_at: Timestamp,
    #[diesel(sql_type = Instant)]
    expires_at: Timestamp,
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Bool)]
    found: bool,
}

fn has_mailing_ids(c: &mut AnyConnection) -> bool {
    let sql = match c {
        AnyConnection::Postgres(_) => {
            "SELECT count(*) > 0 AS found FROM information_schema.columns \
            WHERE table_schema = 'public' AND table_name = 'message' AND column_name = 'mailing_id'"
        }
        AnyConnection::Sqlite(_) => {
            "SELECT count(*) > 0 AS found FROM pragma_table_info('message') WHERE name = 'mailing_id'"
        }
    };
    diesel::sql_query(sql).get_result::<Found>(c).unwrap().found
}

on_each_database! {
    async fn messages_survive_the_way_to_numbers_of_mailings_and_back(kind: Database) {
        let stage = Stage::new(kind).await;
        let looked = stage.db.read(|c| {
            let mailings = two_mailings(c);
            let rows = mailings.map(|(number, _)| sent(Some(number), "79030000000"));
            insert(c, &rows);
            let before = read(c, None);
            while !has_mailing_ids(c) {
                migrations::revert_last(c)?;
            }
            let old: Vec<OldRow> = diesel::sql_query("SELECT * FROM message ORDER BY id").load(c)?;
            let expected = [0, 1].map(|i| OldRow {
                mailing_id: mailings[i].1,
                recipient: "79030000000".into(),
                status: 2,
                created_at: rows[i].id.created_at(),
                expires_at: at(2_000),
            });
            assert_eq!(old, expected);
            migrations::run(c)?;
            assert_eq!(read(c, None), before);
            let third = mailing_at_work(c, AudienceFilter::default(), ClientId::new());
            assert_eq!(repo::number(c, third)?, 3, "numbers go on where they were");
            Ok(())
        });
        looked.await.unwrap();
    }
}
