//! What a dyno's supervisor is told of the dyno, and of a second command in it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::Dynos;
use crate::api::ApiError;
use crate::api::dyno::{CreateDyno, RunInside};
use crate::error::tell;
use crate::kernel::cgroup::GroupLimits;
use crate::kernel::random;
use crate::model::command_line;
use crate::model::config_var::Config;
use crate::model::dyno::env::{DynoPaths, EnvSources, compose};
use crate::model::dyno::life::Rules;
use crate::model::dyno::{Attach, ClientTerminal, Dyno, Isolation};
use crate::model::network::{DynoNetwork, Outbound, OwnNetwork};
use crate::model::release::Release;
use crate::model::settings::{BindSetting, Settings, UID_COUNT};
use crate::model::size::Size;
use crate::model::window::WindowSize;
use crate::sandbox::offer::DynoIds;
use crate::sandbox::outbound::{self, MOST_PAIRS};
use crate::sandbox::tempdir;
use crate::server::builds::site::BuildSite;
use crate::server::records::Records;
use crate::server::sessions::start_extras::{LiveOwner, live_owner, places_of};
use crate::supervisor::SCRATCH;
use crate::wire::command_streams::CommandStreams;
use crate::wire::control::{DynoSpec, ToSupervisor};

/// What the control group of a dyno may have in processes beside those that count: PID 1, and a shell and its program for
/// each command of `run:inside`, so that one can look into a dyno that is full. Where the kernel can count the others
/// exactly, by their user, it does.
const BESIDE: u32 = 1 + 2 * 64;

/// What the control group of a dyno of this size may take.
fn group_limits(size: &Size) -> GroupLimits {
    GroupLimits {
        memory: size.memory_limit(),
        processes: size.processes.saturating_add(BESIDE),
        cpu_weight: size.compute.saturating_mul(100),
    }
}

/// What a dyno is to run, and how.
pub(super) struct Run<'a> {
    /// The release that it is of.
    pub release: &'a Release,
    /// The command, as text for the shell.
    pub shell_command: String,
    /// Variables of this dyno alone.
    pub env: BTreeMap<String, String>,
    /// What the command is given as standard input and outputs.
    pub streams: CommandStreams,
    /// The terminal of its client; the default if it has none.
    pub terminal: ClientTerminal,
    /// Its times and conditions.
    pub rules: Rules,
    /// Where it works, if it is a build's.
    pub site: Option<&'a BuildSite>,
}

/// The port with which the search for a free one begins. Servers of different users do not know what the others have given
/// away; so they begin at places of their own.
pub(super) fn first_port(ports: &RangeInclusive<u16>) -> u16 {
    let count = u32::from(ports.end() - ports.start()) + 1;
    // A prime far from the counts of ports that people choose, so that neighbours are apart.
    let offset = rustix::process::geteuid().as_raw().wrapping_mul(1_009) % count;
    ports.start() + u16::try_from(offset).unwrap_or(0)
}

