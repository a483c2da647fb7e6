//! The bearer token: whoever may use the server from beyond this machine knows it.

use std::path::Path;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{Error, Result};

/// Shorter ones can be guessed: 16 characters of a random hexadecimal text hold 64 bits.
const SHORTEST: usize = 16;
const HOW_TO_MAKE: &str = "`openssl rand -hex 32` makes a good one";

/// A token that a client must send. Only its digest is kept, so that the token itself is in no
/// message, log or memory dump of ours, and two are compared in a time that tells nothing.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// `name` says where the token was given, for the error.
    pub fn new(name: &'static str, text: &str) -> Result<Self> {
        let text = text.trim();
        // What the header cannot carry would never match.
        if text.len() < SHORTEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::invalid(
                name,
                format!(
                    "a token of {} characters is too short, or has some that a header cannot carry",
                    text.chars().count()
                ),
                format!(
                    "Give at least {SHORTEST} visible ASCII characters without spaces; {HOW_TO_MAKE}"
                ),
            ));
        }
        Ok(Self(Sha256::digest(text).into()))
    }

    /// The token that `file` holds, without the white space around it.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).map_err(Error::file(file))?;
        Self::new("--token-file", &text)
    }

    /// Whether a request carries this token as `Authorization: Bearer TOKEN`.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let Some(sent) = headers.get(AUTHORIZATION) else {
            return false;
        };
        let sent = sent.as_bytes();
        // The scheme's name has no case (RFC 9110, section 11.1).
        let (scheme, sent) = sent.split_at(sent.len().min("Bearer ".len()));
        let known = self
            .0
            .ct_eq(&<[u8; 32]>::from(Sha256::digest(sent.trim_ascii())));
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(known)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0123456789abcdef";

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn only_the_very_token_opens() {
        let token = Token::new("t", TEXT).unwrap();
        assert!(token.is_in(&headers("Bearer 0123456789abcdef")));
        assert!(token.is_in(&headers("bearer 0123456789abcdef")));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "0123456789abcdef",
            "Basic 0123456789abcdef",
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcdef0",
        ] {
            assert!(!token.is_in(&headers(wrong)), "{wrong}");
        }
        assert!(!token.is_in(&HeaderMap::new()));
    }

    #[test]
    fn a_token_that_can_be_guessed_or_not_be_sent_is_refused_without_being_named() {
        for wrong in [
            "",
            "tiny",
            "has a space in it, see",
            "ümläute-ümläute-ümläute",
        ] {
            let error = Token::new("FORESEED_TOKEN", wrong).unwrap_err().to_string();
            assert!(error.contains("FORESEED_TOKEN") && error.contains("openssl"));
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn a_token_is_not_shown_and_its_file_may_end_with_a_line_break() {
        assert_eq!(format!("{:?}", Token::new("t", TEXT).unwrap()), "Token(..)");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{TEXT}\n")).unwrap();
        let token = Token::read(file.path()).unwrap();
        assert!(token.is_in(&headers("Bearer 0123456789abcdef")));
    }
}
