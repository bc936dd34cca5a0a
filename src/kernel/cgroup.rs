//! Control groups: what the kernel bounds and counts of a set of processes together.
//!
//! Version 1 has a tree of groups for each controller, version 2 one for all. [`GroupParent::find`] looks for the place
//! where this process may make groups, a [`Group`] is used the same way in both. Source: Documentation/admin-guide/cgroup-v1
//! and cgroup-v2.rst of the kernel.
//!
//! No group that was not made here is changed, and only processes that the caller names are moved.

mod place;

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::model::dyno::Spent;

/// The name of the group below which all groups of this program are.
const OURS: &str = "dyno";

/// How often a group whose processes have just been killed is tried again, and the time between two tries.
const TRIES: u32 = 200;
const BETWEEN_TRIES: Duration = Duration::from_millis(2);

/// How often a group is made again that a server has just swept.
const SWEPT: u32 = 3;

/// The place of this program's groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupParent {
    /// A folder for each controller, each in a tree of its own. Two of them may be one folder.
    V1 {
        /// Memory.
        memory: PathBuf,
        /// The number of processes and threads.
        pids: Option<PathBuf>,
        /// Time of the processors, as shares.
        cpu: Option<PathBuf>,
        /// Time of the processors, as it is counted. A dyno that an earlier build made has none.
        #[serde(default)]
        cpuacct: Option<PathBuf>,
        /// On which processors, and which memory: nothing is bounded by it, but a JVM asks it before it looks at the memory's.
        #[serde(default)]
        cpuset: Option<PathBuf>,
    },
    /// One folder for all controllers.
    V2(PathBuf),
}

/// What a group may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupLimits {
    /// Bytes of memory, swap excluded, beyond which the kernel kills a process of the group.
    pub memory: u64,
    /// Processes and threads.
    pub processes: u32,
    /// Its share of the processors when there is not enough for all, in hundredths of the usual share of a group.
    pub cpu_weight: u32,
}

/// What the processes of a group have in memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupMemory {
    /// Anonymous memory and shared memory, files on memory file systems included.
    pub resident: u64,
    /// What of these is swapped out.
    pub swap: u64,
    /// Pages of files on disks, which the kernel takes back when it needs them.
    pub cache: u64,
    /// How many pages were counted for the group, and how many no more, since it was made. Version 2 does not tell.
    pub paged: Option<(u64, u64)>,
}

