//! The toolchains that a release gets of the deploying user, and warnings about what dynos will not have.

use std::path::Path;

use anyhow::Result;

use crate::api::LocalField;
use crate::api::release::Release;
use crate::cli::context::{Context, app_path};
use crate::cli::toolchain::{
    self, BrokenLink, BrokenLinkKind, DeployingUser, FoundToolchains, LeftOut, Loss,
};
use crate::error::tell;
use crate::model::dyno::env::DEFAULT_PATH;
use crate::model::release::{ProcessTypes, Toolchains};

/// Toolchains as a request has them: not at all if there are none.
pub(super) fn sent(toolchains: Toolchains) -> Option<LocalField<Toolchains>> {
    (!toolchains.is_empty()).then(|| LocalField::new(toolchains))
}

/// The user's toolchains for the dynos of a release; none if they run elsewhere. `root` is the app's folder.
pub(super) fn toolchains_for(context: &Context, root: Option<&Path>) -> FoundToolchains {
    match context.is_far() {
        true => FoundToolchains::default(),
        false => own_toolchains(root),
    }
}

/// The toolchains in this user's `PATH`. `root` is the app's folder.
pub fn own_toolchains(root: Option<&Path>) -> FoundToolchains {
    toolchain::find(&DeployingUser::of_process(), root)
}

/// Warnings about folders of the `PATH` that dynos will not have, and about links out of those that they have. For
/// common folders, only if a process type's program is in them.
pub fn left_out(found: &FoundToolchains, types: &ProcessTypes) -> Vec<String> {
    let has = |folder: &Path, program: &str| folder.join(program).is_file();
    let elsewhere = |program: &str| {
        let paths = found.toolchains.path.iter().map(String::as_str);
        paths
            .chain(DEFAULT_PATH.split(':'))
            .any(|folder| has(Path::new(folder), program))
    };
    let words = words_of(types);
    let programs: Vec<_> = words.iter().filter(|word| !elsewhere(word)).collect();
    let matters =
        |it: &&LeftOut| !it.usual || programs.iter().any(|program| has(&it.folder, program));
    let told = found.left_out.iter().filter(matters);
    let folders = told.map(|LeftOut { folder, why, .. }| {
        format!(
            "dynos do not have `{}` of your PATH: {why}",
            folder.display()
        )
    });
    let for_python = words.iter().any(|word| word.starts_with("python"));
    let broken_links = found.broken_links.iter().filter(|it| match it.kind {
        BrokenLinkKind::Program => words.contains(&&*it.name),
        BrokenLinkKind::Package => true,
        BrokenLinkKind::UserPackage => for_python,
    });
    let broken_links = broken_links.map(|BrokenLink { kind, name, target }| {
        let what = match kind {
            BrokenLinkKind::Program => "program",
            BrokenLinkKind::Package | BrokenLinkKind::UserPackage => "package",
        };
        let target = target.display();
        format!(
            "dynos do not have the {what} `{name}`: it leads to `{target}`, which they do not see"
        )
    });
    folders.chain(broken_links).collect()
}

/// The words of all commands that may be programs in the search path.
fn words_of(types: &ProcessTypes) -> Vec<&str> {
    let words = types
        .iter()
        .flat_map(|(_, command)| command.split_whitespace());
    words.filter(|word| !word.contains('/')).collect()
}

/// Warns about toolchains that an app had before `release` and has no more, as after a deploy from another shell, such
/// as cron's or an editor's. Errors are ignored.
pub fn tell_of_lost_toolchains(context: &mut Context, app: &str, release: &Release) {
    let Some(before) = release.version.checked_sub(1).filter(|before| *before > 0) else {
        return;
    };
    let path = app_path(app, &format!("/releases/{before}"));
    let before: Result<Release> = context.client().and_then(|client| client.get(&path));
    let Ok(before) = before else { return };
    let (old, new) = (before.version, release.version);
    if context.is_far() {
        // The folders are those of the other host.
        if !before.toolchains.is_empty() && release.toolchains.is_empty() {
            tell!(
                "warning: dynos of v{old} had toolchains of a home on the server's host, and those of v{new} have none: \
                 a deploy from another host brings none. Deploy on that host or by `git push`, or `dyno rollback v{old}`"
            );
        }
        return;
    }
    let words = words_of(&release.process_types);
    let lost = toolchain::lost(&before.toolchains, &release.toolchains, &words);
    let folders: Vec<_> = lost
        .iter()
        .filter_map(|loss| match loss {
            Loss::Folder(folder) => Some(format!("`{}`", folder.display())),
            Loss::Program(..) => None,
        })
        .collect();
    if !folders.is_empty() {
        tell!(
            "warning: dynos of v{old} had {} in their PATH, and those of v{new} do not: this shell's PATH lacks it. \
             Deploy from one that has it, or `dyno rollback v{old}`",
            folders.join(", ")
        );
    }
    for loss in &lost {
        if let Loss::Program(program, folder) = loss {
            tell!(
                "warning: dynos of v{new} do not have `{program}`, which the Procfile names: those of v{old} had it in `{}`",
                folder.display()
            );
        }
    }
}
