//! TLS of connections to mail servers.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;
use tokio_rustls::TlsConnector;

use crate::error::{Error, Result};

const FIELD: &str = "email.extra_ca (SMTP_EXTRA_CA)";

/// Creates a connector that trusts the system's certificate authorities and those in the PEM file `extra_ca`.
///
/// # Errors
/// [`Error::Invalid`] if the file cannot be read or has no certificate; [`Error::Internal`] if TLS cannot be set up.
pub(super) fn connector(extra_ca: Option<&Path>) -> Result<TlsConnector> {
    let roots = extra_ca.map_or(Ok(Vec::new()), certificates)?;
    let provider = Arc::new(default_provider());
    let verifier = Verifier::new_with_extra_roots(roots, Arc::clone(&provider));
    let verifier = verifier.map_err(|e| Error::Internal(e.into()))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Internal(e.into()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = found.map_err(|e| Error::invalid(FIELD, format!("cannot be read: {e}")))?;
    if found.is_empty() { Err(Error::invalid(FIELD, "contains no certificate")) } else { Ok(found) }
}
