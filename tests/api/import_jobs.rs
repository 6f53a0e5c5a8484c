//! Imports that are received completely before they run: as jobs, and with an `Idempotency-Key`.

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::api::ask::{Answer, all_pages, fields, request, send};
use crate::api::stream::Stream;
use crate::on_each_database;
use crate::process::{Launch, Limit, Server};
use crate::support::api::Api;
use crate::support::{Service, TestDb};

const FILE: &str = "phone_number,tag\n79030000001,vip\n7903,vip\n79030000002,=new\n79030000003,\n";

fn post(service: &Api, csv: impl Into<reqwest::Body>) -> RequestBuilder {
    request(service, "POST", "/clients/import").header("content-type", "text/csv").body(csv)
}

/// Posts a file as an import job and returns the path of the job.
async fn begin(service: &Api, csv: String) -> String {
    let answer = send(post(service, csv).header("prefer", "respond-async")).await;
    let job = answer.success(202);
    assert_eq!((&job["status"], answer.header("preference-applied")), (&json!("queued"), "respond-async"));
    assert_eq!(answer.header("location"), format!("/api/v1/imports/{}", job["id"].as_str().expect("an id")));
    answer.header("location").strip_prefix("/api/v1").expect("a path").to_owned()
}

async fn wait_for_end(service: &Api, path: &str) -> Value {
    service
        .wait_for(path, |job| ["done", "failed"].contains(&job["status"].as_str().expect("a status")))
        .await
}

fn is_replayed(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == "true"
}

on_each_database! {
    async fn a_file_is_imported_as_a_job_with_progress(kind: Database) {
        let service = Service::start(kind).await;
        let mut watch = Stream::at(&service, "/stream", None).await;
        let path = begin(&service, FILE.into()).await;
        let job = wait_for_end(&service, &path).await;
        for (field, value) in [
            ("status", json!("done")), ("size", json!(FILE.len())), ("bytes", json!(FILE.len())), ("rows", json!(4)), ("line", json!(5)),
            ("created", json!(3)), ("updated", json!(0)), ("rejected_count", json!(1)), ("error", json!(null)),
        ] {
            assert_eq!(job[field], value, "{field}: {job}");
        }
        assert!(job["started_at"].is_string() && job["finished_at"].is_string(), "{job}");
        assert_eq!((&job["rejected"][0]["line"], &job["rejected"][0]["field"]), (&json!(3), &json!("phone_number")));
        assert_eq!(all_pages(&service, "/clients", 1000).await.len(), 3);

        let file = send(request(&service, "GET", &format!("{path}/rejections"))).await;
        assert_eq!((file.status, file.header("content-type")), (200, "text/csv; charset=utf-8"));
        let lines: Vec<&str> = file.text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (2, "line,field,reason"));
        assert!(lines[1].starts_with("3,phone_number,"), "{lines:?}");

        // the stream shows the job from its beginning to its end
        let mut states = Vec::new();
        while states.last() != Some(&json!("done")) {
            let (name, data) = watch.next().await.expect("more events");
            assert_eq!((name.as_str(), &data["id"]), ("import", &job["id"]), "{data}");
            states.push(data["status"].clone());
        }
        assert_eq!(states[0], "queued");

        let again = begin(&service, FILE.into()).await;
        assert_eq!(wait_for_end(&service, &again).await["updated"], 3);
        let listed = all_pages(&service, "/imports", 1).await;
        assert_eq!((listed.len(), &listed[1]["id"]), (2, &job["id"]), "the newest first");
        let nothing = format!("/imports/{}", uuid::Uuid::nil());
        send(request(&service, "GET", &nothing)).await.problem(404);
        send(request(&service, "GET", &format!("{nothing}/rejections"))).await.problem(404);
    }
}

on_each_database! {
    async fn a_job_with_an_invalid_file_fails_with_a_reason(kind: Database) {
        let service = Service::start(kind).await;
        let path = begin(&service, "tag\nvip\n".into()).await;
        let job = wait_for_end(&service, &path).await;
        assert_eq!(job["status"], "failed");
        assert!(job["error"].as_str().expect("a reason").starts_with("phone_number: is missing"), "{job}");
        // an endless line
        let endless = "x".repeat(17 * 1024 * 1024);
        let path = begin(&service, format!("phone_number\n79030000001\n{endless}")).await;
        let job = wait_for_end(&service, &path).await;
        assert_eq!((&job["status"], &job["created"], &job["line"]), (&json!("failed"), &json!(1), &json!(2)));
        let error = job["error"].as_str().expect("a reason");
        assert!(error.contains("up to line 2"), "{error}");
    }
}

