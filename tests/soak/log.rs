//! The app's log, sorted by who wrote what.

use std::collections::BTreeMap;

use crate::job::Job;

/// What the log has of one dyno.
#[derive(Debug, Default)]
pub struct Story {
    /// The platform's lines.
    pub platform: Vec<String>,
    /// What its command printed.
    pub output: Vec<String>,
}

impl Story {
    /// What follows `prefix` in those of the platform's lines that begin with it.
    pub fn after<'a>(&'a self, prefix: &'a str) -> Vec<&'a str> {
        let lines = self.platform.iter();
        lines.filter_map(|line| line.strip_prefix(prefix)).collect()
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Log {
    pub dynos: BTreeMap<String, Story>,
    /// How often the API told of the start of a job.
    pub starts: BTreeMap<usize, u64>,
    /// What is no line: its writer was killed within it.
    pub torn: Vec<String>,
}

impl Log {
    pub fn read(bytes: &[u8]) -> Self {
        let mut log = Self::default();
        for line in bytes.split(|&byte| byte == b'\n') {
            let line = String::from_utf8_lossy(line).into_owned();
            match parse(&line) {
                Some(("app", "api", text)) => {
                    let command = text.strip_prefix("Starting process with command `");
                    if let Some(job) = command.and_then(Job::of_command) {
                        *log.starts.entry(job).or_default() += 1;
                    }
                }
                Some((source, dyno, text)) => {
                    let story = log.dynos.entry(dyno.to_owned()).or_default();
                    match source {
                        "heroku" => story.platform.push(text.to_owned()),
                        _ => story.output.push(text.to_owned()),
                    }
                }
                None if line.is_empty() => {}
                None => log.torn.push(line),
            }
        }
        log
    }
}

/// Source, process and text.
pub fn parse(line: &str) -> Option<(&str, &str, &str)> {
    let (time, rest) = line.split_once(' ')?;
    let (who, text) = rest.split_once("]: ")?;
    let (source, process) = who.split_once('[')?;
    let whole = time.len() == 32 && ["app", "heroku"].contains(&source);
    whole.then_some((source, process, text))
}
