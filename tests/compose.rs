//! docker-compose.yml, as far as it can be checked without an engine.

use std::collections::BTreeSet;

use fanfare::config::variables;
use yaml_rust2::{Yaml, YamlLoader};

use crate::sources::{path, text};

fn file() -> Yaml {
    YamlLoader::load_from_str(&text("docker-compose.yml")).expect("YAML").remove(0)
}

/// Returns each service with its name.
fn services(file: &Yaml) -> Vec<(&str, &Yaml)> {
    let services = file["services"].as_hash().expect("services");
    services.iter().map(|(name, service)| (name.as_str().expect("a name"), service)).collect()
}

fn texts(list: &Yaml) -> Vec<&str> {
    list.as_vec().map_or(&[][..], Vec::as_slice).iter().filter_map(Yaml::as_str).collect()
}

/// Returns the service's own variables, by name, with the values that compose sets.
fn environment(service: &Yaml) -> Vec<(&str, &str)> {
    let pairs = service["environment"].as_hash();
    pairs
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str().unwrap(), value.as_str().unwrap_or("")))
        .collect()
}

#[test]
fn every_service_has_limits_a_bounded_log_and_a_pinned_image() {
    let file = file();
    let all = services(&file);
    assert!(all.len() >= 8, "{}", all.len());
    for (name, service) in all {
        let limits = &service["deploy"]["resources"]["limits"];
        assert!(
            limits["memory"].as_str().is_some() && limits["cpus"].as_str().is_some(),
            "{name}: {limits:?}"
        );
        let log = &service["logging"]["options"];
        assert!(log["max-size"].as_str().is_some() && log["max-file"].as_str().is_some(), "{name}: {log:?}");
        let image = service["image"].as_str().unwrap_or_else(|| panic!("{name} has no image"));
        let digest = image.split_once("@sha256:").map(|(_, digest)| digest);
        let is_digest = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(image == "fanfare" || digest.is_some_and(is_digest), "{name}: {image}");
        assert!(service["restart"].as_str().is_some(), "{name} says nothing of restarts");
        for port in texts(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name} is reachable from elsewhere: {port}");
        }
    }
}

#[test]
fn what_not_everybody_needs_is_in_profiles() {
    let file = file();
    let profile =
        |service: &Yaml| texts(&service["profiles"]).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let of: Vec<(&str, Vec<String>)> =
        services(&file).into_iter().map(|(name, service)| (name, profile(service))).collect();
    for (name, profiles) in of {
        let expected: &[&str] = match name {
            "sandbox" | "starter-routes" => &["try"],
            "alertmanager" => &["alerts"],
            "backup" => &["backup"],
            "kafka" | "kafka-console" => &["kafka"],
            _ => &[],
        };
        assert_eq!(profiles, expected, "{name}");
    }
    // a service that always runs does not depend on one that may be absent
    for (name, service) in
        services(&file).into_iter().filter(|(_, service)| service["profiles"].is_badvalue())
    {
        for (other, how) in service["depends_on"].as_hash().into_iter().flatten() {
            let other = other.as_str().expect("a name");
            let is_optional = !file["services"][other]["profiles"].is_badvalue();
            assert_eq!(how["required"].as_bool().unwrap_or(true), !is_optional, "{name} needs {other}");
        }
    }
}

#[test]
fn every_setting_reaches_the_service() {
    let file = file();
    for name in ["service", "starter-routes"] {
        let service = &file["services"][name];
        let files = service["env_file"].as_vec().expect("files of settings");
        assert_eq!(files[0]["path"].as_str(), Some("fanfare.env"), "{name}");
        let fixed: BTreeSet<&str> = environment(service)
            .into_iter()
            .filter(|(name, value)| !value.contains(&format!("${{{name}")))
            .map(|(name, _)| name)
            .collect();
        // the address inside the container is fixed by the compose file
        assert_eq!(fixed, BTreeSet::from(["HTTP_HOST", "HTTP_PORT"]), "{name}: what the files cannot change");
        for (variable, _) in environment(service) {
            assert!(variables().any(|known| known == variable), "{name}: {variable} is no setting");
        }
    }
}

/// Returns the address of a listener of the broker in one of its settings.
fn listener<'a>(broker: &'a Yaml, setting: &str, name: &str) -> &'a str {
    let all = broker["environment"][setting].as_str().expect("listeners");
    let mut addresses = all.split(',').filter_map(|one| one.strip_prefix(name)?.strip_prefix("://"));
    addresses.next().unwrap_or_else(|| panic!("{setting} has no {name}: {all}"))
}

#[test]
fn each_client_is_told_an_address_of_the_kafka_broker_that_it_can_reach() {
    let file = file();
    let broker = &file["services"]["kafka"];
    let told = |name| listener(broker, "KAFKA_ADVERTISED_LISTENERS", name);
    let port = |name| listener(broker, "KAFKA_LISTENERS", name).rsplit(':').next().expect("a port");

    // containers: the service, by the value that the setup writes, and the console
    let setup = text("scripts/setup-compose");
    assert!(setup.contains(&format!("\n# KAFKA_BROKERS={}\n", told("CONTAINERS"))), "{setup}");
    let console = &file["services"]["kafka-console"]["environment"];
    assert_eq!(console["KAFKA_CLUSTERS_0_BOOTSTRAPSERVERS"].as_str(), Some(told("CONTAINERS")));
    assert_eq!(told("CONTAINERS"), format!("kafka:{}", port("CONTAINERS")));

    // this machine, through the published port
    assert_eq!(texts(&broker["ports"]), [format!("{}:{}", told("MACHINE"), port("MACHINE"))]);

    // the controller's listener is for the broker alone
    let controller = listener(broker, "KAFKA_LISTENERS", "CONTROLLER");
    let voters = broker["environment"]["KAFKA_CONTROLLER_QUORUM_VOTERS"].as_str();
    assert!(controller.starts_with("127.0.0.1:"), "{controller}");
    assert_eq!(voters, Some(format!("1@{controller}").as_str()));
}

