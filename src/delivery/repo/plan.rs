//! Plans a lease: the mailing's next clients, with their future message ids.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use diesel::prelude::*;

use super::{Member, NewLease, insert_lease};
use crate::db::AnyConnection;
use crate::db::schema::{mailing, message, page, page_members};
use crate::db::types::{ClientId, MailingId, MessageId, Timestamp, unpack_ids};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::kinds::ChannelKind;
use crate::mailings::filter::Range;
use crate::mailings::model::MailingStatus;
use crate::mailings::recipient::Recipient;
use crate::mailings::repo::audience::{self, AudienceCursor, AudienceRead, ClientFields};
use crate::preferences;
use crate::preferences::model::RecipientPreferences;
use crate::preferences::repo::{LeaseMailing, Planned};

/// The margin before a mailing's start: a change with an earlier time, within this margin, may have been committed
/// after the start, because its time is the time of the request, by the clock of its node.
const SLACK: Duration = Duration::from_secs(60);

/// The next chunk of an audience.
#[derive(Debug)]
pub struct AudienceChunk {
    /// Its clients, with the ids of their messages.
    pub planned: Vec<(MessageId, Recipient)>,
    /// The preferences of the clients that have some.
    pub preferences: HashMap<ClientId, Arc<RecipientPreferences>>,
    /// True if the audience is exhausted by it.
    pub walked: bool,
}

/// The parameters of a plan.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The mailing.
    pub mailing: MailingId,
    /// The parts of its audience.
    pub ranges: Arc<[Range]>,
    /// The largest number of clients.
    pub limit: usize,
    /// The fields of each client that are needed.
    pub needs: ClientFields,
}

/// Stores a lease of the mailing's next clients and moves its cursor, so that no client is planned twice or skipped.
/// Returns `None` if the mailing is not running any more, or its window has closed.
///
/// # Errors
/// Database errors.
pub fn plan(
    c: &mut AnyConnection,
    plan: &Plan,
    new: &NewLease,
    now: Timestamp,
) -> Result<Option<AudienceChunk>> {
    let Some(mut stretch) =
        advance(c, plan, |status, ends_at| status == MailingStatus::Running && now < ends_at)?
    else {
        return Ok(None);
    };
    if !stretch.planned.is_empty() {
        let members: Vec<Member> = stretch
            .planned
            .iter()
            .map(|(message, recipient)| Member {
                message: *message,
                client: Some(recipient.client_id),
                revision: 0,
            })
            .collect();
        insert_lease(c, new, &members, now)?;
        let recipients = stretch.planned.iter().map(|(_, recipient)| recipient);
        stretch.preferences = preferences_of(c, (plan.mailing, plan.needs.channel), recipients, now)?;
        failpoint::reach("plan-before-commit");
    }
    Ok(Some(stretch))
}

/// Returns the preferences of the recipients of a mailing's lease.
///
/// # Errors
/// Database errors.
pub(super) fn preferences_of<'r>(
    c: &mut AnyConnection,
    (mailing, channel): (MailingId, ChannelKind),
    recipients: impl Iterator<Item = &'r Recipient>,
    now: Timestamp,
) -> Result<HashMap<ClientId, Arc<RecipientPreferences>>> {
    let addressed: Vec<_> =
        recipients.map(|recipient| (recipient.client_id, recipient.address(channel).ok())).collect();
    // a lease of text messages needs no query for duplicates in its mailing
    if channel.spec().client.is_unique() {
        return preferences::repo::lease_preferences(c, (None, channel), &addressed, now);
    }
    let (number, started_at): (i32, Option<Timestamp>) =
        mailing::table.find(mailing).select((mailing::number, mailing::started_at)).first(c)?;
    let find_planned =
        |c: &mut AnyConnection, clients: &[ClientId]| planned_of(c, (mailing, number), clients);
    let of_page =
        LeaseMailing { number, since: started_at.map(|at| at.minus(SLACK)), find_planned: &find_planned };
    preferences::repo::lease_preferences(c, (Some(of_page), channel), &addressed, now)
}

