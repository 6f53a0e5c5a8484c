//! Imports files of spreadsheets and other systems, from tests/cases/import. It runs the real binary because the home
//! country is a setting of the process.

use serde_json::{Value, json};

use crate::api::import::places;
use crate::on_each_database;
use crate::process::{Launch, Limit, Provider, Server};
use crate::support::{Service, TestDb};

const BINARY: &str = env!("CARGO_BIN_EXE_fanfare");
const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/import");

/// The expected result of a file: encoding, separator, header line, clients, and the places of rejections and warnings.
struct Expected {
    read_as: (&'static str, &'static str, u64),
    /// The number, the other fields, and the attributes.
    clients: Vec<(&'static str, Value, Value)>,
    rejected: Vec<(u64, &'static str)>,
    warnings: Vec<(u64, &'static str)>,
}

fn expected(
    read_as: (&'static str, &'static str, u64),
    clients: Vec<(&'static str, Value, Value)>,
) -> Expected {
    Expected { read_as, clients, rejected: vec![], warnings: vec![] }
}

/// Returns the expected result of a file with one or two named people.
fn names(read_as: (&'static str, &'static str, u64), attribute: &str, names: &[&str]) -> Expected {
    let numbers = ["79031110001", "79031110002"];
    let client = |(number, name): (&'static str, &&str)| (number, json!({}), json!({attribute: name}));
    expected(read_as, numbers.into_iter().zip(names).map(client).collect())
}

/// Returns the expected result of an export with three people. The third number is invalid in Russia, so that client is
/// identified by her address.
fn people(read_as: (&'static str, &'static str, u64), anna: Value, juergen: Value) -> Expected {
    let clients = vec![
        ("79031234567", json!({"email": "anna.sokolova@example.com"}), anna),
        ("4915112345678", json!({"email": "juergen@example.de"}), juergen),
        ("", json!({"email": "mary@example.org"}), Value::Null),
    ];
    Expected { warnings: vec![(4, "phone_number")], ..expected(read_as, clients) }
}

fn cases() -> Vec<(&'static str, Expected)> {
    let utf8 = ("UTF-8", ",", 1);
    let russian = || {
        people(
            ("UTF-8", ";", 1),
            json!({"imya": "Анна", "familiya": "Соколова", "gorod": "Омск"}),
            json!({"imya": "Jürgen", "familiya": "Groß", "gorod": "Köln"}),
        )
    };
    let hubspot = |id: &str, first: &str, last: &str| {
        json!({"record_id": id, "first_name": first, "last_name": last, "lifecycle_stage": "Lead",
            "create_date": "2026-01-05 10:11", "marketing_contact_status": "Marketing contact"})
    };
    let mailchimp = |first: &str, last: &str| {
        json!({"first_name": first, "last_name": last, "Birthday": "03/15", "MEMBER_RATING": "2", "OPTIN_TIME": "2026-01-05 10:11:12",
            "CONFIRM_TIME": "2026-01-05 10:11:12", "CONFIRM_IP": "192.0.2.1", "LATITUDE": "55.7", "LONGITUDE": "37.6", "GMTOFF": "3",
            "DSTOFF": "3", "CC": "RU", "REGION": "MOW", "LAST_CHANGED": "2026-01-05 10:11:12", "LEID": "12345", "EUID": "abcdef1234"})
    };
    vec![
        ("bom", names(utf8, "name", &["Анна"])),
        ("semi", names(("UTF-8", ";", 1), "name", &["Анна"])),
        ("tab", names(("UTF-8", "\t", 1), "name", &["Анна"])),
        ("sep", names(("UTF-8", ";", 2), "name", &["Анна"])),
        ("cr", names(utf8, "name", &["Anna", "Bob"])),
        ("cp1251", names(("windows-1251", ",", 1), "name", &["Анна", "Bob"])),
        ("hru", names(utf8, "imya", &["Анна"])),
        ("title", names(("UTF-8", ",", 3), "name", &["Anna"])),
        ("trailcol", names(utf8, "name", &["Anna"])),
        ("trailrow", names(utf8, "name", &["Anna", "Bob"])),
        ("nbsp", expected(utf8, vec![("79031110001", json!({}), json!({}))])),
        ("wsattr", expected(utf8, vec![("79031110001", json!({}), json!({}))])),
        ("hyph", expected(utf8, vec![("79031110001", json!({"email": "anna@example.com"}), json!({}))])),
        (
            "hcase2",
            expected(
                utf8,
                vec![(
                    "79031110001",
                    json!({"email": "anna@example.com", "tag": "vip", "timezone": "Europe/Moscow"}),
                    json!({}),
                )],
            ),
        ),
        (
            "fanfare_roundtrip",
            Expected {
                warnings: vec![(1, "id"), (1, "created_at"), (1, "updated_at")],
                ..expected(
                    utf8,
                    vec![(
                        "79031234567",
                        json!({"mobile_operator_code": "903", "external_id": null}),
                        json!({}),
                    )],
                )
            },
        ),
        (
            "excel_ru_csv",
            Expected {
                // a spreadsheet has rounded Anna's number
                warnings: vec![(2, "phone_number"), (4, "phone_number")],
                ..expected(
                    ("windows-1251", ";", 1),
                    vec![
                        ("", json!({"email": "anna.sokolova@example.com"}), Value::Null),
                        (
                            "4915112345678",
                            json!({"email": "juergen@example.de"}),
                            json!({"imya": "Jurgen", "familiya": "Gross", "gorod": "Koln"}),
                        ),
                        ("", json!({"email": "mary@example.org"}), Value::Null),
                    ],
                )
            },
        ),
        ("excel_ru_utf8", russian()),
        (
            "excel_unicode_txt",
            Expected {
                rejected: vec![(4, "phone_number")],
                ..expected(
                    ("UTF-16LE", "\t", 1),
                    vec![
                        ("79031234567", json!({}), json!({"imya": "Анна"})),
                        ("4915112345678", json!({}), json!({"imya": "Jürgen"})),
                    ],
                )
            },
        ),
        (
            "excel_us_utf8",
            people(
                utf8,
                json!({"first_name": "Анна", "last_name": "Соколова", "City": "Омск"}),
                json!({"first_name": "Jürgen", "last_name": "Groß", "City": "Köln"}),
            ),
        ),
        (
            "gsheets",
            people(utf8, json!({"name": "Анна", "city": "Омск"}), json!({"name": "Jürgen", "city": "Köln"})),
        ),
        ("libreoffice", people(utf8, json!({"Name": "Анна"}), json!({"Name": "Jürgen"}))),
        ("hubspot", people(utf8, hubspot("1000", "Анна", "Соколова"), hubspot("1001", "Jürgen", "Groß"))),
        ("mailchimp", {
            let mut people = people(utf8, mailchimp("Анна", "Соколова"), mailchimp("Jürgen", "Groß"));
            for (_, fields, _) in &mut people.clients {
                fields["tags"] = json!(["vip", "новые"]);
            }
            people
        }),
        (
            // the people of this export have only e-mail addresses
            "listmonk",
            Expected {
                warnings: vec![(1, "created_at"), (1, "updated_at")],
                ..expected(
                    utf8,
                    ["anna.sokolova@example.com", "juergen@example.de", "mary@example.org"]
                        .map(|email| ("", json!({"email": email}), Value::Null))
                        .into(),
                )
            },
        ),
    ]
}

on_each_database! {
    async fn files_of_spreadsheets_and_other_systems_import_unchanged(kind: Database) {
        let db = TestDb::new(kind);
        let provider = Provider::start(BINARY, db.dir(), &[]).await;
        let base = provider.base.clone();
        let env = [("DATABASE_URL", db.url.as_str()), ("PROVIDER_BASE_URL", &base), ("DEFAULT_COUNTRY", "RU")];
        let server = Server::start(&Launch { binary: BINARY, dir: db.dir(), name: "serve", env: &env, limit: Limit::None }).await;
        let cases = cases();
        assert_eq!(cases.len(), std::fs::read_dir(CASES).expect("the cases").count());
        for (name, Expected { read_as, clients, rejected, warnings }) in cases {
            let body = std::fs::read(format!("{CASES}/{name}.csv")).expect(name);
            let report = server.import_csv(body).await.expect(name);
            let assumed = &report["assumed"];
            assert_eq!((&assumed["encoding"], &assumed["separator"], &assumed["header_line"]), (&json!(read_as.0), &json!(read_as.1), &json!(read_as.2)), "{name}");
            assert_eq!((places(&report, "rejected"), places(&report, "warnings")), (rejected, warnings), "{name}: {report}");
            let found = server.get("/clients?limit=1000").await["items"].clone();
            let found = found.as_array().expect("clients");
            assert_eq!(found.len(), clients.len(), "{name}: {report}");
            for (client, (number, fields, attributes)) in found.iter().zip(clients) {
                assert_eq!(client["phone_number"].as_str().unwrap_or_default(), number, "{name}");
                assert!(attributes.is_null() || client["attributes"] == attributes, "{name}: {client}");
                for (field, value) in fields.as_object().expect("fields") {
                    assert_eq!(&client[field], value, "{name}: {field}");
                }
                server.call("DELETE", &format!("/clients/{}", client["id"].as_str().expect("an id")), None).await;
            }
        }
    }
}

on_each_database! {
    async fn the_command_has_the_same_options_and_fails_when_nothing_was_imported(kind: Database) {
        let db = TestDb::new(kind);
        let run = |arguments: &[&str], csv: &str| {
            let file = db.dir().join("clients.csv");
            std::fs::write(&file, csv).expect("a file");
            let mut command = std::process::Command::new(BINARY);
            command.current_dir(db.dir()).env("DATABASE_URL", &db.url).env("LOG_LEVEL", "error");
            let output = command.arg("import").arg(&file).args(arguments).output().expect("it runs");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (output.status.code(), text(&output.stdout), text(&output.stderr))
        };
        let csv = "Kontakt;Zone\n79031110001;Mars\n";
        let (code, _, why) = run(&[], csv);
        assert_eq!(code, Some(1), "{why}");
        assert!(why.contains("phone_number: is missing"), "{why}");
        let mapping = ["--mapping", "Kontakt:phone_number,Zone:timezone"];
        let (code, report, why) = run(&[&mapping[..], &["--strict"]].concat(), csv);
        assert_eq!(code, Some(1), "{report}{why}");
        assert!(why.contains("no row was imported") && report.contains("line 2: timezone"), "{report}{why}");
        let (code, report, why) = run(&[&mapping[..], &["--dry-run", "--match", "phone_number", "--encoding", "utf-8"]].concat(), csv);
        assert_eq!(code, Some(0), "{report}{why}");
        assert!(report.contains("nothing was stored") && report.contains("Kontakt -> phone_number"), "{report}");
        let (code, report, why) = run(&mapping, csv);
        assert_eq!(code, Some(0), "{report}{why}");
        let counts: Vec<_> = report.lines().filter_map(|line| line.strip_prefix("created")).map(str::trim).collect();
        assert_eq!(counts, ["1"], "{report}");
        let (code, _, why) = run(&["--match", "name"], csv);
        assert_eq!(code, Some(2), "{why}");
    }
}

on_each_database! {
    async fn people_without_a_phone_number_are_imported_and_matched_again(kind: Database) {
        let service = Service::start(kind).await;
        let letters = "email,name\nanna@example.com,Anna\nBoris@Example.com,Boris\n";
        let report = service.import_csv(letters).await.expect("a report");
        assert_eq!((&report["created"], &report["assumed"]["match"]), (&json!(2), &json!("email")), "{report}");
        let again = service.import_csv("E-Mail;Vorname\nANNA@example.com;Anna\nboris@example.com;Boris\n").await.expect("a report");
        assert_eq!((&again["created"], &again["updated"]), (&json!(0), &json!(2)), "{again}");

        // mixed with people who have numbers
        let mixed = "phone_number,email,external_id,name\n\
            +79031234567,carl@example.com,,Carl\n,dora@example.com,,Dora\n,,crm-1,Eva\n,,,Nobody\n,anna@EXAMPLE.com,,Anne\n";
        let report = service.import_csv(mixed).await.expect("a report");
        assert_eq!((&report["created"], &report["updated"], &report["rejected_count"]), (&json!(3), &json!(1), &json!(1)), "{report}");
        assert_eq!((&report["rejected"][0]["line"], &report["rejected"][0]["field"]), (&json!(5), &json!("phone_number")));
        let report = service.import_csv(mixed).await.expect("a report");
        assert_eq!((&report["created"], &report["updated"]), (&json!(0), &json!(4)), "{report}");
        let all = service.get("/clients").await;
        let mut names: Vec<&str> = all["items"].as_array().expect("clients").iter().filter_map(|one| one["attributes"]["name"].as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["Anne", "Boris", "Carl", "Dora", "Eva"], "{all}");
    }
}
