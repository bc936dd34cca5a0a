//! The filter of system calls (seccomp) of a dyno's processes: the table of what is refused, and its program.
//!
//! What is not in the table is allowed: walls, the empty set of capabilities and quotas do the rest. The table has what only
//! root needs, what has often been a way around walls, and what changes PID 1. Debuggers work: `ptrace`, `process_vm_readv`
//! and `personality` are not in it.
//!
//! PID 1 installs it for itself and all that it starts, so it must do without these calls, too.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use rustix::process::Pid;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

use crate::kernel::sys::filter::filter_calls;

/// A call's number.
type Call = libc::c_long;

/// Refused with EPERM whatever the arguments, as to a process without privilege.
const REFUSED: &[Call] = &[
    libc::SYS_mount,             // makes one path mean another
    libc::SYS_umount2,           // uncovers what walls cover
    libc::SYS_pivot_root,        // makes another root
    libc::SYS_chroot,            // the same, by a way that leads out again
    libc::SYS_setns,             // enters another's namespaces
    libc::SYS_open_tree,         // the mount API of Linux 5.2: all as `mount`
    libc::SYS_move_mount,        // as above
    libc::SYS_fsopen,            // as above, and parses superblocks
    libc::SYS_fsconfig,          // as above
    libc::SYS_fsmount,           // as above
    libc::SYS_fspick,            // as above
    libc::SYS_mount_setattr,     // as above
    libc::SYS_open_by_handle_at, // opens files by number, past every folder's mode and mount
    libc::SYS_name_to_handle_at, // tells those numbers
    libc::SYS_bpf,               // runs programs in the kernel
    libc::SYS_perf_event_open,   // watches what others do; many faults in the past
    libc::SYS_userfaultfd,       // stops the kernel in the middle of a copy, as exploits do
    libc::SYS_fanotify_init,     // watches whole file systems
    libc::SYS_keyctl,            // keys belong to users, not to dynos: another's could be read
    libc::SYS_add_key,           // uses up the user's keys
    libc::SYS_request_key,       // starts a program of the host's, as root
    libc::SYS_kexec_load,        // another kernel
    libc::SYS_init_module,       // code into the kernel
    libc::SYS_finit_module,      // as above
    libc::SYS_delete_module,     // out of it
    libc::SYS_acct,              // the host's accounting
    libc::SYS_swapon,            // the host's memory
    libc::SYS_swapoff,           // as above
    libc::SYS_reboot,            // the host
    libc::SYS_quotactl,          // the host's disks
    libc::SYS_syslog,            // the kernel's log, with addresses
    libc::SYS_vhangup,           // takes terminals from others
    libc::SYS_settimeofday,      // the host's clock
    libc::SYS_clock_settime,     // as above
    libc::SYS_clock_adjtime,     // as above
    libc::SYS_adjtimex,          // as above
    libc::SYS_sethostname,       // the dyno's name is its id
    libc::SYS_setdomainname,     // as above
    libc::SYS_pidfd_getfd,       // takes descriptors out of other processes
    libc::SYS_process_madvise,   // others' memory
    libc::SYS_move_pages,        // as above
    libc::SYS_migrate_pages,     // as above
    libc::SYS_kcmp,              // compares pointers of the kernel
];

/// The calls that are refused, of those that only this processor has.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[Call] = &[
    libc::SYS_kexec_file_load, // another kernel
    libc::SYS_iopl,            // the host's devices
    libc::SYS_ioperm,          // as above
    libc::SYS_modify_ldt,      // segments of 16 bits; many faults in the past
    libc::SYS_uselib,          // no program of this century uses it
    libc::SYS_ustat,           // as above
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[Call] = &[];