#[test]
fn the_kafka_broker_keeps_its_records_in_its_volume_and_its_console_changes_nothing() {
    let file = file();
    let broker = &file["services"]["kafka"];
    let folder = broker["environment"]["KAFKA_LOG_DIRS"].as_str().expect("a folder");
    assert_eq!(texts(&broker["volumes"]), [format!("kafka:{folder}")]);
    let console = &file["services"]["kafka-console"]["environment"];
    assert_eq!(console["KAFKA_CLUSTERS_0_READONLY"].as_str(), Some("true"));
}

#[test]
fn every_profile_is_named_at_the_top_of_the_file_in_the_setup_and_in_the_documentation() {
    let file = file();
    let used: BTreeSet<&str> =
        services(&file).into_iter().flat_map(|(_, service)| texts(&service["profiles"])).collect();
    assert!(used.len() >= 4, "{used:?}");
    let compose = text("docker-compose.yml");
    let head = compose.split("\nname:").next().expect("a head");
    let (setup, page) = (text("scripts/setup-compose"), text("docs/operations.md"));
    for profile in used {
        assert!(head.contains(&format!("{profile} (")), "{profile}: {head}");
        assert!(setup.contains(profile), "{profile}");
        assert!(page.contains(&format!("\n| `{profile}` | ")), "{profile}");
    }
}

#[test]
fn volumes_are_named_and_used_and_whatever_is_mounted_is_there() {
    let file = file();
    let volumes = file["volumes"].as_hash().expect("volumes");
    let named: BTreeSet<&str> = volumes
        .iter()
        .filter_map(|(key, volume)| {
            let name = volume["name"].as_str().unwrap_or_else(|| panic!("{key:?} has no name of its own"));
            assert!(name.starts_with("fanfare-"), "{name}");
            key.as_str()
        })
        .collect();
    let mut used = BTreeSet::new();
    for (name, service) in services(&file) {
        for mount in texts(&service["volumes"]) {
            let source = mount.split(':').next().expect("a source");
            match source.strip_prefix("./") {
                Some(relative) => {
                    assert!(path(relative).exists(), "{name} mounts {source}, which is not there");
                    assert!(mount.ends_with(":ro"), "{name} may write into the checkout: {mount}");
                }
                None => drop(used.insert(source)),
            }
        }
    }
    assert_eq!(used, named);
}

#[test]
fn no_secret_has_a_value_in_the_file_and_what_must_be_set_is_what_the_setup_writes() {
    let compose = text("docker-compose.yml");
    let setup = text("scripts/setup-compose");
    let mut required = BTreeSet::new();
    for (at, _) in compose.match_indices("${") {
        let name: String = compose[at + 2..]
            .chars()
            .take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_')
            .collect();
        let rest = &compose[at + 2 + name.len()..];
        let is_secret = name.contains("PASSWORD") || name.contains("KEY") || name.contains("TOKEN");
        assert!(!is_secret || rest.starts_with(":?"), "{name} has a default: {}", &rest[..20]);
        if rest.starts_with(":?") {
            required.insert(name);
        }
    }
    assert!(!required.is_empty());
    for name in required {
        assert!(
            setup.contains(&format!("\n{name}=$(random)")),
            "scripts/setup-compose does not write {name}"
        );
    }
    assert!(setup.contains("\nAPI_KEY=$(random)"));
    for private in ["/.env", "/fanfare.env"] {
        assert!(text(".gitignore").lines().any(|line| line == private), "git may take {private}");
    }
}

#[test]
fn prometheus_forgets_and_tells_the_alertmanager() {
    let file = file();
    let command = texts(&file["services"]["prometheus"]["command"]).join(" ");
    assert!(command.contains("retention.time=") && command.contains("retention.size="), "{command}");
    let prometheus =
        YamlLoader::load_from_str(&text("monitoring/prometheus/prometheus.yml")).expect("YAML").remove(0);
    let target = &prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"][0];
    assert_eq!(target.as_str(), Some("alertmanager:9093"));
    let alertmanager =
        YamlLoader::load_from_str(&text("monitoring/alertmanager/alertmanager.yml")).expect("YAML").remove(0);
    let receivers: Vec<&str> = alertmanager["receivers"]
        .as_vec()
        .expect("receivers")
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert_eq!(receivers, ["page", "ticket"], "one for each severity");
    // an inhibition names only alerts that exist
    let rules = text("monitoring/prometheus/alerts.yml");
    let config = text("monitoring/alertmanager/alertmanager.yml");
    let names = config.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.starts_with("Fanfare"));
    for name in names {
        assert!(rules.contains(&format!("- alert: {name}\n")), "{name}");
    }
}