impl GroupParent {
    /// The place where this process can make groups that bound memory.
    ///
    /// In version 2 it is the highest group that this user may change, the whole tree's root for the host's root and the
    /// one of the user's service manager for a user: a group that bounds its groups may have no process itself, so it
    /// cannot be the server's own. In version 1 it is the server's own.
    ///
    /// # Errors
    /// Why there is none, as words for a person.
    pub fn find() -> Result<Self, String> {
        let read = |path: &str| {
            fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))
        };
        let places = place::find(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?);
        if places
            .v1
            .iter()
            .any(|(controller, _)| controller == "memory")
        {
            return Self::of_v1(&places);
        }
        let Some(v2) = places.v2 else {
            return Err("no control groups are mounted here".to_owned());
        };
        let has_controllers = |group: &Path| {
            let enabled = fs::read_to_string(group.join("cgroup.subtree_control"));
            enabled.is_ok_and(|it| {
                ["memory", "pids"]
                    .iter()
                    .all(|one| it.split_whitespace().any(|it| it == *one))
            })
        };
        let mut groups: Vec<&Path> = v2
            .own
            .ancestors()
            .take_while(|group| group.starts_with(&v2.mount))
            .filter(|group| is_changeable(group))
            .collect();
        groups.reverse();
        let Some(highest) = groups.first() else {
            return Err(format!(
                "the control group `{}` is not this user's",
                v2.own.display()
            ));
        };
        let group = groups
            .iter()
            .find(|group| has_controllers(group))
            .ok_or_else(|| {
                format!(
                    "the control group `{}` gives its groups no memory limit",
                    highest.display()
                )
            })?;
        let parent = Self::V2(group.join(OURS));
        parent
            .make_itself()
            .map_err(|error| format!("cannot make a control group: {error}"))?;
        Ok(parent)
    }

    fn of_v1(places: &place::Places) -> Result<Self, String> {
        let folder = |controller: &str| {
            let found = places.v1.iter().find(|(known, _)| known == controller);
            found.map(|(_, own)| own.clone())
        };
        let memory = folder("memory").unwrap_or_default();
        if !is_changeable(&memory) {
            return Err(format!(
                "the control group `{}` is not this user's",
                memory.display()
            ));
        }
        let changeable = |folder: Option<PathBuf>| {
            folder
                .filter(|folder| is_changeable(folder))
                .map(|folder| folder.join(OURS))
        };
        let parent = Self::V1 {
            memory: memory.join(OURS),
            pids: changeable(folder("pids")),
            cpu: changeable(folder("cpu")),
            cpuacct: changeable(folder("cpuacct")),
            // Without it only a JVM goes by the host's memory, so nothing else may fail by it.
            cpuset: changeable(folder("cpuset")).filter(|ours| {
                make_folder(ours)
                    .and_then(|()| take_all_processors(ours))
                    .is_ok()
            }),
        };
        parent
            .make_itself()
            .map_err(|error| format!("cannot make a control group: {error}"))?;
        Ok(parent)
    }

    /// The version of control groups, 1 or 2.
    pub fn version(&self) -> u8 {
        match self {
            Self::V1 { .. } => 1,
            Self::V2(_) => 2,
        }
    }

    /// What is bounded by groups, in words.
    pub fn bounded(&self) -> Vec<&'static str> {
        let has_cpu = match self {
            Self::V1 { cpu, .. } => cpu.is_some(),
            Self::V2(ours) => fs::read_to_string(ours.join("cgroup.subtree_control"))
                .is_ok_and(|it| it.split_whitespace().any(|it| it == "cpu")),
        };
        let has_pids = !matches!(self, Self::V1 { pids: None, .. });
        let all = [(true, "memory"), (has_pids, "processes"), (has_cpu, "CPU")];
        all.into_iter()
            .filter(|(has, _)| *has)
            .map(|(_, what)| what)
            .collect()
    }

    /// The group of this name, whether it exists or not.
    pub fn group(&self, name: &str) -> Group {
        let folder = |parent: &PathBuf| parent.join(name);
        match self {
            Self::V1 {
                memory,
                pids,
                cpu,
                cpuacct,
                cpuset,
            } => Group {
                is_v2: false,
                memory: folder(memory),
                pids: pids.as_ref().map(folder),
                cpu: cpu.as_ref().map(folder),
                cpuacct: cpuacct.as_ref().map(folder),
                cpuset: cpuset.as_ref().map(folder),
            },
            Self::V2(parent) => Group {
                is_v2: true,
                memory: folder(parent),
                pids: Some(folder(parent)),
                cpu: Some(folder(parent)),
                cpuacct: Some(folder(parent)),
                cpuset: None,
            },
        }
    }

    /// Its folders, each once, with the controllers in it; none are named in version 2.
    fn folders_with_controllers(&self) -> Vec<(&Path, Vec<&'static str>)> {
        let (memory, others) = match self {
            Self::V1 {
                memory,
                pids,
                cpu,
                cpuacct,
                cpuset,
            } => (
                memory,
                [
                    (pids, "pids"),
                    (cpu, "cpu"),
                    (cpuacct, "cpuacct"),
                    (cpuset, "cpuset"),
                ],
            ),
            Self::V2(folder) => return vec![(folder, Vec::new())],
        };
        let mut all: Vec<(&Path, Vec<_>)> = vec![(memory, vec!["memory"])];
        for (folder, controller) in others {
            let Some(folder) = folder else { continue };
            match all.iter_mut().find(|(known, _)| known == folder) {
                Some((_, controllers)) => controllers.push(controller),
                None => all.push((folder, vec![controller])),
            }
        }
        all
    }

    fn folders(&self) -> Vec<&Path> {
        let all = self.folders_with_controllers();
        all.into_iter().map(|(folder, _)| folder).collect()
    }

    /// The trees that its groups are in: the controllers of each, which name it in version 1. One without a name in version 2.
    pub fn trees(&self) -> Vec<Vec<&'static str>> {
        let all = self.folders_with_controllers();
        all.into_iter()
            .map(|(_, controllers)| controllers)
            .collect()
    }

    fn make_itself(&self) -> io::Result<()> {
        for folder in self.folders() {
            make_folder(folder)?;
        }
        if let Self::V1 {
            cpuset: Some(cpuset),
            ..
        } = self
        {
            take_all_processors(cpuset)?;
        }
        if let Self::V2(folder) = self {
            let control = folder.join("cgroup.subtree_control");
            fs::write(&control, "+memory +pids")?;
            // Not every host has these switched on.
            let _ = fs::write(&control, "+cpu");
            let _ = fs::write(&control, "+io");
        }
        Ok(())
    }

    /// Removes the parent's own groups if no group is left in them.
    pub fn remove_if_empty(&self) {
        for folder in self.folders() {
            let _ = fs::remove_dir(folder);
        }
    }

    /// Removes the groups that have no process: those of dynos whose supervisor was killed, and whose folder is gone. One that
    /// another process is just making may be among them; [`enter`](Self::enter) makes it again.
    pub fn sweep(&self) {
        for folder in self.folders() {
            for group in fs::read_dir(folder).into_iter().flatten().flatten() {
                // The files in there are no folders, and a group with a process is busy.
                let _ = fs::remove_dir(group.path());
            }
        }
    }

    /// Makes a group of this name, which bounds whatever is put into it, and puts a process into it.
    ///
    /// # Errors
    /// When the kernel refuses it. A folder in which the process is then goes with the next [`sweep`](Self::sweep).
    pub fn enter(&self, name: &str, limits: GroupLimits, pid: Pid) -> io::Result<Group> {
        let group = self.group(name);
        let mut tries = 0;
        loop {
            let made = group.make_folders().or_else(|_| {
                // The server that left last may have removed the parent.
                self.make_itself()?;
                group.make_folders()
            });
            let entered = made
                .and_then(|()| group.limit(limits))
                .and_then(|()| group.add(pid));
            match entered {
                Ok(()) => return Ok(group),
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < SWEPT => {
                    tries += 1;
                }
                Err(error) => {
                    for folder in group.folders() {
                        let _ = fs::remove_dir(folder);
                    }
                    return Err(error);
                }
            }
        }
    }
}

