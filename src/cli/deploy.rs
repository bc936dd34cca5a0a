//! `dyno deploy`: makes a release from a folder or a packed slug.
//!
//! A folder is packed on one thread while another sends it, without a temporary file; the server computes the digest
//! itself, and both must agree.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use rustix::fs::OFlags;

use super::address;
use super::context::{Context, app_path, current_folder, folder};
use super::launch;
use super::new_app;
use super::notices::tell_isolation;
use super::standing::{self, AppBefore};
use super::tarball_pipe::pieces;
use crate::api::release::{CreateRelease, Deploy as DeployRequest, PackedFolder, Release};
use crate::api::slug::{CreateSlug, Slug};
use crate::api::target;
use crate::api::{ExactTime, LocalField};
use crate::cli::terminal;
use crate::cli::toolchain::{
    self, BrokenLink, BrokenLinkKind, DeployingUser, FoundToolchains, LeftOut, Loss,
};
use crate::error::{UserError, shown, tell, tell_part};
use crate::model::command_line;
use crate::model::dyno::env::DEFAULT_PATH;
use crate::model::procfile;
use crate::model::release::{ProcessTypes, RELEASE_PHASE, ReleaseStatus, Toolchains};
use crate::sandbox::stack::{Stack, is_shown};
use crate::slug::{self, Elsewhere, LeadsOut, Packed, ReleaseBefore, SlugLimits, Times};

/// The content type of a tarball.
pub const TARBALL: &str = "application/gzip";

/// Pack a folder into a slug and release it.
#[derive(Debug, Args)]
pub struct Deploy {
    /// The folder; the linked one, or this one, if not given
    #[arg(value_name = "PATH", conflicts_with = "slug")]
    path: Option<PathBuf>,
    /// A slug made elsewhere: a gzipped tar with members ./app/…
    #[arg(long, value_name = "FILE.tgz")]
    slug: Option<PathBuf>,
    /// Do not wait until the release's dynos are up
    #[arg(long)]
    no_wait: bool,
    /// Start no web dyno, if this is the first deploy
    #[arg(long)]
    no_web: bool,
}

impl Deploy {
    /// Deploys, and prints the release.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        if let Some(file) = &self.slug {
            let app = context.app()?;
            let release = from_slug(context, &app, file, self.purpose())?;
            return self.launch(context, &app, release);
        }
        let given = self.path.as_deref().map(canonical).transpose()?;
        let (app, root) = match (context.named_app().map(str::to_owned), given) {
            (Some(app), Some(root)) => (app, root),
            (Some(app), None) => {
                let root = root_for(context, &app)?;
                (app, root)
            }
            (None, given) => {
                match context.own_link(given.as_deref().unwrap_or(&current_folder()?))? {
                    Some(link) => {
                        let linked = PathBuf::from(&link.path);
                        (link.app.name, given.unwrap_or(linked))
                    }
                    None => {
                        context.check_here()?;
                        let root = given.map_or_else(current_folder, Ok)?;
                        let (app, release) = new_app::of_folder(context, &root, self.purpose())?;
                        return self.launch(context, &app, release);
                    }
                }
            }
        };
        let release = from_folder(context, &app, &root, self.purpose())?;
        self.launch(context, &app, release)
    }

    fn purpose(&self) -> Purpose {
        Purpose::Deploy {
            without_web: self.no_web,
        }
    }

    fn launch(&self, context: &mut Context, app: &str, release: Release) -> Result<()> {
        tell_isolation(context);
        let release = match self.no_wait {
            true => release,
            false => launch::until_released(context, app, release)?,
        };
        if !self.no_web && release.status == ReleaseStatus::Succeeded {
            standing::tell_idle(context, app, &release)?;
        }
        if self.no_wait {
            return Ok(());
        }
        launch::until_up(context, app, &release, "Launching")?;
        address::tell(context, app)
    }
}

/// The folder for a deploy of `app` without a PATH: the nearest linked folder, if it is linked to that app; else the
/// current one, if it is not linked and has a Procfile. An unrelated folder must not be released by mistake.
pub fn root_for(context: &mut Context, app: &str) -> Result<PathBuf> {
    let here = current_folder()?;
    let refused = |why: String| {
        Err(UserError::new(why)
            .hint(format!("`dyno deploy PATH -a {app}` deploys any folder; `dyno link -a {app}` links this one to it"))
            .into())
    };
    match context.link_of(&here)? {
        Some(link) if link.app.name == app || link.app.id == app => Ok(PathBuf::from(link.path)),
        Some(link) => refused(format!(
            "`{}` belongs to `{}`, not to `{app}`",
            link.path, link.app.name
        )),
        None if here.join("Procfile").is_file() => Ok(here),
        None => refused(format!(
            "`{}` has no Procfile and is not linked to `{app}`",
            here.display()
        )),
    }
}

