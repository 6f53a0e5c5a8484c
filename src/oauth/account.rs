//! A Google service account, and the assertions that it signs.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::db::types::Timestamp;

/// The scope of access tokens for Firebase Cloud Messaging.
pub const FIREBASE_SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// The grant of RFC 7523, 2.1, with its colons encoded; the assertion needs no encoding.
const GRANT: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
/// The validity of an assertion: Google accepts at most one hour.
const ASSERTION_SECONDS: i64 = 3600;

/// The key file of a service account, from the Firebase console; other fields are ignored.
#[derive(Deserialize)]
struct Json {
    #[serde(rename = "type")]
    kind: String,
    project_id: String,
    private_key_id: Option<String>,
    private_key: SecretString,
    client_email: String,
    token_uri: String,
}

/// A service account.
pub struct Account {
    /// The id of its project.
    pub project: String,
    /// The URL of its token endpoint.
    pub token_uri: String,
    /// Its e-mail address, which identifies it at Google.
    pub email: String,
    /// The id of the key.
    pub key_id: Option<String>,
    key: RsaKeyPair,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Account(..)")
    }
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

impl Account {
    /// Parses the JSON of a service account.
    ///
    /// # Errors
    /// The mistake in it, without any of its values.
    pub fn parse(json: &SecretString) -> Result<Self, &'static str> {
        // serde's errors may repeat a value
        let json: Json = serde_json::from_str(json.expose_secret()).map_err(
            |_| "must be the JSON of a service account, with project_id, private_key, client_email and token_uri",
        )?;
        if json.kind != "service_account" {
            return Err("must be a key of a service account: its `type` must be `service_account`");
        }
        let is_project = |c: char| c.is_ascii_alphanumeric() || "-.:".contains(c);
        if json.project_id.is_empty() || !json.project_id.chars().all(is_project) {
            return Err("its `project_id` is not a project id");
        }
        let key = PrivatePkcs8KeyDer::from_pem_slice(json.private_key.expose_secret().as_bytes())
            .ok()
            .and_then(|der| RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok())
            .ok_or("its `private_key` is not an RSA key in PEM (PKCS#8)")?;
        Ok(Self {
            project: json.project_id,
            token_uri: json.token_uri,
            email: json.client_email,
            key_id: json.private_key_id,
            key,
        })
    }

    /// Returns the body of a request for a token with these scopes, separated by spaces.
    ///
    /// # Errors
    /// If the assertion cannot be signed.
    pub fn request(&self, scope: &str, now: Timestamp) -> Result<String, &'static str> {
        Ok(format!("{GRANT}{}", self.assertion(scope, now)?))
    }

    /// Returns a signed assertion of the account's identity (RFC 7523, 2.1; Google, "Using OAuth 2.0 for Server to
    /// Server Applications").
    fn assertion(&self, scope: &str, now: Timestamp) -> Result<String, &'static str> {
        let iat = now.micros().div_euclid(1_000_000);
        let header = Header { alg: "RS256", typ: "JWT", kid: self.key_id.as_deref() };
        let claims =
            Claims { iss: &self.email, scope, aud: &self.token_uri, iat, exp: iat + ASSERTION_SECONDS };
        let unwritable = "the assertion cannot be encoded";
        let header = serde_json::to_string(&header).map_err(|_| unwritable)?;
        let claims = serde_json::to_string(&claims).map_err(|_| unwritable)?;
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| "the assertion cannot be signed")?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
