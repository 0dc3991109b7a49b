//! The calls that the `openssl` crate lacks: DTLS timers and the stateless answer to a ClientHello. All `unsafe` is here.
#![allow(
    unsafe_code,
    reason = "see the crate's Cargo.toml: the one audited module"
)]

use std::ffi::{c_int, c_long, c_uint, c_void};
use std::time::Duration;

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::ssl::SslRef;
use openssl::x509::X509CrlRef;
use openssl::x509::store::X509StoreBuilderRef;
use openssl_sys::SSL;

const DTLS_CTRL_GET_TIMEOUT: c_int = 73;
const DTLS_CTRL_HANDLE_TIMEOUT: c_int = 74;

/// First retransmission of a flight, and the longest wait between two.
const FIRST_TIMEOUT: c_uint = 400_000;
const LONGEST_TIMEOUT: c_uint = 1_000_000;

/// Opaque `BIO_ADDR` of OpenSSL.
#[repr(C)]
struct BioAddr {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn DTLSv1_listen(ssl: *mut SSL, client: *mut BioAddr) -> c_int;
    fn DTLS_set_timer_cb(
        ssl: *mut SSL,
        callback: Option<extern "C" fn(*mut SSL, c_uint) -> c_uint>,
    );
    fn X509_STORE_add_crl(
        store: *mut openssl_sys::X509_STORE,
        crl: *mut openssl_sys::X509_CRL,
    ) -> c_int;
    fn SSL_SESSION_is_resumable(session: *const openssl_sys::SSL_SESSION) -> c_int;
    fn SSL_SESSION_has_ticket(session: *const openssl_sys::SSL_SESSION) -> c_int;
    fn BIO_ADDR_new() -> *mut BioAddr;
    fn BIO_ADDR_free(address: *mut BioAddr);
}

/// What [`listen`] made of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Listened {
    /// A ClientHello with a valid cookie.
    Verified,
    /// Something else; an answer may have been written.
    NotYet,
}

/// Reads the datagram that waits in the stream of `ssl`, and answers a ClientHello without a valid cookie by a
/// HelloVerifyRequest, without keeping anything (RFC 6347 §4.2.1).
pub(crate) fn listen(ssl: &SslRef) -> Listened {
    // SAFETY: `ssl` is a live SSL whose callbacks and stream outlive this call. The address is allocated and freed here;
    // OpenSSL only clears it, since our stream knows no addresses.
    let result = unsafe {
        let address = BIO_ADDR_new();
        if address.is_null() {
            return Listened::NotYet;
        }
        let result = DTLSv1_listen(ssl.as_ptr(), address);
        BIO_ADDR_free(address);
        result
    };
    // A failure leaves its reason in the thread's queue, where it would be taken for the next call's.
    drop(openssl::error::ErrorStack::get());
    if result == 1 {
        Listened::Verified
    } else {
        Listened::NotYet
    }
}

/// Time until the newest flight is due again; `None` while none is under way.
pub(crate) fn timeout(ssl: &SslRef) -> Option<Duration> {
    let mut left = libc::timeval {
        tv_sec: 0,
        tv_usec: 0,
    };
    // SAFETY: `ssl` is live, and the call writes one `timeval` to the pointer.
    let set = unsafe {
        let pointer: *mut c_void = (&raw mut left).cast();
        openssl_sys::SSL_ctrl(ssl.as_ptr(), DTLS_CTRL_GET_TIMEOUT, 0, pointer)
    };
    let micros = left
        .tv_sec
        .saturating_mul(1_000_000)
        .saturating_add(left.tv_usec);
    (set == 1).then(|| Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
}

/// Sends the newest flight again if it is due. `false` where OpenSSL has given up.
pub(crate) fn handle_timeout(ssl: &SslRef) -> bool {
    // SAFETY: `ssl` is live; the call takes no pointer.
    let result: c_long = unsafe {
        openssl_sys::SSL_ctrl(
            ssl.as_ptr(),
            DTLS_CTRL_HANDLE_TIMEOUT,
            0,
            std::ptr::null_mut(),
        )
    };
    drop(openssl::error::ErrorStack::get());
    result >= 0
}

/// Sets the waits between retransmissions: 400 ms, doubling to 1 s. OpenSSL's own begin at 1 s and go to a minute.
pub(crate) fn set_timer(ssl: &SslRef) {
    extern "C" fn next(_: *mut SSL, micros: c_uint) -> c_uint {
        match micros {
            0 => FIRST_TIMEOUT,
            passed => passed.saturating_mul(2).min(LONGEST_TIMEOUT),
        }
    }
    // SAFETY: `ssl` is live; the callback is a plain function that touches nothing.
    unsafe { DTLS_set_timer_cb(ssl.as_ptr(), Some(next)) }
}

/// Resumes a session.
pub(crate) fn set_session(ssl: &mut SslRef, session: &openssl::ssl::SslSessionRef) -> bool {
    // SAFETY: the call asks that the session came from the same context, which `Ticket` upholds by carrying the context.
    unsafe { ssl.set_session(session) }.is_ok()
}

/// Adds a revocation list to a store.
pub(crate) fn add_revocations(
    store: &mut X509StoreBuilderRef,
    list: &X509CrlRef,
) -> Result<(), ErrorStack> {
    // SAFETY: both are live; the store takes a reference of its own to the list.
    let added = unsafe { X509_STORE_add_crl(store.as_ptr(), list.as_ptr()) };
    if added == 1 {
        Ok(())
    } else {
        Err(ErrorStack::get())
    }
}

/// Whether a session can be resumed. With TLS 1.3 a ticket does that alone, and comes after the handshake.
pub(crate) fn is_resumable(session: &openssl::ssl::SslSessionRef) -> bool {
    let by_ticket_alone = session.protocol_version() == openssl::ssl::SslVersion::TLS1_3;
    // SAFETY: the session is live, and the calls only read.
    unsafe {
        SSL_SESSION_is_resumable(session.as_ptr()) == 1
            && (!by_ticket_alone || SSL_SESSION_has_ticket(session.as_ptr()) == 1)
    }
}
