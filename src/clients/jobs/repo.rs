//! The SQL of import jobs.

use diesel::prelude::*;

use super::model::{ImportFindings, ImportJob, whole};
use crate::clients::import::FileProgress;
use crate::db::AnyConnection;
use crate::db::schema::import_job;
use crate::db::types::{ImportId, NodeId, Timestamp};
use crate::error::{Error, Result};
use crate::kinds::ImportStatus;

/// The lease of a node on a job.
#[derive(Debug, Clone, Copy)]
pub struct JobLease {
    /// The job.
    pub id: ImportId,
    /// The node.
    pub node: NodeId,
    /// The expiry of the lease.
    pub until: Timestamp,
}

/// The end of a job.
#[derive(Debug)]
pub struct JobEnd {
    /// The final state: done or failed.
    pub status: ImportStatus,
    /// The reason for a failure.
    pub error: Option<String>,
    /// The final progress.
    pub progress: FileProgress,
    /// The findings about its rows.
    pub findings: ImportFindings,
}

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = import_job)]
struct Row {
    id: ImportId,
    status: i16,
    size: i64,
    bytes: i64,
    row_count: i64,
    line: i64,
    created: i64,
    updated: i64,
    rejected_count: i64,
    error: Option<String>,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    held_until: Option<Timestamp>,
}

impl TryFrom<Row> for ImportJob {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: row.id,
            status: ImportStatus::from_code(row.status)?,
            size: row.size,
            bytes: row.bytes,
            rows: row.row_count,
            line: row.line,
            created: row.created,
            updated: row.updated,
            rejected_count: row.rejected_count,
            error: row.error,
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
        })
    }
}

/// Stores a new job.
///
/// # Errors
/// Database errors.
pub fn insert(c: &mut AnyConnection, job: &ImportJob, hold: JobLease) -> Result<()> {
    diesel::insert_into(import_job::table)
        .values((
            import_job::id.eq(job.id),
            import_job::status.eq(job.status.code()),
            import_job::node_id.eq(hold.node),
            import_job::held_until.eq(hold.until),
            import_job::size.eq(job.size),
            import_job::bytes.eq(0_i64),
            import_job::row_count.eq(0_i64),
            import_job::line.eq(0_i64),
            import_job::created.eq(0_i64),
            import_job::updated.eq(0_i64),
            import_job::rejected_count.eq(0_i64),
            import_job::created_at.eq(job.created_at),
        ))
        .execute(c)?;
    Ok(())
}

/// Stores the progress of a running job and renews its lease. Returns false if this node no longer holds the lease.
///
/// # Errors
/// Database errors.
pub fn progress(
    c: &mut AnyConnection,
    hold: JobLease,
    progress: FileProgress,
    now: Timestamp,
) -> Result<bool> {
    let held = import_job::table.find(hold.id).filter(import_job::node_id.eq(hold.node));
    let is_held = diesel::update(held)
        .set((
            import_job::status.eq(ImportStatus::Running.code()),
            import_job::held_until.eq(hold.until),
            import_job::bytes.eq(whole(progress.bytes)),
            import_job::row_count.eq(whole(progress.rows)),
            import_job::line.eq(whole(progress.line)),
            import_job::created.eq(whole(progress.created)),
            import_job::updated.eq(whole(progress.updated)),
            import_job::rejected_count.eq(whole(progress.rejected)),
        ))
        .execute(c)?
        > 0;
    if is_held {
        let unstarted = import_job::table.find(hold.id).filter(import_job::started_at.is_null());
        diesel::update(unstarted).set(import_job::started_at.eq(now)).execute(c)?;
    }
    Ok(is_held)
}

/// Stores the end of a job. Returns false if this node no longer holds its lease.
///
/// # Errors
/// Database errors.
pub fn finish(c: &mut AnyConnection, hold: JobLease, end: &JobEnd, now: Timestamp) -> Result<bool> {
    if !progress(c, hold, end.progress, now)? {
        return Ok(false);
    }
    let findings = serde_json::to_string(&end.findings).map_err(|e| Error::Internal(e.into()))?;
    diesel::update(import_job::table.find(hold.id))
        .set((
            import_job::status.eq(end.status.code()),
            import_job::node_id.eq(None::<NodeId>),
            import_job::held_until.eq(None::<Timestamp>),
            import_job::error.eq(&end.error),
            import_job::findings.eq(findings),
            import_job::finished_at.eq(now),
        ))
        .execute(c)?;
    Ok(true)
}

