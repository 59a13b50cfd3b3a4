//! Answers: [`Response`] for what went well, [`ApiError`] for what did not, and the only mapping of errors to HTTP.
//!
//! Every non-2xx has the same envelope:
//! `{"success":false,"error":{"message","code","details"?,"validation_errors"?},"request_id"}`.

use super::{rbac::Permission, request::RequestId};
use crate::domain::ids::TenantId;
use bytes::Bytes;
use hyper::{
    HeaderMap, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use serde::Serialize;
use std::{borrow::Cow, fmt};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A successful answer.
#[derive(Debug)]
pub struct Response(warp::reply::Response);

impl Response {
    /// A JSON document. A value that cannot be serialized is a programming error and is answered as 500.
    pub fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(value).map_err(|e| ApiError::internal().caused_by(e))?;
        Ok(Self::bytes(status, JSON, body))
    }

    /// 200 with a JSON document.
    pub fn ok<T: Serialize + ?Sized>(value: &T) -> Result<Self, ApiError> {
        Self::json(StatusCode::OK, value)
    }

    /// 201 with a JSON document.
    pub fn created<T: Serialize + ?Sized>(value: &T) -> Result<Self, ApiError> {
        Self::json(StatusCode::CREATED, value)
    }

    /// A body that is already made, such as a stored answer of an idempotent request, a page or a CSV file.
    pub fn bytes(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Self {
        let mut response = warp::reply::Response::new(body.into().into());
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        Self(response)
    }

    /// A JSON document that is already text.
    pub fn raw_json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::bytes(status, JSON, body)
    }

    /// A status without a body.
    pub fn empty(status: StatusCode) -> Self {
        let mut response = warp::reply::Response::default();
        *response.status_mut() = status;
        Self(response)
    }

    /// An answer warp made, such as an event stream.
    pub fn from_warp(reply: impl warp::Reply) -> Self {
        Self(reply.into_response())
    }

    /// With one more header, replacing an equal one.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers_mut().insert(name, value);
        self
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// Its headers.
    pub fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    /// As warp sends it.
    pub fn into_warp(self) -> warp::reply::Response {
        self.0
    }
}

/// One thing wrong with one field of the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where, such as `items[2].cantidad`.
    pub field: String,
    /// What, for a person.
    pub message: Cow<'static, str>,
    /// What, for a program.
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
}

/// Why a request was refused. Boxed, so that `Result<T, ApiError>` stays one word wider than `T`.
#[derive(Debug)]
pub struct ApiError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    details: Option<serde_json::Value>,
    validation_errors: Vec<FieldError>,
    retry_after: Option<u32>,
    allow: Option<HeaderValue>,
    cause: Option<String>,
    tenant: Option<TenantId>,
    is_news: bool,
}

impl ApiError {
    /// Any refusal. `code` is snake_case Spanish for programs, `message` Spanish for people.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            status,
            code,
            message: message.into(),
            details: None,
            validation_errors: Vec::new(),
            retry_after: None,
            allow: None,
            cause: None,
            tenant: None,
            is_news: true,
        }))
    }

    /// 400: the request cannot be read.
    pub fn bad_request(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 401, with the challenge.
    pub fn unauthorized(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, message)
    }

    /// 403 for want of a permission, which it names.
    pub fn forbidden(permission: Permission) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permiso_denegado", format!("Falta el permiso {permission}"))
            .with_details(serde_json::json!({ "permiso": permission.name() }))
    }

    /// 404.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_encontrado", message)
    }

    /// 405, with the methods that would do.
    pub fn method_not_allowed(allow: HeaderValue) -> Self {
        let mut error = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "metodo_no_permitido",
            "Método no permitido en esta ruta",
        );
        error.0.allow = Some(allow);
        error
    }

    /// 409.
    pub fn conflict(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// 422 for a list of fields.
    pub fn validation(errors: Vec<FieldError>) -> Self {
        let mut error =
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validacion", "Los datos enviados no son válidos");
        error.0.validation_errors = errors;
        error
    }

    /// 422 for one field.
    pub fn field(
        field: impl Into<String>,
        kind: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::validation(vec![FieldError { field: field.into(), message: message.into(), kind: kind.into() }])
    }

    /// 429: the caller is too fast.
    pub fn too_many_requests(retry_after_secs: u32) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "demasiadas_solicitudes", "Demasiadas solicitudes")
            .with_retry_after(retry_after_secs)
    }

    /// 503: we are too slow, or something we need is down.
    pub fn unavailable(
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
        retry_after_secs: u32,
    ) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message).with_retry_after(retry_after_secs)
    }

    /// 503 to a probe that asks whether this node is ready. It is no news: why it is not has been logged where it began.
    pub fn not_ready(message: &'static str, retry_after_secs: u32) -> Self {
        let mut error = Self::unavailable("no_lista", message, retry_after_secs);
        error.0.is_news = false;
        error
    }

    /// 500. Says nothing about the inside; give it the reason with [`ApiError::caused_by`], which is logged.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "error_interno", "Error interno")
    }

    /// With `details` in the envelope.
    #[must_use]
    pub fn with_details(mut self, details: serde_json::Value) -> Self {
        self.0.details = Some(details);
        self
    }

    /// With a `Retry-After` header.
    #[must_use]
    pub fn with_retry_after(mut self, secs: u32) -> Self {
        self.0.retry_after = Some(secs);
        self
    }

    /// With the caller's tenant, for the log.
    #[must_use]
    pub fn of_tenant(mut self, tenant: Option<TenantId>) -> Self {
        self.0.tenant = tenant;
        self
    }

    /// With a reason for the log. It never leaves the house.
    #[must_use]
    pub fn caused_by(mut self, cause: impl fmt::Display) -> Self {
        self.0.cause = Some(cause.to_string());
        self
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Its code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// What is wrong with which field, if that is what is wrong.
    pub fn validation_errors(&self) -> &[FieldError] {
        &self.0.validation_errors
    }

    /// The caller's tenant, if it is known.
    pub(super) fn tenant(&self) -> Option<TenantId> {
        self.0.tenant
    }

    /// The reason for the log.
    pub(super) fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// Whether it belongs into the log.
    pub(super) fn is_news(&self) -> bool {
        self.0.is_news
    }

    /// The envelope.
    pub(super) fn envelope(&self, request_id: &RequestId) -> Vec<u8> {
        #[derive(Serialize)]
        struct Envelope<'a> {
            success: bool,
            error: Body<'a>,
            request_id: &'a str,
        }
        #[derive(Serialize)]
        struct Body<'a> {
            message: &'a str,
            code: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            details: Option<&'a serde_json::Value>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            validation_errors: &'a [FieldError],
        }
        let error = Body {
            message: &self.0.message,
            code: self.0.code,
            details: self.0.details.as_ref(),
            validation_errors: &self.0.validation_errors,
        };
        let envelope = Envelope { success: false, error, request_id: request_id.as_str() };
        // Strings and an already parsed Value always serialize; the fallback only keeps the signature honest.
        serde_json::to_vec(&envelope).unwrap_or_else(|_| br#"{"success":false}"#.to_vec())
    }

    /// The answer, envelope and headers.
    pub(super) fn into_response(self, request_id: &RequestId) -> Response {
        let mut response = Response::raw_json(self.0.status, self.envelope(request_id));
        let headers = response.0.headers_mut();
        if self.0.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(secs) = self.0.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        if let Some(allow) = self.0.allow {
            headers.insert(header::ALLOW, allow);
        }
        response
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.0.status.as_u16(), self.0.code, self.0.message)
    }
}

impl std::error::Error for ApiError {}
