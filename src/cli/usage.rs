//! `dyno usage`: dyno time.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::context::{Context, app_path};
use super::output::{say, say_json};
use crate::api::app::App;
use crate::api::usage::{Taken, Usage};
use crate::model::time_span;

/// Dyno time by app, process type and size; of all apps, unless -a names one.
///
/// Time in a one-off dyno counts like any other dyno's, from its start to its end; of one that is alive, up to now.
/// It stays when the dyno is forgotten, and when its app is destroyed. Behind it is what those that have ended took, as far as
/// the host tells: time of the processors, the most memory that one of them had, what was read from disks and written.
#[derive(Debug, Args)]
pub struct Show {
    /// As a JSON array
    #[arg(long)]
    json: bool,
}

impl Show {
    /// Prints it.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let mut usage: Vec<Usage> = context.client()?.get_list("/usage")?;
        if let Some(app) = context.named_app() {
            let app = app.to_owned();
            usage.retain(|line| line.app.name == app || line.app.id == app);
            // A destroyed app keeps its time.
            if usage.is_empty() {
                let _: App = context.client()?.get(&app_path(&app, ""))?;
                return match self.json {
                    true => say_json(&usage),
                    false => Ok(say!("No dyno of {app} has run yet.")?),
                };
            }
        }
        if self.json {
            return say_json(&usage);
        }
        if usage.is_empty() {
            return Ok(say!("No dyno has run yet.")?);
        }
        Ok(say!("{}", text(&usage))?)
    }
}

/// A group for each app and the sum of all, without the last line feed.
fn text(usage: &[Usage]) -> String {
    let mut groups: Vec<String> = usage
        .chunk_by(|one, next| one.app.id == next.app.id)
        .map(|lines| {
            let destroyed = if lines[0].destroyed {
                " (destroyed)"
            } else {
                ""
            };
            format!("=== {}{destroyed}\n{}", lines[0].app.name, table(lines))
        })
        .collect();
    if groups.len() > 1 {
        let dynos = usage.iter().map(|line| line.dynos).sum();
        let alive = usage.iter().map(|line| line.alive).sum();
        let seconds = usage.iter().map(|line| line.seconds).sum();
        groups.push(format!("=== All apps\n{}", sum(dynos, alive, seconds)));
    }
    groups.join("\n\n")
}

fn table(lines: &[Usage]) -> String {
    let title = |line: &Usage| format!("{} ({}):", line.r#type, line.size);
    let width = lines.iter().map(|line| title(line).len()).max();
    let width = width.unwrap_or_default();
    let rows: Vec<String> = lines
        .iter()
        .map(|line| {
            let sum = sum(line.dynos, line.alive, line.seconds);
            format!("{:width$} {sum}{}", title(line), taken(&line.taken))
        })
        .collect();
    rows.join("\n")
}

/// What dynos that have ended took, as far as it is known: `, 35s of CPU, 80 MB of memory at most, 12 MB written`.
fn taken(taken: &Taken) -> String {
    let megabytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let cpu = taken.cpu_seconds.map(|seconds| {
        let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        format!(", {} of CPU", time_span::rough(time))
    });
    let memory = taken
        .peak_memory
        .map(|peak| format!(", {} MB of memory at most", megabytes(peak)));
    let read = taken
        .bytes_read
        .map(|it| format!(", {} MB read", megabytes(it)));
    let written = taken
        .bytes_written
        .map(|it| format!(", {} MB written", megabytes(it)));
    [cpu, memory, read, written].into_iter().flatten().collect()
}

fn sum(dynos: u64, alive: u32, seconds: f64) -> String {
    let s = if dynos == 1 { "" } else { "s" };
    let alive = match alive {
        0 => String::new(),
        alive => format!(", {alive} alive"),
    };
    let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    format!("{} ({dynos} dyno{s}{alive})", time_span::rough(time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Named;

    fn usage(app: &str, process_type: &str, dynos: u64, alive: u32, seconds: f64) -> Usage {
        Usage {
            app: Named {
                id: app.to_owned(),
                name: app.to_owned(),
            },
            destroyed: app == "old",
            r#type: process_type.to_owned(),
            size: "1X".to_owned(),
            dynos,
            alive,
            seconds,
            taken: Taken::default(),
        }
    }

    #[test]
    fn what_is_known_of_what_dynos_took_is_shown() {
        let mut run = usage("shop", "run", 2, 0, 60.0);
        run.taken = Taken {
            peak_memory: Some(80 << 20),
            cpu_seconds: Some(35.2),
            bytes_read: None,
            bytes_written: Some(1),
        };
        assert_eq!(
            text(&[run]),
            "=== shop\n\
             run (1X): 1m (2 dynos), 35s of CPU, 80 MB of memory at most, 1 MB written"
        );
    }

    #[test]
    fn time_is_shown_by_app_and_in_all() {
        let shop = [
            usage("shop", "run", 12, 1, 3_785.0),
            usage("shop", "scheduler", 1, 0, 1.5),
        ];
        assert_eq!(
            text(&shop),
            "=== shop\n\
             run (1X):       1h3m (12 dynos, 1 alive)\n\
             scheduler (1X): 1s (1 dyno)"
        );
        let [first, second] = shop;
        assert_eq!(
            text(&[first, second, usage("old", "run", 2, 0, 0.0)]),
            "=== shop\n\
             run (1X):       1h3m (12 dynos, 1 alive)\n\
             scheduler (1X): 1s (1 dyno)\n\
             \n\
             === old (destroyed)\n\
             run (1X): 0s (2 dynos)\n\
             \n\
             === All apps\n\
             1h3m (15 dynos, 1 alive)"
        );
    }
}