/// Answered with ENOSYS, as by a kernel without them, so that programs take another way.
const MISSING: &[Call] = &[
    libc::SYS_clone3, // its flags are in memory, where a filter cannot look; the C library takes `clone`
    libc::SYS_io_uring_setup, // carries out other calls, past this filter
    libc::SYS_io_uring_enter, // as above
    libc::SYS_io_uring_register, // as above
    libc::SYS_io_setup, // reads without waiting, whose queues are few for the whole host (fs.aio-max-nr)
    libc::SYS_memfd_secret, // memory that nobody can count
    443,                // quotactl_fd: as `quotactl`
    450,                // set_mempolicy_home_node: no program needs it
    457,                // statmount: tells of mounts that have no path here
    458,                // listmount: as above
    459,                // lsm_get_self_attr: tells of the host's guards
    460,                // lsm_set_self_attr: as above
    461,                // lsm_list_modules: as above
    467,                // open_tree_attr: as `open_tree`
];

/// The last call that was looked at for this table, of Linux 6.17. Later ones are answered as those in [`MISSING`].
const LAST_KNOWN: u32 = 469;

/// The bit that marks numbers of x32, the third set of calls of x86-64.
const X32: u32 = 0x4000_0000;

/// The kinds of namespaces that `clone` makes.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// One that only `unshare` makes.
const CLONE_NEWTIME: libc::c_int = 0x80;

/// Not among the constants of the C library for every system.
const IOPRIO_WHO_PROCESS: u64 = 1;
const IOPRIO_WHO_USER: u64 = 3;

/// A condition on an argument, by its number.
enum When {
    /// Its lower 32 bits, of which the kernel looks at no more, are this.
    Is(u8, u64),
    /// They are not.
    IsNot(u8, u64),
    /// They are from the first to the second.
    Between(u8, u64, u64),
    /// They have these bits.
    Has(u8, u64),
    /// It is no null pointer.
    IsThere(u8),
}

/// Rules that look at arguments: the call, the answer (an errno, or 0 for as if it were done), and when.
fn by_arguments(init: u32) -> Vec<(Call, i32, Vec<When>)> {
    use When::{Between, Has, Is, IsNot, IsThere};
    let mut rules = Vec::new();
    let mut rule = |call, errno, when| rules.push((call, errno, when));
    // Namespaces are what walls are made of, and a way to privilege in parts of the kernel that are for root.
    for flag in NAMESPACES.map(|flag| flag as u64) {
        rule(libc::SYS_clone, libc::EPERM, vec![Has(0, flag)]);
        rule(libc::SYS_unshare, libc::EPERM, vec![Has(0, flag)]);
    }
    rule(
        libc::SYS_unshare,
        libc::EPERM,
        vec![Has(0, CLONE_NEWTIME as u64)],
    );
    // Other families reach a hypervisor (vsock), devices, and rarely used code. `socketpair` loads their modules, too.
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        let none = libc::EAFNOSUPPORT;
        let [inet, inet6] = [libc::AF_INET, libc::AF_INET6].map(|family| family as u64);
        let netlink = libc::AF_NETLINK as u64;
        rule(call, none, vec![Between(0, inet + 1, inet6 - 1)]);
        rule(call, none, vec![Between(0, inet6 + 1, netlink - 1)]);
        rule(call, none, vec![Between(0, netlink + 1, u32::MAX.into())]);
        // Of netlink, routes: which addresses this host has.
        rule(
            call,
            none,
            vec![Is(0, netlink), IsNot(2, libc::NETLINK_ROUTE as u64)],
        );
    }
    // What is typed into a terminal is run by who reads there. Line disciplines are drivers of modems and buses.
    for request in [libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCSETD] {
        rule(libc::SYS_ioctl, libc::EPERM, vec![Is(1, request)]);
    }
    // PID 1 is of the dyno's user, and nobody's to change.
    let init = u64::from(init);
    rule(
        libc::SYS_prlimit64,
        libc::EPERM,
        vec![Is(0, init), IsThere(2)],
    );
    for call in [
        libc::SYS_sched_setaffinity,
        libc::SYS_sched_setattr,
        libc::SYS_sched_setparam,
        libc::SYS_sched_setscheduler,
    ] {
        rule(call, libc::EPERM, vec![Is(0, init)]);
    }
    // By number, and by its user.
    let [process, user] = [libc::PRIO_PROCESS, libc::PRIO_USER].map(|which| which as u64);
    rule(
        libc::SYS_setpriority,
        libc::EPERM,
        vec![Is(0, process), Is(1, init)],
    );
    rule(libc::SYS_setpriority, libc::EPERM, vec![Is(0, user)]);
    rule(
        libc::SYS_ioprio_set,
        libc::EPERM,
        vec![Is(0, IOPRIO_WHO_PROCESS), Is(1, init)],
    );
    rule(
        libc::SYS_ioprio_set,
        libc::EPERM,
        vec![Is(0, IOPRIO_WHO_USER)],
    );
    // Many programs switch core dumps off, and some end if they cannot. They are off, in a better way than by 0.
    let core = u64::from(libc::RLIMIT_CORE);
    rule(libc::SYS_prlimit64, 0, vec![Is(1, core), IsThere(2)]);
    rule(libc::SYS_setrlimit, 0, vec![Is(0, core)]);
    rules
}

