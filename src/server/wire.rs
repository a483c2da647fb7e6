//! One message of the protocol, from the bytes that a client sent: read where it can be read, and
//! otherwise refused in words, under the id that it came with.

use rmcp::model::{ClientJsonRpcMessage, ErrorData, RequestId};
use serde_json::Value;

use super::lenient;

/// What some bytes came to.
pub enum Heard {
    /// A message, and its text where that had to be mended before it could be read.
    Message(Box<ClientJsonRpcMessage>, Option<Vec<u8>>),
    Refused(ErrorData, Option<RequestId>),
    /// A notification that was wrong, or nothing at all: never answered.
    Nothing,
}

/// Reads the one message that `bytes` hold.
pub fn parse(bytes: &[u8]) -> Heard {
    let line = bytes
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(bytes)
        .trim_ascii();
    if line.is_empty() {
        return Heard::Nothing;
    }
    let mut mended = (line.len() < bytes.trim_ascii().len()).then(|| line.to_vec());
    let value = match serde_json::from_slice::<Value>(line) {
        Ok(value) => value,
        Err(error) => {
            let rescued = lenient::rescue(&String::from_utf8_lossy(line));
            match serde_json::from_str(&rescued.text) {
                Ok(value @ Value::Object(_)) => {
                    mended = Some(rescued.text.into_bytes());
                    value
                }
                _ => {
                    let problem = format!("not JSON: {error}");
                    return Heard::Refused(
                        ErrorData::parse_error(problem, None),
                        rescued.id.as_ref().and_then(request_id),
                    );
                }
            }
        }
    };
    let refused = |problem: &str| {
        let id = value.get("id").and_then(request_id);
        Heard::Refused(ErrorData::invalid_request(problem.to_owned(), None), id)
    };
    if !value.is_object() {
        return refused("a message is one JSON object; there are no batches");
    }
    // Written anew: a name that stands twice in an object is none in the value, and an error elsewhere.
    let mended = mended.map(|_| value.to_string().into_bytes());
    let is_notification = value.get("id").is_none() && value.get("method").is_some();
    match serde_json::from_value(value.clone()) {
        Ok(message) => Heard::Message(Box::new(message), mended),
        // Notifications are never answered, not even wrong ones.
        Err(_) if is_notification => Heard::Nothing,
        Err(_) => refused(
            "not a JSON-RPC 2.0 message: a request has jsonrpc \"2.0\", an id that is a whole \
             number or a text, a method, and params that are an object",
        ),
    }
}

fn request_id(id: &Value) -> Option<RequestId> {
    match id {
        Value::Number(n) => n.as_i64().map(RequestId::Number),
        Value::String(s) => Some(RequestId::String(s.as_str().into())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(line: &str) -> (i32, Option<RequestId>) {
        match parse(line.as_bytes()) {
            Heard::Refused(error, id) => (error.code.0, id),
            Heard::Message(message, _) => panic!("{line} was read as {message:?}"),
            Heard::Nothing => panic!("{line} was passed over"),
        }
    }

    #[test]
    fn what_is_no_message_is_refused_under_its_own_id() {
        let seven = Some(RequestId::Number(7));
        assert_eq!(refusal("nonsense"), (-32700, None));
        assert_eq!(
            refusal(r#"{"jsonrpc":"2.0","id":7,"method":"#),
            (-32700, seven.clone())
        );
        assert_eq!(
            refusal(r#"{"id":7,"method":"ping"}"#),
            (-32600, seven.clone())
        );
        assert_eq!(refusal(r#"{"jsonrpc":"2.0","id":7}"#), (-32600, seven));
        assert_eq!(
            refusal(r#"[{"jsonrpc":"2.0","id":7,"method":"ping"}]"#),
            (-32600, None)
        );
    }

    #[test]
    fn a_message_with_a_number_that_json_lacks_still_arrives() {
        let line = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"guidance":NaN}}}"#;
        let Heard::Message(_, Some(mended)) = parse(line.as_bytes()) else {
            panic!("it did not arrive, or as it was");
        };
        assert!(serde_json::from_slice::<Value>(&mended).is_ok());
        let twice = br#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping","params":{"a":NaN}}"#;
        let Heard::Message(_, Some(mended)) = parse(twice) else {
            panic!("it did not arrive, or as it was");
        };
        assert!(serde_json::from_slice::<ClientJsonRpcMessage>(&mended).is_ok());
        assert!(matches!(parse(b"\xef\xbb\xbf \r\n"), Heard::Nothing));
    }
}