/// A group of processes with limits.
#[derive(Debug)]
pub struct Group {
    is_v2: bool,
    memory: PathBuf,
    pids: Option<PathBuf>,
    cpu: Option<PathBuf>,
    cpuacct: Option<PathBuf>,
    cpuset: Option<PathBuf>,
}

impl Group {
    /// Puts a process into the group; what it starts is in it, too.
    ///
    /// # Errors
    /// When the kernel refuses it.
    fn add(&self, pid: Pid) -> io::Result<()> {
        for folder in self.folders() {
            fs::write(
                folder.join("cgroup.procs"),
                pid.as_raw_nonzero().to_string(),
            )?;
        }
        Ok(())
    }

    /// What its processes have in memory now.
    ///
    /// # Errors
    /// When the group is gone.
    pub fn memory(&self) -> io::Result<GroupMemory> {
        let stat = fs::read_to_string(self.memory.join("memory.stat"))?;
        if !self.is_v2 {
            return Ok(memory_of_v1(&stat));
        }
        let swap = fs::read_to_string(self.memory.join("memory.swap.current"));
        let swap = swap.ok().and_then(|it| it.trim().parse().ok());
        Ok(memory_of_v2(&stat, swap.unwrap_or(0)))
    }

    /// What its processes have taken since it was made, those that have ended included, as far as the kernel tells: the peak of
    /// memory in version 2 from Linux 5.19 on, what disks have read and written in version 2 where the controller `io` is.
    pub fn spent(&self) -> Spent {
        let read = |folder: Option<&PathBuf>, name: &str| {
            let text = folder.map(|folder| fs::read_to_string(folder.join(name)));
            text.and_then(Result::ok)
        };
        let number = |text: Option<String>| text.and_then(|text| text.trim().parse::<u64>().ok());
        let memory = Some(&self.memory);
        if !self.is_v2 {
            let nanoseconds = number(read(self.cpuacct.as_ref(), "cpuacct.usage"));
            return Spent {
                peak_memory: number(read(memory, "memory.max_usage_in_bytes")),
                cpu_micros: nanoseconds.map(|it| it / 1000),
                ..Spent::default()
            };
        }
        let cpu = read(memory, "cpu.stat");
        let io = read(memory, "io.stat");
        Spent {
            peak_memory: number(read(memory, "memory.peak")),
            cpu_micros: cpu.and_then(|text| value(&text, "usage_usec")),
            bytes_read: io.as_deref().map(|text| of_all_disks(text, "rbytes=")),
            bytes_written: io.as_deref().map(|text| of_all_disks(text, "wbytes=")),
        }
    }

