//! Mutations inside a safetensors header. One that changes the header's length makes the length before it
//! wrong, and the file is refused before anything of it is looked at; here the length follows.

use libfuzzer_sys::fuzzer_mutate;

/// The reader's byte and the header's length stand before it.
const BEFORE: usize = 9;

/// Mutates `data[..size]` to at most `max_size` bytes, and gives the new size: every other time inside the
/// header, where there is one.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let Some(end) = header_end(&data[..size]).filter(|_| seed % 4 != 0) else {
        return fuzzer_mutate(data, size, max_size);
    };
    let behind = data[end..size].to_vec();
    let Some(most) = max_size.checked_sub(BEFORE + behind.len()) else {
        return fuzzer_mutate(data, size, max_size);
    };
    let mut header = data[BEFORE..end].to_vec();
    let length = header.len().min(most);
    header.resize(most.max(length), 0);
    let length = fuzzer_mutate(&mut header, length, most);
    let end = BEFORE + length;
    data[1..BEFORE].copy_from_slice(&(length as u64).to_le_bytes());
    data[BEFORE..end].copy_from_slice(&header[..length]);
    data[end..end + behind.len()].copy_from_slice(&behind);
    end + behind.len()
}

fn header_end(input: &[u8]) -> Option<usize> {
    let length = u64::from_le_bytes(input.get(1..BEFORE)?.try_into().ok()?);
    let end = usize::try_from(length).ok()?.checked_add(BEFORE)?;
    (input.get(BEFORE) == Some(&b'{') && end <= input.len()).then_some(end)
}
