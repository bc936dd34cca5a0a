//! `dyno doctor`: what this host offers to dynos, what is used, and what to do about the rest.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::context::Context;
use super::say;
use crate::sandbox::plan::Ownership;
use crate::sandbox::probe;
use crate::toolchain;

/// Files of the kernel and its guards that switch user namespaces off, the value that does, and the remedy.
const SWITCHES: &[(&str, &str, &str)] = &[
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "sysctl -w user.max_user_namespaces=15000",
    ),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for dyno \
         with the rule `userns,`",
    ),
];

/// Prints it; the result is 1 when dynos cannot run here.
pub fn perform(context: &Context) -> Result<u8> {
    let kernel = rustix::system::uname();
    say!("kernel:      {}", kernel.release().to_string_lossy())?;
    say!("state:       {}", context.home.path().display())?;
    if let Err(error) = context.sourced() {
        say!("settings:    {error}")?;
    }
    let root = rustix::process::geteuid().is_root();
    let ownership = if root {
        Ownership::IdMapped
    } else {
        Ownership::Same
    };
    let mapped = probe::run(context.home.path(), ownership);
    let usable = match &mapped {
        Err(_) if root => probe::run(context.home.path(), Ownership::Same),
        Err(error) => Err(anyhow::anyhow!("{error:#}")),
        Ok(()) => Ok(()),
    };
    match (&usable, &mapped) {
        (Ok(()), Ok(())) => say!("isolation:   namespaces")?,
        (Ok(()), Err(why)) => {
            say!("isolation:   namespaces; all dynos share one host uid")?;
            say!("             no id-mapped mounts here (Linux 5.19): {why:#}")?;
        }
        (Err(why), _) => {
            say!("isolation:   none to be had: {why:#}")?;
            for (file, off, remedy) in SWITCHES {
                if fs::read_to_string(file).is_ok_and(|value| value.trim() == *off) {
                    say!("  {file} is {off}: as root, {remedy}")?;
                }
            }
            if Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists() {
                say!(
                    "  this is a container: it must be allowed user namespaces and an unmasked /proc \
                     (docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined)"
                )?;
            }
        }
    }
    let home = std::env::var_os("HOME").unwrap_or_default();
    let path = std::env::var("PATH").unwrap_or_default();
    for folder in toolchain::find(&path, Path::new(&home)).folders {
        say!("toolchain:   {folder} (recorded with each of your deploys)")?;
    }
    Ok(u8::from(usable.is_err()))
}
