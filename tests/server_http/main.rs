//! The server over HTTP as clients and operators meet it: the real binary, asked by plain requests
//! in both eras of the protocol.

mod client;
mod doors;
mod eras;
mod house;
mod kills;
mod limits;
mod lives;
mod tasks;
