//! How other hosts are reached from a dyno's own network: by a pair of interfaces and a rule of nftables as root, by `pasta`
//! as another user.
//!
//! What is not to be reached is said by routes inside, which no process of the dyno can change: networks that are private
//! ([`PRIVATE`]), and this host's own addresses. As root, rules outside say the same, and that nothing of this host is reached:
//! they are in a table of nftables of our own ([`TABLE`]), which goes with the last such dyno. Nothing else of the host is
//! changed: where it forwards no packets, there is no way out.

use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::PollFlags;
use rustix::fs::FlockOperation;

use crate::kernel::netlink::{self, Interfaces, Ipv4Network, OTHER_END};
use crate::kernel::sys::process::{Namespaces, Side, clone_process, close_all_but, exit_now};
use crate::kernel::wait;
use crate::model::network::Outbound;
use crate::panics::caught;

use super::network::NetworkEnds;

/// How many pairs of interfaces there can be.
pub const MOST_PAIRS: u16 = 32_768;

/// The names of interfaces outside begin with this.
const PREFIX: &str = "dyno-";

/// The table of nftables with the rules.
const TABLE: &str = "dyno";

/// The name of the interface inside.
const INSIDE: &str = "eth0";

/// The addresses of pairs are in this network of RFC 2544: two for each.
const PAIRS: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 0);

/// How long `pasta` may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Networks that are not reached: those that are private, among them those of other dynos' pairs; what clouds tell their
/// machines, passwords included, is at link-local addresses and at the last two.
pub const PRIVATE: [Ipv4Network; 11] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
];

/// Finds out how other hosts could be reached from dynos' own networks. `number` and `lock` are those of [`Outbound::Pair`].
///
/// # Errors
/// Why they cannot.
pub fn means(number: u16, lock: &Path) -> Result<Outbound, String> {
    if !rustix::process::geteuid().is_root() {
        let pasta = program("pasta")
            .ok_or("`pasta` is not installed (of the package passt), by which other users do it")?;
        let tun = File::options().read(true).write(true).open("/dev/net/tun");
        tun.map_err(|error| format!("`pasta` needs /dev/net/tun: {error}"))?;
        return Ok(Outbound::Pasta(pasta));
    }
    let nft = program("nft").ok_or("`nft` is not installed (of the package nftables)")?;
    let forwards = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap_or_default();
    if forwards.trim_end() != "1" {
        return Err(
            "this host forwards no packets: `sysctl -w net.ipv4.ip_forward=1` has it do so"
                .to_owned(),
        );
    }
    run(&nft, &["--check", "-f", "-"], &rules())
        .map_err(|error| format!("the kernel takes no rules of nftables: {error:#}"))?;
    Ok(Outbound::Pair {
        number,
        nft,
        lock: lock.to_owned(),
    })
}

/// A program in a system folder, or in one of `PATH`.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    let folders = system.into_iter().chain(std::env::split_paths(&path));
    let mut files = folders.map(|folder| folder.join(name));
    files.find(|file| file.is_absolute() && file.is_file())
}

/// A way out of a dyno's network. It ends with this process at the latest.
#[derive(Debug)]
pub struct Connected {
    /// The process that ends `pasta` once this is closed.
    _watch: Option<OwnedFd>,
}

/// Makes the way out of a dyno's network, in which `process` is.
///
/// # Errors
/// What the kernel or a program has refused.
pub fn connect(outbound: &Outbound, ends: &NetworkEnds, process: i32) -> Result<Connected> {
    let watch = match outbound {
        Outbound::Pair { number, nft, lock } => {
            make_pair(*number, nft, lock, ends, process)?;
            None
        }
        Outbound::Pasta(pasta) => Some(run_pasta(pasta, ends, process)?),
    };
    let own = netlink::own_addresses().into_iter();
    for network in PRIVATE.into_iter().chain(own.map(|address| (address, 32))) {
        ends.interfaces
            .prohibit(network)
            .context("cannot bar private networks from the dyno's")?;
    }
    Ok(Connected { _watch: watch })
}

