//! Tracks which modes a program's output has switched on in the user's terminal, and switches them off when the session
//! ends before the command could. Pure.
//!
//! Only modes that were seen to be on are switched off, so nothing is printed after a program that tidied up. A short
//! list names the modes that are on by default (the cursor, …); all others (mouse reports, the alternate screen, …) are
//! off by default.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

use std::collections::BTreeSet;

use memchr::memchr3;

/// Private modes that are on by default: lines wrap, keys repeat, the cursor is there.
const USUALLY_ON: [u16; 3] = [7, 8, 25];

/// Private modes that are not tracked: their default differs, or switching them clears or moves something.
const LEFT_ALONE: [u16; 5] = [3, 12, 1007, 1048, 8452];

/// Private modes that show the alternate screen.
const SCREENS: [u16; 3] = [47, 1047, 1049];

/// The most modes that are tracked, and the most bytes of a sequence; no program uses as many.
const MOST: usize = 64;

/// The most titles on a terminal's stack, as in xterm.
const MOST_TITLES: usize = 10;

/// The string terminator, which ends any sequence.
const END: &str = "\x1b\\";

/// The modes that are on: see the [module](self).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modes {
    place: SequenceState,
    /// Private modes that differ from their default.
    private: BTreeSet<u16>,
    /// Modes of ECMA-48 that are on.
    ansi: BTreeSet<u16>,
    /// The keypad is in application mode.
    keypad: bool,
    /// Text has colours, bold type or the like.
    style: bool,
    /// Another character set is selected, as for line drawing.
    alphabet: bool,
    /// A scroll region is set.
    margins: bool,
    /// The cursor has another shape.
    cursor: bool,
    /// Modified keys are reported as xterm does.
    modified_keys: bool,
    /// The depth of kitty's stack of keyboard modes.
    keys_pushed: u16,
    /// Kitty's keyboard mode was set without the stack.
    keys_set: bool,
    /// The terminal's own colours that were changed (text, background, cursor…), by the number of the command.
    colours: BTreeSet<u16>,
    /// Colours of the palette were changed.
    palette: bool,
    /// The stack of saved titles: the window's, the icon's, or both.
    titles: Vec<u16>,
    /// A progress indicator is shown.
    progress: bool,
    /// A hyperlink is open.
    link: bool,
}

/// The position of the last byte in an escape sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum SequenceState {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and this byte; one more follows.
    Charset(u8),
    /// After `ESC [`, with the bytes since.
    Control(Vec<u8>),
    /// After `ESC ]`, with the bytes of the command that are kept; ends with BEL or ESC.
    Command(Vec<u8>),
    /// In a string that the terminal does not show; ends with BEL or ESC.
    Hidden,
}

