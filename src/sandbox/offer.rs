//! Which isolation dynos get on this host, by trying out what it allows, within the settings.
//!
//! Called by the server when it starts, and by `dyno doctor`.

use std::fmt;
use std::fs;

use super::plan::Ownership;
use super::probe;
use super::reasons::{self, Facts};
use super::restrict::{Gap, Restriction};
use crate::error::UserError;
use crate::home::Home;
use crate::kernel::open_files::say_exhausted;
use crate::model::dyno::Isolation;
use crate::model::network::DynoNetwork;
use crate::model::settings::{self, Settings, UID_COUNT};

/// The highest id that distributions give to people; above are those of containers, of dynamic services, and of `nobody`.
const LAST_PERSON: u32 = 59_999;

/// The lowest id that distributions give to people.
const FIRST_PERSON: u32 = 1_000;

/// The host users that dynos run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DynoIds {
    /// The server's user.
    Own((u32, u32)),
    /// One other user for all dynos.
    Shared((u32, u32)),
    /// For each dyno one of the [`UID_COUNT`] ids after this one; this id itself is not used.
    Each(u32),
}

/// The isolation that dynos get on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenIsolation {
    /// How they are kept apart.
    pub isolation: Isolation,
    /// The host users that they run as.
    pub ids: DynoIds,
    /// Whether the files of slugs belong to the inner user on disk, and are mapped to each dyno's uid.
    pub id_mapped: bool,
    /// Why dynos do not get more. None if they get all there is, or what the settings ask for.
    pub because: Option<String>,
}

impl ChosenIsolation {
    /// The owner of slugs' trees on disk, if it is not the server's user.
    pub fn tree_owner(&self) -> Option<(u32, u32)> {
        let inner = super::plan::INNER_ID;
        match (self.isolation, self.ids) {
            (Isolation::Tempdir, _) | (_, DynoIds::Own(_)) => None,
            (_, DynoIds::Shared(ids)) => Some(ids),
            (_, DynoIds::Each(_)) => Some((inner, inner)),
        }
    }

    /// Whether the kernel can count the processes of each dyno alone, so that a limit on their number is the dyno's own. It
    /// counts those of a user: since Linux 5.14 in each user namespace anew.
    pub fn counts_processes(&self) -> bool {
        match (self.isolation, self.ids) {
            (_, DynoIds::Each(_)) => true,
            (Isolation::Namespaces, _) => reasons::kernel() >= (5, 14),
            (Isolation::Tempdir, _) => false,
        }
    }

    /// Checks that dynos can have this network.
    ///
    /// # Errors
    /// When it is one of their own, which takes namespaces, and they have none.
    pub fn check_network(&self, network: DynoNetwork) -> Result<(), UserError> {
        match (network, self.isolation) {
            (DynoNetwork::Host, _) | (_, Isolation::Namespaces) => Ok(()),
            (network, isolation) => Err(UserError::new(format!(
                "the network `{network}` takes namespaces, and dynos have isolation {isolation} here"
            ))
            .hint("`dyno doctor` says how to get namespaces; with the network `host`, dynos start as they are")),
        }
    }

    /// Whether dynos run as other users, which have to pass through the state folder to their own folders.
    pub fn lets_through(&self) -> bool {
        self.isolation == Isolation::Tempdir && !matches!(self.ids, DynoIds::Own(_))
    }
}

impl fmt::Display for ChosenIsolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let isolation = self.isolation;
        match (isolation, self.ids) {
            (Isolation::Tempdir, DynoIds::Own((0, _))) => write!(f, "{isolation}, dynos are root"),
            (_, DynoIds::Own(_)) => write!(f, "{isolation}"),
            (_, DynoIds::Shared((uid, _))) => {
                write!(f, "{isolation}, one host uid for all dynos, {uid}")
            }
            (_, DynoIds::Each(_)) => write!(f, "{isolation}, a host uid for each dyno"),
        }
    }
}

/// What dynos lack here of what is taken from them beside walls.
///
/// # Errors
/// When it cannot be tried out.
pub fn gaps(
    home: &Home,
    settings: &Settings,
    chosen: &ChosenIsolation,
) -> anyhow::Result<Vec<Gap>> {
    let owner = match chosen.ids {
        DynoIds::Own(_) => None,
        DynoIds::Shared(ids) => Some(ids),
        DynoIds::Each(base) => Some((base, base)),
    };
    let passable = home.is_passable();
    if chosen.lets_through() {
        home.let_through(true)?;
    }
    let found = probe::gaps(home.path(), chosen.isolation, owner);
    if !passable {
        let _ = home.let_through(false);
    }
    let mut gaps = found?;
    let missing = gaps.iter().any(|gap| gap.restriction == Restriction::Ports);
    if settings.bind == settings::BindSetting::Any && !missing {
        gaps.push(Gap::new(Restriction::Ports, "the setting `bind` is any"));
    }
    if !chosen.counts_processes() {
        let why = match chosen.isolation {
            Isolation::Namespaces => "Linux counts them for each dyno since 5.14",
            Isolation::Tempdir => "without walls Linux counts all of the user's together",
        };
        gaps.push(Gap::new(Restriction::Processes, why));
    }
    Ok(gaps)
}

