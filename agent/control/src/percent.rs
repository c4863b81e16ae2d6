//! Percent-encoding of values in a query (RFC 3986, section 2.1).

/// Writes every byte that is not unreserved, `/` or `:` as `%` and two hexadecimal digits.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Reads what [`encode`] writes, and any other text in which `%` begins an encoded byte; `None` where it
/// does not, or where the bytes are no UTF-8.
#[must_use]
pub fn decode(encoded: &str) -> Option<String> {
    let nibble = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let value = nibble(rest.next()?)? << 4 | nibble(rest.next()?)?;
        bytes.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{decode, encode};

    proptest! {
        #[test]
        fn text_encoded_is_the_text_decoded(text in ".{0,40}|[%+& =#a/]{0,20}") {
            let encoded = encode(&text);
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/:%".contains(&b);
            prop_assert!(encoded.bytes().all(is_plain), "{}", encoded);
            prop_assert_eq!(decode(&encoded), Some(text));
        }

        #[test]
        fn text_of_any_bytes_does_not_panic(text in "[%0-9a-fg]{0,20}|.{0,20}") {
            if let Some(decoded) = decode(&text) {
                prop_assert_eq!(decode(&encode(&decoded)), Some(decoded));
            }
        }
    }

    #[test]
    fn text_with_half_an_encoded_byte_is_refused() {
        assert_eq!(decode("a%2Fb%e2%82%ac"), Some("a/b\u{20ac}".to_owned()));
        for text in ["%", "%4", "a%4g", "%+4", "%ff", "%%20"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