/// Removes the way out of a dyno's network, if it is still there, and the rules, if no other dyno needs them.
pub fn disconnect(outbound: &Outbound) {
    let Outbound::Pair { number, nft, lock } = outbound else {
        return;
    };
    let Ok(_lock) = locked(lock) else { return };
    if let Ok(interfaces) = Interfaces::open() {
        let _ = interfaces.remove(&name_of(*number));
    }
    let interfaces = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    if !interfaces
        .lines()
        .any(|line| line.trim_start().starts_with(PREFIX))
    {
        let _ = run(nft, &["delete", "table", "inet", TABLE], "");
    }
}

fn name_of(number: u16) -> String {
    format!("{PREFIX}{number}")
}

/// The addresses of a pair: outside and inside.
fn addresses_of(number: u16) -> (Ipv4Addr, Ipv4Addr) {
    let outside = PAIRS.to_bits() + 2 * u32::from(number);
    (outside.into(), (outside + 1).into())
}

fn make_pair(number: u16, nft: &Path, lock: &Path, ends: &NetworkEnds, process: i32) -> Result<()> {
    let (name, (outside, inside)) = (name_of(number), addresses_of(number));
    let host = Interfaces::open().context("cannot reach the host's interfaces")?;
    {
        // Whoever finds no interface under this lock removes the rules.
        let _lock = locked(lock).context("cannot lock the rules of networks")?;
        // One whose dyno was killed a moment ago may still be there.
        let _ = host.remove(&name);
        host.make_pair(&name, INSIDE, process)
            .with_context(|| format!("cannot make the interface `{name}`"))?;
        run(nft, &["-f", "-"], &rules()).context("cannot set the rules of networks")?;
    }
    let number = netlink::number_of(&name)?;
    let conf = |family: &str, what: &str| format!("/proc/sys/net/{family}/conf/{name}/{what}");
    // Else the host could be reached by addresses that interfaces give themselves.
    let _ = fs::write(conf("ipv6", "disable_ipv6"), "1");
    let _ = fs::write(conf("ipv4", "forwarding"), "1");
    let made = || -> std::io::Result<()> {
        host.add_address(number, outside, inside)?;
        host.switch_on(number)?;
        ends.interfaces.add_address(OTHER_END, inside, outside)?;
        ends.interfaces.switch_on(OTHER_END)?;
        ends.interfaces.add_default_route(OTHER_END, outside)
    };
    made().with_context(|| format!("cannot set up the interface `{name}`"))
}

/// The whole table: its rules take the place of those that are there, and its chains stay, so that connections go on.
fn rules() -> String {
    let private: Vec<_> = PRIVATE
        .iter()
        .map(|(address, bits)| format!("{address}/{bits}"))
        .collect();
    let private = private.join(", ");
    let chain = |name: &str, hook: &str| {
        format!("add chain inet {TABLE} {name} {{ type {hook}; policy accept; }}\n")
    };
    let rule = |name: &str, rule: &str| format!("add rule inet {TABLE} {name} {rule}\n");
    let (from, to) = (
        format!("iifname \"{PREFIX}*\""),
        format!("oifname \"{PREFIX}*\""),
    );
    [
        format!("add table inet {TABLE}\n"),
        chain("input", "filter hook input priority -10"),
        chain("forward", "filter hook forward priority -10"),
        chain("postrouting", "nat hook postrouting priority 100"),
        format!("flush table inet {TABLE}\n"),
        // This host itself.
        rule("input", &format!("{from} drop")),
        rule("forward", &format!("{from} meta nfproto ipv6 drop")),
        // What comes from another address would not be masqueraded.
        rule("forward", &format!("{from} ip saddr != {PAIRS}/16 drop")),
        rule("forward", &format!("{from} ip daddr {{ {private} }} drop")),
        // Other dynos.
        rule("forward", &format!("{from} {to} drop")),
        rule(
            "forward",
            &format!("{to} ct state established,related accept"),
        ),
        rule("forward", &format!("{to} drop")),
        rule(
            "postrouting",
            &format!("ip saddr {PAIRS}/16 oifname != \"{PREFIX}*\" masquerade"),
        ),
    ]
    .concat()
}

