//! Room for numbers that a thread keeps from one layer to the next, since asking for it and clearing it
//! takes longer than it should.

use std::cell::RefCell;

/// What is larger is given back: 8 MiB.
const LARGEST: usize = 2 << 20;
/// Pieces that a thread keeps: a layer and what it calls.
const PIECES: usize = 2;

thread_local! {
    static KEPT: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Numbers of any value.
pub struct Scratch(Vec<f32>);

impl Scratch {
    /// At least so many.
    pub fn take(numbers: usize) -> Self {
        let mut values = KEPT.with_borrow_mut(Vec::pop).unwrap_or_default();
        if values.len() < numbers {
            values.resize(numbers, 0.0);
        }
        Self(values)
    }

    /// The first so many of those that were asked for.
    pub fn values(&mut self, numbers: usize) -> &mut [f32] {
        &mut self.0[..numbers]
    }

    /// The first, and the next.
    pub fn split(&mut self, first: usize, next: usize) -> (&mut [f32], &mut [f32]) {
        self.0[..first + next].split_at_mut(first)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.0);
        // A thread that is ending keeps nothing.
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < PIECES && values.len() <= LARGEST {
                kept.push(values);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_that_is_in_use_is_not_given_out_again() {
        let mut first = Scratch::take(8);
        first.values(8).fill(1.0);
        let mut second = Scratch::take(8);
        second.values(8).fill(2.0);
        assert_eq!(first.values(8), [1.0; 8]);
        drop(second);
        drop(first);
        let mut again = Scratch::take(4);
        assert_eq!(again.values(4), [1.0; 4]);
        let (one, next) = again.split(1, 3);
        assert_eq!((one.len(), next.len()), (1, 3));
    }
}
