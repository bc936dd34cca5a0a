//! `dyno doctor`: which isolation this host allows and dynos get, what it guarantees, and how to get more.

use std::path::Path;

use anyhow::Result;

use super::context::Context;
use super::output::say;
use crate::api::server::ServerStatus;
use crate::cli::toolchain::{self, DeployingUser, LeftOut};
use crate::kernel::cgroup::GroupParent;
use crate::model::dyno::Isolation;
use crate::model::network::Outbound;
use crate::model::settings;
use crate::sandbox::offer::{self, ChosenIsolation, DynoIds};
use crate::sandbox::outbound;
use crate::sandbox::probe::{self, Need};
use crate::sandbox::reasons::{self, Facts};
use crate::sandbox::restrict::{Gap, Restriction};

/// What a dyno in namespaces guarantees (true), and what not (false). `docs/isolation.md` has the details.
const NAMESPACES: &[(bool, &str)] = &[
    (true, "the app is /app, and what a dyno writes goes with it"),
    (
        true,
        "of the host's files only system folders are there, read-only",
    ),
    (
        true,
        "it sees and signals its own processes alone, and none outlives it, whichever process is killed",
    ),
    (
        true,
        "it starts as fast with a heavy slug as with a light one",
    ),
    (
        false,
        "a network of its own unless `dyno network` or the setting gives it one, and how much of the disk it takes",
    ),
];

/// What a dyno in a folder guarantees (true), and what not (false).
const TEMPDIR: &[(bool, &str)] = &[
    (
        true,
        "the app is a copy in a folder of the dyno's own, which goes with it",
    ),
    (
        true,
        "terminals, pipes, exit statuses, signals, logs and limits of time, as with namespaces",
    ),
    (
        true,
        "its processes end with it, but for one that has left its parents and cleared its environment when \
            supervisor and init are killed",
    ),
    (true, "no privilege, and no way to gain any"),
    (
        false,
        "/app as a path: HOME is the folder; and /tmp is the host's: TMPDIR is the dyno's",
    ),
    (
        false,
        "containment: it can read, write and signal whatever its user can",
    ),
    (
        false,
        "a start that does not depend on the slug, which is copied",
    ),
];

/// Prints the report; returns 1 when dynos cannot run here.
pub fn perform(context: &mut Context) -> Result<u8> {
    let kernel = rustix::system::uname();
    say!("kernel:      {}", kernel.release().to_string_lossy())?;
    say!("state:       {}", context.home.path().display())?;
    if let Err(error) = context.sourced() {
        say!("settings:    {error}")?;
    }
    let chosen = offer::choose(&context.home, &context.settings);
    let refused = match &chosen {
        Ok(chosen) => {
            isolation(chosen)?;
            false
        }
        Err(error) => {
            say!("isolation:   {error}")?;
            true
        }
    };
    groups()?;
    if matches!(&chosen, Ok(chosen) if chosen.isolation == Isolation::Namespaces) {
        way_out()?;
    }
    running(context)?;
    needs(context)?;
    if let Ok(chosen) = &chosen {
        promises(chosen.isolation)?;
        restrictions(context, chosen)?;
    }
    if !matches!(&chosen, Ok(chosen) if chosen.isolation == Isolation::Namespaces) {
        remedies(context)?;
    }
    toolchains()?;
    Ok(u8::from(refused))
}

fn isolation(chosen: &ChosenIsolation) -> std::io::Result<()> {
    say!("isolation:   {}", chosen.isolation)?;
    if let Some(because) = &chosen.because {
        say!("             {because}")?;
    }
    match chosen.ids {
        DynoIds::Own((0, _)) => say!("dynos are:   root, without any of its privileges"),
        DynoIds::Own((uid, _)) => say!("dynos are:   you, user {uid}"),
        DynoIds::Shared((uid, _)) => say!("dynos are:   user {uid}, all of them"),
        DynoIds::Each(base) => say!("dynos are:   each a user of its own, above {base}"),
    }
}

/// Prints what holds a dyno to the limits of its size. A server that systemd starts may be allowed more than this command.
fn groups() -> std::io::Result<()> {
    match GroupParent::find() {
        Ok(parent) => {
            let what = parent.bounded().join(", ");
            say!(
                "sizes:       {what}, by control groups (version {})",
                parent.version()
            )
        }
        Err(why) => say!("sizes:       memory, by looking at processes now and then, as {why}"),
    }?;
    say!(
        "             disk, if `disk_size` or a size says how much, by looking at files now and then"
    )
}

