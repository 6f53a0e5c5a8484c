//! The reading of a CSV file: detection, refusals, and the parameters of a request.

use std::io::Write;

use encoding_rs::Encoding;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::api::ask::{Answer, all_pages, fields, request, send, texts};
use crate::api::import::places;
use crate::on_each_database;
use crate::support::Service;

async fn try_import(service: &Service, query: &str, kind: &str, csv: impl Into<reqwest::Body>) -> Answer {
    let request = request(service, "POST", &format!("/clients/import{query}")).header("content-type", kind);
    send(request.body(csv)).await
}

async fn import(service: &Service, query: &str, csv: impl Into<reqwest::Body>) -> Value {
    try_import(service, query, "text/csv", csv).await.success(200)
}

async fn clients(service: &Service) -> Vec<Value> {
    all_pages(service, "/clients", 1000).await
}

fn counts(report: &Value) -> [u64; 4] {
    ["created", "updated", "rejected_count", "warning_count"]
        .map(|name| report[name].as_u64().expect("a count"))
}

on_each_database! {
    async fn a_stray_quote_rejects_only_its_own_row(kind: Database) {
        let service = Service::start(kind).await;
        for end in ["\n", "\r\n", "\r"] {
            let csv = "phone_number,name\n79030000001,\"Anna\n79030000002,Boris\n79030000003,Carl \"the Great\"\n\
                       79030000004,Dan\n79030000005,\"TV 42\"\"\n79030000006,Eva\n79030000007,\"Anna\"Ivanova\n\
                       79030000008,\"a \"\"b\"\" c\"\n79030000009,\"two\nlines\"\n79030000010,\"\n79030000011,\"\n";
            let report = import(&service, "", csv.replace('\n', end)).await;
            assert_eq!(places(&report, "rejected"), [(2, "row"), (6, "row"), (8, "row"), (12, "row"), (13, "row")]);
            let found = clients(&service).await;
            let names: Vec<_> = found.iter().map(|c| (&c["phone_number"], &c["attributes"]["name"])).map(|(n, a)| json!([n, a])).collect();
            assert_eq!(json!(names), json!([
                ["79030000002", "Boris"], ["79030000003", "Carl \"the Great\""], ["79030000004", "Dan"],
                ["79030000006", "Eva"], ["79030000008", "a \"b\" c"], ["79030000009", "two\nlines"],
            ]));
        }
    }
}

on_each_database! {
    async fn every_encoding_and_separator_gives_the_same_clients(kind: Database) {
        let service = Service::start(kind).await;
        let text = "Телефон;Имя\r\n79031110001;Анна\r\n79031110002;\"Борис;\r\nвторой\"\r\n";
        let utf16 = |order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
        let cp1251 = Encoding::for_label(b"windows-1251").expect("an encoding").encode(text).0.into_owned();
        for (body, charset, encoding) in [
            (text.as_bytes().to_vec(), "", "UTF-8"),
            (format!("\u{feff}{text}").into_bytes(), "; charset=windows-1251", "UTF-8"),
            (utf16(u16::to_le_bytes), "", "UTF-16LE"),
            (utf16(u16::to_be_bytes), "; charset=\"utf-16be\"", "UTF-16BE"),
            (cp1251.clone(), "", "windows-1251"),
            (cp1251, "; charset=windows-1251", "windows-1251"),
        ] {
            let report = try_import(&service, "", &format!("text/csv{charset}"), body).await.success(200);
            let assumed = &report["assumed"];
            assert_eq!((&assumed["encoding"], &assumed["separator"], &assumed["line_ends"]), (&json!(encoding), &json!(";"), &json!("CRLF")));
            assert_eq!(assumed["mapping"], json!([
                {"column": 1, "header": "Телефон", "field": "phone_number"},
                {"column": 2, "header": "Имя", "attribute": "imya"},
            ]));
            let found = clients(&service).await;
            assert_eq!(texts(&found, "phone_number"), ["79031110001", "79031110002"]);
            assert_eq!((&found[0]["attributes"], &found[1]["attributes"]), (&json!({"imya": "Анна"}), &json!({"imya": "Борис;\nвторой"})));
        }
    }
}

on_each_database! {
    async fn gzip_is_unpacked_and_other_encodings_are_refused_by_name(kind: Database) {
        let service = Service::start(kind).await;
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all("phone_number,name\n79031110001,Anna\n".as_bytes()).expect("memory");
        let packed = packed.finish().expect("memory");
        let with = |coding: &str| {
            let request = request(&service, "POST", "/clients/import").header("content-type", "text/csv");
            send(request.header("content-encoding", coding).body(packed.clone()))
        };
        assert_eq!(counts(&with("gzip").await.success(200)), [1, 0, 0, 0]);
        with("br").await.problem(415);
        for (body, name) in [
            (packed.clone(), "gzip"),
            (b"PK\x03\x04 [Content_Types].xml".to_vec(), "xlsx"),
            (b"PK\x03\x04 clients.csv".to_vec(), "zip"),
        ] {
            let problem = try_import(&service, "", "text/csv", body).await.problem(415);
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(name)), "{problem}");
        }
    }
}

