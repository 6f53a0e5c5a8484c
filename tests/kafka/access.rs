//! Accounts and certificates.

use crate::kafka::house::{House, TOPIC, bodies, until};
use crate::support::Database;
use crate::support::kafka::Kafka;

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_proved_by_each_mechanism_with_and_without_tls() {
    let mut house = House::with(Database::Sqlite, Kafka::start_secured(&[])).await;
    house.kafka.create_topic(TOPIC, 1, &[]).await;
    let (sasl, sasl_tls, tls) =
        (house.kafka.sasl_address(), house.kafka.sasl_tls_address(), house.kafka.tls_address());
    let ca = house.kafka.security().ca().display().to_string();
    house.set("KAFKA_TLS", "true");
    house.set("KAFKA_CA", &ca);
    house.set("KAFKA_BROKERS", &tls);
    house.produce(1, bodies(0..10)).await;
    let mut count = 10;
    let mut server = house.serve().await;
    house.events(count).await;
    server.process.kill();
    house.set("KAFKA_USERNAME", "fanfare");
    house.set("KAFKA_PASSWORD", "fanfare-secret");
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        house.set("KAFKA_SASL_MECHANISM", mechanism);
        house.set("KAFKA_BROKERS", &sasl_tls);
        house.produce(1, bodies(count..count + 10)).await;
        count += 10;
        let mut server = house.serve().await;
        house.events(count).await;
        let log = server.process.log();
        assert!(!log.contains("fanfare-secret"), "{log}");
        server.process.kill();
    }
    house.set("KAFKA_TLS", "false");
    house.set("KAFKA_CA", "");
    house.set("KAFKA_BROKERS", &sasl);
    house.produce(1, bodies(count..count + 10)).await;
    let _server = house.serve().await;
    house.events(count + 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_a_strange_authority_are_named_and_not_shown() {
    let mut house = House::with(Database::Sqlite, Kafka::start_secured(&[])).await;
    house.kafka.create_topic(TOPIC, 1, &[]).await;
    let (sasl, tls) = (house.kafka.sasl_address(), house.kafka.tls_address());
    house.set("KAFKA_BROKERS", &sasl);
    house.set("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512");
    house.set("KAFKA_USERNAME", "fanfare");
    house.set("KAFKA_PASSWORD", "wr0ng-secret");
    let mut server = house.serve().await;
    server.process.said(|log| log.contains("broker cannot be read; retrying")).await;
    let log = server.process.log();
    assert!(!log.contains("wr0ng-secret") && log.to_lowercase().contains("authentication"), "{log}");
    // the rest of the service works
    assert_eq!(server.http.get(format!("{}/ready", server.base)).send().await.unwrap().status(), 200);
    assert_eq!(server.metric("fanfare_broker_connected").await, 0.0);
    server.process.kill();
    for key in ["KAFKA_SASL_MECHANISM", "KAFKA_USERNAME", "KAFKA_PASSWORD"] {
        house.set(key, "");
    }
    house.set("KAFKA_BROKERS", &tls);
    house.set("KAFKA_TLS", "true");
    let mut server = house.serve().await;
    server.process.said(|log| log.contains("broker cannot be read; retrying")).await;
    let log = server.process.log();
    assert!(log.to_lowercase().contains("certificate"), "{log}");
    until("no connection", async || server.metric("fanfare_broker_connected").await == 0.0).await;
}