/// Tries out the kinds of isolation, the strongest first, in temporary folders in `home`.
///
/// # Errors
/// When the settings demand what this host does not allow; or when there are no descriptors or no memory to try it out with: dynos
/// that get less than this host allows would be the result.
pub fn choose(home: &Home, settings: &Settings) -> Result<ChosenIsolation, UserError> {
    let refusal = match settings.isolation {
        settings::IsolationSetting::Tempdir => None,
        wish => match namespaces(home, settings) {
            Ok(chosen) => return Ok(chosen),
            Err(why) if say_exhausted(&why) => return Err(not_tried_out(&why)),
            Err(why) if wish == settings::IsolationSetting::Namespaces => {
                return Err(UserError::new(format!("this host allows no namespaces: {why}")).hint(
                    "`dyno doctor` says what is missing; without DYNO_ISOLATION=namespaces dynos get what there is",
                ));
            }
            Err(why) => Some(why),
        },
    };
    let (ids, why_root) = ids_without_namespaces(home, settings.uid_base)?;
    let because: Vec<String> = refusal.into_iter().chain(why_root).collect();
    Ok(ChosenIsolation {
        isolation: Isolation::Tempdir,
        ids,
        id_mapped: false,
        because: (!because.is_empty()).then(|| because.join("; ")),
    })
}

fn not_tried_out(why: &str) -> UserError {
    UserError::new(format!(
        "it cannot be tried out what this host allows dynos: {why}"
    ))
    .hint("try again in a moment; `ulimit -n` says how many files may be open")
}

/// Dynos in namespaces, if this host allows them.
fn namespaces(home: &Home, settings: &Settings) -> Result<ChosenIsolation, String> {
    let chosen = |ids, id_mapped, because| ChosenIsolation {
        isolation: Isolation::Namespaces,
        ids,
        id_mapped,
        because,
    };
    let try_out = |ownership| match probe::run(home.path(), ownership) {
        // A full disk makes the trial fail, whatever the kernel allows.
        Err(_) if is_full(home) => Ok(()),
        Err(why) => Err(format!("{why:#}")),
        Ok(()) => Ok(()),
    };
    let base = settings.uid_base;
    if !is_root() {
        try_out(Ownership::Same)?;
        return Ok(chosen(DynoIds::Own(own_ids()), false, None));
    }
    enough_ids(base)?;
    let not_mapped = match settings.id_mapping {
        true => probe::run(home.path(), Ownership::IdMapped).err(),
        false => None,
    };
    if let Some(why) = not_mapped.as_ref().map(|why| format!("{why:#}"))
        && say_exhausted(&why)
    {
        return Err(why);
    }
    if settings.id_mapping && not_mapped.is_none() {
        return Ok(chosen(DynoIds::Each(base), true, None));
    }
    try_out(Ownership::Same)?;
    let because = not_mapped
        .map(|why| reasons::why_shared_uid(&format!("{why:#}"), &Facts::gather(home.path())));
    Ok(chosen(DynoIds::Shared((base, base)), false, because))
}

/// Checks that this root has the host ids from `base` on that dynos need to run as one user each.
///
/// # Errors
/// Why it has not.
pub fn enough_ids(base: u32) -> Result<(), String> {
    let maps = [id_map("uid")?, id_map("gid")?];
    if maps.iter().all(|map| has_ids(map, base, UID_COUNT)) {
        return Ok(());
    }
    Err(format!(
        "this root has no {UID_COUNT} ids from {base} on to give to dynos: it is that of a container"
    ))
}

