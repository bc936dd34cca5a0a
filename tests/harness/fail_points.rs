//! The program's fail points: what is to happen at them, what has, and which were reached. Debug builds alone have them.

#[path = "../../src/kernel/fail_point/points.rs"]
mod points;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

pub use points::{Fault, POINTS};

/// Names the folder of a host's fail points in the environment of its commands.
pub const VARIABLE: &str = "DYNO_TEST_FAULTS";

/// Something that happened at a fail point.
#[derive(Debug, Clone)]
pub struct Hit {
    /// When, in microseconds of the monotonic clock.
    pub micros: i64,
    pub point: String,
    /// None: the process was killed.
    pub errno: Option<Errno>,
    /// As the process itself knows it: 1 inside of a dyno.
    pub pid: i32,
    /// The id of the dyno that it worked for, `server`, or `command`.
    pub whom: String,
}

impl Hit {
    fn parse(line: &str) -> Self {
        let fields: Vec<_> = line.split(' ').collect();
        let &[micros, point, fault, pid, whom] = &fields[..] else {
            panic!("no hit: {line:?}");
        };
        Self {
            micros: micros.parse().unwrap(),
            point: point.to_owned(),
            errno: fault.parse().ok().map(Errno::from_raw_os_error),
            pid: pid.parse().unwrap(),
            whom: whom.to_owned(),
        }
    }
}

/// The fail points of one host.
#[derive(Debug)]
pub struct FailPoints {
    folder: PathBuf,
}

impl FailPoints {
    /// Whether the program has any; says so if not.
    pub fn are_there() -> bool {
        if !cfg!(debug_assertions) {
            eprintln!("left out: a release build has no fail points");
        }
        cfg!(debug_assertions)
    }

    /// Those of a host that keeps their folder at `folder`, which is made; the users that dynos are can get at it, too.
    pub fn new(folder: &Path) -> Self {
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, Permissions::from_mode(0o777)).unwrap();
        let hits = folder.join("hits");
        fs::write(&hits, "").unwrap();
        fs::set_permissions(hits, Permissions::from_mode(0o666)).unwrap();
        Self {
            folder: folder.to_owned(),
        }
    }

    fn armed(&self, point: &str) -> PathBuf {
        assert!(POINTS.iter().any(|(name, _)| *name == point), "{point}");
        self.folder.join(format!("armed.{point}"))
    }

    /// The next process that comes to this point is killed there, or gets this error.
    pub fn arm(&self, point: &str, errno: Option<Errno>) {
        let fault = match errno {
            Some(errno) => errno.raw_os_error().to_string(),
            None => "kill".to_owned(),
        };
        let aside = self.folder.join("new");
        fs::write(&aside, fault).unwrap();
        fs::set_permissions(&aside, Permissions::from_mode(0o666)).unwrap();
        fs::rename(aside, self.armed(point)).unwrap();
    }

    /// Whether nobody has come to this point since it was armed.
    pub fn is_armed(&self, point: &str) -> bool {
        self.armed(point).exists()
    }

    /// Nothing is to happen any more.
    pub fn disarm(&self) {
        for (point, _) in POINTS {
            let _ = fs::remove_file(self.armed(point));
        }
    }

    /// All that has happened, in order.
    pub fn hits(&self) -> Vec<Hit> {
        let hits = fs::read_to_string(self.folder.join("hits")).unwrap();
        let whole = hits.rfind('\n').map_or("", |end| &hits[..end]);
        whole.lines().map(Hit::parse).collect()
    }

    /// The points that no process has come to.
    pub fn unseen(&self) -> BTreeSet<&'static str> {
        let points = POINTS.iter().map(|(name, _)| *name);
        points
            .filter(|name| !self.folder.join(format!("seen.{name}")).exists())
            .collect()
    }
}