/// Marks jobs with an expired lease as failed and returns them. With `only`, the id of the only node, it marks all jobs
/// of other nodes, whose processes have died.
///
/// # Errors
/// Database errors.
pub fn fail_lost(c: &mut AnyConnection, only: Option<NodeId>, now: Timestamp) -> Result<Vec<ImportJob>> {
    let mut open = import_job::table
        .filter(import_job::held_until.is_not_null())
        .select(Row::as_select())
        .order(import_job::id)
        .into_boxed();
    open = match only {
        Some(node) => open.filter(import_job::node_id.ne(node)),
        None => open.filter(import_job::held_until.le(now)),
    };
    let jobs: Vec<Row> = open.load(c)?;
    let mut lost = Vec::new();
    for row in jobs {
        let error = format!(
            "the process that ran the import died; rows up to line {} are imported or rejected, and perhaps some \
             later ones. Post the file again: rows that were imported are only updated",
            row.line
        );
        // a job whose lease was renewed since it was read is alive
        let still = import_job::table.find(row.id).filter(import_job::held_until.eq(row.held_until));
        let failed = diesel::update(still)
            .set((
                import_job::status.eq(ImportStatus::Failed.code()),
                import_job::node_id.eq(None::<NodeId>),
                import_job::held_until.eq(None::<Timestamp>),
                import_job::error.eq(&error),
                import_job::finished_at.eq(now),
            ))
            .execute(c)?;
        if failed > 0 {
            let job = ImportJob::try_from(row)?;
            lost.push(ImportJob { status: ImportStatus::Failed, error: Some(error), ..job });
        }
    }
    Ok(lost)
}

/// Returns true if a job has a valid lease, so that its end is still to come.
///
/// # Errors
/// Database errors.
pub fn is_held(c: &mut AnyConnection, id: ImportId, now: Timestamp) -> Result<bool> {
    let held: Option<Option<Timestamp>> =
        import_job::table.find(id).select(import_job::held_until).first(c).optional()?;
    Ok(held.flatten().is_some_and(|until| until > now))
}

/// Returns the job with this id.
///
/// # Errors
/// Database errors.
pub fn find(c: &mut AnyConnection, id: ImportId) -> Result<Option<(ImportJob, ImportFindings)>> {
    let found: Option<(Row, Option<String>)> =
        import_job::table.find(id).select((Row::as_select(), import_job::findings)).first(c).optional()?;
    let Some((row, findings)) = found else { return Ok(None) };
    let findings = findings.map(|text| serde_json::from_str(&text)).transpose();
    let findings = findings.map_err(|e| Error::Internal(e.into()))?.unwrap_or_default();
    Ok(Some((row.try_into()?, findings)))
}

/// Returns up to `limit` jobs before `before`, the latest first.
///
/// # Errors
/// Database errors.
pub fn list(c: &mut AnyConnection, before: Option<ImportId>, limit: i64) -> Result<Vec<ImportJob>> {
    let mut query =
        import_job::table.select(Row::as_select()).order(import_job::id.desc()).limit(limit).into_boxed();
    if let Some(before) = before {
        query = query.filter(import_job::id.lt(before));
    }
    let rows: Vec<Row> = query.load(c)?;
    rows.into_iter().map(ImportJob::try_from).collect()
}

/// Deletes jobs that ended before `then`.
///
/// # Errors
/// Database errors.
pub fn forget(c: &mut AnyConnection, then: Timestamp) -> Result<usize> {
    // created_at narrows the rows by the key, which sorts by the time of creation
    let old =
        import_job::table.filter(import_job::created_at.lt(then)).filter(import_job::finished_at.lt(then));
    Ok(diesel::delete(old).execute(c)?)
}