    /// How many of its processes the kernel has killed because the group was at its limit of memory.
    pub fn killed(&self) -> u64 {
        let file = match self.is_v2 {
            true => "memory.events",
            false => "memory.oom_control",
        };
        let text = fs::read_to_string(self.memory.join(file));
        text.ok()
            .and_then(|text| value(&text, "oom_kill"))
            .unwrap_or(0)
    }

    /// A descriptor that tells when the group has reached its limit of memory.
    ///
    /// # Errors
    /// When the group is gone.
    pub fn watch(&self) -> io::Result<LimitWatch> {
        if self.is_v2 {
            let events = self.memory.join("memory.events");
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let events = rustix::fs::open(events, flags, Mode::empty())?;
            return Ok(LimitWatch {
                fd: events,
                is_v2: true,
            });
        }
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let control = self.memory.join("memory.oom_control");
        let control = rustix::fs::open(control, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let number = |fd: &OwnedFd| std::os::fd::AsRawFd::as_raw_fd(fd);
        let order = format!("{} {}", number(&fd), number(&control));
        fs::write(self.memory.join("cgroup.event_control"), order)?;
        Ok(LimitWatch { fd, is_v2: false })
    }

    /// Removes the group. Its processes must have been killed: those that are still dying are waited for, for a moment.
    ///
    /// # Errors
    /// When a process is left in it.
    pub fn remove(&self) -> io::Result<()> {
        for folder in self.folders() {
            let mut tries = 0;
            loop {
                match fs::remove_dir(folder) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy && tries < TRIES => {
                        tries += 1;
                        std::thread::sleep(BETWEEN_TRIES);
                    }
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// Its folders, each once.
    fn folders(&self) -> Vec<&Path> {
        let mut all: Vec<&Path> = vec![&self.memory];
        let others = [&self.pids, &self.cpu, &self.cpuacct, &self.cpuset];
        for folder in others.into_iter().flatten() {
            if !all.contains(&folder.as_path()) {
                all.push(folder);
            }
        }
        all
    }

    fn make_folders(&self) -> io::Result<()> {
        self.folders().into_iter().try_for_each(make_folder)?;
        self.cpuset.as_deref().map_or(Ok(()), take_all_processors)
    }

    fn limit(&self, limits: GroupLimits) -> io::Result<()> {
        let memory = limits.memory.to_string();
        if self.is_v2 {
            fs::write(self.memory.join("memory.max"), memory)?;
            fs::write(self.memory.join("pids.max"), limits.processes.to_string())?;
            let weight = limits.cpu_weight.clamp(1, 10_000).to_string();
            let _ = fs::write(self.memory.join("cpu.weight"), weight);
            return Ok(());
        }
        fs::write(self.memory.join("memory.limit_in_bytes"), memory)?;
        if let Some(pids) = &self.pids {
            fs::write(pids.join("pids.max"), limits.processes.to_string())?;
        }
        if let Some(cpu) = &self.cpu {
            // The usual share of a group is 1024 here, and 2 the lowest.
            let shares = (u64::from(limits.cpu_weight) * 1024 / 100).clamp(2, 262_144);
            fs::write(cpu.join("cpu.shares"), shares.to_string())?;
        }
        Ok(())
    }
}

/// Tells when a group has reached its limit of memory.
#[derive(Debug)]
pub struct LimitWatch {
    fd: OwnedFd,
    is_v2: bool,
}

impl LimitWatch {
    /// The descriptor to watch: for reading in version 1, for priority events in version 2.
    pub fn fd(&self) -> impl AsFd + '_ {
        &self.fd
    }

    /// Whether the descriptor is to be watched for priority events.
    pub fn is_priority(&self) -> bool {
        self.is_v2
    }

    /// Takes the event, so that the next one is told, too.
    pub fn take(&self) {
        let mut buffer = [0u8; 256];
        let _ = match self.is_v2 {
            true => rustix::io::pread(&self.fd, &mut buffer, 0),
            false => rustix::io::read(&self.fd, &mut buffer),
        };
    }
}

/// Whether this user may make groups below it and move processes into them.
fn is_changeable(group: &Path) -> bool {
    use rustix::fs::{Access, access};
    access(group, Access::WRITE_OK).is_ok()
        && access(group.join("cgroup.procs"), Access::WRITE_OK).is_ok()
}

/// Gives a new group of the controller `cpuset` what the group above has, without which no process can be put into it.
fn take_all_processors(group: &Path) -> io::Result<()> {
    let above = group.parent().unwrap_or(group);
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let all = fs::read_to_string(above.join(file))?;
        if all.trim().is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        // What the host's owner has chosen stays.
        if fs::read_to_string(group.join(file))?.trim().is_empty() {
            fs::write(group.join(file), all)?;
        }
    }
    Ok(())
}

/// Makes a group's folder, if it is not there. Whatever the umask is, a dyno's processes, which are another user's, may see their
/// own group in it.
fn make_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Where that is refused they do not see it, and are bounded all the same.
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o755));
    Ok(())
}

