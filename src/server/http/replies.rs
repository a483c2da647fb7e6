//! What is answered in HTTP's own terms: refusals, and the other pages of the site.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use rmcp::model::{ErrorData, RequestId, ServerJsonRpcMessage};

pub type Body = BoxBody<Bytes, Infallible>;

pub fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    of(
        status,
        "text/plain; charset=utf-8",
        format!("{}\n", text.into()),
    )
}

/// A refusal that is no matter of the protocol: the token is missing or wrong.
pub fn unauthorized() -> Response<Body> {
    let mut refusal = text(
        StatusCode::UNAUTHORIZED,
        "Unauthorized: send the token that this server was started with as the header \
         `Authorization: Bearer TOKEN`",
    );
    let challenge = HeaderValue::from_static("Bearer realm=\"foreseed\"");
    refusal.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    refusal
}

/// A refusal that will not last.
pub fn later(status: StatusCode, why: &str, wait: Duration) -> Response<Body> {
    let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
    let mut refusal = text(status, format!("{why}; come back in {seconds} s"));
    refusal.headers_mut().insert(RETRY_AFTER, seconds.into());
    refusal
}

/// An error of the protocol about a message that could not be understood.
pub fn malformed(status: StatusCode, error: ErrorData, id: Option<RequestId>) -> Response<Body> {
    match serde_json::to_string(&ServerJsonRpcMessage::error(error, id)) {
        Ok(body) => of(status, "application/json", body),
        Err(error) => text(status, error.to_string()),
    }
}

pub fn of(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Full::from(body).boxed());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