impl Dynos {
    /// What the supervisor of a dyno is told, and the claims to the port and the host uid that the dyno is given.
    pub(super) fn spec(
        &mut self,
        records: &Records,
        dyno: &Dyno,
        run: Run<'_>,
        tree: PathBuf,
    ) -> Result<(DynoSpec, Vec<OwnedFd>)> {
        let release = run.release;
        let (network, pair) = match self.start_extras.contains_key(&dyno.app_id) {
            true => (None, None),
            false => self.own_network(records.store.app(&dyno.app_id)?.network)?,
        };
        let extras = self.start_extras.get(&dyno.app_id);
        let dot_env = extras.map_or_else(BTreeMap::new, |extras| extras.env.clone());
        let own_port = extras.and_then(|extras| extras.port_of(&dyno.name));
        let user_folder = extras.and_then(|extras| extras.live.clone());
        let live = match run.site {
            Some(site) => Some((site.app.clone(), site.places())),
            None => user_folder.map(|folder| {
                let places = places_of(&folder);
                (folder, places)
            }),
        };
        // Many a program that watches files ends when its input does, by which it knows that its terminal is gone.
        let streams = match extras.is_some() && run.rules.formation.is_some() {
            true => CommandStreams::OutputAndOpenInput,
            false => run.streams,
        };
        let anywhere = self.settings.bind == BindSetting::Any || extras.is_some();
        let (port, claim) = match own_port {
            // In a network of its own it is alone.
            _ if let Some(network) = &network => (self.port_in(network), None),
            // Its predecessor may just be giving it back; what else has it, the program itself will find.
            Some(port) => (port, self.claims.port(port).ok()),
            None => self.free_port().map(|(port, claim)| (port, Some(claim)))?,
        };
        let live_owner = live
            .as_ref()
            .map(|(folder, _)| live_owner(folder, &self.chosen))
            .transpose()?;
        let (owner, uid_claim) = match live_owner {
            Some(LiveOwner::Ids(ids)) => (ids, None),
            Some(LiveOwner::MappedFromRoot) | None => {
                match self.supervisors.prepared_dyno(&dyno.id) {
                    Some(next) => (next.owner, next.claim.take()),
                    None => self.free_owner(),
                }
            }
        };
        let folder = live.as_ref().map(|(folder, _)| folder.as_path());
        let place = self.place(&dyno.id, folder)?;
        let config = match run.site {
            // It finds them in files, as buildpacks expect.
            Some(_) => Config::default(),
            None => records.store.release_config(&release.id)?,
        };
        let env = compose(&EnvSources {
            name: &dyno.name,
            place: &place,
            port,
            toolchains: &release.toolchains,
            dot_env: &dot_env,
            config: &config,
            request: &run.env,
        });
        // Config vars and `-e` may say another.
        let told = env.get("PORT").and_then(|told| told.parse().ok());
        let only_port = (!anywhere).then(|| told.unwrap_or(port));
        let size = self.settings.sizes.of_dyno(&dyno.size);
        let folders = release.toolchains.folders.iter().map(PathBuf::from);
        let spec = DynoSpec {
            id: dyno.id.clone(),
            name: dyno.name.to_string(),
            port,
            app_id: dyno.app_id.clone(),
            app: dyno.app_name.to_string(),
            command: dyno.command.clone(),
            shell_command: run.shell_command,
            env,
            streams,
            terminal: run.terminal,
            rules: run.rules,
            folder: self.supervisors.folder_of(&dyno.id),
            logs: records.log_folder(&dyno.app_id),
            log_limits: records.log_limits(),
            tree: folder.map_or(tree, Path::to_owned),
            live: live_owner
                .zip(live)
                .map(|(owner, (_, places))| owner.live(places, run.site)),
            isolation: self.chosen.isolation,
            id_mapped: self.chosen.id_mapped,
            owner,
            privileged: rustix::process::geteuid().is_root(),
            hidden: self.hidden.clone(),
            toolchains: folders.filter(|folder| folder.exists()).collect(),
            app_path: release.toolchains.app.as_ref().map(PathBuf::from),
            groups: self.groups.clone(),
            group_limits: group_limits(size),
            measure_interval: self.settings.measure_interval,
            runtime_metrics: records.store.app(&dyno.app_id)?.runtime_metrics,
            disk: size.disk(self.settings.disk_size),
            shared_memory: size.shared_memory(self.settings.shm_size),
            temporary: size.temporary(self.settings.tmp_size),
            open_files: Some(self.descriptors.original),
            only_port,
            network,
            processes: self.chosen.counts_processes().then_some(size.processes),
        };
        Ok((
            spec,
            claim.into_iter().chain(uid_claim).chain(pair).collect(),
        ))
    }

    /// The network of its own for a dyno of an app that has `chosen` one, or has the setting say it.
    ///
    /// # Errors
    /// When there is to be one, and dynos have no walls here.
    fn own_network(
        &mut self,
        chosen: Option<DynoNetwork>,
    ) -> Result<(Option<OwnNetwork>, Option<OwnedFd>)> {
        let network = chosen.unwrap_or(self.settings.network);
        self.chosen.check_network(network)?;
        Ok(match network {
            DynoNetwork::Host => (None, None),
            DynoNetwork::Private => {
                let (outbound, pair) = self.way_out()?;
                let reach = self.settings.reach.clone();
                (Some(OwnNetwork { reach, outbound }), pair)
            }
            DynoNetwork::None => (Some(OwnNetwork::default()), None),
        })
    }

    /// How other hosts are reached from the next dyno's own network, if they are; and the claim to what that takes.
    fn way_out(&mut self) -> Result<(Option<Outbound>, Option<OwnedFd>)> {
        let lock = self.claims.network_lock();
        let means = self.outbound.get_or_insert_with(|| {
            let means = outbound::means(0, &lock);
            // Once for each server; `dyno doctor` says it, too.
            means
                .map_err(|why| {
                    tell!("dynos with networks of their own reach no other hosts: {why}")
                })
                .ok()
        });
        Ok(match means {
            Some(Outbound::Pair { number, .. }) => {
                let numbers = (0..MOST_PAIRS).map(|step| (*number + 1 + step) % MOST_PAIRS);
                let mut claimed = numbers.filter_map(|it| Some((it, self.claims.pair(it).ok()?)));
                let (next, claim) = claimed
                    .next()
                    .ok_or_else(|| anyhow::anyhow!("no free pair of interfaces for a network"))?;
                *number = next;
                (means.clone(), Some(claim))
            }
            other => (other.clone(), None),
        })
    }

    /// Where the dyno `id` is to its own processes; `live` if it works in a folder of the user's.
    fn place(&self, id: &str, live: Option<&Path>) -> Result<DynoPaths> {
        if self.chosen.isolation == Isolation::Namespaces {
            return Ok(DynoPaths::Walls);
        }
        let folder = self.supervisors.folder_of(id).join(SCRATCH);
        let text = |path: PathBuf| {
            let path = path.into_os_string().into_string();
            path.map_err(|path| anyhow::anyhow!("`{}` is not UTF-8", path.display()))
        };
        Ok(DynoPaths::Folder {
            app: text(live.map_or_else(|| tempdir::app_folder(&folder), Path::to_owned))?,
            temporary: text(tempdir::temporary_folder(&folder))?,
            id: id.to_owned(),
        })
    }

