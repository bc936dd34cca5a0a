//! What the server knows of its own process: who has started it and when, and what it takes of the host.

use std::fs;
use std::io;

use jiff::Timestamp;

use crate::api::server::StartedBy;

/// The beginning of this process.
#[derive(Debug, Clone)]
pub struct Origin {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: StartedBy,
}

impl Origin {
    /// That of this process, which has just begun. `idle`: a command has started it.
    pub fn of_process(idle: bool) -> Self {
        let by = match idle {
            true => StartedBy::Command,
            false => of_service(
                |name| std::env::var(name).ok(),
                std::process::id(),
                &fs::read_to_string("/proc/self/cgroup").unwrap_or_default(),
            )
            .unwrap_or(StartedBy::Hand),
        };
        Self {
            at: Timestamp::now(),
            by,
        }
    }
}

/// The unit that a process is the main one of, from its environment, its number and its `/proc/self/cgroup`.
///
/// What systemd puts into the environment is inherited by all that a service starts, such as the shells of a terminal
/// program. So the variable counts that names a process (systemd 248), and before that the socket to tell systemd on.
fn of_service(env: impl Fn(&str) -> Option<String>, pid: u32, cgroup: &str) -> Option<StartedBy> {
    let ours = match env("SYSTEMD_EXEC_PID") {
        Some(main) => main == pid.to_string(),
        None => env("INVOCATION_ID").is_some() && env("NOTIFY_SOCKET").is_some(),
    };
    let mut folders = cgroup.lines().flat_map(|line| line.split('/'));
    ours.then(|| StartedBy::Systemd {
        unit: folders
            .rfind(|folder| folder.ends_with(".service"))
            .unwrap_or("dyno.service")
            .to_owned(),
        // Set by the systemd of a user alone.
        user: env("MANAGERPID").is_some(),
    })
}

/// What a process takes of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Resident memory in bytes.
    pub memory: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// How many may be open.
    pub max_descriptors: u64,
}

impl ProcessUsage {
    /// Of this process.
    ///
    /// # Errors
    /// When `/proc` is not there.
    pub fn of_process() -> io::Result<Self> {
        let pages = fs::read_to_string("/proc/self/statm")?;
        let pages: Option<u64> = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok());
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Ok(Self {
            memory: pages.unwrap_or(0) * crate::kernel::sys::memory::page_size() as u64,
            // One of them is for the folder that is being read.
            descriptors: (fs::read_dir("/proc/self/fd")?.count() as u64).saturating_sub(1),
            max_descriptors: limit.unwrap_or(u64::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_main_process_of_a_service_was_started_by_systemd() {
        let of_service = |variables: &[(&str, &str)], cgroup: &str| {
            let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
            of_service(|name| Some(find(name)?.1.to_owned()), 77, cgroup)
        };
        let systemd = |unit: &str, user| {
            Some(StartedBy::Systemd {
                unit: unit.into(),
                user,
            })
        };
        let main = ("SYSTEMD_EXEC_PID", "77");
        assert_eq!(
            of_service(&[main], "0::/system.slice/dyno-two.service\n"),
            systemd("dyno-two.service", false)
        );
        let of_user = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/dyno.service\n";
        let manager = ("MANAGERPID", "5");
        assert_eq!(
            of_service(&[main, manager], of_user),
            systemd("dyno.service", true)
        );
        // A shell in a terminal that is a service itself.
        let id = ("INVOCATION_ID", "0123");
        assert_eq!(of_service(&[("SYSTEMD_EXEC_PID", "5"), id], of_user), None);
        assert_eq!(of_service(&[id], of_user), None);
        assert_eq!(of_service(&[], of_user), None);
        let socket = ("NOTIFY_SOCKET", "/run/systemd/notify");
        assert_eq!(
            of_service(&[id, socket], "0::/\n"),
            systemd("dyno.service", false)
        );
    }

    #[test]
    fn this_process_takes_something() {
        let usage = ProcessUsage::of_process().unwrap();
        assert!(usage.memory > 100_000 && usage.descriptors >= 3);
        assert!(usage.max_descriptors > usage.descriptors);
    }
}
