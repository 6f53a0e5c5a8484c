//! The certificates and users of a broker with SASL and TLS.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use krafka::auth::{AuthConfig, TlsConfig};

/// The user of all SASL mechanisms; `scripts/setup-kafka` has stored it in the broker for SCRAM.
pub const USER: &str = "fanfare";
/// The user's password.
pub const PASSWORD: &str = "fanfare-secret";

/// The test's own certificate authority, with a certificate for the broker and one for a client.
///
/// The listeners with TLS present the broker's certificate, which is valid for `127.0.0.1`. They request the client's
/// certificate but do not require it. SASL accepts PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512.
pub struct Security {
    dir: PathBuf,
}

impl Security {
    /// Creates the certificates in this folder.
    pub(super) fn make(dir: &Path) -> Self {
        let security = Self { dir: dir.to_owned() };
        let request = |name: &str, extra: &[&str]| {
            let made = Command::new("openssl")
                .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
                .args(["-days", "2", "-subj", &format!("/CN={name}")])
                .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")])
                .args(extra)
                .current_dir(dir)
                .output()
                .expect("openssl, which scripts/setup-test installs");
            assert!(made.status.success(), "{name}: {}", String::from_utf8_lossy(&made.stderr));
        };
        let by_authority = ["-CA", "authority.pem", "-CAkey", "authority.key"];
        let leaf = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext"];
        request("authority", &[]);
        request("broker", &[&by_authority[..], &leaf[..], &["subjectAltName=IP:127.0.0.1"]].concat());
        request("client", &[&by_authority[..], &leaf[..], &["extendedKeyUsage=clientAuth"]].concat());
        let read = |name: &str| fs::read_to_string(dir.join(name)).expect("a file of openssl");
        fs::write(dir.join("keystore.pem"), read("broker.key") + &read("broker.pem")).expect("a key store");
        security
    }

    /// Returns the path of the authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("authority.pem")
    }

    /// Returns the path of the client's certificate.
    pub fn client_certificate(&self) -> PathBuf {
        self.dir.join("client.pem")
    }

    /// Returns the path of the client's private key.
    pub fn client_key(&self) -> PathBuf {
        self.dir.join("client.key")
    }

    /// Returns a TLS configuration that trusts only the authority, for the test's own client.
    pub fn tls(&self) -> TlsConfig {
        TlsConfig::new().with_ca_cert(self.ca().display().to_string())
    }

    /// Returns a configuration with SCRAM-SHA-512 over TLS, for the test's own client.
    pub fn scram_over_tls(&self) -> AuthConfig {
        AuthConfig::sasl_scram_sha512(USER, PASSWORD).with_tls(self.tls())
    }

    /// Returns the broker's settings.
    pub(super) fn properties(&self) -> String {
        let file = |name: &str| self.dir.join(name).display().to_string();
        let mut all = format!(
            "ssl.keystore.type=PEM\nssl.keystore.location={}\nssl.truststore.type=PEM\n\
             ssl.truststore.location={}\nlistener.name.tls.ssl.client.auth=requested\n\
             sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n",
            file("keystore.pem"),
            file("authority.pem")
        );
        for listener in ["sasl", "sasltls"] {
            let modules = "org.apache.kafka.common.security";
            let plain = format!("{modules}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";");
            let scram = format!("{modules}.scram.ScramLoginModule required;");
            for (mechanism, module) in
                [("plain", &plain), ("scram-sha-256", &scram), ("scram-sha-512", &scram)]
            {
                all += &format!("listener.name.{listener}.{mechanism}.sasl.jaas.config={module}\n");
            }
        }
        all
    }
}