impl Modes {
    /// Takes the next bytes that are printed.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.place == SequenceState::Text {
                // Nearly all bytes are text.
                let Some(at) = memchr3(0x1b, 0x0e, 0x0f, bytes) else {
                    return;
                };
                match bytes[at] {
                    0x1b => self.place = SequenceState::Escape,
                    shift => self.alphabet = shift == 0x0e,
                }
                bytes = &bytes[at + 1..];
                continue;
            }
            let (byte, rest) = (bytes[0], &bytes[1..]);
            bytes = rest;
            self.place = match (std::mem::take(&mut self.place), byte) {
                (SequenceState::Hidden, 0x07) => SequenceState::Text,
                (SequenceState::Hidden, byte) if byte != 0x1b => SequenceState::Hidden,
                (SequenceState::Command(command), 0x07 | 0x1b) => {
                    self.command(&command);
                    match byte {
                        0x1b => SequenceState::Escape,
                        _ => SequenceState::Text,
                    }
                }
                (SequenceState::Command(mut command), byte) if !matches!(byte, 0x18 | 0x1a) => {
                    if command.len() < MOST {
                        command.push(byte);
                    }
                    SequenceState::Command(command)
                }
                (_, 0x1b) => SequenceState::Escape,
                // These end any sequence.
                (_, 0x18 | 0x1a) => SequenceState::Text,
                (SequenceState::Escape, byte) => self.escape(byte),
                (SequenceState::Charset(which), byte) => {
                    if which == b'(' {
                        self.alphabet = byte != b'B';
                    }
                    SequenceState::Text
                }
                (SequenceState::Control(mut parts), byte @ 0x20..0x40) => {
                    if parts.len() < MOST {
                        parts.push(byte);
                    }
                    SequenceState::Control(parts)
                }
                (SequenceState::Control(parts), byte @ 0x40..0x7f) => {
                    if parts.len() < MOST {
                        self.control(&parts, byte);
                    }
                    SequenceState::Text
                }
                // A control character inside a sequence takes effect, and the sequence goes on.
                (SequenceState::Control(parts), _) => SequenceState::Control(parts),
                (SequenceState::Text | SequenceState::Hidden | SequenceState::Command(_), _) => {
                    SequenceState::Text
                }
            };
        }
    }

    fn escape(&mut self, byte: u8) -> SequenceState {
        match byte {
            b'[' => return SequenceState::Control(Vec::new()),
            b']' => return SequenceState::Command(Vec::new()),
            b'P' | b'X' | b'^' | b'_' => return SequenceState::Hidden,
            b' '..=b'/' => return SequenceState::Charset(byte),
            b'=' => self.keypad = true,
            b'>' => self.keypad = false,
            // A full reset.
            b'c' => *self = Self::default(),
            _ => {}
        }
        SequenceState::Text
    }

    fn control(&mut self, parts: &[u8], last: u8) {
        let (prefix, rest) = match parts {
            [prefix @ b'<'..=b'?', rest @ ..] => (Some(*prefix), rest),
            rest => (None, rest),
        };
        let digits = rest.iter().position(|byte| (0x20..0x30).contains(byte));
        let (digits, between) = rest.split_at(digits.unwrap_or(rest.len()));
        let numbers: Vec<u16> = std::str::from_utf8(digits)
            .unwrap_or_default()
            .split(';')
            .map(|number| number.split(':').next().unwrap_or_default())
            .map(|number| number.parse().unwrap_or(0))
            .collect();
        let first = numbers[0];
        match (prefix, between, last) {
            (Some(b'?'), b"", b'h' | b'l') => {
                for number in numbers {
                    self.switch(number, last == b'h');
                }
            }
            (None, b"", b'h') if self.ansi.len() < MOST => self.ansi.extend(numbers),
            (None, b"", b'l') => self.ansi.retain(|number| !numbers.contains(number)),
            (None, b"", b'm') => self.style = styled(&numbers, self.style),
            (None, b"", b't') if first == 22 && self.titles.len() < MOST_TITLES => {
                self.titles.push(numbers.get(1).copied().unwrap_or(0));
            }
            (None, b"", b't') if first == 23 => drop(self.titles.pop()),
            (None, b"", b'r') => self.margins = !digits.is_empty(),
            (None, b" ", b'q') => self.cursor = first != 0,
            (None, b"!", b'p') => {
                let soft = [1, 6, 7, 25, 66, 69];
                self.private.retain(|number| !soft.contains(number));
                self.ansi.clear();
                (self.keypad, self.style, self.alphabet) = (false, false, false);
                self.margins = false;
            }
            (Some(b'>'), b"", b'm') if first == 4 => {
                self.modified_keys = numbers.get(1).is_some_and(|how| *how > 0);
            }
            (Some(b'>'), b"", b'u') => self.keys_pushed = self.keys_pushed.saturating_add(1),
            (Some(b'<'), b"", b'u') => {
                self.keys_pushed = self.keys_pushed.saturating_sub(first.max(1));
            }
            (Some(b'='), b"", b'u') => self.keys_set = first != 0,
            _ => {}
        }
    }

    /// An operating system command (OSC): a number and its parameters.
    fn command(&mut self, command: &[u8]) {
        let text = String::from_utf8_lossy(command);
        let (number, rest) = text.split_once(';').unwrap_or((&text, ""));
        match number.parse::<u16>() {
            Ok(4) => self.palette |= rest.split(';').skip(1).step_by(2).any(|it| it != "?"),
            Ok(104) => self.palette &= !rest.is_empty(),
            Ok(8) => {
                self.link = rest
                    .split_once(';')
                    .is_some_and(|(_, link)| !link.is_empty())
            }
            Ok(9) if rest.starts_with("4;") => self.progress = !rest.starts_with("4;0"),
            // Each further parameter is the colour of the next number.
            Ok(first @ 10..=19) => {
                let told = (first..=19).zip(rest.split(';'));
                let set = told.filter(|(_, colour)| !matches!(*colour, "" | "?"));
                self.colours.extend(set.map(|(number, _)| number));
            }
            Ok(number @ 110..=119) => drop(self.colours.remove(&(number - 100))),
            _ => {}
        }
    }

    fn switch(&mut self, number: u16, on: bool) {
        if LEFT_ALONE.contains(&number) || (1034..=1046).contains(&number) {
            return;
        }
        match on == USUALLY_ON.contains(&number) {
            true => drop(self.private.remove(&number)),
            false if self.private.len() < MOST => drop(self.private.insert(number)),
            false => {}
        }
    }

    /// The sequences that switch off all modes that are on; empty if none is.
    pub fn off(&self) -> Vec<u8> {
        if self.place == SequenceState::Text {
            return self.off_after_text();
        }
        // What follows would become part of the unfinished sequence; and a command takes effect when it is ended.
        let mut ended = self.clone();
        ended.feed(END.as_bytes());
        [END.as_bytes(), &ended.off_after_text()].concat()
    }

    fn off_after_text(&self) -> Vec<u8> {
        let mut off = String::new();
        if self.link {
            off += &format!("\x1b]8;;{END}");
        }
        for number in &self.colours {
            off += &format!("\x1b]{}{END}", number + 100);
        }
        if self.palette {
            off += &format!("\x1b]104{END}");
        }
        if self.progress {
            off += &format!("\x1b]9;4;0{END}");
        }
        let (screens, others): (Vec<u16>, Vec<u16>) = self
            .private
            .iter()
            .partition(|number| SCREENS.contains(number));
        // Before the alternate screen, to which they belong, is left.
        if self.keys_pushed > 0 {
            off += &format!("\x1b[<{}u", self.keys_pushed);
        }
        if self.keys_set {
            off += "\x1b[=0;1u";
        }
        if self.modified_keys {
            off += "\x1b[>4m";
        }
        for number in others {
            let usual = if USUALLY_ON.contains(&number) {
                'h'
            } else {
                'l'
            };
            off += &format!("\x1b[?{number}{usual}");
        }
        for number in &self.ansi {
            off += &format!("\x1b[{number}l");
        }
        for (is_on, sequence) in [
            (self.keypad, "\x1b>"),
            (self.cursor, "\x1b[0 q"),
            (self.alphabet, "\x1b(B\x0f"),
            (self.style, "\x1b[m"),
            // Resetting the scroll region moves the cursor, so it is saved and restored.
            (self.margins, "\x1b7\x1b[r\x1b8"),
        ] {
            if is_on {
                off += sequence;
            }
        }
        for which in self.titles.iter().rev() {
            off += &format!("\x1b[23;{which}t");
        }
        for number in screens {
            off += &format!("\x1b[?{number}l");
        }
        off.into_bytes()
    }
}

