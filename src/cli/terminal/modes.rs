//! What a program has switched on in the user's terminal by what it printed, and how that is switched off again: for a
//! session that ends without its command having had the time to. Pure.
//!
//! Only what is seen to be on is ever switched off, so nothing is printed for a program that tidied up. What no terminal
//! has by default (mouse reports, the alternate screen, …) is told from what it has (the cursor, …) by a short list.

use std::collections::BTreeSet;

use memchr::memchr3;

/// Private modes that are on by default: lines wrap, keys repeat, the cursor is there.
const USUALLY_ON: [u16; 3] = [7, 8, 25];

/// Private modes that are left alone: what is usual differs, or switching clears or moves something.
const LEFT_ALONE: [u16; 5] = [3, 12, 1007, 1048, 8452];

/// Private modes that have another screen shown.
const SCREENS: [u16; 3] = [47, 1047, 1049];

/// The most modes that are kept in mind, and bytes of a sequence. No program has as many.
const MOST: usize = 64;

/// The most titles that a terminal puts aside: xterm's number.
const MOST_TITLES: usize = 10;

/// Ends a string, and whatever was begun.
const END: &str = "\x1b\\";

/// See the [module](self).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Modes {
    place: Place,
    /// Private modes that are not as they usually are.
    private: BTreeSet<u16>,
    /// Modes of ECMA-48 that are on.
    ansi: BTreeSet<u16>,
    /// The keypad sends sequences of its own.
    keypad: bool,
    /// Colours, bold type and the like.
    style: bool,
    /// Letters are another alphabet's, of lines or so.
    alphabet: bool,
    /// Only some lines scroll.
    margins: bool,
    /// The cursor has another shape.
    cursor: bool,
    /// Modified keys are reported as xterm does.
    modified_keys: bool,
    /// How often keys' reports were changed as kitty does it, and not changed back.
    keys_pushed: u16,
    /// They were set to something without that.
    keys_set: bool,
    /// Colours of the terminal's own that are others now: text, background, cursor…, by the number of the command.
    colours: BTreeSet<u16>,
    /// So are some of the palette.
    palette: bool,
    /// Titles that were put aside, and which: the window's, the icon's, both.
    titles: Vec<u16>,
    /// A progress is shown.
    progress: bool,
    /// What follows is a link.
    link: bool,
}

/// Where in a sequence the last byte was.
#[derive(Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Text,
    /// Behind ESC.
    Escape,
    /// Behind ESC and this byte, which one more follows.
    Charset(u8),
    /// Behind `ESC [`: all that came since.
    Control(Vec<u8>),
    /// Behind `ESC ]`: the command, as far as it is kept, up to BEL or ESC.
    Command(Vec<u8>),
    /// In a string that the terminal does not show: up to BEL or ESC.
    Hidden,
}

impl Modes {
    /// Takes what the terminal is shown next.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.place == Place::Text {
                // Nearly all is text.
                let Some(at) = memchr3(0x1b, 0x0e, 0x0f, bytes) else {
                    return;
                };
                match bytes[at] {
                    0x1b => self.place = Place::Escape,
                    shift => self.alphabet = shift == 0x0e,
                }
                bytes = &bytes[at + 1..];
                continue;
            }
            let (byte, rest) = (bytes[0], &bytes[1..]);
            bytes = rest;
            self.place = match (std::mem::take(&mut self.place), byte) {
                (Place::Hidden, 0x07) => Place::Text,
                (Place::Hidden, byte) if byte != 0x1b => Place::Hidden,
                (Place::Command(command), 0x07 | 0x1b) => {
                    self.command(&command);
                    match byte {
                        0x1b => Place::Escape,
                        _ => Place::Text,
                    }
                }
                (Place::Command(mut command), byte) if !matches!(byte, 0x18 | 0x1a) => {
                    if command.len() < MOST {
                        command.push(byte);
                    }
                    Place::Command(command)
                }
                (_, 0x1b) => Place::Escape,
                // These end any sequence.
                (_, 0x18 | 0x1a) => Place::Text,
                (Place::Escape, byte) => self.escape(byte),
                (Place::Charset(which), byte) => {
                    if which == b'(' {
                        self.alphabet = byte != b'B';
                    }
                    Place::Text
                }
                (Place::Control(mut parts), byte @ 0x20..0x40) => {
                    if parts.len() < MOST {
                        parts.push(byte);
                    }
                    Place::Control(parts)
                }
                (Place::Control(parts), byte @ 0x40..0x7f) => {
                    if parts.len() < MOST {
                        self.control(&parts, byte);
                    }
                    Place::Text
                }
                // Control characters in the middle are obeyed, and the sequence goes on.
                (Place::Control(parts), _) => Place::Control(parts),
                (Place::Text | Place::Hidden | Place::Command(_), _) => Place::Text,
            };
        }
    }

    fn escape(&mut self, byte: u8) -> Place {
        match byte {
            b'[' => return Place::Control(Vec::new()),
            b']' => return Place::Command(Vec::new()),
            b'P' | b'X' | b'^' | b'_' => return Place::Hidden,
            b' '..=b'/' => return Place::Charset(byte),
            b'=' => self.keypad = true,
            b'>' => self.keypad = false,
            // All is as it was in the beginning.
            b'c' => *self = Self::default(),
            _ => {}
        }
        Place::Text
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

    /// A command of the operating system's, as xterm calls it: a number, and what it is about.
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
            // Each further colour is that of the next number.
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

    /// What switches everything off that is on; empty if nothing is.
    pub fn off(&self) -> Vec<u8> {
        let mut off = String::new();
        // Else it would be a part of what was begun and never ended.
        if self.place != Place::Text {
            off += END;
        }
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
        // Before the screen that they are of is left.
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
            // The cursor would go to the corner.
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

/// Whether text has a style after these numbers, if it was `styled` before them. The numbers of a colour mean nothing else.
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
