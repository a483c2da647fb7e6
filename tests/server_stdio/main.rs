//! The server as a client meets it: the real binary, spoken to in JSON lines over its stdin and
//! stdout, in both eras of the protocol.

mod client;
mod eras;
mod lives;
mod surface;
mod tools;
mod wrong;
