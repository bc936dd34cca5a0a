//! The client's side of an attachment: decodes the supervisor's frames, and decides when to report activity.
//!
//! Pure: bytes and times come in; frames, reports and an end come out. The command line on the dyno's host has one, and
//! the bridge has one for each client that is elsewhere.

use std::time::{Duration, Instant};

use super::{BadFrame, Frame};

/// How many times the supervisor is told of activity in the time that the connection may be idle, which makes that time
/// exact to this fraction.
const REPORTS_PER_IDLE_TIME: u32 = 8;

/// The shortest time between two reports of activity.
const SHORTEST_REPORT: Duration = Duration::from_millis(10);

/// The longest head of the supervisor's response to the upgrade request, in bytes.
const LONGEST_HEAD: usize = 4096;

/// How long the output may stay open after the supervisor has died, which ends its sandbox.
pub const LOST_OUTPUT: Duration = Duration::from_secs(1);

/// The client's side of an attachment: see the [module](self).
#[derive(Debug, Default)]
pub struct Attachment {
    /// Received bytes that are not decoded yet.
    received: Vec<u8>,
    /// Whether the head of the response to the upgrade request is still to come.
    in_head: bool,
    /// Whether the command runs, or has run.
    up: bool,
    /// Whether the supervisor has sent how the command ended, or has closed the connection.
    over: bool,
    idle_timeout: Option<Duration>,
    /// When the supervisor was last told that bytes went through.
    told: Option<Instant>,
}

impl Attachment {
    /// An attachment before the supervisor's response to the upgrade request.
    pub fn before_response() -> Self {
        Self {
            in_head: true,
            ..Self::default()
        }
    }

    /// Takes bytes that the supervisor has sent.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next frame, if all of it is there. [`Frame::Up`] comes once.
    ///
    /// # Errors
    /// When the received bytes cannot become a frame.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, BadFrame> {
        if self.in_head {
            let head = self.received.get(..LONGEST_HEAD);
            match memchr::memmem::find(head.unwrap_or(&self.received), b"\r\n\r\n") {
                Some(end) => drop(self.received.drain(..end.saturating_add(4))),
                None if head.is_some() => {
                    return Err(BadFrame("the head of the response has no end"));
                }
                None => return Ok(None),
            }
            self.in_head = false;
        }
        while let Some((frame, length)) = Frame::decode(&self.received)? {
            self.received.drain(..length);
            match &frame {
                Frame::Up(_) if self.up => continue,
                Frame::Up(up) => {
                    self.up = true;
                    let idle = Duration::try_from_secs_f64(up.idle_timeout).ok();
                    self.idle_timeout = idle.filter(|idle| !idle.is_zero());
                }
                Frame::Exit(_) | Frame::Error(_) => self.over = true,
                Frame::Stopped => {}
            }
            return Ok(Some(frame));
        }
        Ok(None)
    }

    /// Notes that the supervisor has closed the connection. True if the dyno is lost: the supervisor did not send how it ended.
    pub fn close(&mut self) -> bool {
        !std::mem::replace(&mut self.over, true)
    }

    /// How long the connection may be without a byte; None if that is not limited, or not known yet.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout
    }

    /// The time between two reports of activity; None if there are to be none.
    pub fn report_interval(&self) -> Option<Duration> {
        let idle = self.idle_timeout.filter(|_| !self.over)?;
        let interval = idle.checked_div(REPORTS_PER_IDLE_TIME)?;
        Some(interval.max(SHORTEST_REPORT))
    }

    /// When the supervisor is to be told that bytes went through, the last ones at `moved`. None if it was.
    pub fn report_at(&self, moved: Instant) -> Option<Instant> {
        let interval = self.report_interval()?;
        match self.told {
            Some(told) if told >= moved => None,
            Some(told) => told.checked_add(interval),
            None => Some(moved),
        }
    }

    /// Whether the supervisor is to be told now; then it counts as told.
    pub fn report(&mut self, moved: Instant, now: Instant) -> bool {
        let is_due = self.report_at(moved).is_some_and(|at| at <= now);
        if is_due {
            self.told = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::dyno::Exit;
    use crate::wire::frame::{AttachRefusal, Up};

    fn up(idle_timeout: f64) -> Frame {
        Frame::Up(Up {
            terminal: false,
            one_output: false,
            job_control: false,
            idle_timeout,
        })
    }

    fn attached(idle_timeout: f64) -> Attachment {
        let mut attachment = Attachment::default();
        attachment.receive(&up(idle_timeout).encode());
        assert_eq!(attachment.next_frame(), Ok(Some(up(idle_timeout))));
        attachment
    }

    #[test]
    fn frames_follow_the_head_of_the_response_however_they_are_cut() {
        let exit = Frame::Exit(Exit::Status(3).into());
        let head = b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec();
        let bytes = [head, up(0.0).encode(), up(1.0).encode(), exit.encode()].concat();
        for cut in 0..bytes.len() {
            let mut attachment = Attachment::before_response();
            let mut frames = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                attachment.receive(part);
                while let Some(frame) = attachment.next_frame().unwrap() {
                    frames.push(frame);
                }
            }
            // There is one command, which is up once.
            assert_eq!(frames, [up(0.0), exit.clone()]);
        }
        let mut endless = Attachment::before_response();
        endless.receive(&[b'x'; LONGEST_HEAD + 1]);
        assert!(endless.next_frame().is_err());
        // One that ends later is no other if it comes at once.
        let mut late = Attachment::before_response();
        late.receive(&[&[b'x'; LONGEST_HEAD][..], b"\r\n\r\n"].concat());
        assert!(late.next_frame().is_err());
    }

    #[test]
    fn a_dyno_that_does_not_say_how_it_ended_is_lost() {
        assert!(attached(0.0).close());
        for last in [
            Frame::Exit(Exit::Status(0).into()),
            Frame::Error(AttachRefusal::new("no")),
        ] {
            let mut attachment = attached(0.0);
            attachment.receive(&last.encode());
            assert_eq!(attachment.next_frame(), Ok(Some(last)));
            assert!(!attachment.close());
        }
    }

    #[test]
    fn activity_is_told_at_once_and_then_eight_times_in_the_time_that_may_be_idle() {
        let seconds = |seconds| Duration::from_secs(seconds);
        let began = Instant::now();
        let mut attachment = attached(80.0);
        assert_eq!(attachment.idle_timeout(), Some(seconds(80)));
        assert!(attachment.report(began, began));
        assert_eq!(attachment.report_at(began), None);
        let moved = began + seconds(1);
        assert_eq!(attachment.report_at(moved), Some(began + seconds(10)));
        assert!(!attachment.report(moved, began + seconds(9)));
        assert!(attachment.report(moved, began + seconds(10)));
        assert_eq!(attached(0.001).report_interval(), Some(SHORTEST_REPORT));
        for unlimited in [0.0, -1.0] {
            assert_eq!(attached(unlimited).report_at(began), None);
        }
        attachment.close();
        assert_eq!(attachment.report_at(moved + seconds(60)), None);
    }
}
