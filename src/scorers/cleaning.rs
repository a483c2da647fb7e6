//! A prompt as OpenCLIP's own tokenizer cleans it before it looks for words, as far as prompts need
//! it. Text that was decoded by the wrong table, which `ftfy` repairs by guessing, stays as it is.

/// Typographic quotes, ligatures and full-width letters made plain (`ftfy`), then character
/// references resolved twice (`html.unescape`).
pub fn cleaned(prompt: &str) -> String {
    let mut plain = String::with_capacity(prompt.len());
    for c in prompt.chars() {
        match c {
            '\u{2bc}' | '\u{2018}'..='\u{201b}' => plain.push('\''),
            '\u{201c}'..='\u{201f}' => plain.push('"'),
            'ﬀ' => plain.push_str("ff"),
            'ﬁ' => plain.push_str("fi"),
            'ﬂ' => plain.push_str("fl"),
            'ﬃ' => plain.push_str("ffi"),
            'ﬄ' => plain.push_str("ffl"),
            'ﬅ' => plain.push_str("ſt"),
            'ﬆ' => plain.push_str("st"),
            '\u{3000}' => plain.push(' '),
            // Full-width forms of ASCII, in its order.
            '\u{ff01}'..='\u{ff5e}' => {
                plain.push(char::from_u32(c as u32 - 0xff01 + 0x21).unwrap_or(c));
            }
            c => plain.push(c),
        }
    }
    unescaped(&unescaped(&plain))
}

/// The references that stand in prompts copied out of pages.
const NAMED: [(&str, char); 6] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("nbsp", '\u{a0}'),
];

/// The longest reference, between "&" and ";".
const LONGEST: usize = 10;

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut left = text;
    while let Some(start) = left.find('&') {
        out.push_str(&left[..start]);
        left = &left[start..];
        let end = left.find(';').filter(|end| *end <= LONGEST);
        match end.and_then(|end| Some((end, referred(&left[1..end])?))) {
            Some((end, c)) => {
                out.push(c);
                left = &left[end + 1..];
            }
            None => {
                out.push('&');
                left = &left[1..];
            }
        }
    }
    out + left
}

fn referred(name: &str) -> Option<char> {
    let Some(number) = name.strip_prefix('#') else {
        return Some(NAMED.iter().find(|(known, _)| *known == name)?.1);
    };
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => number.parse().ok()?,
    };
    char::from_u32(code).filter(|c| *c != '\0')
}

#[cfg(test)]
mod tests {
    use super::cleaned;

    #[test]
    fn quotes_and_references_become_plain_and_the_rest_stays() {
        for (prompt, plain) in [
            ("the “red” fox’s tail", "the \"red\" fox's tail"),
            ("salt &amp; pepper &amp;lt;3", "salt & pepper <3"),
            ("&#39;a&#x27; ＡＢ ﬁre", "'a' AB fire"),
            ("a & b; c &nothing; &", "a & b; c &nothing; &"),
            ("naïve 猫 café", "naïve 猫 café"),
        ] {
            assert_eq!(cleaned(prompt), plain);
        }
    }
}