fn canonical(path: &Path) -> Result<PathBuf> {
    let unusable = |why: String| {
        UserError::new(format!("cannot deploy `{}`: {why}", path.display()))
            .hint("deploy takes a folder; --slug takes a tarball")
    };
    let canonical = path
        .canonicalize()
        .map_err(|error| unusable(error.to_string()))?;
    if !canonical.is_dir() {
        return Err(unusable("it is no folder".to_owned()).into());
    }
    Ok(canonical)
}

/// Why a deploy is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The user asked for it.
    Deploy {
        /// Without starting web dynos.
        without_web: bool,
    },
    /// A command needs a release to run.
    Run {
        /// Without output.
        quiet: bool,
    },
    /// For the app of `dyno start`: without a release phase.
    Start,
}

impl Purpose {
    /// Whether a first release is to start no dynos.
    fn is_without_web(self) -> bool {
        !matches!(self, Self::Deploy { without_web: false })
    }
}

/// Packs `root` and releases it on `app`, with progress on standard error unless quiet. For [`Purpose::Run`], returns
/// once the release is the current one.
pub fn from_folder(
    context: &mut Context,
    app: &str,
    root: &Path,
    purpose: Purpose,
) -> Result<Release> {
    let mut process_types = process_types_for(root)?;
    let standing = AppBefore::of(context, app)?;
    standing.check_goes_on(app, &process_types)?;
    let before = standing.tree(context)?;
    if purpose == Purpose::Start {
        process_types = without_release_phase(&process_types);
    }
    let home = context.home.path().canonicalize();
    if home.is_ok_and(|home| home.starts_with(root)) {
        let state = context.home.path().display();
        let message = format!("the state folder `{state}` is inside of the app's folder");
        let hint = "every dyno would see it: set DYNO_HOME to a folder outside";
        return Err(UserError::new(message).hint(hint).into());
    }
    let packed_at = Timestamp::now();
    let found = toolchains_for(context, Some(root));
    let shared: Vec<String> = found.toolchains.folders.clone();
    let seen = shared.into_iter().chain(found.toolchains.app.clone());
    let seen: Vec<_> = seen.collect();
    let mut warnings = left_out(&found, &process_types);
    let level = context.settings.slug_level;
    let limits = SlugLimits {
        unpacked_bytes: context.settings.tree_limit,
        ..SlugLimits::default()
    };
    let without_web = purpose.is_without_web();
    let story = DeployProgress::begin(app, purpose == Purpose::Run { quiet: true });

    let client = context.client()?;
    let request = CreateSlug {
        process_types,
        ..CreateSlug::default()
    };
    let slug: Slug = client.post(&app_path(app, "/slugs"), &request)?;
    let (pieces, mut arriving) = pieces();
    let outcome = thread::scope(|scope| {
        let packing = scope.spawn(|| {
            let mut progress = |at: slug::PackProgress| {
                story.bar.set_length(at.total);
                story.bar.set_position(at.done);
            };
            let times = Times {
                before: before
                    .as_ref()
                    .map(|(tree, at)| ReleaseBefore { tree, at: *at }),
                ..Times::default()
            };
            let packed = slug::pack_dated(root, &times, &pieces, level, &limits, &mut progress);
            pieces.end(packed.is_ok());
            packed
        });
        let uploaded: Result<Slug> = client.upload(
            "PUT",
            target::of_url(&slug.blob.url),
            TARBALL,
            &mut arriving,
        );
        let pieces_failed = arriving.failed;
        // Packing must not wait for a reader that has failed.
        drop(arriving);
        let packed = packing.join().map_err(|_| anyhow!("packing failed"))?;
        match (packed, uploaded) {
            (Ok(packed), Ok(slug)) => Ok((packed, slug)),
            // The server's error; packing then fails, too, without a reader.
            (_, Err(error)) if !pieces_failed => Err(error),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    });
    let (mut packed, slug) = outcome?;
    check_digest(&packed, &slug)?;

    let release = CreateRelease::Deploy(DeployRequest {
        slug: slug.id,
        description: None,
        folder: match context.is_far() {
            true => None,
            false => Some(LocalField::new(PackedFolder {
                folder: folder(root)?,
                packed_at: ExactTime(packed_at),
            })),
        },
        toolchains: sent(found.toolchains),
        without_web,
    });
    let release: Release = context
        .client()?
        .post(&app_path(app, "/releases"), &release)?;
    let quiet = story.quiet;
    warnings.append(&mut packed.warnings);
    story.done(&release, &warnings);
    if !quiet {
        tell_of_lost_toolchains(context, app, &release);
        let stack = Stack::host();
        let is_seen = |link: &LeadsOut| {
            let has = match context.is_far() {
                // Files of the other host cannot be checked from here.
                true => is_shown(&link.place),
                false => stack.has(&link.place),
            };
            !link.strays && (has || seen.iter().any(|folder| link.place.starts_with(folder)))
        };
        packed.leads_out.retain(|link| !is_seen(link));
        let missing = match purpose {
            Purpose::Start => Vec::new(),
            _ => packed.uninstalled,
        };
        for line in slug::link_warnings(&packed.leads_out)
            .iter()
            .chain(&missing)
        {
            tell!("warning: {line}");
        }
        standing.tell_turns(context, app, &release)?;
    }
    match purpose {
        Purpose::Deploy { .. } | Purpose::Start => Ok(release),
        Purpose::Run { .. } => launch::until_released(context, app, release),
    }
}

/// Releases a tarball that was made elsewhere, with the process types of the Procfile in it.
fn from_slug(context: &mut Context, app: &str, path: &Path, purpose: Purpose) -> Result<Release> {
    let open = || {
        File::open(path).map_err(|error| {
            UserError::new(format!(
                "cannot read the slug `{}`: {error}",
                path.display()
            ))
            .hint("--slug takes a gzipped tar with members ./app/…")
        })
    };
    let text = slug::procfile_of(open()?)?.ok_or_else(|| {
        UserError::new(format!("`{}` has no ./app/Procfile", path.display())).hint(WHAT_IT_SAYS)
    })?;
    let process_types = parse(&text)?;
    let standing = AppBefore::of(context, app)?;
    standing.check_goes_on(app, &process_types)?;
    let story = DeployProgress::begin(app, false);
    let found = toolchains_for(context, None);
    let warnings = left_out(&found, &process_types);
    let client = context.client()?;
    let request = CreateSlug {
        process_types,
        ..CreateSlug::default()
    };
    let slug: Slug = client.post(&app_path(app, "/slugs"), &request)?;
    let slug: Slug = client.upload("PUT", target::of_url(&slug.blob.url), TARBALL, &mut open()?)?;
    let request = CreateRelease::Deploy(DeployRequest {
        slug: slug.id,
        toolchains: sent(found.toolchains),
        without_web: purpose.is_without_web(),
        ..DeployRequest::default()
    });
    let release: Release = client.post(&app_path(app, "/releases"), &request)?;
    story.done(&release, &warnings);
    tell_of_lost_toolchains(context, app, &release);
    standing.tell_turns(context, app, &release)?;
    Ok(release)
}

/// The hint that explains a Procfile.
const WHAT_IT_SAYS: &str =
    "it says what the app runs: a line like `web: python3 -m http.server $PORT`";

/// The process types of the Procfile in `root`.
///
/// # Errors
/// There is none, or it is not valid.
pub fn process_types_for(root: &Path) -> Result<ProcessTypes> {
    required(root)?;
    process_types(root)
}

/// Refuses a folder without a Procfile; the hint says where there is one.
///
/// # Errors
/// There is no Procfile.
pub fn required(root: &Path) -> Result<(), UserError> {
    let is_file = fs::metadata(root.join("Procfile")).map(|procfile| procfile.is_file());
    // Other errors show when it is read.
    if is_file.unwrap_or_else(|error| error.kind() != io::ErrorKind::NotFound) {
        return Ok(());
    }
    let place = root.display();
    let hint = match slug::procfile_elsewhere(root) {
        Some(Elsewhere::Below(folder)) => {
            let folder = shown(folder.as_os_str().as_encoded_bytes(), 200);
            let deploy = command_line::join(&["dyno", "deploy", &*folder]);
            format!(
                "there is one in `{folder}`: `{deploy}` deploys that folder, `dyno create` in it makes it an app of its own"
            )
        }
        Some(Elsewhere::Named(name)) => {
            let name = shown(name.as_bytes(), 60);
            format!("there is a `{name}`: rename it, the name is `Procfile`")
        }
        None => WHAT_IT_SAYS.to_owned(),
    };
    Err(UserError::new(format!("there is no Procfile in `{place}`")).hint(hint))
}

/// The process types of the Procfile in `root`; empty if there is no Procfile.
pub fn process_types(root: &Path) -> Result<ProcessTypes> {
    // One byte more than allowed, so that a larger one is noticed. Opening must not wait if it is a FIFO.
    let mut text = Vec::new();
    let read = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(root.join("Procfile"))
        .and_then(|file| {
            file.take(procfile::MAX_BYTES as u64 + 1)
                .read_to_end(&mut text)
        });
    match read {
        Ok(_) => parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ProcessTypes::new()),
        Err(error) => {
            let message = format!("cannot read `{}/Procfile`: {error}", root.display());
            let hint = "it is a text file that you may read: `ls -l` shows its owner and mode, `chmod u+r Procfile` lets its owner read it";
            Err(UserError::new(message).hint(hint).into())
        }
    }
}

