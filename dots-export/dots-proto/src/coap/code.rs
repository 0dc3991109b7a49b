use std::fmt;

/// A request method or response code (RFC 7252 §12.1): class in the upper three bits, detail in the lower five.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Code(pub u8);

impl Code {
    /// 0.00: an empty message.
    pub const EMPTY: Self = Self(0);
    /// 0.01.
    pub const GET: Self = Self(1);
    /// 0.02.
    pub const POST: Self = Self(2);
    /// 0.03.
    pub const PUT: Self = Self(3);
    /// 0.04.
    pub const DELETE: Self = Self(4);
    /// 2.01.
    pub const CREATED: Self = Self::of(2, 1);
    /// 2.02.
    pub const DELETED: Self = Self::of(2, 2);
    /// 2.04.
    pub const CHANGED: Self = Self::of(2, 4);
    /// 2.31 (RFC 7959).
    pub const CONTINUE: Self = Self::of(2, 31);
    /// 2.05.
    pub const CONTENT: Self = Self::of(2, 5);
    /// 4.00.
    pub const BAD_REQUEST: Self = Self::of(4, 0);
    /// 4.01.
    pub const UNAUTHORIZED: Self = Self::of(4, 1);
    /// 4.02.
    pub const BAD_OPTION: Self = Self::of(4, 2);
    /// 4.03.
    pub const FORBIDDEN: Self = Self::of(4, 3);
    /// 4.04.
    pub const NOT_FOUND: Self = Self::of(4, 4);
    /// 4.05.
    pub const METHOD_NOT_ALLOWED: Self = Self::of(4, 5);
    /// 4.06.
    pub const NOT_ACCEPTABLE: Self = Self::of(4, 6);
    /// 4.08 (RFC 7959).
    pub const REQUEST_ENTITY_INCOMPLETE: Self = Self::of(4, 8);
    /// 4.09 (RFC 8132).
    pub const CONFLICT: Self = Self::of(4, 9);
    /// 4.12.
    pub const PRECONDITION_FAILED: Self = Self::of(4, 12);
    /// 4.13.
    pub const REQUEST_ENTITY_TOO_LARGE: Self = Self::of(4, 13);
    /// 4.15.
    pub const UNSUPPORTED_CONTENT_FORMAT: Self = Self::of(4, 15);
    /// 4.22 (RFC 8132).
    pub const UNPROCESSABLE_ENTITY: Self = Self::of(4, 22);
    /// 5.00.
    pub const INTERNAL_SERVER_ERROR: Self = Self::of(5, 0);
    /// 5.03.
    pub const SERVICE_UNAVAILABLE: Self = Self::of(5, 3);
    /// 5.05.
    pub const PROXYING_NOT_SUPPORTED: Self = Self::of(5, 5);
    /// 5.08 (RFC 8768).
    pub const HOP_LIMIT_REACHED: Self = Self::of(5, 8);
    /// 7.01: capabilities and settings; this and the next four over streams alone (RFC 8323 §5).
    pub const CSM: Self = Self::of(7, 1);
    /// 7.02.
    pub const PING: Self = Self::of(7, 2);
    /// 7.03.
    pub const PONG: Self = Self::of(7, 3);
    /// 7.04.
    pub const RELEASE: Self = Self::of(7, 4);
    /// 7.05.
    pub const ABORT: Self = Self::of(7, 5);

    /// The code `class.detail`.
    #[must_use]
    pub const fn of(class: u8, detail: u8) -> Self {
        Self(class << 5 | detail & 0x1f)
    }

    /// 0 for requests, 2, 4 or 5 for responses.
    #[must_use]
    pub const fn class(self) -> u8 {
        self.0 >> 5
    }

    /// The part after the dot.
    #[must_use]
    pub const fn detail(self) -> u8 {
        self.0 & 0x1f
    }

    /// Whether this is a method.
    #[must_use]
    pub const fn is_request(self) -> bool {
        self.class() == 0 && self.0 != 0
    }

    /// Whether this is a response code.
    #[must_use]
    pub const fn is_response(self) -> bool {
        matches!(self.class(), 2 | 4 | 5)
    }

    /// Whether this is of the transport's own messages, 7.xx (RFC 8323 §5).
    #[must_use]
    pub const fn is_signal(self) -> bool {
        self.class() == 7
    }

    /// Whether this is 2.xx.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.class() == 2
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.class(), self.detail())
    }
}