/// Prints how other hosts are reached from networks of dynos' own.
fn way_out() -> std::io::Result<()> {
    match outbound::means(0, Path::new("")) {
        Ok(Outbound::Pair { .. }) => {
            say!("networks:    `private` reaches other hosts by rules of nftables")
        }
        Ok(Outbound::Pasta(pasta)) => {
            let pasta = pasta.display();
            say!("networks:    `private` reaches other hosts by `{pasta}`")
        }
        Err(why) => say!("networks:    `private` reaches no other hosts: {why}"),
    }
}

/// Prints what the running server uses, which may have been started with other settings.
fn running(context: &mut Context) -> Result<()> {
    let running = context.running().ok().flatten();
    // A server of an earlier build may not know this request.
    let status = running.and_then(|(client, _)| client.get::<ServerStatus>("/server/status").ok());
    if let Some(status) = status {
        let (pid, isolation) = (status.server.pid, status.isolation);
        say!("server:      process {pid}, isolation {isolation}")?;
    }
    Ok(())
}

/// Prints what namespaces need, one by one, and whether it works.
fn needs(context: &Context) -> std::io::Result<()> {
    say!("")?;
    say!("What `namespaces` needs of this host:")?;
    let within = context.home.path();
    let first = probe::meets(within, &[Need::UserNamespaces]);
    let there = first.is_ok();
    need("user namespaces", first)?;
    let mut rest = vec![
        ("mount API", Need::Mounts),
        ("/proc in full view", Need::Processes),
        ("overlayfs", Need::Overlay),
        ("own networks", Need::Network),
    ];
    let root = rustix::process::geteuid().is_root();
    if root {
        rest.push(("id-mapped mounts", Need::IdMapping));
    }
    for (name, one) in rest {
        match there {
            true => need(name, probe::meets(within, &[one]))?,
            false => say!("  {name:19} unknown without user namespaces")?,
        }
    }
    match root {
        true => {
            let ids = offer::enough_ids(context.settings.uid_base);
            need("ids for dynos", ids.map_err(anyhow::Error::msg))
        }
        false => say!(
            "  {:19} yes: your own, as you are not root",
            "ids for dynos"
        ),
    }
}

fn need(name: &str, met: Result<()>) -> std::io::Result<()> {
    match met {
        Ok(()) => say!("  {name:19} yes"),
        Err(why) => say!("  {name:19} no: {why:#}"),
    }
}

fn promises(isolation: Isolation) -> std::io::Result<()> {
    let lines = match isolation {
        Isolation::Namespaces => NAMESPACES,
        Isolation::Tempdir => TEMPDIR,
    };
    for (promised, title) in [(true, "promises"), (false, "does not promise")] {
        say!("")?;
        say!("What `{isolation}` {title}:")?;
        for (_, line) in lines.iter().filter(|(kind, _)| *kind == promised) {
            say!("  {line}")?;
        }
    }
    Ok(())
}

/// Prints what a hostile dyno is kept from beside its walls, and what it can do here all the same.
fn restrictions(context: &Context, chosen: &ChosenIsolation) -> std::io::Result<()> {
    say!("")?;
    say!("What else a hostile dyno is kept from:")?;
    let gaps = match offer::gaps(&context.home, &context.settings, chosen) {
        Ok(gaps) => gaps,
        Err(why) => return say!("  unknown: {why:#}"),
    };
    for restriction in Restriction::ALL {
        let attack = restriction.attack();
        match gaps.iter().find(|gap| gap.restriction == restriction) {
            None => say!("  held  {attack}")?,
            Some(Gap { why, .. }) => say!("  OPEN  {attack}: {why}")?,
        }
    }
    Ok(())
}

/// Prints how to get namespaces.
fn remedies(context: &Context) -> std::io::Result<()> {
    say!("")?;
    say!("How to get `namespaces`:")?;
    let mut found = false;
    if context.settings.isolation == settings::IsolationSetting::Tempdir {
        found = true;
        say!(
            "  the setting `isolation` is tempdir: leave it out, or make it auto (`dyno settings` says where it is)"
        )?;
    }
    for line in reasons::remedies(&Facts::gather(context.home.path())) {
        found = true;
        say!("  {line}")?;
    }
    if !found {
        say!("  run dyno outside of the container, or have what is missing above allowed")?;
    }
    Ok(())
}

fn toolchains() -> std::io::Result<()> {
    let found = toolchain::find(&DeployingUser::of_process(), None);
    let folders = found.toolchains.folders;
    if !folders.is_empty() {
        say!("")?;
        say!("What your next deploy records of your PATH, for its dynos to read:")?;
    }
    for folder in folders {
        say!("  {folder}")?;
    }
    if !found.left_out.is_empty() {
        say!("")?;
        say!("What of your PATH no dyno will have:")?;
    }
    for LeftOut { folder, why, .. } in found.left_out {
        say!("  {}: {why}", folder.display())?;
    }
    Ok(())
}