/// The process types without `release`.
pub fn without_release_phase(types: &ProcessTypes) -> ProcessTypes {
    let types = types.iter().filter(|(name, _)| *name != RELEASE_PHASE);
    types.collect()
}

fn parse(text: &[u8]) -> Result<ProcessTypes> {
    let mut types = ProcessTypes::new();
    for process_type in procfile::parse(text).map_err(UserError::from)? {
        types.insert(process_type.name, process_type.command);
    }
    Ok(types)
}

/// Toolchains as a request has them: not at all if there are none.
fn sent(toolchains: Toolchains) -> Option<LocalField<Toolchains>> {
    (!toolchains.is_empty()).then(|| LocalField::new(toolchains))
}

/// The user's toolchains for the dynos of a release; none if they run elsewhere. `root` is the app's folder.
fn toolchains_for(context: &Context, root: Option<&Path>) -> FoundToolchains {
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

/// Checks that the server received what was packed.
fn check_digest(packed: &Packed, slug: &Slug) -> Result<()> {
    let sent = format!("SHA256:{}", packed.id);
    match slug.checksum.as_deref() {
        Some(received) if received == sent => Ok(()),
        received => Err(UserError::new(format!(
            "the server received another slug (`{}`) than was sent (`{sent}`)",
            received.unwrap_or("none")
        ))
        .hint("nothing was released; deploy again")
        .into()),
    }
}

/// `Deploying to shop... done, v2` on standard error; with a bar in between where that is a terminal.
struct DeployProgress {
    app: String,
    quiet: bool,
    bar: ProgressBar,
    told: bool,
}

impl DeployProgress {
    fn begin(app: &str, quiet: bool) -> Self {
        let live = !quiet && terminal::is_terminal(rustix::stdio::stderr());
        let target = if live {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        let template = "{prefix} {bar:30} {decimal_bytes}/{decimal_total_bytes} {eta}";
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(format!("Deploying to {app}..."));
        if live {
            bar.enable_steady_tick(Duration::from_millis(100));
        } else if !quiet {
            tell_part!("Deploying to {app}... ");
        }
        Self {
            app: app.to_owned(),
            quiet,
            bar,
            told: false,
        }
    }

    fn done(mut self, release: &Release, warnings: &[String]) {
        self.tell(&format!("done, v{}", release.version));
        for warning in warnings.iter().filter(|_| !self.quiet) {
            tell!("warning: {warning}");
        }
    }

    fn tell(&mut self, how: &str) {
        self.told = true;
        self.bar.finish_and_clear();
        match (self.quiet, terminal::is_terminal(rustix::stdio::stderr())) {
            (true, _) => {}
            (false, true) => tell!("Deploying to {}... {how}", self.app),
            (false, false) => tell!("{how}"),
        }
    }
}

impl Drop for DeployProgress {
    fn drop(&mut self) {
        if !self.told {
            self.tell("failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_procfile_that_cannot_be_read_is_told_with_advice() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("Procfile")).unwrap();
        let error = process_types(root.path()).unwrap_err();
        let error: &UserError = error.downcast_ref().unwrap();
        let message = format!("cannot read `{}/Procfile`: Is a", root.path().display());
        assert!(error.message.starts_with(&message), "{error}");
        assert!(error.hint.as_ref().unwrap().contains("chmod u+r Procfile"));
    }
}