    /// The port of a dyno in a network of its own: the first that is not the place of something that it reaches.
    fn port_in(&self, network: &OwnNetwork) -> u16 {
        let taken = |port: &u16| network.reach.iter().any(|it| it.port() == *port);
        let mut ports = self.settings.ports.clone();
        let first = *ports.start();
        ports.find(|port| !taken(port)).unwrap_or(first)
    }

    /// A port that no live dyno was given, of whichever server, and on which no socket listens at this moment; and the right to it.
    fn free_port(&mut self) -> Result<(u16, OwnedFd)> {
        let ports = self.settings.ports.clone();
        for _ in ports.clone() {
            let port = self.next_port;
            self.next_port = if port == *ports.end() {
                *ports.start()
            } else {
                port + 1
            };
            if self.supervisors.uses_port(port) {
                continue;
            }
            match self.claims.port(port) {
                Ok(claim) => return Ok((port, claim)),
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                Err(error) => anyhow::bail!("cannot claim a port: {error}"),
            }
        }
        anyhow::bail!("no free port from {} to {}", ports.start(), ports.end())
    }

    /// The host uid and gid of a new dyno: where each has its own, ones that no live dyno has, of whichever server of root's.
    pub(super) fn free_owner(&mut self) -> ((u32, u32), Option<OwnedFd>) {
        match self.chosen.ids {
            DynoIds::Own(ids) | DynoIds::Shared(ids) => (ids, None),
            DynoIds::Each(base) => {
                // There are more uids than dynos can be alive; the first is for shared use.
                let offsets = (0..UID_COUNT).map(|n| (self.next_uid + n) % (UID_COUNT - 1) + 1);
                let mut unused = offsets.filter(|it| !self.supervisors.uses_uid(base + it));
                let claimed = unused.find_map(|offset| {
                    let claim = self.claims.uid(base + offset);
                    match claim {
                        Err(error) if error.kind() == ErrorKind::AddrInUse => None,
                        claim => Some((offset, claim.ok())),
                    }
                });
                let (offset, claim) = claimed.unwrap_or((1, None));
                self.next_uid = offset;
                ((base + offset, base + offset), claim)
            }
        }
    }
}

/// When this dyno is cycled: not all of them at once.
pub(super) fn lifetime(settings: &Settings) -> Result<Duration> {
    let share = f64::from(u32::from_ne_bytes(random::bytes()?)) / f64::from(u32::MAX);
    Ok(settings.lifetime + settings.lifetime_spread.mul_f64(share))
}

/// The streams of a one-off dyno's command.
pub(super) fn streams(request: &CreateDyno) -> CommandStreams {
    match request.kind() {
        Attach::Detached => CommandStreams::Output,
        Attach::Pipes if request.one_output => CommandStreams::Merged,
        Attach::Pipes => CommandStreams::Pipes,
        Attach::Terminal => CommandStreams::Terminal(window(&request.env)),
    }
}

/// What a dyno's supervisor is told of a second command; `merged`: without a terminal, both outputs come in one
/// pipe, whatever the client says.
///
/// # Errors
/// When there is none.
pub fn inside(
    request: &RunInside,
    release: &Release,
    merged: bool,
) -> Result<ToSupervisor, ApiError> {
    let shell_command = command_line::resolve(&request.command, &release.process_types);
    command_line::check(&shell_command)?;
    Ok(ToSupervisor::Inside {
        shell_command,
        env: command_env(&request.env, !request.force_no_tty),
        streams: match (request.force_no_tty, merged || request.one_output) {
            (true, true) => CommandStreams::Merged,
            (true, false) => CommandStreams::Pipes,
            (false, _) => CommandStreams::Terminal(window(&request.env)),
        },
        terminal: request.terminal.clone(),
    })
}

/// The variables of a request for the command. The window's size is its terminal's to tell: a variable would go stale with
/// the first resize, and programs believe it more than the terminal.
pub(super) fn command_env(
    env: &BTreeMap<String, String>,
    terminal: bool,
) -> BTreeMap<String, String> {
    let mut env = env.clone();
    if terminal {
        env.retain(|name, _| name != "COLUMNS" && name != "LINES");
    }
    env
}

/// The window's size as Heroku's client tells it.
fn window(env: &BTreeMap<String, String>) -> WindowSize {
    let cells = |name: &str| env.get(name)?.parse().ok().filter(|&cells| cells > 0);
    let usual = WindowSize::default();
    WindowSize {
        columns: cells("COLUMNS").unwrap_or(usual.columns),
        rows: cells("LINES").unwrap_or(usual.rows),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_as_large_as_the_client_says() {
        let env = |columns: &str, lines: &str| {
            BTreeMap::from([
                ("COLUMNS".into(), columns.into()),
                ("LINES".into(), lines.into()),
            ])
        };
        assert_eq!(
            window(&env("132", "50")),
            WindowSize {
                columns: 132,
                rows: 50
            }
        );
        assert_eq!(window(&env("0", "x")), WindowSize::default());
        assert_eq!(window(&BTreeMap::new()), WindowSize::default());
    }
}
