//! Against a server that the test plays itself, byte by byte.
use super::*;