/// Reads the next clients and moves the cursor past them, if `allowed` returns true for the mailing's status and end.
pub(super) fn advance(
    c: &mut AnyConnection,
    plan: &Plan,
    allowed: impl FnOnce(MailingStatus, Timestamp) -> bool,
) -> Result<Option<AudienceChunk>> {
    crate::mailings::repo::lock(c, plan.mailing)?;
    let (status, ends_at, started_at, upper_bound, range, after, walked) = mailing::table
        .find(plan.mailing)
        .select((
            mailing::status,
            mailing::ends_at,
            mailing::started_at,
            mailing::upper_bound,
            mailing::cursor_range,
            mailing::cursor_client,
            mailing::walked,
        ))
        .first::<(i16, Timestamp, Option<Timestamp>, Option<ClientId>, i32, Option<ClientId>, bool)>(c)?;
    if walked || !allowed(MailingStatus::from_code(status)?, ends_at) {
        return Ok(None);
    }
    let start = AudienceCursor { range: usize::try_from(range).unwrap_or(usize::MAX), after };
    let what = AudienceRead { upper_bound, limit: plan.limit, needs: plan.needs };
    let since = started_at.map(|at| at.minus(SLACK));
    let last = plan.ranges.len();
    let (mut recipients, mut cursor) = if start.range < last {
        audience::read(c, &plan.ranges, start, what)?
    } else {
        audience::moved(c, &plan.ranges, start, since, what)?
    };
    if cursor.range == last && *plan.ranges == [Range::All] {
        cursor.range += 1; // a client cannot move out of a range of all clients
    }
    let walked = cursor.range > last;
    // before the first range no client was planned
    if cursor.range > 0 {
        remove_planned(c, plan.mailing, since, &mut recipients)?;
    }
    let count = i64::try_from(recipients.len()).map_err(|e| Error::Internal(e.into()))?;
    diesel::update(mailing::table.find(plan.mailing))
        .set((
            mailing::cursor_range.eq(i32::try_from(cursor.range).map_err(|e| Error::Internal(e.into()))?),
            mailing::cursor_client.eq(cursor.after),
            mailing::walked.eq(walked),
            mailing::planned.eq(mailing::planned + count),
        ))
        .execute(c)?;
    // clients that join the audience while it is read are added to the total; clients that leave are subtracted at the
    // end
    let grown = diesel::update(mailing::table.find(plan.mailing).filter(mailing::planned.gt(mailing::total)));
    grown.set(mailing::total.eq(mailing::planned)).execute(c)?;
    if walked {
        diesel::update(mailing::table.find(plan.mailing))
            .set(mailing::total.eq(mailing::planned))
            .execute(c)?;
    }
    let planned = recipients.into_iter().map(|recipient| (MessageId::new(), recipient)).collect();
    Ok(Some(AudienceChunk { planned, preferences: HashMap::new(), walked }))
}

/// Removes clients that moved into this range after they were planned in an earlier one. Only clients that changed
/// since the start can have moved, so only they are checked.
fn remove_planned(
    c: &mut AnyConnection,
    mailing: MailingId,
    since: Option<Timestamp>,
    recipients: &mut Vec<Recipient>,
) -> Result<()> {
    let changed: Vec<ClientId> = recipients
        .iter()
        .filter(|r| since.is_none_or(|since| r.updated_at >= since))
        .map(|r| r.client_id)
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    let number = crate::mailings::repo::number(c, mailing)?;
    let known = planned_of(c, (mailing, number), &changed)?;
    recipients.retain(|r| !known.contains_key(&r.client_id));
    Ok(())
}

/// Returns the clients among these that the mailing has planned.
fn planned_of(
    c: &mut AnyConnection,
    (mailing, number): (MailingId, i32),
    clients: &[ClientId],
) -> Result<Planned> {
    // the leases before the messages: an outcome recorded between the two statements moves a client from the first to
    // the second
    let in_flight: Vec<Vec<u8>> = page::table
        .inner_join(page_members::table.on(page_members::page_id.eq(page::id)))
        .filter(page::mailing_id.eq(mailing))
        .select(page_members::client_ids)
        .load(c)?;
    let recorded: Vec<(Option<ClientId>, String)> = message::table
        .filter(message::mailing_number.eq(number))
        .filter(message::client_id.eq_any(clients))
        .select((message::client_id, message::recipient))
        .load(c)?;
    let wanted: HashSet<ClientId> = clients.iter().copied().collect();
    let in_flight = in_flight.iter().flat_map(|ids| unpack_ids(ids)).map(ClientId);
    let mut planned: Planned = in_flight.filter(|id| wanted.contains(id)).map(|id| (id, None)).collect();
    planned.extend(recorded.into_iter().filter_map(|(id, recipient)| Some((id?, Some(recipient)))));
    Ok(planned)
}
