//! Explains why a host allows no namespaces, and what to do about that. An errno alone says little: in a container,
//! EPERM and ENOSYS come from a filter, on Ubuntu, EACCES comes from AppArmor, while the kernel has all that is needed.
//!
//! [`Facts::gather`] looks at the host; [`why`], [`why_step`] and [`remedies`] are pure.

mod facts;

use std::path::Path;

use crate::kernel::executable;
use crate::kernel::sys::process::CloneRefusal;

pub use facts::{Facts, covered_parts, kernel};

/// Explains why the kernel refused a process with namespaces of its own.
pub fn why(refusal: &CloneRefusal, facts: &Facts) -> String {
    let error = &refusal.error;
    let errno = error.raw_os_error().unwrap_or(0);
    let place = facts.place();
    if let Some(option) = facts.built_without {
        return format!("this kernel was built without {option}: {error}");
    }
    match errno {
        // A limit, which the kernel's message "no space left on device" hides.
        libc::ENOSPC | libc::EUSERS => match (facts.zeros.first(), facts.limit) {
            (Some(limit), _) => format!("no user namespaces may be made here: {limit} is 0"),
            (None, limit) => {
                let limit = limit.map_or("unknown".to_owned(), |limit| limit.to_string());
                format!(
                    "no more user namespaces may be made: as many as are allowed, here or outside of a container around it, \
                     are in use (user.max_user_namespaces is {limit})"
                )
            }
        },
        libc::EPERM | libc::EACCES | libc::ENOSYS if refusal.clone3_filtered => format!(
            "{place} `clone3` is refused, and so is `clone` with new namespaces, by a filter of system calls (seccomp): \
             {error}"
        ),
        libc::EPERM | libc::EACCES if facts.only_root && !facts.privileged => {
            "on this host only root may make user namespaces (kernel.unprivileged_userns_clone is 0)".to_owned()
        }
        libc::EPERM | libc::EACCES if facts.apparmor && !facts.privileged => {
            format!("{APPARMOR}: {error}")
        }
        libc::EPERM | libc::EACCES if facts.chroot => {
            format!("in a chroot no user namespaces may be made: {error}")
        }
        libc::EPERM | libc::EACCES | libc::ENOSYS if facts.filtered => format!(
            "{place} `clone` with new namespaces is refused, by a filter of system calls (seccomp): {error}"
        ),
        libc::EPERM | libc::EACCES => format!(
            "{place} this user may not make user namespaces; a security module (SELinux, AppArmor) or the limits of a \
             container may forbid it: {error}"
        ),
        _ => format!("no user namespaces: {error}"),
    }
}

const APPARMOR: &str = "AppArmor gives user namespaces no privilege here, but to programs that have a profile for it \
    (kernel.apparmor_restrict_unprivileged_userns is 1)";

/// Explains why a step in making a sandbox was refused: `words`, with what the facts add.
pub fn why_step(words: &str, errno: i32, facts: &Facts) -> String {
    let (major, minor) = facts.kernel;
    match errno {
        libc::EPERM | libc::EACCES if facts.apparmor && !facts.privileged => {
            format!("{APPARMOR}: {words}")
        }
        libc::ENOSYS if facts.kernel < (5, 12) => format!(
            "Linux {major}.{minor} cannot make a dyno's root tree, which takes `mount_setattr` of Linux 5.12: {words}"
        ),
        libc::ENOSYS | libc::EPERM if facts.filtered => format!(
            "{} a filter of system calls (seccomp) is around dyno, and may be what refuses this: {words}",
            facts.place()
        ),
        libc::EINVAL if facts.state_on_overlay && words.contains("overlay") => format!(
            "the state folder is on an overlay itself, as a container's own files are, and that cannot hold another: \
             {words}"
        ),
        _ => words.to_owned(),
    }
}