/// The users that dynos without namespaces run as; and if that is root, why.
///
/// # Errors
/// When that cannot be tried out now.
fn ids_without_namespaces(home: &Home, base: u32) -> Result<(DynoIds, Option<String>), UserError> {
    if !is_root() {
        return Ok((DynoIds::Own(own_ids()), None));
    }
    let each = match enough_ids(base) {
        Err(why) if say_exhausted(&why) => return Err(not_tried_out(&why)),
        enough => enough.is_ok().then_some(DynoIds::Each(base)),
    };
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let map = |kind| id_map(kind).unwrap_or_default();
    let shared = spare_id(&map("uid"), &map("gid"), &passwd);
    let shared = shared.map(|id| DynoIds::Shared((id, id)));
    let mut why = "dynos run as root: it has no other ids to give".to_owned();
    let passable = home.is_passable();
    let mut found = DynoIds::Own(own_ids());
    for ids in [each, shared].into_iter().flatten() {
        let (DynoIds::Each(id) | DynoIds::Shared((id, _)) | DynoIds::Own((id, _))) = ids;
        let tried = home
            .let_through(true)
            .map_err(anyhow::Error::from)
            .and_then(|()| probe::run_in_a_folder(home.path(), Some((id, id))));
        match tried {
            Ok(()) => {
                found = ids;
                break;
            }
            Err(error) => why = format!("dynos run as root: {error:#}"),
        }
    }
    if !passable {
        let _ = home.let_through(false);
    }
    let is_root = matches!(found, DynoIds::Own(_));
    if is_root && say_exhausted(&why) {
        return Err(not_tried_out(&why));
    }
    Ok((found, is_root.then_some(why)))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn own_ids() -> (u32, u32) {
    (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    )
}

fn is_full(home: &Home) -> bool {
    rustix::fs::statvfs(home.path()).is_ok_and(|disk| disk.f_bavail == 0 || disk.f_favail == 0)
}

/// The ids of this process's user namespace: first id and count of each range.
///
/// # Errors
/// Why it cannot be read.
fn id_map(kind: &str) -> Result<Vec<(u64, u64)>, String> {
    let path = format!("/proc/self/{kind}_map");
    let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    Ok(parse_id_map(&text))
}

fn parse_id_map(text: &str) -> Vec<(u64, u64)> {
    let range = |line: &str| {
        let numbers: Vec<u64> = line.split_whitespace().flat_map(str::parse).collect();
        match numbers[..] {
            [inner, _, count] => Some((inner, count)),
            _ => None,
        }
    };
    text.lines().filter_map(range).collect()
}

fn has_ids(map: &[(u64, u64)], first: u32, count: u32) -> bool {
    let (first, end) = (u64::from(first), u64::from(first) + u64::from(count));
    map.iter()
        .any(|&(inner, count)| inner <= first && end <= inner + count)
}

/// The highest id that exists here as user and group and that no account uses.
fn spare_id(uids: &[(u64, u64)], gids: &[(u64, u64)], passwd: &str) -> Option<u32> {
    let taken: Vec<u32> = passwd
        .lines()
        .filter_map(|line| line.split(':').nth(2)?.parse().ok())
        .collect();
    (FIRST_PERSON..=LAST_PERSON)
        .rev()
        .find(|id| has_ids(uids, *id, 1) && has_ids(gids, *id, 1) && !taken.contains(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_of_a_container_has_few_ids() {
        let host = parse_id_map("         0          0 4294967295\n");
        let rootless = parse_id_map("         0       1000          1\n 1     100000      65536\n");
        assert!(has_ids(&host, 0x7800_0000, UID_COUNT));
        assert!(!has_ids(&rootless, 0x7800_0000, UID_COUNT));
        assert!(!has_ids(&parse_id_map(""), 0x7800_0000, UID_COUNT));
    }

    #[test]
    fn the_spare_id_is_in_both_maps_and_nobodys() {
        let map = |text| parse_id_map(text);
        let rootless = map("0 1000 1\n1 100000 65536\n");
        let passwd = "root:x:0:0::/root:/bin/sh\nlast:x:59999:59999::/:/bin/sh\nodd\n";
        assert_eq!(spare_id(&rootless, &rootless, ""), Some(59_999));
        assert_eq!(spare_id(&rootless, &rootless, passwd), Some(59_998));
        assert_eq!(
            spare_id(&rootless, &map("0 1000 1\n1 100000 5000\n"), ""),
            Some(5_000)
        );
        assert_eq!(spare_id(&rootless, &map("0 1000 1\n"), ""), None);
        assert_eq!(spare_id(&map("0 1000 1\n"), &map("0 1000 1\n"), ""), None);
    }

    #[test]
    fn trees_belong_to_whom_dynos_see_them_as() {
        let owner = |isolation, ids| {
            let chosen = ChosenIsolation {
                isolation,
                ids,
                id_mapped: matches!(ids, DynoIds::Each(_)),
                because: None,
            };
            chosen.tree_owner()
        };
        use Isolation::{Namespaces, Tempdir};
        assert_eq!(owner(Namespaces, DynoIds::Own((1000, 1000))), None);
        assert_eq!(owner(Namespaces, DynoIds::Each(7)), Some((1000, 1000)));
        assert_eq!(owner(Namespaces, DynoIds::Shared((7, 7))), Some((7, 7)));
        // A dyno in a folder has a copy of its own.
        assert_eq!(owner(Tempdir, DynoIds::Each(7)), None);
    }
}
