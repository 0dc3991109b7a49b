use serde_json::Value;

use super::ClientError;

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The error that an answer outside 2xx tells.
    pub(super) fn refuse_errors(&self) -> Result<(), ClientError> {
        if (200..300).contains(&self.status) {
            return Ok(());
        }
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let text = |name: &str| {
            let found = body.pointer(&format!("/ietf-restconf:errors/error/0/{name}"));
            let text = found.and_then(Value::as_str).unwrap_or_default();
            text.chars().filter(|c| !c.is_control()).take(256).collect()
        };
        Err(ClientError::Refused {
            status: self.status,
            tag: text("error-tag"),
            message: text("error-message"),
        })
    }

    /// Whether a DELETE has found what it removes.
    pub(super) fn was_there(&self) -> Result<bool, ClientError> {
        if self.status == 404 {
            return Ok(false);
        }
        self.refuse_errors().map(|()| true)
    }

    /// Whether the server asks for a registration first (RFC 8783 §6.1). A parent that is not there says the same
    /// (RFC 8040 §3.5).
    pub(super) fn wants_registration(&self) -> bool {
        matches!(self.status, 403 | 404)
    }

    /// The value of the body's only member.
    pub(super) fn member(&self, name: &str) -> Result<Value, ClientError> {
        self.refuse_errors()?;
        let mut body: Value = serde_json::from_slice(&self.body)
            .map_err(|error| ClientError::Answer(error.to_string()))?;
        let found = body.get_mut(name).map(Value::take);
        found.ok_or_else(|| ClientError::Answer(format!("it has no {name}")))
    }
}