/// Whether text is styled after these SGR parameters, given whether it was `styled` before. The parameters of a colour
/// have no other meaning.
fn styled(numbers: &[u16], mut styled: bool) -> bool {
    let mut rest = numbers;
    while let [number, others @ ..] = rest {
        let colour = match (number, others) {
            (38 | 48 | 58, [5, ..]) => 2,
            (38 | 48 | 58, [2, ..]) => 4,
            _ => 0,
        };
        styled = *number != 0;
        rest = others.get(colour..).unwrap_or_default();
    }
    styled
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn left_on(printed: &[&str]) -> String {
        let mut modes = Modes::default();
        for piece in printed {
            modes.feed(piece.as_bytes());
        }
        String::from_utf8(modes.off()).unwrap()
    }

    #[test]
    fn what_is_on_is_switched_off() {
        for (printed, off) in [
            (
                "\x1b[?1049h\x1b[?1002;1006h",
                "\x1b[?1002l\x1b[?1006l\x1b[?1049l",
            ),
            ("\x1b[?25l\x1b[?1h\x1b=", "\x1b[?1l\x1b[?25h\x1b>"),
            ("\x1b[?2004h\x1b[?1004h", "\x1b[?1004l\x1b[?2004l"),
            ("\x1b[>1u\x1b[>5u", "\x1b[<2u"),
            ("\x1b[=1u", "\x1b[=0;1u"),
            ("\x1b[>4;2m", "\x1b[>4m"),
            ("\x1b[1;31m", "\x1b[m"),
            ("\x1b[38:2::1:2:3m", "\x1b[m"),
            ("\x1b(0", "\x1b(B\x0f"),
            ("\x0e", "\x1b(B\x0f"),
            ("\x1b[2;10r", "\x1b7\x1b[r\x1b8"),
            ("\x1b[4h", "\x1b[4l"),
            ("\x1b[5 q", "\x1b[0 q"),
            ("\x1b[38;5;0m", "\x1b[m"),
            ("\x1b[48;2;0;0;0m", "\x1b[m"),
            ("\x1b[0;58;5;0;1m", "\x1b[m"),
            ("\x1b]11;#000000\x07", "\x1b]111\x1b\\"),
            // A command that is ended takes effect.
            ("\x1b]11;#000000", "\x1b\\\x1b]111\x1b\\"),
            ("\x1b]4;1;red", "\x1b\\\x1b]104\x1b\\"),
            ("\x1b]10;red;blue\x1b\\", "\x1b]110\x1b\\\x1b]111\x1b\\"),
            (
                "\x1b]12;red\x07\x1b]4;1;red\x07",
                "\x1b]112\x1b\\\x1b]104\x1b\\",
            ),
            (
                "\x1b[22;0t\x1b]0;a title\x07\x1b[22;2t",
                "\x1b[23;2t\x1b[23;0t",
            ),
            ("\x1b]9;4;1;50\x07", "\x1b]9;4;0\x1b\\"),
            ("\x1b]8;;https://example.test/\x1b\\a", "\x1b]8;;\x1b\\"),
            // What is not finished would swallow what comes next.
            ("\x1b]0;a title", "\x1b\\"),
            ("\x1bPq#0", "\x1b\\"),
            ("\x1b[38;5", "\x1b\\"),
            ("\x1b[1m\x1b", "\x1b\\\x1b[m"),
        ] {
            assert_eq!(left_on(&[printed]), off, "{printed:?}");
        }
    }

    #[test]
    fn nothing_is_printed_for_a_program_that_tidied_up() {
        for printed in [
            "",
            "text – and more\r\n",
            "\x1b[?1049h\x1b[?1002h\x1b[?1002l\x1b[?1049l",
            "\x1b[?25l\x1b[?25h\x1b[?7h",
            "\x1b[1mbold\x1b[0m \x1b[31mred\x1b[m\x1b[1;0m",
            "\x1b[>1u\x1b[<u\x1b[>4;1m\x1b[>4m\x1b[>4;1m\x1b[>4;0m",
            "\x1b=\x1b>\x1b(0\x1b(B\x0e\x0f\x1b[1;2r\x1b[r",
            "\x1b[?1049h\x1b[?1000h\x1bc",
            "\x1b[?25l\x1b[?1h\x1b[1m\x1b[4h\x1b[!p",
            // What it is about is not what it seems.
            "\x1b]0;a title [?25l \x0e\x07",
            "\x1b]8;;https://example.test/\x1b\\a link\x1b]8;;\x1b\\",
            "\x1b]11;#fff\x07\x1b]111\x07\x1b]10;?\x07\x1b]4;1;?\x07\x1b]4;1;red\x07\x1b]104\x07",
            "\x1b]9;4;1;50\x07\x1b]9;4;0\x07\x1b]9;a note\x07\x1b[22;0t\x1b[23;0t",
            "\x1b[38;5;0;0m\x1b[48;2;0;0;0m\x1b[0m",
            "\x1bP$q\"p\x1b\\\x1b[6n\x1b[c\x1b[2J\x1b[?1$p\x1b[?3h",
            "\x1b[?10\x18h\x1b)0\x1b#8",
        ] {
            assert_eq!(left_on(&[printed]), "", "{printed:?}");
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_come(
            text in proptest::collection::vec(prop_oneof![
                Just("\x1b[?1049h".as_bytes().to_vec()),
                Just("\x1b[?25l\x0e".as_bytes().to_vec()),
                Just("\x1b]2;x\x1b\\\x1b]11;#000\x07".as_bytes().to_vec()),
                Just("\x1b[22;0t\x1b]8;;x\x07\x1b[38;5;0m".as_bytes().to_vec()),
                proptest::collection::vec(any::<u8>(), 0..5),
                "[\x1b\\[?;0-9hlmru>=]{0,8}".prop_map(String::into_bytes),
            ], 0..20),
            cut in 0usize..100,
        ) {
            let text = text.concat();
            let (mut whole, mut cut_up) = (Modes::default(), Modes::default());
            whole.feed(&text);
            let cut = cut.min(text.len());
            cut_up.feed(&text[..cut]);
            cut_up.feed(&text[cut..]);
            prop_assert_eq!(&whole, &cut_up);
            // What is printed to tidy up does.
            whole.feed(&whole.off());
            prop_assert_eq!(whole.off(), b"");
        }
    }
}
