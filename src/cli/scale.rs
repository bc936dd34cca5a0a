//! `dyno ps:scale`, `ps:type`: the quantity and size of each process type.

use anyhow::Result;
use clap::Args;

use super::context::{Context, app_path};
use super::output::say;
use crate::api::formation::{Formation, ScaleFormation};
use crate::error::{UserError, tell};
use crate::model::formation::{Resize, Update, Wanted, parse_resize, parse_scale, words};

const SCALED: &str = "\
Without words it prints the formation in the form in which it takes it back:

  $ dyno ps:scale
  web=1:1X worker=0:1X
  $ dyno ps:scale web=2 worker+1:standard-2x
  Scaling dynos... done, now running web at 2:1X, worker at 1:Standard-2X";

/// Set how many dynos of each process type there are, or show it
#[derive(Debug, Args)]
#[command(after_help = SCALED)]
pub struct Scale {
    /// `web=2`, `worker+1`, `worker-1`, with a size behind it (`web=2:Standard-2X`) or without
    #[arg(value_name = "TYPE=N[:SIZE]")]
    words: Vec<String>,
}

impl Scale {
    /// Changes the formation, or prints it.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let updates = parse_scale(&self.words)?;
        let app = context.app()?;
        if updates.is_empty() {
            let wanted: Vec<_> = formation(context, &app)?
                .iter()
                .map(Formation::wanted)
                .collect();
            return Ok(say!("{}", words(&wanted))?);
        }
        let scaled = change(context, &app, &updates)?;
        let now: Vec<_> = scaled
            .iter()
            .filter(|entry| updates.iter().any(|update| update.which == entry.r#type))
            .map(|entry| format!("{} at {}:{}", entry.r#type, entry.quantity, entry.size))
            .collect();
        tell!("Scaling dynos... done, now running {}", now.join(", "));
        Ok(())
    }
}

const TYPED: &str = "\
$ dyno ps:type standard-1x                all process types
$ dyno ps:type web=standard-2x worker=2x  these two";

/// Set the size of the dynos of each process type, or show it
#[derive(Debug, Args)]
#[command(after_help = TYPED)]
pub struct Type {
    /// One size for all process types, or `web=Standard-2X` for each of some
    #[arg(value_name = "SIZE|TYPE=SIZE")]
    words: Vec<String>,
}

impl Type {
    /// Changes sizes and prints the formation.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let resize = (!self.words.is_empty())
            .then(|| parse_resize(&self.words))
            .transpose()?;
        let app = context.app()?;
        let mut formation = formation(context, &app)?;
        if let Some(resize) = resize {
            formation = change(context, &app, &updates(resize, &formation))?;
        }
        formation.sort_by(|a, b| a.r#type.cmp(&b.r#type));
        let wanted: Vec<_> = formation.iter().map(Formation::wanted).collect();
        Ok(say!("{}", tables(&wanted))?)
    }
}

/// The formation of an app that has one.
fn formation(context: &mut Context, app: &str) -> Result<Vec<Formation>> {
    let formation: Vec<Formation> = context.client()?.get(&app_path(app, "/formation"))?;
    match formation.is_empty() {
        false => Ok(formation),
        true => Err(UserError::new(format!("no process types on `{app}`"))
            .hint(format!(
                "`dyno deploy -a {app}` in its folder releases those of the Procfile"
            ))
            .into()),
    }
}

/// The formation after these updates.
fn change(context: &mut Context, app: &str, updates: &[Update]) -> Result<Vec<Formation>> {
    let request = ScaleFormation {
        updates: updates.to_vec(),
    };
    context
        .client()?
        .patch(&app_path(app, "/formation"), &request)
}

/// The updates to send for a change of sizes.
fn updates(resize: Resize, formation: &[Formation]) -> Vec<Update> {
    let of_size = |entry: &Formation, size: &str| Update {
        which: entry.r#type.clone(),
        amount: None,
        size: Some(size.to_owned()),
    };
    match resize {
        Resize::These(updates) => updates,
        Resize::All(size) => formation
            .iter()
            .map(|entry| of_size(entry, &size))
            .collect(),
    }
}

/// The two tables of Heroku's client, without the prices and without the last line feed.
fn tables(formation: &[Wanted]) -> String {
    let types: Vec<[String; 3]> = formation
        .iter()
        .map(|it| {
            let quantity = it.quantity.to_string();
            [it.process_type.clone(), it.size.clone(), quantity]
        })
        .collect();
    let mut totals: Vec<(&str, u64)> = Vec::new();
    for it in formation {
        let quantity = u64::from(it.quantity);
        match totals.iter_mut().find(|(size, _)| *size == it.size) {
            Some((_, total)) => *total += quantity,
            None => totals.push((&it.size, quantity)),
        }
    }
    let totals: Vec<[String; 2]> = totals
        .into_iter()
        .map(|(size, total)| [size.to_owned(), total.to_string()])
        .collect();
    format!(
        "=== Process Types\n\n{}\n\n=== Dyno Totals\n\n{}",
        table(["type", "size", "qty"], &types),
        table(["type", "total"], &totals)
    )
}

/// A table with column names and a line below them, columns two blanks apart.
fn table<const N: usize>(names: [&str; N], rows: &[[String; N]]) -> String {
    let names = names.map(str::to_owned);
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].len());
        cells.fold(names[column].len(), usize::max)
    });
    let rule = widths.map(|width| "─".repeat(width));
    let lines: Vec<String> = [&names, &rule]
        .into_iter()
        .chain(rows)
        .map(|row| {
            let cells: Vec<_> = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_those_of_heroku() {
        let wanted = |process_type: &str, quantity, size: &str| Wanted {
            process_type: process_type.into(),
            quantity,
            size: size.into(),
        };
        let formation = [
            wanted("clock", 1, "1X"),
            wanted("web", 12, "Standard-2X"),
            wanted("worker", 0, "PX"),
            wanted("x", 2, "1X"),
        ];
        assert_eq!(
            tables(&formation),
            "=== Process Types\n\
             \n\
             type    size         qty\n\
             ──────  ───────────  ───\n\
             clock   1X           1\n\
             web     Standard-2X  12\n\
             worker  PX           0\n\
             x       1X           2\n\
             \n\
             === Dyno Totals\n\
             \n\
             type         total\n\
             ───────────  ─────\n\
             1X           3\n\
             Standard-2X  12\n\
             PX           0"
        );
    }
}
