//! `dyno create`, `apps`, `apps:info`, `apps:destroy`.

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;

use super::address;
use super::context::{Context, app_path, current_folder, folder};
use super::notices::{self, tell_isolation};
use super::output::say;
use super::ps;
use crate::api::LocalField;
use crate::api::app::{App, CreateApp};
use crate::api::dyno::Dyno;
use crate::api::link::CreateLink;
use crate::api::release::Release;
use crate::api::target;
use crate::cli::terminal;
use crate::error::{UserError, shown, tell};
use crate::model::app::AppName;

/// Make an app and link this folder to it.
#[derive(Debug, Args)]
pub struct Create {
    /// Its name: lower-case letters, digits and dashes; found from the folder's if not given
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

impl Create {
    /// Makes the app.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let name = self.name.as_deref().or(context.named_app());
        // A server elsewhere has no use for a folder of this host.
        let here = match context.is_far() {
            true => None,
            false => Some(folder(&current_folder()?)?),
        };
        let request = CreateApp {
            name: name.map(AppName::parse).transpose()?,
            folder: here.clone().map(LocalField::new),
            unless_linked: false,
        };
        let before = context.link()?;
        let app: App = context.client()?.post("/apps", &request)?;
        tell!("Creating {}... done", app.name);
        let here = here.map(|folder| folder.path);
        if let Some(link) = before.filter(|link| Some(&link.path) == here.as_ref()) {
            tell!(
                "this folder was linked to {before}; `dyno link -a {before}` links it again",
                before = link.app.name
            );
        }
        Ok(())
    }
}

/// Links this folder to the app that `-a` names: after it was moved, or cloned anew.
pub fn link(context: &mut Context) -> Result<()> {
    let Some(app) = context.named_app().map(str::to_owned) else {
        return Err(UserError::new("link this folder to which app?")
            .hint("`dyno link -a NAME`; `dyno apps` lists yours")
            .into());
    };
    let request = CreateLink {
        app,
        folder: folder(&current_folder()?)?,
    };
    let path = request.folder.path.clone();
    let app: App = context.client()?.request("PUT", "/links", Some(&request))?;
    tell!("Linking {path} to {}... done", app.name);
    Ok(())
}

/// Unlinks this folder, or the one above that is linked.
pub fn unlink(context: &mut Context) -> Result<()> {
    let Some(link) = context.link()? else {
        return Err(UserError::new("this folder is not linked to an app")
            .hint("`dyno apps` lists the apps; `dyno link -a APP` links this folder to one")
            .into());
    };
    let target = format!("/links?path={}", target::encode(&link.path));
    let () = context.client()?.delete(&target)?;
    tell!("Unlinking {} from {}... done", link.path, link.app.name);
    Ok(())
}

/// Prints the names of all apps.
pub fn list(context: &mut Context) -> Result<()> {
    let apps: Vec<App> = context.client()?.get_list("/apps")?;
    if apps.is_empty() {
        say!("You have no apps.")?;
    }
    // With addresses for a person; names alone for a program.
    let width = apps.iter().map(|app| app.name.len()).max().unwrap_or(0);
    let for_a_person = terminal::is_terminal(rustix::stdio::stdout());
    for app in &apps {
        match address::of(context, app).filter(|_| for_a_person) {
            Some(address) => say!("{:width$}  {address}", app.name)?,
            None => say!("{}", app.name)?,
        }
    }
    Ok(())
}

/// Show an app.
#[derive(Debug, Args)]
pub struct Info {}

impl Info {
    /// Prints the app's facts.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let name = context.app()?;
        let client = context.client()?;
        let app: App = client.get(&app_path(&name, ""))?;
        tell_isolation(context);
        let client = context.client()?;
        let dynos: Vec<Dyno> = client.get_list(&app_path(&name, "/dynos"))?;
        let releases: Vec<Release> = client.get_list(&app_path(&name, "/releases"))?;
        let current = releases.iter().find(|release| release.current);
        say!("=== {}", app.name)?;
        let mut rows = vec![("Created", app.created_at.0.to_string())];
        if let Some(release) = current {
            rows.push((
                "Release",
                format!(
                    "v{} {}",
                    release.version,
                    shown(release.description.as_bytes(), usize::MAX)
                ),
            ));
            let types: Vec<_> = release.process_types.iter().map(|(name, _)| name).collect();
            rows.push(("Process types", types.join(", ")));
        }
        rows.push((
            "Slug size",
            app.slug_size
                .map_or("none".to_owned(), |size| format!("{size} B")),
        ));
        if let Some(address) = address::of(context, &app) {
            rows.push(("Web URL", address));
        }
        if let Some(network) = app.network {
            rows.push(("Network", network.to_string()));
        }
        // Folders of the server's host mean nothing elsewhere.
        if !context.is_far() {
            rows.push(("Folder", app.folder.unwrap_or_else(|| "none".to_owned())));
        }
        let names: Vec<_> = dynos
            .iter()
            .map(|dyno| {
                let crash = ps::crash_story(dyno, Timestamp::now()).unwrap_or_default();
                format!("{} {}{crash}", dyno.name, dyno.state)
            })
            .collect();
        rows.push((
            "Dynos",
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            },
        ));
        if app.asleep {
            tell!("{}", notices::stopped_with_server(&app.name));
        }
        if !context.is_far() {
            let log = context.home.path().join("logs").join(&app.id);
            rows.push(("Log", log.display().to_string()));
        }
        for (title, value) in rows {
            say!("{:15} {value}", format!("{title}:"))?;
        }
        Ok(())
    }
}

/// Destroy an app, its slugs, config and dynos.
#[derive(Debug, Args)]
pub struct Destroy {
    /// The app's name once more, so that nothing is destroyed by mistake
    #[arg(short, long, value_name = "NAME")]
    confirm: Option<String>,
}

impl Destroy {
    /// Destroys the app, if the name was confirmed.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let name = context.app()?;
        let _: App = context.client()?.get(&app_path(&name, ""))?;
        if self.confirm.as_deref() != Some(name.as_str()) {
            let given = match &self.confirm {
                Some(other) => {
                    format!("`{other}` does not confirm that `{name}` is to be destroyed")
                }
                None => format!("destroying `{name}` cannot be undone"),
            };
            let command = format!("dyno apps:destroy -a {name} --confirm {name}");
            return Err(UserError::new(given)
                .hint(format!("to do it: `{command}`"))
                .into());
        }
        let app: App = context.client()?.delete(&app_path(&name, ""))?;
        tell!("Destroying {}... done", app.name);
        Ok(())
    }
}
