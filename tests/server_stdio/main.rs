//! The server as a client meets it: the real binary, spoken to in JSON lines over its stdin and
//! stdout, in both eras of the protocol.

mod client;
mod eras;
mod less;
mod lives;
mod looks;
mod resources;
mod surface;
mod tools;
mod wrong;