/// What would allow namespaces here, or more of a sandbox; one entry each, some of several lines.
pub fn remedies(facts: &Facts) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(option) = facts.built_without {
        lines.push(format!("a kernel with {option}"));
    }
    if facts.kernel < (5, 12) {
        lines.push("Linux 5.12 or newer".to_owned());
    }
    for limit in &facts.zeros {
        lines.push(format!("{limit} is 0: as root, sysctl -w {limit}=15000"));
    }
    if facts.only_root && !facts.privileged {
        let name = "kernel.unprivileged_userns_clone";
        lines.push(format!("{name} is 0: as root, sysctl -w {name}=1"));
    }
    if facts.apparmor && !facts.privileged {
        lines.push(
            "kernel.apparmor_restrict_unprivileged_userns is 1: as root, write these lines to /etc/apparmor.d/dyno and run \
             `apparmor_parser -r /etc/apparmor.d/dyno`, then `dyno server:stop`"
                .to_owned(),
        );
        let program = executable::program().unwrap_or_else(|_| "/usr/local/bin/dyno".into());
        lines.extend(profile(&program).lines().map(|line| format!("    {line}")));
    }
    match facts.container.as_deref() {
        Some("docker") => lines.push(
            "this is a container of docker's: it must be allowed user namespaces and an unmasked /proc \
             (docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined)"
                .to_owned(),
        ),
        Some("podman") => lines.push(
            "this is a container of podman's: it must be allowed user namespaces and an unmasked /proc \
             (podman run --security-opt seccomp=unconfined --security-opt unmask=ALL)"
                .to_owned(),
        ),
        Some("kubernetes") => lines.push(
            "this is a container of Kubernetes': its securityContext must have `seccompProfile: {type: Unconfined}` and \
             `procMount: Unmasked`"
                .to_owned(),
        ),
        Some(kind) => lines.push(format!(
            "this is a container ({kind}): it must be allowed user namespaces, and a /proc of which nothing is covered"
        )),
        None if facts.filtered => lines.push(
            "a filter of system calls (seccomp) is around dyno: of a systemd unit those are SystemCallFilter= and \
             RestrictNamespaces="
                .to_owned(),
        ),
        None => {}
    }
    if facts.chroot {
        lines.push("this is a chroot: run dyno outside of it, or in a container".to_owned());
    }
    if facts.state_on_overlay {
        lines.push(
            "the state is on an overlay: keep it on a volume (docker run -v dyno:/var/lib/dyno -e DYNO_HOME=/var/lib/dyno)"
                .to_owned(),
        );
    }
    lines
}

/// Explains why dynos share a uid: there are no id-mapped mounts, for the kernel's reason `why`.
pub fn why_shared_uid(why: &str, facts: &Facts) -> String {
    let needs = match facts.state_on_tmpfs {
        _ if !facts.privileged => {
            "which take a privilege that this root does not have (CAP_SYS_ADMIN)"
        }
        _ if facts.kernel < (5, 19) => "which overlays take from Linux 5.19 on",
        true if facts.kernel < (6, 3) => "which tmpfs, where the state is, has from Linux 6.3 on",
        _ => "which the file system of the state may not have",
    };
    format!("all dynos share one host uid, for want of id-mapped mounts, {needs}: {why}")
}

/// The AppArmor profile that lets `program` make user namespaces, and restricts nothing.
pub fn profile(program: &Path) -> String {
    format!(
        "abi <abi/4.0>,\n\
         include <tunables/global>\n\
         \n\
         profile dyno {} flags=(unconfined) {{\n\
         \x20 userns,\n\
         \n\
         \x20 include if exists <local/dyno>\n\
         }}\n",
        program.display()
    )
}

#[cfg(test)]
mod tests {
    use std::{fs, io};

    use super::*;

    const NOW: (u32, u32) = (6, 18);

    fn facts() -> Facts {
        Facts {
            limit: Some(96_364),
            kernel: NOW,
            ..Facts::default()
        }
    }

    fn refusal(errno: i32, clone3_filtered: bool) -> CloneRefusal {
        CloneRefusal {
            error: io::Error::from_raw_os_error(errno),
            clone3_filtered,
        }
    }

    /// Every errno with every fact that changes its meaning.
    #[test]
    fn a_refusal_is_told_as_what_it_means_here() {
        let docker = || Facts {
            container: Some("docker".to_owned()),
            filtered: true,
            ..facts()
        };
        let docker_on_ubuntu = || Facts {
            apparmor: true,
            ..docker()
        };
        let zero = Facts {
            zeros: vec!["user.max_user_namespaces".to_owned()],
            limit: Some(0),
            ..facts()
        };
        let only_root = Facts {
            only_root: true,
            ..facts()
        };
        let apparmor = Facts {
            apparmor: true,
            ..facts()
        };
        let chroot = Facts {
            chroot: true,
            ..facts()
        };
        let without = Facts {
            built_without: Some("CONFIG_USER_NS"),
            ..facts()
        };
        let privileged = Facts {
            privileged: true,
            only_root: true,
            apparmor: true,
            ..facts()
        };
        let (perm, access, nosys) = (libc::EPERM, libc::EACCES, libc::ENOSYS);
        for (errno, clone3_filtered, facts, words) in [
            (
                perm,
                true,
                docker(),
                "in this container (docker) `clone3` is refused, and so is `clone`",
            ),
            (
                nosys,
                true,
                docker(),
                "in this container (docker) `clone3` is refused, and so is `clone`",
            ),
            (
                perm,
                false,
                docker(),
                "in this container (docker) `clone` with new namespaces is refused",
            ),
            (
                nosys,
                true,
                facts(),
                "on this host `clone3` is refused, and so is `clone`",
            ),
            (
                libc::ENOSPC,
                false,
                facts(),
                "no more user namespaces may be made: ",
            ),
            (
                libc::EUSERS,
                false,
                facts(),
                "no more user namespaces may be made: ",
            ),
            (
                libc::ENOSPC,
                true,
                docker(),
                "no more user namespaces may be made: ",
            ),
            (
                libc::ENOSPC,
                false,
                zero,
                "no user namespaces may be made here: user.max_user_namespaces is 0",
            ),
            (
                perm,
                false,
                only_root,
                "on this host only root may make user namespaces",
            ),
            (
                perm,
                false,
                apparmor.clone(),
                "AppArmor gives user namespaces no privilege here",
            ),
            (
                access,
                false,
                apparmor,
                "AppArmor gives user namespaces no privilege here",
            ),
            (
                perm,
                false,
                chroot,
                "in a chroot no user namespaces may be made",
            ),
            (
                perm,
                false,
                privileged,
                "on this host this user may not make user namespaces; a security",
            ),
            (
                perm,
                false,
                facts(),
                "on this host this user may not make user namespaces; a security",
            ),
            (
                libc::EINVAL,
                false,
                without.clone(),
                "this kernel was built without CONFIG_USER_NS",
            ),
            (
                perm,
                false,
                docker_on_ubuntu(),
                "AppArmor gives user namespaces no privilege here",
            ),
            (
                perm,
                true,
                docker_on_ubuntu(),
                "in this container (docker) `clone3` is refused",
            ),
            (
                nosys,
                true,
                without,
                "this kernel was built without CONFIG_USER_NS",
            ),
            (
                libc::ENOMEM,
                false,
                facts(),
                "no user namespaces: Cannot allocate memory",
            ),
        ] {
            let said = why(&refusal(errno, clone3_filtered), &facts);
            assert!(said.starts_with(words), "{errno} {facts:?}: {said}");
            let says_space = said.contains("No space left");
            assert!(!says_space, "{said}");
        }
    }

