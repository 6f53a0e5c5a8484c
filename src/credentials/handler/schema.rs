//! The bodies of requests: one struct reads all kinds, so that each wrong field is named; the document tells them apart.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::credentials::model::{ClientAuth, Kind};
use crate::credentials::rules::Changes;
use crate::http::json::{given, present};

/// A new credential, as it is read. It has no `Debug`, so that no log can show it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialBody {
    name: String,
    kind: Kind,
    description: Option<String>,
    #[serde(default, deserialize_with = "given")]
    username: Option<String>,
    #[serde(default, deserialize_with = "given")]
    password: Option<String>,
    #[serde(default, deserialize_with = "given")]
    token: Option<String>,
    #[serde(default, deserialize_with = "given")]
    header: Option<String>,
    #[serde(default, deserialize_with = "given")]
    value: Option<String>,
    #[serde(default, deserialize_with = "given")]
    token_url: Option<String>,
    #[serde(default, deserialize_with = "given")]
    client_id: Option<String>,
    #[serde(default, deserialize_with = "given")]
    client_secret: Option<String>,
    #[serde(default, deserialize_with = "present")]
    scope: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    audience: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    client_auth: Option<ClientAuth>,
    #[serde(default, deserialize_with = "given")]
    service_account: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    scopes: Option<Vec<String>>,
}

impl CredentialBody {
    /// Its name, its kind, and what it says.
    pub(super) fn parts(self) -> (String, Kind, Changes) {
        let changes = Changes {
            description: Some(self.description),
            username: self.username,
            password: self.password,
            token: self.token,
            header: self.header,
            value: self.value,
            token_url: self.token_url,
            client_id: self.client_id,
            client_secret: self.client_secret,
            scope: self.scope,
            audience: self.audience,
            client_auth: self.client_auth,
            service_account: self.service_account,
            scopes: self.scopes,
        };
        (self.name, self.kind, changes)
    }
}

