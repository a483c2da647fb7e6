//! How far an evaluation has come.

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// What is done from now on.
    Phase(&'static str),
    /// So many steps of single trajectories, or work that takes about as long.
    Stepped(usize),
}
