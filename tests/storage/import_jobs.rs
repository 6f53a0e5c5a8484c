//! Import jobs: their idempotency keys, and the jobs of nodes that died.

use std::io::{Seek, Write};
use std::sync::Arc;
use std::time::Duration;

use fanfare::clients::import::ImportOptions;
use fanfare::clients::jobs::model::{ImportJob, ImportProgress, ProgressPublisher};
use fanfare::clients::jobs::repo;
use fanfare::clients::jobs::runner::Runner;
use fanfare::clients::jobs::usecase::{Imports, Receiving, Spool, Started};
use fanfare::clients::jobs::views::ImportJobView;
use fanfare::clients::jobs::work::Received;
use fanfare::db::types::ImportId;
use fanfare::error::{Error, Result};
use fanfare::idempotency::{IdempotencyKey, IdempotentResponse};
use fanfare::kinds::ImportStatus;
use fanfare::lifecycle;

use crate::on_each_database;
use crate::storage::stage::{Stage, at};

struct Nobody;

impl ProgressPublisher for Nobody {
    fn import_progressed(&self, _: ImportProgress) {}
}

const LEASE: Duration = Duration::from_secs(15);

/// Creates a node on the stage's database.
fn node(stage: &Stage) -> (Imports, Runner) {
    let parts = (stage.db.clone(), stage.clock.clone());
    let spool = Spool { dir: std::env::temp_dir(), most: 1000 };
    Imports::new(parts, stage.clients.clone(), Arc::new(Nobody), (spool, LEASE))
}

/// Starts the import of a file with this digest, always under the same key.
async fn begin(imports: &Imports, digest: u8, waits: bool) -> Result<Started> {
    let Receiving { mut file, place } = imports.receive()?;
    file.write_all(b"phone_number\n79030000001\n").unwrap();
    file.rewind().unwrap();
    let received = Received { source: Box::new(file), size: 25, options: ImportOptions::default(), place };
    let key = IdempotencyKey { key: "k".into(), fingerprint: vec![digest], keep: Duration::from_secs(3600) };
    let answer = |job: &ImportJob| IdempotentResponse::new(202, Some(job.id.to_string()), &());
    imports.begin(received, Some(key), waits, answer).await
}

on_each_database! {
    async fn of_equal_imports_one_is_done_and_the_others_wait_or_get_its_answer(kind: Database) {
        let stage = Stage::new(kind).await;
        let (imports, runner) = node(&stage);
        assert!(matches!(begin(&imports, 1, true).await.unwrap(), Started::Now(..)));
        assert!(matches!(begin(&imports, 1, true).await, Err(Error::InWork { .. })));
        assert!(matches!(begin(&imports, 1, false).await, Err(Error::InWork { .. })), "it has no answer yet");
        assert!(matches!(begin(&imports, 2, true).await, Err(Error::Invalid(_))), "another body");

        // the node dies with its file, and another node runs the repeated request
        drop((imports, runner));
        let (imports, runner) = node(&stage);
        assert!(matches!(begin(&imports, 1, true).await, Err(Error::InWork { .. })), "it may be alive");
        stage.clock.set(at(1_016));
        let Started::Now(_, outcome) = begin(&imports, 1, true).await.unwrap() else { panic!("not begun") };
        let now = stage.clock.now();
        let lost = stage.db.write(move |c| repo::fail_lost(c, None, now)).await.unwrap();
        assert_eq!(lost.iter().map(|job| (job.status, job.line)).collect::<Vec<_>>(), [(ImportStatus::Failed, 0)]);
        assert!(lost[0].error.as_ref().unwrap().contains("Post the file again"), "{lost:?}");

        let (trigger, shutdown) = lifecycle::shutdown();
        let running = tokio::spawn(runner.run(shutdown));
        assert_eq!(outcome.await.unwrap().unwrap().created, 1);
        let Started::Before(answer) = begin(&imports, 1, true).await.unwrap() else { panic!("done twice") };
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains("\"created\":1"), "{}", answer.body);
        assert!(matches!(begin(&imports, 2, true).await, Err(Error::Invalid(_))));
        let (jobs, _) = imports.list(None, 10, ImportJobView::from).await.unwrap();
        let states: Vec<_> = jobs.iter().map(|job| (job.status, job.created, job.rows)).collect();
        assert_eq!(states, [(ImportStatus::Done, 1, 1), (ImportStatus::Failed, 0, 0)]);
        trigger.fire();
        running.await.unwrap();
    }
}

on_each_database! {
    async fn a_service_that_stops_says_so_of_its_imports(kind: Database) {
        let stage = Stage::new(kind).await;
        let (imports, runner) = node(&stage);
        let Started::Now(answer, outcome) = begin(&imports, 1, false).await.unwrap() else { panic!("not begun") };
        let (trigger, shutdown) = lifecycle::shutdown();
        trigger.fire();
        runner.run(shutdown).await;
        assert!(outcome.await.unwrap().is_err());
        let id: ImportId = answer.location.unwrap().rsplit('/').next().unwrap().parse().unwrap();
        let (job, _) = imports.get(id).await.unwrap();
        assert_eq!(job.status, ImportStatus::Failed);
        assert!(job.error.unwrap().contains("the service was stopped"));
        assert_eq!(stage.all().await.len(), 0);
    }
}

on_each_database! {
    async fn jobs_are_forgotten_when_they_are_old_and_have_ended(kind: Database) {
        let stage = Stage::new(kind).await;
        let (imports, _runner) = node(&stage);
        begin(&imports, 1, false).await.unwrap();
        stage.clock.set(at(5_000));
        let forget = || stage.db.write(|c| repo::forget(c, at(6_000)));
        assert_eq!(forget().await.unwrap(), 0, "it has not ended");
        stage.db.write(|c| repo::fail_lost(c, None, at(5_000))).await.unwrap();
        assert_eq!(forget().await.unwrap(), 1);
    }
}

on_each_database! {
    async fn jobs_and_uploads_have_the_same_places(kind: Database) {
        let stage = Stage::new(kind).await;
        let (imports, _runner) = node(&stage);
        let mut places: Vec<_> = (0..3).map(|_| stage.clients.place().unwrap()).collect();
        begin(&imports, 1, false).await.unwrap();
        assert!(matches!(begin(&imports, 2, false).await, Err(Error::Busy(_))));
        assert!(matches!(stage.clients.place(), Err(Error::Busy(_))));
        places.pop();
        assert!(stage.clients.place().is_ok());
    }
}