impl When {
    fn conditions(&self) -> Result<Vec<SeccompCondition>, seccompiler::BackendError> {
        use SeccompCmpArgLen::{Dword, Qword};
        use SeccompCmpOp::{Eq, Ge, Le, MaskedEq, Ne};
        let one = |argument: u8, length, operator, value| {
            SeccompCondition::new(argument, length, operator, value)
        };
        Ok(match *self {
            Self::Is(argument, value) => vec![one(argument, Dword, Eq, value)?],
            Self::IsNot(argument, value) => vec![one(argument, Dword, Ne, value)?],
            Self::Between(argument, low, high) => vec![
                one(argument, Dword, Ge, low)?,
                one(argument, Dword, Le, high)?,
            ],
            Self::Has(argument, bits) => vec![one(argument, Dword, MaskedEq(bits), bits)?],
            Self::IsThere(argument) => vec![one(argument, Qword, Ne, 0)?],
        })
    }
}

/// The program for PID 1, or what is wrong with the table.
static OF_PID_1: LazyLock<Result<Vec<libc::sock_filter>, String>> =
    LazyLock::new(|| lines(Pid::INIT));

/// Makes the program of a dyno in namespaces.
pub fn prepare() {
    LazyLock::force(&OF_PID_1);
}

/// Installs the filter for the calling process, which is a dyno's init.
///
/// # Errors
/// Why there can be no filter here.
pub fn install() -> Result<(), String> {
    let init = rustix::process::getpid();
    let made;
    let program = match init == Pid::INIT {
        true => OF_PID_1.as_ref(),
        false => {
            made = lines(init);
            made.as_ref()
        }
    };
    filter_calls(program.map_err(String::clone)?).map_err(|error| error.to_string())
}

fn lines(init: Pid) -> Result<Vec<libc::sock_filter>, String> {
    let program = program(init.as_raw_nonzero().get() as u32).map_err(|error| error.to_string())?;
    let line = |line: &sock_filter| libc::sock_filter {
        code: line.code,
        jt: line.jt,
        jf: line.jf,
        k: line.k,
    };
    Ok(program.iter().map(line).collect())
}