/// With what every kind has.
macro_rules! new_credential {
    ($($(#[$meta:meta])* $name:ident $example:tt { $($fields:tt)* })+) => {
        $(
            $(#[$meta])*
            #[derive(Deserialize, ToSchema)]
            #[serde(deny_unknown_fields)]
            #[schema(example = json!($example))]
            #[expect(dead_code, reason = "it is for the document: CredentialBody is what is read")]
            pub struct $name {
                /// What requests call it. It stays.
                #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]+$")]
                name: String,
                /// Words for people.
                #[schema(max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
                description: Option<String>,
                $($fields)*
            }
        )+
    };
}

/// One word, as the document tells kinds apart; a `tt` for the same reason as in `coded_enum`.
macro_rules! only_kind {
    ($($name:ident $word:tt)+) => {
        $(
            /// The kind.
            #[derive(Deserialize, ToSchema)]
            pub enum $name {
                /// The word.
                #[serde(rename = $word)]
                Only,
            }
        )+
    };
}

only_kind! {
    OnlyBasic "basic"
    OnlyBearer "bearer"
    OnlyHeader "header"
    OnlyOauth2 "oauth2"
    OnlyGoogle "google_service_account"
}

new_credential! {
    /// `Authorization: Basic` (RFC 7617).
    NewBasic {"name": "crm", "kind": "basic", "username": "fanfare", "password": "correct horse"} {
        /// `basic`.
        kind: OnlyBasic,
        /// Without a password it is never shown.
        #[schema(max_length = 1000, pattern = r"^[^\u0000-\u001f\u007f-\u009f:]*$")]
        username: String,
        /// May be empty, if the name is not.
        #[schema(write_only, max_length = 4096, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
        password: String,
    }
    /// `Authorization: Bearer` with a token that stays (RFC 6750).
    NewBearer {"name": "crm", "kind": "bearer", "token": "2YotnFZFEjr1zCsicMWpAA"} {
        /// `bearer`.
        kind: OnlyBearer,
        /// Without `Bearer` before it.
        #[schema(write_only, min_length = 1, max_length = 4096, pattern = "^[!-~]+$")]
        token: String,
    }
    /// Any header with a value that stays.
    NewHeader {"name": "crm", "kind": "header", "header": "X-Api-Key", "value": "2YotnFZFEjr1zCsicMWpAA"} {
        /// `header`.
        kind: OnlyHeader,
        /// Its name.
        #[schema(min_length = 1, max_length = 1000, pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
        header: String,
        /// Its value.
        #[schema(write_only, min_length = 1, max_length = 4096, pattern = "^[!-~]([ -~]*[!-~])?$")]
        value: String,
    }
    /// A token that is fetched with the client credentials grant (RFC 6749, 4.4).
    NewOauth2 {
        "name": "crm", "kind": "oauth2", "token_url": "https://auth.example.com/oauth2/token",
        "client_id": "fanfare", "client_secret": "7Fjfp0ZBr1KtDRbnfVdmIw", "scope": "orders.write"
    } {
        /// `oauth2`.
        kind: OnlyOauth2,
        /// Where tokens come from. `https`, and not of a private network.
        #[schema(min_length = 1, max_length = 2048)]
        token_url: String,
        /// The client's name there.
        #[schema(min_length = 1, max_length = 1000, pattern = "^[ -~]+$")]
        client_id: String,
        /// And its secret.
        #[schema(write_only, min_length = 1, max_length = 4096, pattern = "^[ -~]+$")]
        client_secret: String,
        /// What tokens are asked for: words with a space between.
        #[schema(min_length = 1, max_length = 1000, pattern = r"^[!#-\[\]-~]+( [!#-\[\]-~]+)*$")]
        scope: Option<String>,
        /// For whom, where a server wants to know.
        #[schema(min_length = 1, max_length = 1000, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$")]
        audience: Option<String>,
        /// How it says who it is.
        #[schema(nullable = false, default = "basic")]
        client_auth: Option<ClientAuth>,
    }
    /// A token that is fetched from Google as a service account, for Firebase and the rest of its interfaces.
    NewGoogle {
        "name": "firebase", "kind": "google_service_account", "service_account": {
            "type": "service_account", "project_id": "shop", "private_key_id": "0123456789abcdef",
            "private_key": "-----BEGIN PRIVATE KEY-----\n…\n-----END PRIVATE KEY-----\n",
            "client_email": "fanfare@shop.iam.gserviceaccount.com", "token_uri": "https://oauth2.googleapis.com/token"
        }
    } {
        /// `google_service_account`.
        kind: OnlyGoogle,
        /// The JSON of its key, as the console gives it, or the same as a text; 16 KiB at most.
        #[schema(write_only, value_type = Object)]
        service_account: Value,
        /// What tokens are asked for. By default `https://www.googleapis.com/auth/firebase.messaging` alone.
        #[schema(nullable = false, min_items = 1, max_items = 20)]
        scopes: Option<Vec<Scope>>,
    }
}

/// A scope, such as `https://www.googleapis.com/auth/cloud-platform`.
#[derive(Deserialize, ToSchema)]
#[schema(min_length = 1, max_length = 1000, pattern = r"^[!#-\[\]-~]+$")]
#[expect(dead_code, reason = "it is for the document")]
pub struct Scope(String);

/// A new credential of one of the kinds.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(example = json!({"name": "crm", "kind": "basic", "username": "fanfare", "password": "correct horse"}))]
pub enum NewCredential {
    /// A name and a password.
    Basic(NewBasic),
    /// A token that stays.
    Bearer(NewBearer),
    /// A header.
    Header(NewHeader),
    /// An OAuth 2.0 client.
    Oauth2(NewOauth2),
    /// A service account of Google's.
    GoogleServiceAccount(NewGoogle),
}

/// What to change of a credential; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"password": "battery staple"}))]
pub struct CredentialPatch {
    /// Words for people; null clears it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    description: Option<Option<String>>,
    /// Of `basic`.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, max_length = 1000, pattern = r"^[^\u0000-\u001f\u007f-\u009f:]*$")]
    username: Option<String>,
    /// Of `basic`.
    #[serde(default, deserialize_with = "given")]
    #[schema(write_only, nullable = false, max_length = 4096, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    password: Option<String>,
    /// Of `bearer`.
    #[serde(default, deserialize_with = "given")]
    #[schema(write_only, nullable = false, min_length = 1, max_length = 4096, pattern = "^[!-~]+$")]
    token: Option<String>,
    /// Of `header`: its name.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_length = 1, max_length = 1000, pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
    header: Option<String>,
    /// Of `header`.
    #[serde(default, deserialize_with = "given")]
    #[schema(
        write_only,
        nullable = false,
        min_length = 1,
        max_length = 4096,
        pattern = "^[!-~]([ -~]*[!-~])?$"
    )]
    value: Option<String>,
    /// Of `oauth2`.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_length = 1, max_length = 2048)]
    token_url: Option<String>,
    /// Of `oauth2`.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_length = 1, max_length = 1000, pattern = "^[ -~]+$")]
    client_id: Option<String>,
    /// Of `oauth2`.
    #[serde(default, deserialize_with = "given")]
    #[schema(write_only, nullable = false, min_length = 1, max_length = 4096, pattern = "^[ -~]+$")]
    client_secret: Option<String>,
    /// Of `oauth2`; null clears it.
    #[serde(default, deserialize_with = "present")]
    #[schema(
        value_type = Option<String>,
        min_length = 1,
        max_length = 1000,
        pattern = r"^[!#-\[\]-~]+( [!#-\[\]-~]+)*$"
    )]
    scope: Option<Option<String>>,
    /// Of `oauth2`; null clears it.
    #[serde(default, deserialize_with = "present")]
    #[schema(
        value_type = Option<String>,
        min_length = 1,
        max_length = 1000,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$"
    )]
    audience: Option<Option<String>>,
    /// Of `oauth2`.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    client_auth: Option<ClientAuth>,
    /// Of `google_service_account`.
    #[serde(default, deserialize_with = "given")]
    #[schema(write_only, nullable = false, value_type = Object)]
    service_account: Option<Value>,
    /// Of `google_service_account`.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_items = 1, max_items = 20, value_type = Vec<Scope>)]
    scopes: Option<Vec<String>>,
}

impl From<CredentialPatch> for Changes {
    fn from(patch: CredentialPatch) -> Self {
        Self {
            description: patch.description,
            username: patch.username,
            password: patch.password,
            token: patch.token,
            header: patch.header,
            value: patch.value,
            token_url: patch.token_url,
            client_id: patch.client_id,
            client_secret: patch.client_secret,
            scope: patch.scope,
            audience: patch.audience,
            client_auth: patch.client_auth,
            service_account: patch.service_account,
            scopes: patch.scopes,
        }
    }
}
