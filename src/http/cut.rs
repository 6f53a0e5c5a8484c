//! Closes a connection whose peer does not read: what a handler answers waits behind what is not read, the end too.

use std::any::Any;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};

use actix_web::HttpRequest;
use actix_web::dev::Extensions;

/// A second handle to a connection's socket.
struct Socket(Arc<TcpStream>);

/// Keeps what [`Cut`] needs with every new connection; for the server's `on_connect`.
pub fn keep(connection: &dyn Any, kept: &mut Extensions) {
    if let Some(stream) = connection.downcast_ref::<actix_web::rt::net::TcpStream>()
        && let Ok(socket) = stream.as_fd().try_clone_to_owned()
    {
        kept.insert(Socket(Arc::new(TcpStream::from(socket))));
    }
}

/// Closes a connection. It does not keep one open that has ended.
#[derive(Default)]
pub struct Cut(Weak<TcpStream>);

impl Cut {
    /// For this request's connection.
    pub fn of(request: &HttpRequest) -> Self {
        request.conn_data::<Socket>().map(|Socket(socket)| Self(Arc::downgrade(socket))).unwrap_or_default()
    }

    /// Closes it in both directions; the server notices at once.
    pub fn now(&self) {
        if let Some(socket) = self.0.upgrade() {
            // it fails when the peer was faster
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