on_each_database! {
    async fn invalid_cells_are_omitted_with_warnings_and_strict_imports_reject_their_rows(kind: Database) {
        let service = Service::start(kind).await;
        let csv = "phone_number,timezone,locale,email,nick name,Unsubscribed\n\
            79030000001,europe_slash_moscow,ru_RU,paul@ex\u{200b}ample.com, Pa\u{200b}ul\u{a0},true\n\
            79030000002,MSK,?,anna@example.com,\u{a0},\n\
            79030000003,Mars,de,, ,\n";
        let strict = import(&service, "?strict=true", csv).await;
        assert_eq!(places(&strict, "rejected"), [(2, "email"), (3, "locale"), (4, "timezone")]);
        assert_eq!(clients(&service).await, Vec::<Value>::new());
        let report = import(&service, "", csv).await;
        assert_eq!(counts(&report), [3, 0, 0, 4]);
        assert_eq!(places(&report, "warnings"), [(1, "Unsubscribed"), (2, "email"), (3, "locale"), (4, "timezone")]);
        assert!(report["warnings"][0]["reason"].as_str().is_some_and(|why| why.contains("opt-out")), "{report}");
        let found = clients(&service).await;
        assert_eq!(texts(&found[..2], "timezone"), ["Europe/Moscow", "Europe/Moscow"]);
        assert_eq!((&found[0]["locale"], &found[0]["email"]), (&json!("ru-RU"), &Value::Null));
        assert_eq!(found[0]["attributes"], json!({"nick_name": "Paul", "Unsubscribed": "true"}));
        assert_eq!((&found[1]["attributes"], &found[2]["attributes"]), (&json!({}), &json!({})));
        // an invalid cell does not clear the stored value
        import(&service, "", "phone_number,timezone\n79030000001,Mars\n").await;
        assert_eq!(clients(&service).await[0]["timezone"], "Europe/Moscow");
    }
}

on_each_database! {
    async fn a_mapping_overrides_the_headers_and_unknown_parameters_are_refused(kind: Database) {
        let service = Service::start(kind).await;
        let csv = "Kontakt,Phone,Vorname,Notes\n79030000001,x,Anna,secret\n";
        let report = import(&service, "?mapping=kontakt:phone_number,Vorname:name,Notes:-", csv).await;
        assert_eq!(counts(&report), [1, 0, 0, 1]);
        assert_eq!(places(&report, "warnings"), [(1, "Phone")]);
        assert_eq!(clients(&service).await[0]["attributes"], json!({"Phone": "x", "name": "Anna"}));
        for (query, field) in [
            ("?bogus=1", "bogus"),
            ("?strict=yes", "strict"),
            ("?match=tag", "match"),
            ("?mapping=Kontakt", "mapping"),
            ("?mapping=Kontakt:no%20name", "mapping"),
            ("?mapping=Other:tag,Kontakt:phone_number", "mapping"),
            ("?match=email", "email"),
        ] {
            let problem = try_import(&service, query, "text/csv", csv).await.problem(422);
            assert_eq!(fields(&problem), [field], "{problem}");
        }
    }
}

on_each_database! {
    async fn a_dry_run_reports_everything_and_stores_nothing(kind: Database) {
        let service = Service::start(kind).await;
        service.post("/clients", json!({"phone_number": "79030000001", "tag": "vip", "attributes": {"city": "Omsk"}})).await;
        let before = clients(&service).await;
        let mut csv = String::from("phone;Name;timezone\n+7 903 000-00-01;Anna;Mars\n7903;;\n");
        for n in 0..3000 {
            csv.push_str(&format!("790300{:05};n{n};\n", n % 2000 + 10));
        }
        let report = import(&service, "?dry_run=true", csv.clone()).await;
        assert_eq!(counts(&report), [2000, 1001, 1, 1]);
        assert_eq!((places(&report, "rejected"), places(&report, "warnings")), (vec![(3, "phone_number")], vec![(2, "timezone")]));
        let preview = report["preview"].as_array().expect("rows");
        assert_eq!((preview.len(), &preview[0]["line"]), (20, &json!(2)));
        let client = &preview[0]["client"];
        assert_eq!((&client["id"], &client["tag"]), (&before[0]["id"], &json!("vip")));
        assert_eq!(client["attributes"], json!({"Name": "Anna", "city": "Omsk"}));
        assert_eq!(preview[1]["client"]["phone_number"], "79030000010");
        assert_eq!(report["assumed"]["mapping"][0], json!({"column": 1, "header": "phone", "field": "phone_number"}));
        assert_eq!(clients(&service).await, before);
        assert_eq!(counts(&import(&service, "", csv).await), [2000, 1001, 1, 1]);
    }
}

