//! The state of an app before a release, for messages about process types whose dynos the release ends or starts again.

use std::path::PathBuf;

use anyhow::Result;

use super::context::{Context, app_path};
use crate::api::formation::Formation;
use crate::api::release::Release;
use crate::api::slug::Slug;
use crate::error::{UserError, tell};
use crate::model::dyno::WEB;
use crate::model::formation::{TypeChange, turns};
use crate::model::release::{ProcessTypes, RELEASE_PHASE, ReleaseStatus};

/// The formation and release of an app before a new release: see the [module](self).
#[derive(Debug)]
pub struct AppBefore {
    release: Option<Release>,
    formation: Vec<Formation>,
}

impl AppBefore {
    /// The present state of `app`.
    pub fn of(context: &mut Context, app: &str) -> Result<Self> {
        let client = context.client()?;
        let releases: Vec<Release> = client.get_list(&app_path(app, "/releases"))?;
        Ok(Self {
            release: releases.into_iter().find(|release| release.current),
            formation: client.get_list(&app_path(app, "/formation"))?,
        })
    }

    /// The tree of the current release's slug, if it is on this host, and when it was released, in seconds since 1970.
    /// The tree may be deleted at any time.
    pub fn tree(&self, context: &mut Context) -> Result<Option<(PathBuf, u64)>> {
        if context.is_far() {
            return Ok(None);
        }
        let Some((release, slug)) = self
            .release
            .as_ref()
            .and_then(|it| it.slug.as_ref().map(|slug| (it, slug)))
        else {
            return Ok(None);
        };
        let path = app_path(&release.app.id, &format!("/slugs/{}", slug.id));
        let slug: Slug = context.client()?.get(&path)?;
        let digest = slug
            .checksum
            .and_then(|checksum| checksum.parse().ok())
            .map(|digest| context.home.slug_tree(digest));
        let at = u64::try_from(release.created_at.0.as_second()).unwrap_or(0);
        Ok(digest.map(|tree| (tree, at)))
    }

    /// Refuses a release without process types for an app that has dynos: they would end, and none would start.
    ///
    /// # Errors
    /// When the release has none.
    pub fn check_goes_on(&self, app: &str, types: &ProcessTypes) -> Result<(), UserError> {
        let runs = self.formation.iter().filter(|it| it.quantity > 0);
        let runs: Vec<_> = runs.map(|it| format!("`{}`", it.r#type)).collect();
        match runs.is_empty() || types.iter().any(|(name, _)| name != RELEASE_PHASE) {
            true => Ok(()),
            false => Err(
                UserError::new("the Procfile has no process types").hint(format!(
                    "the dynos of {} would end; `dyno ps:scale TYPE=0 -a {app}` ends them",
                    runs.join(", ")
                )),
            ),
        }
    }

    /// Prints which process types' dynos `release` ends or starts again.
    pub fn tell_turns(&self, context: &mut Context, app: &str, release: &Release) -> Result<()> {
        // Until its release phase has succeeded, the formation stays as it was.
        let after: Vec<Formation> = match release.status {
            ReleaseStatus::Pending => Vec::new(),
            _ => context.client()?.get_list(&app_path(app, "/formation"))?,
        };
        let quantities = |formation: &[Formation]| -> Vec<(String, u32)> {
            let each = formation.iter().map(|it| (it.r#type.clone(), it.quantity));
            each.collect()
        };
        let is_pending = release.status == ReleaseStatus::Pending;
        for turn in turns(
            &quantities(&self.formation),
            &quantities(&after),
            &release.process_types,
        ) {
            match turn {
                TypeChange::Ends { .. } if is_pending => {
                    tell!("warning: {turn}, once the release command has succeeded");
                }
                TypeChange::Ends { .. } => tell!("warning: {turn}"),
                TypeChange::Returns { .. } => tell!("{turn}"),
            }
        }
        Ok(())
    }
}

/// If no dyno runs after `release` was deployed, prints so, and how to start one.
pub fn tell_idle(context: &mut Context, app: &str, release: &Release) -> Result<()> {
    let formation: Vec<Formation> = context.client()?.get_list(&app_path(app, "/formation"))?;
    if formation.iter().all(|it| it.quantity == 0) {
        let types = release.process_types.iter().map(|(name, _)| name);
        tell!("no dyno runs: {}", how_one_would(app, types));
    }
    Ok(())
}

/// How to start a dyno of one of these process types.
fn how_one_would<'a>(app: &str, types: impl Iterator<Item = &'a str>) -> String {
    let types: Vec<_> = types.filter(|name| *name != RELEASE_PHASE).collect();
    let web = types.iter().find(|name| **name == WEB);
    let Some(first) = web.or(types.first()) else {
        return "the Procfile has no process types; a line of it is like `web: ./server -p $PORT`"
            .to_owned();
    };
    let scale = format!("`dyno ps:scale {first}=1 -a {app}` starts one");
    let meant = types
        .iter()
        .find(|name| web.is_none() && name.eq_ignore_ascii_case(WEB));
    match meant {
        Some(name) => {
            format!("{scale}; there is `{name}`, the name that gets requests is `{WEB}`")
        }
        None => scale,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_make_a_dyno_run_depends_on_the_process_types() {
        let scale = |name: &str| format!("`dyno ps:scale {name}=1 -a shop` starts one");
        for (types, expected) in [
            (&["release", "worker"][..], scale("worker")),
            (&["clock", "web"], scale("web")),
            (
                &["Web"],
                scale("Web") + "; there is `Web`, the name that gets requests is `web`",
            ),
            (
                &["release"],
                "the Procfile has no process types; a line of it is like `web: ./server -p $PORT`"
                    .into(),
            ),
        ] {
            assert_eq!(how_one_would("shop", types.iter().copied()), expected);
        }
    }
}
