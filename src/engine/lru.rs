//! What is kept under a memory budget: the least recently used goes first.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Values by key, each with its bytes and the time of its last use.
pub(super) struct Lru<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// Time of last use → key.
    order: BTreeMap<u64, K>,
    clock: u64,
    bytes: u64,
}

struct Entry<V> {
    value: V,
    bytes: u64,
    used: u64,
}

impl<K: Clone + Eq + Hash, V> Lru<K, V> {
    pub(super) fn new() -> Self {
        Self {
            entries: HashMap::new(),
            order: BTreeMap::new(),
            clock: 0,
            bytes: 0,
        }
    }

    /// Bytes of all values together.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Looks without counting it as a use.
    pub(super) fn peek(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// Takes the value out: it is no longer kept.
    pub(super) fn take(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.order.remove(&entry.used);
        self.bytes -= entry.bytes;
        Some(entry.value)
    }

    /// Keeps `value`, used just now, in place of what was there.
    pub(super) fn put(&mut self, key: K, value: V, bytes: u64) {
        self.take(&key);
        self.clock += 1;
        self.order.insert(self.clock, key.clone());
        self.bytes += bytes;
        let used = self.clock;
        self.entries.insert(key, Entry { value, bytes, used });
    }

    /// Counts as a use.
    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        let entry = self.entries.get_mut(key)?;
        self.order.remove(&entry.used);
        self.clock += 1;
        entry.used = self.clock;
        self.order.insert(self.clock, key.clone());
        Some(&entry.value)
    }

    /// Lightens the least recently used values until `budget` is kept, as far as that goes: `lighten`
    /// says how many bytes it took off.
    pub(super) fn lighten_to(&mut self, budget: u64, lighten: impl Fn(&mut V) -> u64) {
        for key in self.order.values() {
            if self.bytes <= budget {
                return;
            }
            if let Some(entry) = self.entries.get_mut(key) {
                let less = lighten(&mut entry.value).min(entry.bytes);
                entry.bytes -= less;
                self.bytes -= less;
            }
        }
    }

    /// Drops the least recently used values until `budget` is kept.
    pub(super) fn shrink_to(&mut self, budget: u64) {
        while self.bytes > budget {
            let Some((_, key)) = self.order.pop_first() else {
                return;
            };
            if let Some(entry) = self.entries.remove(&key) {
                self.bytes -= entry.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first_and_the_budget_is_kept() {
        let mut kept = Lru::new();
        for key in ["a", "b", "c"] {
            kept.put(key, key.to_uppercase(), 10);
        }
        assert_eq!(kept.get(&"a").map(String::as_str), Some("A"));
        kept.shrink_to(25);
        assert_eq!(kept.bytes(), 20);
        assert!(kept.peek(&"b").is_none());
        kept.shrink_to(10);
        assert!(kept.peek(&"a").is_some() && kept.peek(&"c").is_none());
    }

    #[test]
    fn a_replaced_or_taken_value_no_longer_counts() {
        let mut kept = Lru::new();
        kept.put("a", 1, 10);
        kept.put("a", 2, 30);
        assert_eq!((kept.bytes(), kept.peek(&"a")), (30, Some(&2)));
        assert_eq!(kept.take(&"a"), Some(2));
        assert_eq!((kept.bytes(), kept.take(&"a")), (0, None));
        kept.shrink_to(0);
    }
}
