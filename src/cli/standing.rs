//! What an app ran before a release, and what the release makes of it: whose dynos end, and whose come back.

use std::path::PathBuf;

use anyhow::Result;

use super::context::{Context, app_path};
use crate::api::formation::Formation;
use crate::api::release::Release;
use crate::api::slug::Slug;
use crate::error::tell;
use crate::formation::{Turn, turns};
use crate::release::ReleaseStatus;

/// See the [module](self).
#[derive(Debug)]
pub struct Standing {
    release: Option<Release>,
    formation: Vec<Formation>,
}

impl Standing {
    /// How `app` is now.
    pub fn of(context: &mut Context, app: &str) -> Result<Self> {
        let client = context.client()?;
        let releases: Vec<Release> = client.get_list(&app_path(app, "/releases"))?;
        Ok(Self {
            release: releases.into_iter().find(|release| release.current),
            formation: client.get_list(&app_path(app, "/formation"))?,
        })
    }

    /// The tree of the slug that runs, if it is on this host, and when it was released, in seconds since 1970. It may
    /// vanish at any time.
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

    /// Whether there is a process type that might have dynos.
    pub fn has_types(&self) -> bool {
        !self.formation.is_empty()
    }

    /// Tells what `release` does to dynos, beside running something else in them.
    pub fn tell_turns(&self, context: &mut Context, app: &str, release: &Release) -> Result<()> {
        // Until its release phase has succeeded, the formation is what it was.
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
                Turn::Ends { .. } if is_pending => {
                    tell!("warning: {turn}, once the release command has succeeded");
                }
                Turn::Ends { .. } => tell!("warning: {turn}"),
                Turn::Returns { .. } => tell!("{turn}"),
            }
        }
        Ok(())
    }
}