/// The filter's program; `init` is the pid of the dyno's init, as its processes see it.
///
/// It begins with a search for the call's number, by halves, as the kernel runs it for each number when it is installed, to
/// learn which calls it need not be asked about again. Only the calls whose arguments matter go on to the rest.
///
/// # Errors
/// A mistake in the table, or another processor than those that the crate knows.
fn program(init: u32) -> Result<BpfProgram, seccompiler::BackendError> {
    let rules = by_arguments(init);
    let mut program = search(&rules);
    let searched = program.len();
    for errno in [0, libc::EAFNOSUPPORT, libc::EPERM] {
        let mut table = BTreeMap::<i64, Vec<SeccompRule>>::new();
        for (call, _, when) in rules.iter().filter(|(_, answer, _)| *answer == errno) {
            let mut conditions = Vec::new();
            for when in when {
                conditions.extend(when.conditions()?);
            }
            table
                .entry(*call)
                .or_default()
                .push(SeccompRule::new(conditions)?);
        }
        // The crate has one answer for each program, so there is one for each answer.
        let part = SeccompFilter::new(
            table,
            SeccompAction::Allow,
            SeccompAction::Errno(errno as u32),
            std::env::consts::ARCH.try_into()?,
        )?;
        program = joined(program, part.try_into()?, searched);
    }
    Ok(program)
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const EQUALS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Where `struct seccomp_data` has the call's number, and the set of calls that it is of.
const NUMBER: u32 = 0;
const SET: u32 = 4;

/// The set of calls of this processor, as the kernel's `AUDIT_ARCH_…`.
const OWN_SET: u32 = match () {
    () if cfg!(target_arch = "x86_64") => 0xc000_003e,
    () if cfg!(target_arch = "riscv64") => 0xc000_00f3,
    () => 0xc000_00b7,
};

/// The number that a debugger gives to a call which is to be left out.
const LEFT_OUT: u32 = u32::MAX;

/// What becomes of a call when only its number is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The kernel's answer, as `SECCOMP_RET_…`.
    Answer(u32),
    /// Its arguments decide.
    Arguments,
}

