//! What is run: commands of all kinds, of which it is known what they do when nobody disturbs them.

use crate::random::Random;

/// A command to be run in a one-off dyno.
#[derive(Debug, Clone)]
pub struct Job {
    pub number: usize,
    pub way: Way,
    kind: Kind,
    /// What it exits with, unless a signal ends it.
    status: u8,
}

/// How it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `dyno run`, between pipes.
    Pipes,
    /// `dyno run --tty`.
    Terminal,
    /// `dyno run:detached`.
    Detached,
}

#[derive(Debug, Clone)]
enum Kind {
    /// Just exits.
    Exits,
    /// Prints so many numbered lines as fast as it can.
    Floods(u64),
    /// Prints so many numbered lines with a pause after each.
    Counts(u64),
    /// Prints what it reads: so many bytes.
    Echoes(u64),
    /// Leaves background processes behind, in its own session and in others.
    LeavesChildren,
    /// Has daemons that go on making processes, and takes its time.
    HasDaemons,
    /// Takes memory until it is ended for that.
    Hoards,
    /// Is ended by a signal of its own.
    DiesOf(&'static str, u8),
}

impl Job {
    /// Job `number` of a soak with this seed.
    pub fn new(seed: u64, number: usize) -> Self {
        let mut random = Random::new(seed, number as u64);
        let way = *random.one_of(&[
            Way::Pipes,
            Way::Pipes,
            Way::Terminal,
            Way::Detached,
            Way::Detached,
        ]);
        let signals = [
            ("TERM", 15),
            ("KILL", 9),
            ("HUP", 1),
            ("USR1", 10),
            ("INT", 2),
        ];
        let kind = match random.below(7) {
            0 => Kind::Exits,
            1 => Kind::Floods(1 + random.below(3000)),
            2 => Kind::Counts(20 + random.below(150)),
            3 if way == Way::Pipes => Kind::Echoes(random.below(600_000)),
            4 => Kind::LeavesChildren,
            5 => Kind::HasDaemons,
            // A machine has no memory for many of them at once.
            6 if random.below(6) == 0 => Kind::Hoards,
            _ => {
                let (name, number) = *random.one_of(&signals);
                Kind::DiesOf(name, number)
            }
        };
        let status = *random.one_of(&[0, 0, 1, 2, 7, 42, 100, 124, 126, 127, 128, 129, 137, 255]);
        Self {
            number,
            way,
            kind,
            status,
        }
    }

    /// What its command begins with, so that its dyno and its lines are known.
    pub fn marker(&self) -> String {
        format!("job-{};", self.number)
    }

    /// The job whose command this is.
    pub fn of_command(command: &str) -> Option<usize> {
        command
            .strip_prefix(": job-")?
            .split_once(';')?
            .0
            .parse()
            .ok()
    }

    /// Shell text.
    pub fn command(&self) -> String {
        let (marker, status) = (self.marker(), self.status);
        let body = match &self.kind {
            Kind::Exits => String::new(),
            Kind::Floods(lines) => format!("seq -f '{marker} %.0f' {lines}; "),
            Kind::Counts(lines) => {
                format!("for n in $(seq {lines}); do echo '{marker}' $n; sleep 0.01; done; ")
            }
            Kind::Echoes(_) => "cat; ".to_owned(),
            Kind::LeavesChildren => "sleep 1000 & setsid sleep 1000 & \
                                     setsid sh -c 'trap \"\" HUP TERM; sleep 1000; sleep 1000' & "
                .to_owned(),
            Kind::HasDaemons => "setsid sh -c 'while :; do sleep 0.02 & wait; done' & \
                                 setsid sh -c 'trap \"\" HUP TERM; sleep 1000; sleep 1000' & sleep 0.5; "
                .to_owned(),
            Kind::Hoards => "exec tail /dev/zero; ".to_owned(),
            Kind::DiesOf(signal, _) => format!("kill -{signal} $$; sleep 10; "),
        };
        format!(": {marker} {body}exit {status}")
    }

    /// What it finds on its standard input.
    pub fn input(&self, seed: u64) -> Vec<u8> {
        let Kind::Echoes(length) = self.kind else {
            return Vec::new();
        };
        let mut random = Random::new(seed, !(self.number as u64));
        let words = (0..length.div_ceil(8)).flat_map(|_| random.next().to_le_bytes());
        words.take(length as usize).collect()
    }

    /// How many numbered lines it prints.
    pub fn lines(&self) -> u64 {
        match self.kind {
            Kind::Floods(lines) | Kind::Counts(lines) => lines,
            _ => 0,
        }
    }

    /// All that it prints.
    pub fn output(&self, seed: u64) -> Vec<u8> {
        let (marker, end) = match self.way {
            Way::Terminal => (self.marker(), "\r\n"),
            _ => (self.marker(), "\n"),
        };
        let lines = (1..=self.lines()).map(|n| format!("{marker} {n}{end}"));
        let mut output = lines.collect::<String>().into_bytes();
        output.extend(self.input(seed));
        output
    }

    /// Why the platform ends it, if it does.
    pub fn end_reason(&self) -> Option<&'static str> {
        matches!(self.kind, Kind::Hoards).then_some("R15")
    }

    /// The command's end as the store has it: status and signal.
    pub fn end(&self) -> (Option<u8>, Option<u8>) {
        match self.kind {
            Kind::DiesOf(_, number) => (None, Some(number)),
            Kind::Hoards => (None, Some(9)),
            _ => (Some(self.status), None),
        }
    }
}
