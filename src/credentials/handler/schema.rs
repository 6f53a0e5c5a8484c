//! Request bodies of credentials. One struct reads all kinds, so that every wrong field is reported. The OpenAPI
//! document has a schema for each kind.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::credentials::model::{ClientAuth, Kind};
use crate::credentials::rules::CredentialChanges;
use crate::http::json::{given, present};

/// A new credential of any kind. It has no `Debug`, so that no log can show it.
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
    /// Returns its name, its kind and its other fields.
    pub(super) fn parts(self) -> (String, Kind, CredentialChanges) {
        let changes = CredentialChanges {
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

/// Defines the schema of one kind, with the fields that all kinds have.
macro_rules! new_credential {
    ($($(#[$meta:meta])* $name:ident $example:tt { $($fields:tt)* })+) => {
        $(
            $(#[$meta])*
            #[derive(Deserialize, ToSchema)]
            #[serde(deny_unknown_fields)]
            #[schema(example = json!($example))]
            #[expect(dead_code, reason = "requests are read as CredentialBody; this is for OpenAPI")]
            pub struct $name {
                /// The name by which requests refer to it. It cannot be changed.
                #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]+$")]
                name: String,
                /// A description for people.
                #[schema(max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
                description: Option<String>,
                $($fields)*
            }
        )+
    };
}

/// Defines enums of one word, by which the OpenAPI document tells kinds apart. The word is a `tt` for the same reason
/// as in `coded_enum`.
macro_rules! only_kind {
    ($($name:ident $word:tt)+) => {
        $(
            /// The kind.
            #[derive(Deserialize, ToSchema)]
            pub enum $name {
                /// The only value.
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
        /// The username. Without a password it is a secret, and never shown.
        #[schema(max_length = 1000, pattern = r"^[^\u0000-\u001f\u007f-\u009f:]*$")]
        username: String,
        /// The password. It may be empty if the username is not.
        #[schema(write_only, max_length = 4096, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
        password: String,
    }
    /// `Authorization: Bearer` with a fixed token (RFC 6750).
    NewBearer {"name": "crm", "kind": "bearer", "token": "2YotnFZFEjr1zCsicMWpAA"} {
        /// `bearer`.
        kind: OnlyBearer,
        /// The token, without `Bearer` before it.
        #[schema(write_only, min_length = 1, max_length = 4096, pattern = "^[!-~]+$")]
        token: String,
    }
    /// Any header with a fixed value.
    NewHeader {"name": "crm", "kind": "header", "header": "X-Api-Key", "value": "2YotnFZFEjr1zCsicMWpAA"} {
        /// `header`.
        kind: OnlyHeader,
        /// The name of the header.
        #[schema(min_length = 1, max_length = 1000, pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
        header: String,
        /// The value of the header.
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
        /// The URL of the token endpoint. `https`, and not in a private network.
        #[schema(min_length = 1, max_length = 2048)]
        token_url: String,
        /// The client id.
        #[schema(min_length = 1, max_length = 1000, pattern = "^[ -~]+$")]
        client_id: String,
        /// The client secret.
        #[schema(write_only, min_length = 1, max_length = 4096, pattern = "^[ -~]+$")]
        client_secret: String,
        /// The scope to request: scopes separated by one space.
        #[schema(min_length = 1, max_length = 1000, pattern = r"^[!#-\[\]-~]+( [!#-\[\]-~]+)*$")]
        scope: Option<String>,
        /// The audience to request, if the server needs it.
        #[schema(min_length = 1, max_length = 1000, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$")]
        audience: Option<String>,
        /// The way of authentication at the token endpoint.
        #[schema(nullable = false, default = "basic")]
        client_auth: Option<ClientAuth>,
    }
    /// A token that is fetched from Google as a service account, for Firebase and other Google APIs.
    NewGoogle {
        "name": "firebase", "kind": "google_service_account", "service_account": {
            "type": "service_account", "project_id": "shop", "private_key_id": "0123456789abcdef",
            "private_key": "-----BEGIN PRIVATE KEY-----\n…\n-----END PRIVATE KEY-----\n",
            "client_email": "fanfare@shop.iam.gserviceaccount.com", "token_uri": "https://oauth2.googleapis.com/token"
        }
    } {
        /// `google_service_account`.
        kind: OnlyGoogle,
        /// The JSON of the console's key file, as an object or as a string, up to 16 KiB.
        #[schema(write_only, value_type = Object)]
        service_account: Value,
        /// The scopes to request, by default only `https://www.googleapis.com/auth/firebase.messaging`.
        #[schema(nullable = false, min_items = 1, max_items = 20)]
        scopes: Option<Vec<OauthScope>>,
    }
}

/// A scope, such as `https://www.googleapis.com/auth/cloud-platform`.
#[derive(Deserialize, ToSchema)]
#[schema(as = Scope, min_length = 1, max_length = 1000, pattern = r"^[!#-\[\]-~]+$")]
#[expect(dead_code, reason = "it is for the OpenAPI document")]
pub struct OauthScope(String);

/// A new credential of one of the kinds.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(example = json!({"name": "crm", "kind": "basic", "username": "fanfare", "password": "correct horse"}))]
pub enum NewCredential {
    /// A username and a password.
    Basic(NewBasic),
    /// A fixed token.
    Bearer(NewBearer),
    /// A header with a fixed value.
    Header(NewHeader),
    /// An OAuth 2.0 client.
    Oauth2(NewOauth2),
    /// A Google service account.
    GoogleServiceAccount(NewGoogle),
}

/// A change of a credential. Absent fields keep their values.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"password": "battery staple"}))]
pub struct CredentialPatch {
    /// The description for people; null clears it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    description: Option<Option<String>>,
    /// The username of `basic`.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, max_length = 1000, pattern = r"^[^\u0000-\u001f\u007f-\u009f:]*$")]
    username: Option<String>,
    /// The password of `basic`.
    #[serde(default, deserialize_with = "given")]
    #[schema(write_only, nullable = false, max_length = 4096, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    password: Option<String>,
    /// The token of `bearer`.
    #[serde(default, deserialize_with = "given")]
    #[schema(write_only, nullable = false, min_length = 1, max_length = 4096, pattern = "^[!-~]+$")]
    token: Option<String>,
    /// The name of the header of `header`.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_length = 1, max_length = 1000, pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
    header: Option<String>,
    /// The value of the header of `header`.
    #[serde(default, deserialize_with = "given")]
    #[schema(
        write_only,
        nullable = false,
        min_length = 1,
        max_length = 4096,
        pattern = "^[!-~]([ -~]*[!-~])?$"
    )]
    value: Option<String>,
    /// The URL of the token endpoint of `oauth2`.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_length = 1, max_length = 2048)]
    token_url: Option<String>,
    /// The client id of `oauth2`.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_length = 1, max_length = 1000, pattern = "^[ -~]+$")]
    client_id: Option<String>,
    /// The client secret of `oauth2`.
    #[serde(default, deserialize_with = "given")]
    #[schema(write_only, nullable = false, min_length = 1, max_length = 4096, pattern = "^[ -~]+$")]
    client_secret: Option<String>,
    /// The scope of `oauth2`; null clears it.
    #[serde(default, deserialize_with = "present")]
    #[schema(
        value_type = Option<String>,
        min_length = 1,
        max_length = 1000,
        pattern = r"^[!#-\[\]-~]+( [!#-\[\]-~]+)*$"
    )]
    scope: Option<Option<String>>,
    /// The audience of `oauth2`; null clears it.
    #[serde(default, deserialize_with = "present")]
    #[schema(
        value_type = Option<String>,
        min_length = 1,
        max_length = 1000,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$"
    )]
    audience: Option<Option<String>>,
    /// The way of authentication at the token endpoint of `oauth2`.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    client_auth: Option<ClientAuth>,
    /// The JSON of the key of `google_service_account`, as an object or as a string.
    #[serde(default, deserialize_with = "given")]
    #[schema(write_only, nullable = false, value_type = Object)]
    service_account: Option<Value>,
    /// The scopes of `google_service_account`.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_items = 1, max_items = 20, value_type = Vec<OauthScope>)]
    scopes: Option<Vec<String>>,
}

impl From<CredentialPatch> for CredentialChanges {
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