fn line(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// The beginning of the program: what is decided by the number alone. Its end is where the arguments are looked at.
fn search(rules: &[(Call, i32, Vec<When>)]) -> BpfProgram {
    const ALLOWED: Verdict = Verdict::Answer(libc::SECCOMP_RET_ALLOW);
    let errno = |errno: i32| Verdict::Answer(libc::SECCOMP_RET_ERRNO | errno as u32);
    let mut known = BTreeMap::new();
    known.extend(
        rules
            .iter()
            .map(|(call, ..)| (*call as u32, Verdict::Arguments)),
    );
    known.extend(
        MISSING
            .iter()
            .map(|call| (*call as u32, errno(libc::ENOSYS))),
    );
    let refused = REFUSED.iter().chain(REFUSED_HERE);
    known.extend(refused.map(|call| (*call as u32, errno(libc::EPERM))));
    // Each with the first number that it is for.
    let mut verdicts = vec![(0, ALLOWED)];
    let mut add = |number, verdict| match verdicts.last() {
        Some((_, last)) if *last == verdict => {}
        _ => verdicts.push((number, verdict)),
    };
    for (number, verdict) in &known {
        add(*number, *verdict);
        if !known.contains_key(&(number + 1)) {
            add(number + 1, ALLOWED);
        }
    }
    add(LAST_KNOWN + 1, errno(libc::ENOSYS));
    add(X32, Verdict::Answer(libc::SECCOMP_RET_KILL_PROCESS));
    add(LEFT_OUT, ALLOWED);
    let mut program = vec![
        line(LOAD, 0, 0, SET),
        line(EQUALS, 1, 0, OWN_SET),
        line(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        line(LOAD, 0, 0, NUMBER),
    ];
    program.extend(by_halves(&verdicts));
    let length = program.len();
    for (index, line) in program.iter_mut().enumerate() {
        if line.code == JUMP {
            line.k = (length - index - 1) as u32;
        }
    }
    program
}

/// Finds the verdict on the loaded number. Jumps to the end are left open.
fn by_halves(verdicts: &[(u32, Verdict)]) -> BpfProgram {
    match verdicts {
        [] => Vec::new(),
        [(_, Verdict::Answer(answer))] => vec![line(RETURN, 0, 0, *answer)],
        [(_, Verdict::Arguments)] => vec![line(JUMP, 0, 0, 0)],
        _ => {
            let (low, high) = verdicts.split_at(verdicts.len() / 2);
            let (first, low) = (high[0].0, by_halves(low));
            // The table is far from as long as a jump can go, which the tests hold.
            let skipped = u8::try_from(low.len()).unwrap_or(u8::MAX);
            let mut program = vec![line(AT_LEAST, skipped, 0, first)];
            program.extend(low);
            program.extend(by_halves(high));
            program
        }
    }
}

/// A program that does what `next` does wherever `first`, one of the crate's, allows a call; or where the search ends.
fn joined(mut first: BpfProgram, next: BpfProgram, searched: usize) -> BpfProgram {
    let length = first.len();
    for (index, line) in first.iter_mut().enumerate().skip(searched) {
        if line.code == RETURN && line.k == libc::SECCOMP_RET_ALLOW {
            (line.code, line.k) = (JUMP, (length - index - 1) as u32);
        }
    }
    first.extend(next);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel does after it ran `program` for a call of a set; on the parts of the language that the program uses.
    fn verdict(program: &[sock_filter], set: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let words: Vec<u32> = [number, set, 0, 0]
            .into_iter()
            .chain(
                arguments
                    .iter()
                    .flat_map(|it| [*it as u32, (*it >> 32) as u32]),
            )
            .collect();
        let (mut at, mut loaded) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at].clone();
            let code = u32::from(code);
            let jump = |yes: bool| usize::from(if yes { jt } else { jf });
            at += 1;
            at += match (code & 7, code & 0xf0) {
                (libc::BPF_LD, _) => {
                    loaded = words[k as usize / 4];
                    0
                }
                (libc::BPF_ALU, libc::BPF_AND) => {
                    loaded &= k;
                    0
                }
                (libc::BPF_JMP, libc::BPF_JA) => k as usize,
                (libc::BPF_JMP, libc::BPF_JEQ) => jump(loaded == k),
                (libc::BPF_JMP, libc::BPF_JGE) => jump(loaded >= k),
                (libc::BPF_JMP, libc::BPF_JGT) => jump(loaded > k),
                (libc::BPF_JMP, libc::BPF_JSET) => jump(loaded & k != 0),
                (libc::BPF_RET, _) => return k,
                other => panic!("{other:?}"),
            };
        }
    }

    #[test]
    fn each_call_is_answered_as_the_table_says() {
        let program = program(1).unwrap();
        let answer = |call: Call, arguments| verdict(&program, OWN_SET, call as u32, arguments);
        let refused = |errno: i32| libc::SECCOMP_RET_ERRNO | errno as u32;
        let nothing = [0; 6];
        for call in REFUSED.iter().chain(REFUSED_HERE) {
            assert_eq!(answer(*call, nothing), refused(libc::EPERM), "{call}");
        }
        for call in MISSING
            .iter()
            .copied()
            .chain([LAST_KNOWN.into(), 600])
            .skip(1)
        {
            let known = call == Call::from(LAST_KNOWN);
            let wanted = if known {
                libc::SECCOMP_RET_ALLOW
            } else {
                refused(libc::ENOSYS)
            };
            assert_eq!(answer(call, nothing), wanted, "{call}");
        }
        let listed: Vec<Call> = [REFUSED, REFUSED_HERE, MISSING].concat();
        let looked_at: Vec<Call> = by_arguments(1).iter().map(|(call, ..)| *call).collect();
        for call in
            (0..=LAST_KNOWN.into()).filter(|it| !listed.contains(it) && !looked_at.contains(it))
        {
            assert_eq!(answer(call, nothing), libc::SECCOMP_RET_ALLOW, "{call}");
        }
    }

    #[test]
    fn arguments_decide_where_they_matter() {
        let program = program(1).unwrap();
        let call = |call: Call, first: u64, second: u64, third: u64| {
            let arguments = [first, second, third, 0, 0, 0];
            match verdict(&program, OWN_SET, call as u32, arguments) {
                libc::SECCOMP_RET_ALLOW => None,
                answer => Some((answer & 0xffff) as i32),
            }
        };
        let high = 1 << 32;
        for (number, arguments, answer) in [
            // A process, a thread, and a namespace; bits above 32 change nothing.
            (libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0], None),
            (libc::SYS_clone, [0x3d_0f00, 0, 0], None),
            (
                libc::SYS_clone,
                [libc::CLONE_NEWUSER as u64 | 17, 0, 0],
                Some(libc::EPERM),
            ),
            (
                libc::SYS_clone,
                [libc::CLONE_NEWNET as u64 | high, 0, 0],
                Some(libc::EPERM),
            ),
            (libc::SYS_unshare, [libc::CLONE_FILES as u64, 0, 0], None),
            (libc::SYS_unshare, [0x80, 0, 0], Some(libc::EPERM)),
            (libc::SYS_socket, [1, 1, 0], None),
            (libc::SYS_socket, [2, 1, 0], None),
            (libc::SYS_socket, [10, 1, 0], None),
            (libc::SYS_socket, [16, 3, 0], None),
            (libc::SYS_socket, [16, 3, 15], Some(libc::EAFNOSUPPORT)),
            (
                libc::SYS_socket,
                [16 | high, 3, 9 | high],
                Some(libc::EAFNOSUPPORT),
            ),
            (libc::SYS_socket, [3, 3, 0], Some(libc::EAFNOSUPPORT)),
            (libc::SYS_socket, [15, 3, 0], Some(libc::EAFNOSUPPORT)),
            (libc::SYS_socket, [40, 1, 0], Some(libc::EAFNOSUPPORT)),
            (libc::SYS_socketpair, [30, 1, 0], Some(libc::EAFNOSUPPORT)),
            (libc::SYS_ioctl, [0, 0x5401, 0], None),
            (libc::SYS_ioctl, [0, 0x5412, 0], Some(libc::EPERM)),
            (libc::SYS_ioctl, [0, 0x5412 | high, 0], Some(libc::EPERM)),
            (libc::SYS_ioctl, [0, 0x541c, 0], Some(libc::EPERM)),
            (libc::SYS_ioctl, [0, 0x5423, 0], Some(libc::EPERM)),
            // Of PID 1 limits can be read.
            (libc::SYS_prlimit64, [1, 7, 0], None),
            (libc::SYS_prlimit64, [1, 7, 0xff00], Some(libc::EPERM)),
            (libc::SYS_prlimit64, [1, 7, 7 << 32], Some(libc::EPERM)),
            (libc::SYS_prlimit64, [0, 7, 0xff00], None),
            (libc::SYS_prlimit64, [0, 4, 0xff00], Some(0)),
            (libc::SYS_prlimit64, [0, 4, 0], None),
            (libc::SYS_setrlimit, [4, 1, 0], Some(0)),
            (libc::SYS_setrlimit, [7, 1, 0], None),
            (libc::SYS_sched_setaffinity, [0, 8, 1], None),
            (libc::SYS_sched_setaffinity, [1, 8, 1], Some(libc::EPERM)),
            (libc::SYS_sched_setscheduler, [1, 0, 1], Some(libc::EPERM)),
            (libc::SYS_setpriority, [0, 0, 5], None),
            (libc::SYS_setpriority, [0, 1, 5], Some(libc::EPERM)),
            (libc::SYS_setpriority, [1, 1, 5], None),
            (libc::SYS_setpriority, [2, 0, 5], Some(libc::EPERM)),
            (libc::SYS_ioprio_set, [1, 1, 5], Some(libc::EPERM)),
            (libc::SYS_ioprio_set, [1, 0, 5], None),
            (libc::SYS_ioprio_set, [3, 0, 5], Some(libc::EPERM)),
        ] {
            let [first, second, third] = arguments;
            assert_eq!(
                call(number, first, second, third),
                answer,
                "{number} {arguments:?}"
            );
        }
    }

    #[test]
    fn calls_of_other_sets_end_the_process() {
        let program = program(1).unwrap();
        let killed = libc::SECCOMP_RET_KILL_PROCESS;
        // i386, and x32.
        assert_eq!(verdict(&program, 0x4000_0003, 20, [0; 6]), killed);
        assert_eq!(verdict(&program, OWN_SET, X32 | 39, [0; 6]), killed);
        // A debugger leaves a call out.
        assert_eq!(
            verdict(&program, OWN_SET, u32::MAX, [0; 6]),
            libc::SECCOMP_RET_ALLOW
        );
    }
}
