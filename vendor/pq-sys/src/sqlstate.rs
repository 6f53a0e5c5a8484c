//! Fanfare's addition: keeps the SQLSTATE that was read last, which diesel reads of every error and tells nobody.

use std::cell::Cell;
use std::ffi::CStr;
use std::os::raw::{c_char, c_int};

use crate::bindings;

thread_local! {
    static LAST: Cell<Option<[u8; 5]>> = const { Cell::new(None) };
}

/// libpq's function of this name; the SQLSTATE that it returns is kept for [`take_sqlstate`].
///
/// # Safety
/// As of libpq's: `res` is null or a result that was not cleared.
#[allow(non_snake_case)]
pub unsafe fn PQresultErrorField(res: *const bindings::PGresult, fieldcode: c_int) -> *mut c_char {
    let field = unsafe { bindings::PQresultErrorField(res, fieldcode) };
    if fieldcode == c_int::from(bindings::PG_DIAG_SQLSTATE) {
        let code = if field.is_null() { None } else { unsafe { CStr::from_ptr(field) }.to_bytes().try_into().ok() };
        LAST.set(code);
    }
    field
}

/// Returns the SQLSTATE that was read last on this thread, and forgets it.
pub fn take_sqlstate() -> Option<[u8; 5]> {
    LAST.take()
}