    #[test]
    fn a_step_that_was_refused_is_told_with_what_the_place_adds() {
        let apparmor = Facts {
            apparmor: true,
            ..facts()
        };
        let old = Facts {
            kernel: (5, 10),
            ..facts()
        };
        let podman = Facts {
            container: Some("podman".to_owned()),
            filtered: true,
            ..facts()
        };
        let overlay = Facts {
            state_on_overlay: true,
            ..facts()
        };
        let (perm, nosys, invalid) = (libc::EPERM, libc::ENOSYS, libc::EINVAL);
        for (words, errno, facts, said) in [
            (
                "cannot make mounts private",
                libc::EACCES,
                apparmor,
                "AppArmor gives",
            ),
            (
                "cannot restrict",
                nosys,
                old,
                "Linux 5.10 cannot make a dyno's root tree",
            ),
            (
                "cannot open",
                perm,
                podman.clone(),
                "in this container (podman) a filter",
            ),
            (
                "cannot open",
                nosys,
                podman,
                "in this container (podman) a filter",
            ),
            (
                "cannot mount an overlay",
                invalid,
                overlay.clone(),
                "the state folder is on an overlay",
            ),
            ("something else", invalid, overlay, "something else"),
            ("cannot open", perm, facts(), "cannot open"),
            ("cannot open", 0, facts(), "cannot open"),
        ] {
            let all = why_step(words, errno, &facts);
            assert!(all.starts_with(said) && all.ends_with(words), "{all}");
        }
    }

    #[test]
    fn a_remedy_is_for_what_is_in_the_way() {
        assert_eq!(remedies(&facts()), [""; 0]);
        let all = |facts: &Facts| remedies(facts).join("\n");
        let apparmor = Facts {
            apparmor: true,
            ..facts()
        };
        assert!(all(&apparmor).contains("\n      userns,\n"));
        let root = Facts {
            privileged: true,
            ..apparmor
        };
        assert_eq!(remedies(&root), [""; 0]);
        for (kind, words) in [
            ("docker", "docker run --security-opt seccomp=unconfined"),
            ("podman", "unmask=ALL"),
            ("kubernetes", "procMount: Unmasked"),
            ("lxc", "a container (lxc)"),
        ] {
            let facts = Facts {
                container: Some(kind.to_owned()),
                ..facts()
            };
            assert!(all(&facts).contains(words), "{kind}");
        }
        let zero = Facts {
            zeros: vec!["user.max_pid_namespaces".to_owned()],
            ..facts()
        };
        assert!(all(&zero).contains("sysctl -w user.max_pid_namespaces=15000"));
    }

    #[test]
    fn a_shared_uid_has_its_reason() {
        for (privileged, kernel, state_on_tmpfs, words) in [
            (
                false,
                NOW,
                false,
                "a privilege that this root does not have",
            ),
            (true, (5, 15), true, "overlays take from Linux 5.19"),
            (
                true,
                (6, 1),
                true,
                "tmpfs, where the state is, has from Linux 6.3",
            ),
            (
                true,
                (6, 1),
                false,
                "the file system of the state may not have",
            ),
            (true, NOW, true, "the file system of the state may not have"),
        ] {
            let facts = Facts {
                privileged,
                kernel,
                state_on_tmpfs,
                ..facts()
            };
            let said = why_shared_uid("Invalid argument", &facts);
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn the_profile_among_the_examples_is_the_one_that_doctor_prints() {
        let root =
            std::env::var_os("DYNO_TEST_ROOT").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let example = fs::read_to_string(Path::new(&root).join("examples/apparmor/dyno")).unwrap();
        assert!(
            example.ends_with(&profile(Path::new("/usr/local/bin/dyno"))),
            "{example}"
        );
    }
}
