//! What the client of a session asks for, whatever its protocol.

use crate::model::window::WindowSize;

/// What the client asked for, beside bytes for the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClientRequests {
    /// Its input has ended: with pipes, the command's input is to be closed once all bytes before are written.
    pub end: bool,
    /// Interrupt the command, as by Ctrl-C.
    pub interrupt: bool,
    /// Continue the stopped command.
    pub go_on: bool,
    /// Ctrl-Z was typed.
    pub watch_for_stop: bool,
    /// The window has this new size.
    pub window: Option<WindowSize>,
    /// Which outputs it no longer reads: the first, the second.
    pub unread: [bool; 2],
}
