// SPDX-License-Identifier: MPL-2.0

//! A SIGBUS handler that is a good guest: it acts on our own mappings only.
//!
//! Touching a page past the end of a file that shrank raises SIGBUS. For an address inside a registered mapping the
//! handler puts zero pages over the hole, marks the mapping as lost and returns; every other fault goes to the
//! handler that was there before. It is installed once, with the first mapping, and never removed.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering};

use once_cell::sync::OnceCell;

/// One registered mapping. Slots are never freed, only used again: the handler may walk the list at any time.
struct Slot {
    used: AtomicBool,
    start: AtomicUsize,
    /// 0 = nothing registered. Stored last and cleared first, so that `start` belongs to it.
    end: AtomicUsize,
    protection: AtomicI32,
    lost: AtomicBool,
    next: *const Slot,
}

// SAFETY: `next` is written before the slot is published and never again, and points to a leaked slot or is null.
unsafe impl Sync for Slot {}

static SLOTS: AtomicPtr<Slot> = AtomicPtr::new(ptr::null_mut());
static PREVIOUS: OnceCell<libc::sigaction> = OnceCell::new();
static INSTALLED: OnceCell<()> = OnceCell::new();

/// Keeps a range of addresses registered.
pub(super) struct Guard(&'static Slot);

impl Guard {
    /// Registers `[start, start + len)`, mapped with `protection`, and installs the handler with the first one.
    pub(super) fn new(start: usize, len: usize, protection: i32) -> io::Result<Self> {
        INSTALLED.get_or_try_init(install)?;
        let slot = claim();
        slot.lost.store(false, Ordering::Relaxed);
        slot.protection.store(protection, Ordering::Relaxed);
        slot.start.store(start, Ordering::Relaxed);
        // Pairs with the Acquire in `on_sigbus`: who sees this end sees this start.
        slot.end.store(start + len, Ordering::Release);
        Ok(Self(slot))
    }

    /// Whether pages of the range were found missing.
    pub(super) fn lost(&self) -> bool {
        self.0.lost.load(Ordering::Acquire)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.end.store(0, Ordering::Release);
        // Pairs with the Acquire in `claim`: the next user's stores come after this one.
        self.0.used.store(false, Ordering::Release);
    }
}

fn slots() -> impl Iterator<Item = &'static Slot> {
    let mut at = SLOTS.load(Ordering::Acquire).cast_const();
    std::iter::from_fn(move || {
        // SAFETY: slots are leaked, so a non-null pointer stays valid; `next` never changes once published.
        let slot = unsafe { at.as_ref() }?;
        at = slot.next;
        Some(slot)
    })
}

fn claim() -> &'static Slot {
    let free = slots().find(|slot| !slot.used.swap(true, Ordering::Acquire));
    free.unwrap_or_else(|| {
        let slot = Box::leak(Box::new(Slot {
            used: AtomicBool::new(true),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            protection: AtomicI32::new(0),
            lost: AtomicBool::new(false),
            next: ptr::null(),
        }));
        let mut head = SLOTS.load(Ordering::Acquire);
        loop {
            slot.next = head;
            // Release publishes `next` with the slot; pairs with the Acquire in `slots`.
            match SLOTS.compare_exchange_weak(head, slot, Ordering::Release, Ordering::Acquire) {
                Ok(_) => return slot,
                Err(current) => head = current,
            }
        }
    })
}

fn install() -> io::Result<()> {
    // The previous handler is known before ours can run.
    PREVIOUS.get_or_try_init(|| {
        let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: with a null `act` the call only writes the current action to `previous`.
        match unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), previous.as_mut_ptr()) } {
            // SAFETY: written by the kernel, and all-zero bytes are valid for the rest.
            0 => Ok(unsafe { previous.assume_init() }),
            _ => Err(io::Error::last_os_error()),
        }
    })?;
    // SAFETY: all-zero bytes are a valid sigaction; the mask is emptied by being zero.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: `action` is initialised and names a handler of the SA_SIGINFO form that only makes
    // async-signal-safe calls.
    match unsafe { libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands an SA_SIGINFO handler a valid siginfo; for BUS_ADRERR it holds an address.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    if code == libc::BUS_ADRERR && fill_hole(address) {
        return;
    }
    pass_on(signal, code, info, context);
}

/// Puts zero pages over a registered mapping from `address`'s page to its end.
fn fill_hole(address: usize) -> bool {
    let inside = |slot: &&Slot| {
        let end = slot.end.load(Ordering::Acquire);
        (slot.start.load(Ordering::Relaxed)..end).contains(&address)
    };
    let Some(slot) = slots().find(inside) else { return false };
    let page = address & !(rustix::param::page_size() - 1);
    let len = slot.end.load(Ordering::Relaxed) - page;
    // SAFETY: errno is this thread's own; the interrupted code must not see it change.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: the range lies inside a mapping that its `Guard` owner keeps mapped while it is registered, and only
    // raw pointers are ever formed to it; the pages replaced lie past the end of the file.
    let mapped = unsafe {
        libc::mmap(
            page as *mut libc::c_void,
            len,
            slot.protection.load(Ordering::Relaxed),
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
    slot.lost.store(true, Ordering::Release);
    mapped != libc::MAP_FAILED
}

fn pass_on(signal: libc::c_int, code: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Some(previous) = PREVIOUS.get() else { return };
    match previous.sa_sigaction {
        libc::SIG_IGN if code <= 0 => (),
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: setting the default action is async-signal-safe. A real fault happens again on return and then
            // ends the process; a signal that somebody sent is raised again.
            unsafe {
                libc::signal(signal, libc::SIG_DFL);
                if code <= 0 {
                    libc::raise(signal);
                }
            }
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: the flag says that the handler has this form.
            let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: without SA_SIGINFO a handler has this form.
            let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
    }
}