on_each_database! {
    async fn the_same_file_with_one_key_is_imported_once(kind: Database) {
        let service = Service::start(kind).await;
        let keyed = |csv: &'static str| post(&service, csv).header("idempotency-key", "march");
        let first = send(keyed(FILE)).await;
        assert_eq!(first.success(200)["created"], 3);
        assert!(!is_replayed(&first));
        let anna = all_pages(&service, "/clients", 10).await[0].clone();
        let path = format!("/clients/{}", anna["id"].as_str().expect("an id"));
        crate::api::ask::ask(&service, "PATCH", &path, Some(json!({"tag": "changed"}))).await.success(200);
        let again = send(keyed(FILE)).await;
        assert_eq!((again.success(200), is_replayed(&again)), (first.json(), true));
        let asynchronous = send(keyed(FILE).header("prefer", "respond-async")).await;
        assert_eq!((asynchronous.success(200), is_replayed(&asynchronous)), (first.json(), true));
        assert_eq!(service.get(&path).await["tag"], "changed", "nothing was imported again");
        assert_eq!(fields(&send(keyed("phone_number\n79030000009\n")).await.problem(422)), ["Idempotency-Key"]);
        assert_eq!(service.get("/imports").await["items"].as_array().expect("items").len(), 1);

        // a failed import does not use up its key
        let other = |csv: &'static str| post(&service, csv).header("idempotency-key", "april");
        assert_eq!(fields(&send(other("tag\nvip\n")).await.problem(422)), ["phone_number"]);
        send(other("phone_number\n79030000009\n")).await.success(200);

        let job = |csv: &'static str| post(&service, csv).header("idempotency-key", "may").header("prefer", "respond-async");
        let first = send(job(FILE)).await;
        first.success(202);
        let again = send(job(FILE)).await;
        assert_eq!((again.success(202), is_replayed(&again)), (first.json(), true));
        assert_eq!(again.header("location"), first.header("location"));
        assert_eq!(fields(&send(job("phone_number\n79030000009\n")).await.problem(422)), ["Idempotency-Key"]);
    }
}

on_each_database! {
    async fn a_file_that_is_received_first_has_a_maximum_size(kind: Database) {
        let service = Service::start_with(kind, &[("clients.import_max_size", "1")]).await;
        let large = "phone_number\n".repeat(100_000);
        send(post(&service, large.clone()).header("prefer", "respond-async")).await.problem(413);
        send(post(&service, large.clone()).header("idempotency-key", "k")).await.problem(413);
        assert_eq!(service.get("/imports").await["items"], json!([]));
        // a streamed import has no maximum size
        let answer = send(post(&service, large)).await.success(200);
        assert_eq!(answer["rejected_count"], 99_999);
    }
}

on_each_database! {
    async fn a_job_of_a_killed_process_fails_with_the_last_imported_line(kind: Database) {
        let db = TestDb::new(kind);
        let folder = db.dir().join("files");
        std::fs::create_dir(&folder).expect("a folder");
        let dir = folder.to_str().expect("a path");
        let mut env = vec![("DATABASE_URL", db.url.as_str()), ("DELIVERY_LEASE", "1s"), ("IMPORT_DIR", dir)];
        let start = async |env: &[(&str, &str)]| {
            let binary = env!("CARGO_BIN_EXE_fanfare");
            Server::start(&Launch { binary, dir: db.dir(), name: "serve", env, limit: Limit::None }).await
        };
        env.push(("FANFARE_FAILPOINT", "import-after-commit:8"));
        let mut server = start(&env).await;
        let rows: String = (0..20_000).map(|n| format!("{}\n", 79_030_000_000_u64 + n)).collect();
        let path = begin(&server, format!("phone_number\n{rows}")).await;
        server.process.ended().await;
        assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 0, "the file was removed with the process");
        env.pop();
        let server = start(&env).await;
        let job = wait_for_end(&server, &path).await;
        assert_eq!(job["status"], "failed");
        let error = job["error"].as_str().expect("a reason");
        assert!(error.contains(&format!("rows up to line {} ", job["line"])) && error.contains("Post the file again"), "{job}");
        let path = begin(&server, format!("phone_number\n{rows}")).await;
        let job = wait_for_end(&server, &path).await;
        assert_eq!((&job["status"], &job["rows"], &job["rejected_count"]), (&json!("done"), &json!(20_000), &json!(0)));
        assert!(job["updated"].as_i64().expect("a count") > 0, "rows imported before are only updated: {job}");
    }
}