/// The value of a line `NAME VALUE`.
fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (known, value) = line.split_once(' ')?;
        (known == name).then(|| value.trim().parse().ok())?
    })
}

/// The sum of a figure of all lines like `8:0 rbytes=1 wbytes=2 …`.
fn of_all_disks(stat: &str, name: &str) -> u64 {
    let words = stat.split_whitespace();
    let values = words.filter_map(|word| word.strip_prefix(name)?.parse::<u64>().ok());
    values.sum()
}

fn memory_of_v1(stat: &str) -> GroupMemory {
    let of = |name| value(stat, name).unwrap_or(0);
    // Shared memory counts as cache, and has a line of its own since Linux 4.13.
    GroupMemory {
        resident: of("total_rss") + of("total_shmem"),
        swap: of("total_swap"),
        cache: of("total_cache").saturating_sub(of("total_shmem")),
        paged: value(stat, "total_pgpgin").zip(value(stat, "total_pgpgout")),
    }
}

fn memory_of_v2(stat: &str, swap: u64) -> GroupMemory {
    let of = |name| value(stat, name).unwrap_or(0);
    GroupMemory {
        resident: of("anon") + of("shmem"),
        swap,
        cache: of("file").saturating_sub(of("shmem")),
        paged: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_memory_counts_and_what_is_cached_of_files_does_not() {
        let v1 = "cache 5000\nrss 7\ntotal_cache 3000\ntotal_rss 100\ntotal_shmem 20\ntotal_swap 3\n\
             total_pgpgin 9\ntotal_pgpgout 8\n";
        let memory = GroupMemory {
            resident: 120,
            swap: 3,
            cache: 2980,
            paged: None,
        };
        let paged = GroupMemory {
            paged: Some((9, 8)),
            ..memory
        };
        assert_eq!(memory_of_v1(v1), paged);
        let v2 = "anon 100\nfile 3000\nkernel 50\nshmem 20\n";
        assert_eq!(memory_of_v2(v2, 3), memory);
        assert_eq!(memory_of_v2("", 0), GroupMemory::default());
    }

    #[test]
    fn what_all_disks_have_read_is_one_figure() {
        let stat = "8:0 rbytes=100 wbytes=20 rios=3\n252:1 rbytes=5 wbytes=0 rios=1\n7:0 \n";
        assert_eq!(of_all_disks(stat, "rbytes="), 105);
        assert_eq!(of_all_disks(stat, "wbytes="), 20);
        assert_eq!(of_all_disks("", "wbytes="), 0);
    }

    #[test]
    fn a_value_is_that_of_the_whole_name() {
        let events = "low 0\noom 2\noom_kill 1\noom_group_kill 0\n";
        assert_eq!(value(events, "oom"), Some(2));
        assert_eq!(value(events, "oom_kill"), Some(1));
        assert_eq!(value(events, "kill"), None);
    }

    #[test]
    fn a_tree_with_two_controllers_is_one_tree() {
        let folder = |name: &str| Some(PathBuf::from(name));
        let parent = GroupParent::V1 {
            memory: "/m/dyno".into(),
            pids: None,
            cpu: folder("/cpu,cpuacct/dyno"),
            cpuacct: folder("/cpu,cpuacct/dyno"),
            cpuset: folder("/cpuset/dyno"),
        };
        let trees = [vec!["memory"], vec!["cpu", "cpuacct"], vec!["cpuset"]];
        assert_eq!(parent.trees(), trees);
        assert_eq!(
            GroupParent::V2("/c/dyno".into()).trees(),
            [Vec::<&str>::new()]
        );
    }

    #[test]
    fn a_folder_for_two_controllers_is_used_once() {
        let parent = GroupParent::V2("/sys/fs/cgroup/dyno".into());
        assert_eq!(
            parent.group("a").folders(),
            [Path::new("/sys/fs/cgroup/dyno/a")]
        );
    }
}
