//! The HTTP server, over [`Connections`].

use std::future::{Ready, ready};
use std::io;
use std::net::TcpListener;
use std::time::Duration;

use actix_http::{HttpService, Request, Response};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, Server};
use actix_web::rt::net::TcpStream;

use super::connection::{Connection, Connections, keep};

/// The timeout of a request's head, from its first byte on.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The time after which a connection without a request is closed.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// The time for open requests to end when the service stops, in seconds.
const SHUTDOWN_TIMEOUT: u64 = 10;

/// Serves the application on this listener, with `workers` threads.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve<F, I, S, B>(
    listener: TcpListener,
    workers: usize,
    connections: &Connections,
    application: F,
) -> io::Result<Server>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<actix_web::Error> + 'static,
    S::InitError: std::fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as Service<Request>>::Future: 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    let connections = connections.clone();
    let builder = Server::build().workers(workers).disable_signals().shutdown_timeout(SHUTDOWN_TIMEOUT);
    let stopping = builder.graceful_shutdown_signal();
    let builder = builder.listen("http", listener, move || {
        let (connections, stopping) = (connections.clone(), stopping.clone());
        let admit = move |stream: TcpStream| -> Ready<Result<_, _>> {
            ready(connections.admit(stream).map(|connection| {
                let peer = connection.peer();
                (connection, peer)
            }))
        };
        let application = application().into_factory().map_err(|error| error.into().error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(HEAD_TIMEOUT)
            .on_connect_ext(keep)
            .h1::<_, B>(map_config(application, |()| AppConfig::default()));
        let http: actix_http::h1::H1Service<Connection, _, _, _, _> = http;
        fn_service(admit).map_err(actix_http::error::DispatchError::Io).and_then(http)
    })?;
    Ok(builder.run())
}
