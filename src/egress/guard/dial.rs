//! Connects to a host by name: resolves it once, checks the addresses, and dials only those that passed.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::Uri;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower_service::Service;

use super::address::Networks;
use super::failure::RequestFailure;
use super::settings::Settings;
use super::target::Destination;
use crate::egress::connection::Stream;
use crate::egress::local::is_local;
use crate::error::{Error, Result};

/// Resolves a name; called on a thread that may block.
pub type Resolver = Arc<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// The most addresses of a name that are tried.
const MOST_ADDRESSES: usize = 8;
/// The time for which an address is tried alone (RFC 8305, 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Returns the system's resolver: its files and its DNS.
pub(super) fn system_resolver() -> Resolver {
    Arc::new(|name| Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
}

/// Opens connections.
pub(super) struct Dialler {
    allowed: Networks,
    resolver: Resolver,
    lookups: Arc<Semaphore>,
    lookup_timeout: Duration,
    connect_timeout: Duration,
    tls: Arc<ClientConfig>,
}

impl Dialler {
    pub(super) fn new(settings: &Settings, resolver: Resolver) -> Result<Self> {
        let internal = |e: rustls::Error| Error::Internal(e.into());
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(ConfigBuilderExt::try_with_platform_verifier)
            .map_err(internal)?
            .with_no_client_auth();
        Ok(Self {
            allowed: settings.allowed.clone(),
            resolver,
            lookups: Arc::new(Semaphore::new(settings.lookups_at_once)),
            lookup_timeout: settings.lookup_timeout,
            connect_timeout: settings.connect_timeout,
            tls: Arc::new(tls),
        })
    }

    pub(super) fn allowed(&self) -> &Networks {
        &self.allowed
    }

    /// Opens a connection, with TLS if the destination requires it.
    pub(super) async fn dial(&self, place: &Destination) -> Result<Stream, RequestFailure> {
        let addresses = self.addresses(place).await?;
        let dialled = timeout(self.connect_timeout, first_of(addresses, place.port)).await;
        let tcp =
            dialled.map_err(|_| RequestFailure::Unreachable)?.map_err(|error| match is_local(&error) {
                true => RequestFailure::LocalFault,
                false => RequestFailure::Unreachable,
            })?;
        tcp.set_nodelay(true).map_err(|_| RequestFailure::Unreachable)?;
        if !place.is_tls {
            return Ok(Stream::from(TokioIo::new(tcp)));
        }
        let uri = Uri::try_from(format!("https://{}", place.authority())).map_err(|_| RequestFailure::Tls)?;
        let mut tls = HttpsConnector::from((Dialled(Some(tcp)), Arc::clone(&self.tls)));
        // the timeout of the whole request bounds the handshake
        tls.call(uri).await.map_err(|_| RequestFailure::Tls)
    }

    /// Returns the host's addresses that may be dialled. If there are any, its other addresses are ignored without an
    /// error.
    async fn addresses(&self, place: &Destination) -> Result<Vec<IpAddr>, RequestFailure> {
        let found = match (place.literal(), &place.host) {
            (Some(literal), _) => vec![literal],
            (None, url::Host::Domain(name)) => self.look_up(name).await?,
            (None, _) => Vec::new(),
        };
        let mut refusal = None;
        let mut fine = Vec::new();
        for address in found {
            match place.check(address, &self.allowed) {
                Ok(()) if fine.len() < MOST_ADDRESSES => fine.push(address),
                Ok(()) => {}
                Err(why) => refusal = refusal.or(Some(why)),
            }
        }
        match refusal {
            _ if !fine.is_empty() => Ok(fine),
            Some(why) => Err(RequestFailure::Refused(why)),
            None => Err(RequestFailure::NameNotFound),
        }
    }

    async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, RequestFailure> {
        let found = async {
            let place = Arc::clone(&self.lookups).acquire_owned().await.ok()?;
            let (resolver, name) = (Arc::clone(&self.resolver), name.to_owned());
            let lookup = move || {
                let found = resolver(&name);
                // only here: an abandoned lookup continues on its thread
                drop(place);
                found
            };
            tokio::task::spawn_blocking(lookup).await.ok()
        };
        let found = timeout(self.lookup_timeout, found).await.map_err(|_| RequestFailure::LookupTimedOut)?;
        match found {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) if is_local(&error) => Err(RequestFailure::LocalFault),
            _ => Err(RequestFailure::NameNotFound),
        }
    }
}

/// Connects to the first address that responds; each has a head start before the next.
async fn first_of(addresses: Vec<IpAddr>, port: u16) -> io::Result<TcpStream> {
    let mut rest = addresses.into_iter();
    let mut tries = FuturesUnordered::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(next) = rest.next() {
            tries.push(TcpStream::connect(SocketAddr::new(next, port)));
        }
        if tries.is_empty() {
            return Err(last);
        }
        tokio::select! {
            Some(tried) = tries.next() => match tried {
                Ok(stream) => return Ok(stream),
                Err(e) => last = e,
            },
            () = tokio::time::sleep(HEAD_START), if rest.len() > 0 => {}
        }
    }
}

/// Passes an open connection to the TLS connector.
struct Dialled(Option<TcpStream>);

impl Service<Uri> for Dialled {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let tcp = self.0.take().map(TokioIo::new);
        std::future::ready(tcp.ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}
