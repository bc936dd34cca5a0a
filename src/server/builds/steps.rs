//! How long each step of a build has taken, by the lines that begin one.

use std::time::{Duration, Instant};

use super::compile::BuildLine;

/// What a line of a buildpack begins with that begins a step, as Heroku's do.
const ARROW: &str = "-----> ";

/// Of a build that took less nothing is told, nor of a step.
const LEAST_IN_ALL: Duration = Duration::from_secs(1);
const LEAST: Duration = Duration::from_millis(100);

/// How many are told: the longest.
const MOST: usize = 8;

/// See the [module](self).
#[derive(Debug)]
pub struct StepTimes {
    began: Instant,
    current: Option<(String, Instant)>,
    ended: Vec<(String, Duration)>,
}

impl StepTimes {
    /// Those of a build that begins now.
    pub fn begin(now: Instant) -> Self {
        Self {
            began: now,
            current: None,
            ended: Vec::new(),
        }
    }

    /// A line has come.
    pub fn heard(&mut self, line: &BuildLine, now: Instant) {
        let step = match line {
            BuildLine::Step(text) => Some(text.as_str()),
            BuildLine::Plain(text) => text.strip_prefix(ARROW),
            _ => None,
        };
        if let Some(step) = step {
            self.end_step(now);
            self.current = Some((step.trim_end_matches(['.', ':', ' ']).to_owned(), now));
        }
    }

    /// What is told of the longest ones, in the order in which they came.
    pub fn told(mut self, now: Instant) -> Vec<BuildLine> {
        self.end_step(now);
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        let all = now.saturating_duration_since(self.began);
        if all < LEAST_IN_ALL {
            return Vec::new();
        }
        let all = seconds(all);
        let mut lines = vec![BuildLine::Step(format!("Built in {all}"))];
        let mut longest: Vec<_> = self.ended.iter().map(|(_, time)| *time).collect();
        longest.sort();
        let least = longest.iter().rev().nth(MOST - 1).copied();
        let least = least.unwrap_or_default().max(LEAST);
        let told = self.ended.iter().filter(|(_, time)| *time >= least);
        lines.extend(
            told.take(MOST)
                .map(|(step, time)| BuildLine::Detail(format!("{:>7}  {step}", seconds(*time)))),
        );
        lines
    }

    fn end_step(&mut self, now: Instant) {
        if let Some((step, at)) = self.current.take() {
            self.ended.push((step, now.saturating_duration_since(at)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_lasts_until_the_next() {
        let start = Instant::now();
        let after = |tenths: u64| start + Duration::from_millis(100 * tenths);
        let mut times = StepTimes::begin(start);
        for (line, tenths) in [
            (BuildLine::Step("Building".into()), 0),
            (BuildLine::Plain("-----> Installing packages...".into()), 3),
            (BuildLine::Plain("-----x> none".into()), 9),
            (BuildLine::Step("Quick".into()), 20),
            (BuildLine::Detail("12 MB".into()), 20),
            (BuildLine::Step("Compressing".into()), 20),
        ] {
            times.heard(&line, after(tenths));
        }
        let told: Vec<_> = times
            .told(after(50))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            told,
            [
                "-----> Built in 5.0 s",
                "         0.3 s  Building",
                "         1.7 s  Installing packages",
                "         3.0 s  Compressing",
            ]
        );
    }
}