fn run(program: &Path, args: &[&str], input: &str) -> Result<()> {
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{}`", program.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let first = said.lines().find(|line| !line.trim().is_empty());
        bail!("{}", first.unwrap_or("it did not say why"));
    }
    Ok(())
}

/// The file, locked until it is dropped.
fn locked(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    let file = options
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

/// Starts `pasta`, and waits until it has set the dyno's network up. It is ended when the descriptor is closed, by a process that
/// waits for that: `pasta` itself may outlive whoever started it.
fn run_pasta(pasta: &Path, ends: &NetworkEnds, process: i32) -> Result<OwnedFd> {
    let (ours, theirs) = crate::kernel::unix_socket::pair()?;
    let (outside, inside) = addresses_of(0);
    match clone_process(Namespaces::NONE).context("cannot start a process")? {
        Side::Child => {
            let kept = [theirs.as_fd(), ends.network.as_fd(), ends.users.as_fd()];
            close_all_but(&kept);
            std::mem::forget(ours);
            crate::kernel::sys::title::set("dyno: network");
            let watched = caught(|| -> Result<()> {
                let mut child = start_pasta(pasta, ends, (outside, inside))?;
                let _ = wait::until(&theirs, PollFlags::IN, None);
                child.kill()?;
                child.wait()?;
                Ok(())
            });
            exit_now(u8::from(!matches!(watched, Ok(Ok(())))))
        }
        Side::Parent { .. } => {
            drop(theirs);
            let deadline = Instant::now() + PATIENCE;
            while !has_default_route(process) {
                if Instant::now() > deadline {
                    bail!("`{}` did not connect the dyno's network", pasta.display());
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(ours)
        }
    }
}

fn start_pasta(
    pasta: &Path,
    ends: &NetworkEnds,
    (outside, inside): (Ipv4Addr, Ipv4Addr),
) -> Result<Child> {
    // By its standard streams, since it closes what else it has, and may not look into this process.
    let child = Command::new(pasta)
        .args([
            "--foreground",
            "--quiet",
            "--config-net",
            "--ipv4-only",
            "--no-map-gw",
        ])
        .args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"])
        .args(["--no-dhcp", "--no-dhcpv6", "--no-ndp", "--no-ra"])
        .args(["--ns-ifname", INSIDE, "--netmask", "31"])
        .args([
            "--address",
            &inside.to_string(),
            "--gateway",
            &outside.to_string(),
        ])
        .args(["--netns", "/proc/self/fd/0", "--userns", "/proc/self/fd/1"])
        .env_clear()
        .stdin(Stdio::from(ends.network.try_clone()?))
        .stdout(Stdio::from(ends.users.try_clone()?))
        .stderr(Stdio::null())
        .spawn()?;
    Ok(child)
}

fn has_default_route(process: i32) -> bool {
    let routes = fs::read_to_string(format!("/proc/{process}/net/route")).unwrap_or_default();
    let mut to = routes
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1));
    to.any(|to| to == "00000000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_has_addresses_of_its_own_in_one_network() {
        assert_eq!(
            addresses_of(0),
            (Ipv4Addr::new(198, 19, 0, 0), Ipv4Addr::new(198, 19, 0, 1))
        );
        assert_eq!(
            addresses_of(MOST_PAIRS - 1),
            (
                Ipv4Addr::new(198, 19, 255, 254),
                Ipv4Addr::new(198, 19, 255, 255)
            )
        );
        // Within the bounds of a name of an interface.
        assert!(name_of(MOST_PAIRS - 1).len() <= 15);
        assert!(rules().contains("169.254.0.0/16"));
    }
}