on_each_database! {
    async fn clients_matched_by_external_id_change_and_swap_their_numbers(kind: Database) {
        let service = Service::start(kind).await;
        for (n, id) in [("79030000001", "a"), ("79030000002", "b"), ("79030000003", "c")] {
            service.post("/clients", json!({"phone_number": n, "external_id": id})).await;
        }
        service.post("/clients", json!({"phone_number": "79030000009"})).await;
        let numbers = async || {
            let found = clients(&service).await;
            found.iter().map(|c| format!("{}{}", c["external_id"].as_str().unwrap_or("-"), c["phone_number"].as_str().map_or("-", |number| &number[10..]))).collect::<Vec<_>>()
        };
        let by_id = "?match=external_id";
        let report = import(&service, by_id, "id,phone,tag\na,79030000002,x\nb,79030000001,x\nc,,x\nd,79030000009,\n").await;
        assert_eq!(counts(&report), [0, 4, 0, 0], "{report}");
        assert_eq!(numbers().await, ["a2", "b1", "c3", "d9"]);
        let report = import(&service, by_id, "id,phone\na,79030000003\ne,\n,79030000005\nf,79030000007\n").await;
        assert_eq!(counts(&report), [2, 0, 2, 0], "{report}");
        let mut rejected = places(&report, "rejected");
        rejected.sort_unstable();
        assert_eq!(rejected, [(2, "phone_number"), (4, "external_id")]);
        // two clients swap their numbers, with thousands of rows between them
        let between: String = (0..2500).map(|n| format!("x{n},{}\n", 79_031_000_000_u64 + n)).collect();
        let report = import(&service, by_id, format!("id,phone\na,79030000001\n{between}b,79030000002\n")).await;
        assert_eq!(counts(&report), [2500, 2, 0, 0], "{report}");
        assert_eq!(numbers().await[..6], ["a1", "b2", "c3", "d9", "e-", "f7"]);
        assert_eq!(texts(&clients(&service).await[..1], "mobile_operator_code"), ["903"]);
    }
}

on_each_database! {
    async fn clients_matched_by_email_are_found_in_any_spelling(kind: Database) {
        let service = Service::start(kind).await;
        for (n, email) in [("79030000001", "Anna@Example.com"), ("79030000002", "b@münchen.example"), ("79030000003", "c@example.com"), ("79030000004", "C@example.com")] {
            service.post("/clients", json!({"phone_number": n, "email": email})).await;
        }
        let csv = "E-Mail,tag,phone\nanna@EXAMPLE.com,x,79030000005\nb@xn--mnchen-3ya.example,x,\nc@example.com,x,\nnew@example.com,x,\nd@example.com,x,79030000006\nnobody,x,\n";
        let report = import(&service, "?match=email", csv).await;
        assert_eq!(counts(&report), [2, 2, 2, 0], "{report}");
        let mut rejected = places(&report, "rejected");
        rejected.sort_unstable();
        assert_eq!(rejected, [(4, "email"), (7, "email")]);
        let found = clients(&service).await;
        let numbers: Vec<_> = found.iter().map(|client| client["phone_number"].as_str().map_or("-", |number| &number[10..])).collect();
        assert_eq!(numbers, ["5", "2", "3", "4", "-", "6"]);
        assert_eq!((&found[1]["tag"], &found[2]["tag"]), (&json!("x"), &Value::Null));
        // without a column for numbers, the address identifies clients
        let report = import(&service, "", "email,tag\nanna@example.com,y\n").await;
        assert_eq!((counts(&report), &report["assumed"]["match"]), ([0, 1, 0, 0], &json!("email")));
    }
}

on_each_database! {
    async fn hundreds_of_columns_are_imported(kind: Database) {
        let service = Service::start(kind).await;
        let header: String = (0..499).map(|n| format!(",c{n}")).collect();
        let cells: String = (0..499).map(|n| format!(",{n}")).collect();
        let report = import(&service, "", format!("phone_number{header}\n79030000001{cells}\n")).await;
        assert_eq!(counts(&report), [1, 0, 0, 0], "{report}");
        let found = clients(&service).await;
        assert_eq!(found[0]["attributes"].as_object().map(serde_json::Map::len), Some(499));
        assert_eq!(found[0]["attributes"]["c498"], "498");
        let many: String = (0..1009).map(|n| format!(",c{n}")).collect();
        let problem = try_import(&service, "", "text/csv", format!("phone_number{many}\n")).await.problem(422);
        assert_eq!(fields(&problem), ["columns"]);
    }
}
