//! Errors as RESTCONF tells them (RFC 8040 §7).

use serde_json::{Value, json};

use super::message::Response;
use crate::model::{BodyFault, FaultKind};
use crate::store::StoreError;

/// The `error-tag` values in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tag {
    AccessDenied,
    InvalidValue,
    MalformedMessage,
    MissingAttribute,
    OperationFailed,
    OperationNotSupported,
    ResourceDenied,
    TooBig,
    UnknownElement,
}

impl Tag {
    fn name(self) -> &'static str {
        match self {
            Self::AccessDenied => "access-denied",
            Self::InvalidValue => "invalid-value",
            Self::MalformedMessage => "malformed-message",
            Self::MissingAttribute => "missing-attribute",
            Self::OperationFailed => "operation-failed",
            Self::OperationNotSupported => "operation-not-supported",
            Self::ResourceDenied => "resource-denied",
            Self::TooBig => "too-big",
            Self::UnknownElement => "unknown-element",
        }
    }
}

/// Why a request is not answered with what it asks for.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Refusal {
    status: u16,
    layer: &'static str,
    tag: Tag,
    app_tag: Option<&'static str>,
    message: String,
    info: Option<Box<Value>>,
    retry_after: Option<u32>,
}

impl Refusal {
    fn new(status: u16, layer: &'static str, tag: Tag, message: &str) -> Self {
        Self {
            status,
            layer,
            tag,
            app_tag: None,
            message: message.to_owned(),
            info: None,
            retry_after: None,
        }
    }

    /// 400.
    pub(super) fn bad(tag: Tag, message: &str) -> Self {
        Self::new(400, "protocol", tag, message)
    }

    /// 403: what the peer may not, or may not before it has registered.
    pub(super) fn denied(message: &str) -> Self {
        Self::new(403, "protocol", Tag::AccessDenied, message)
    }

    /// 404.
    pub(super) fn not_found() -> Self {
        Self::new(
            404,
            "protocol",
            Tag::InvalidValue,
            "there is no such resource",
        )
    }

    /// 405.
    pub(super) fn not_supported() -> Self {
        let message = "the method is not for this resource";
        Self::new(405, "protocol", Tag::OperationNotSupported, message)
    }

    /// 406.
    pub(super) fn not_acceptable() -> Self {
        let message = "only application/yang-data+json is served";
        Self::new(406, "protocol", Tag::InvalidValue, message)
    }

    /// 408.
    pub(super) fn too_slow() -> Self {
        Self::new(
            408,
            "transport",
            Tag::OperationFailed,
            "the body did not come in time",
        )
    }

    /// 500.
    pub(super) fn not_kept() -> Self {
        let message = "the change cannot be kept over a restart";
        Self::new(500, "application", Tag::OperationFailed, message)
    }

    /// 409: it is there already, or there is no room for it.
    pub(super) fn exists(message: &str) -> Self {
        Self::new(409, "application", Tag::ResourceDenied, message)
    }

    /// 412.
    pub(super) fn changed() -> Self {
        let message = "the resource has changed since it was read";
        Self::new(412, "protocol", Tag::OperationFailed, message)
    }

    /// 413.
    pub(super) fn too_big() -> Self {
        Self::new(413, "transport", Tag::TooBig, "the body is too large")
    }

    /// 415.
    pub(super) fn media_type() -> Self {
        let message = "only application/yang-data+json is understood";
        Self::new(415, "protocol", Tag::InvalidValue, message)
    }

    /// 429 (RFC 6585 §4).
    pub(super) fn too_many() -> Self {
        let message = "the client asks too often";
        let mut refusal = Self::new(429, "protocol", Tag::ResourceDenied, message);
        refusal.retry_after = Some(60);
        refusal
    }

    /// 508, with a copy of the field in which the loop shows (RFC 8783 §3.4).
    pub(super) fn looped(via: &str) -> Self {
        let message = "an infinite loop was detected when forwarding a request via a proxy";
        let mut refusal = Self::new(508, "transport", Tag::OperationFailed, message);
        refusal.app_tag = Some("loop-detected");
        refusal.info = Some(Box::new(json!({ "via-header": via })));
        refusal
    }

    pub(super) fn response(&self) -> Response {
        let mut error = json!({
            "error-type": self.layer,
            "error-tag": self.tag.name(),
            "error-message": self.message,
        });
        if let Some(members) = error.as_object_mut() {
            if let Some(tag) = self.app_tag {
                members.insert("error-app-tag".to_owned(), tag.into());
            }
            if let Some(info) = &self.info {
                members.insert("error-info".to_owned(), Value::clone(info));
            }
        }
        let errors = json!({ "ietf-restconf:errors": { "error": [error] } });
        let response = Response::json(self.status, &errors);
        match self.retry_after {
            Some(seconds) => response.with("retry-after", seconds.to_string()),
            None => response,
        }
    }
}

impl From<BodyFault> for Refusal {
    fn from(fault: BodyFault) -> Self {
        let tag = match fault.kind {
            FaultKind::MissingAttribute => Tag::MissingAttribute,
            FaultKind::InvalidValue => Tag::InvalidValue,
            FaultKind::UnknownElement => Tag::UnknownElement,
        };
        Self::new(400, "application", tag, &fault.to_string())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Body(fault) => fault.into(),
            StoreError::NotRegistered(_) | StoreError::NoCdid(_) => {
                Self::denied(&format!("{error}: register first"))
            }
            StoreError::ClientExists(_)
            | StoreError::Quota { .. }
            | StoreError::Conflict { .. } => Self::exists(&error.to_string()),
        }
    }
}
