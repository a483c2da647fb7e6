//! SentencePiece's model files, as far as a unigram tokenizer needs them.
//!
//! The file is a protocol buffer, `ModelProto` in `sentencepiece_model.proto`: pieces in field 1, each
//! with its text (1), score (2) and type (3), and in field 3 a normalizer with its character map (2).

/// The vocabulary of a `spiece.model`.
#[derive(Debug, PartialEq)]
pub struct SentencePieces {
    /// Texts and log-probabilities, by id.
    pub pieces: Vec<(String, f64)>,
    /// The id of what is not in the vocabulary.
    pub unknown: Option<usize>,
    /// What characters are replaced by, compiled; empty where nothing is.
    pub character_map: Vec<u8>,
}

/// `SentencePiece.Type.UNKNOWN`
const UNKNOWN: u64 = 2;

impl SentencePieces {
    /// `None` where the bytes are no such file.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut found = Self {
            pieces: Vec::new(),
            unknown: None,
            character_map: Vec::new(),
        };
        let mut model = Fields(bytes);
        while let Some(field) = model.next()? {
            match field {
                (1, Value::Bytes(piece)) => {
                    let (mut text, mut score) = (String::new(), 0.0);
                    let mut piece = Fields(piece);
                    while let Some(field) = piece.next()? {
                        match field {
                            (1, Value::Bytes(bytes)) => {
                                text = String::from_utf8(bytes.to_vec()).ok()?;
                            }
                            (2, Value::Four(bytes)) => score = f64::from(f32::from_le_bytes(bytes)),
                            (3, Value::Number(UNKNOWN)) => found.unknown = Some(found.pieces.len()),
                            _ => {}
                        }
                    }
                    found.pieces.push((text, score));
                }
                (3, Value::Bytes(normalizer)) => {
                    let mut normalizer = Fields(normalizer);
                    while let Some(field) = normalizer.next()? {
                        if let (2, Value::Bytes(map)) = field {
                            found.character_map = map.to_vec();
                        }
                    }
                }
                _ => {}
            }
        }
        (!found.pieces.is_empty()).then_some(found)
    }
}

/// The fields of a message that are still to be read.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Four([u8; 4]),
    Eight,
}

impl<'a> Fields<'a> {
    /// The next field's number and value, `Some(None)` at the end; `None` where the message is broken.
    fn next(&mut self) -> Option<Option<(u64, Value<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let key = self.number()?;
        let value = match key & 7 {
            0 => Value::Number(self.number()?),
            1 => {
                self.take(8)?;
                Value::Eight
            }
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Four(self.take(4)?.try_into().ok()?),
            _ => return None,
        };
        Some(Some((key >> 3, value)))
    }

    /// Seven bits a byte, the lowest first; the top bit says that more follow.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for i in 0..10 {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2, content.len() as u8];
        bytes.extend(content);
        bytes
    }

    fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        let mut bytes = field(1, text.as_bytes());
        bytes.push(2 << 3 | 5);
        bytes.extend(score.to_le_bytes());
        bytes.extend([3 << 3, kind]);
        field(1, &bytes)
    }

    #[test]
    fn pieces_scores_the_unknown_and_the_character_map_are_found() {
        let mut file = piece("<pad>", 0.0, 3);
        file.extend(piece("<unk>", 0.0, 2));
        file.extend(piece("▁a", -2.5, 1));
        // A trainer's settings lie between, and are passed over.
        file.extend(field(2, &[3 << 3, 1]));
        file.extend(field(3, &field(2, b"map")));
        let expected = SentencePieces {
            pieces: vec![
                ("<pad>".into(), 0.0),
                ("<unk>".into(), 0.0),
                ("▁a".into(), -2.5),
            ],
            unknown: Some(1),
            character_map: b"map".to_vec(),
        };
        assert_eq!(SentencePieces::parse(&file), Some(expected));
        assert_eq!(SentencePieces::parse(&file[..file.len() - 1]), None);
        for broken in [
            &b""[..],
            b"{}",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(SentencePieces::parse(broken), None);
        }
    }
}
