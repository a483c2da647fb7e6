//! Failed attempts at the token, counted by address: after a few, an address waits, and longer each
//! time, so that nobody tries many.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures that cost nothing: people mistype.
const FREE: u32 = 5;
/// The first wait; each further failure doubles it.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// An address that has not failed for so long starts anew.
const FORGET: Duration = Duration::from_secs(600);
/// So many addresses are remembered; beyond it those are forgotten that failed longest ago.
const ADDRESSES: usize = 4096;

struct Failures {
    count: u32,
    last: Instant,
}

impl Failures {
    fn wait(&self) -> Duration {
        match self.count.checked_sub(FREE) {
            None => Duration::ZERO,
            Some(beyond) => LONGEST.min(FIRST * 2_u32.saturating_pow(beyond.min(16))),
        }
    }
}

#[derive(Default)]
pub struct Throttle {
    failures: Mutex<HashMap<IpAddr, Failures>>,
}

impl Throttle {
    /// How long `address` has still to wait before it may try again; zero: it may.
    pub fn wait(&self, address: IpAddr, now: Instant) -> Duration {
        let failures = self.lock();
        failures
            .get(&household(address))
            .map_or(Duration::ZERO, |failed| {
                failed
                    .wait()
                    .saturating_sub(now.duration_since(failed.last))
            })
    }

    pub fn failed(&self, address: IpAddr, now: Instant) {
        let mut failures = self.lock();
        failures.retain(|_, failed| now.duration_since(failed.last) < FORGET);
        if failures.len() >= ADDRESSES
            && let Some(oldest) = failures
                .iter()
                .min_by_key(|(_, failed)| failed.last)
                .map(|(address, _)| *address)
        {
            failures.remove(&oldest);
        }
        let failed = failures.entry(household(address)).or_insert(Failures {
            count: 0,
            last: now,
        });
        failed.count = failed.count.saturating_add(1);
        failed.last = now;
    }

    pub fn succeeded(&self, address: IpAddr) {
        self.lock().remove(&household(address));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One household has 2⁶⁴ addresses of IPv6: they count as one.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(prefix))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn who_fails_often_waits_ever_longer_and_is_forgiven_in_time() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let (guesser, other) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..FREE {
            assert_eq!(throttle.wait(guesser, start), Duration::ZERO);
            throttle.failed(guesser, start);
        }
        assert_eq!(throttle.wait(guesser, start), FIRST);
        throttle.failed(guesser, start);
        assert_eq!(throttle.wait(guesser, start), FIRST * 2);
        assert_eq!(throttle.wait(other, start), Duration::ZERO);
        assert_eq!(throttle.wait(guesser, start + FIRST * 2), Duration::ZERO);
        for _ in 0..100 {
            throttle.failed(guesser, start);
        }
        assert_eq!(throttle.wait(guesser, start), LONGEST);
        throttle.failed(guesser, start + FORGET);
        assert_eq!(throttle.wait(guesser, start + FORGET), Duration::ZERO);
    }

    #[test]
    fn a_right_token_wipes_the_slate() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..=FREE {
            throttle.failed(address("192.0.2.1"), now);
        }
        throttle.succeeded(address("192.0.2.1"));
        assert_eq!(throttle.wait(address("192.0.2.1"), now), Duration::ZERO);
    }

    #[test]
    fn another_address_of_the_same_household_waits_with_it() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..=FREE {
            throttle.failed(address("2001:db8::1"), now);
        }
        assert!(throttle.wait(address("2001:db8::2"), now) > Duration::ZERO);
        assert_eq!(
            throttle.wait(address("2001:db8:0:1::1"), now),
            Duration::ZERO
        );
        for _ in 0..=FREE {
            throttle.failed(address("::ffff:192.0.2.1"), now);
        }
        assert!(throttle.wait(address("192.0.2.1"), now) > Duration::ZERO);
    }

    #[test]
    fn no_more_addresses_are_remembered_than_fit() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for i in 0..ADDRESSES as u32 + 10 {
            throttle.failed(
                IpAddr::from(i.to_be_bytes()),
                now + Duration::from_millis(i.into()),
            );
        }
        assert_eq!(throttle.lock().len(), ADDRESSES);
    }
}
