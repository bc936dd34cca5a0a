//! The fail points, by name. The tests read this list, too: `tests/suite/fail_points.rs` reaches each of them.

/// What can be made to happen at a fail point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed there.
    Killed,
    /// The process is killed there, or what comes next fails as by an error of the kernel's.
    KilledOrFails,
}

use Fault::{Killed, KilledOrFails};

/// Every fail point of the program: `part.moment`.
pub const POINTS: &[(&str, Fault)] = &[
    // The state. Every change of it goes by these.
    ("store.begin", KilledOrFails),
    ("store.committing", KilledOrFails),
    ("store.committed", Killed),
    // Slugs and their trees.
    ("slug.written", KilledOrFails),
    ("slug.synced", KilledOrFails),
    ("slug.renamed", Killed),
    ("slug.tree_made", KilledOrFails),
    ("slug.tree_renamed", Killed),
    // Releases and builds, between the state and what follows from it.
    ("release.made", Killed),
    ("build.compiled", Killed),
    ("build.released", Killed),
    // Dynos, as the server sees them.
    ("dyno.row_written", Killed),
    ("dyno.formation_row_written", Killed),
    ("dyno.folder_made", KilledOrFails),
    ("dyno.spawning", KilledOrFails),
    ("dyno.spawned", Killed),
    ("dyno.spec_sent", Killed),
    ("dyno.attaching", Killed),
    ("dyno.retired", Killed),
    ("dyno.end_noted", Killed),
    ("dyno.clearing", KilledOrFails),
    ("dyno.settling", KilledOrFails),
    ("dyno.end_told", Killed),
    // From one server to the next.
    ("server.adopted", Killed),
    ("server.handed_over", Killed),
    ("server.inherited", Killed),
    // Logs, whoever writes to them.
    ("log.appending", KilledOrFails),
    ("log.appended", Killed),
    ("log.sealed", Killed),
    ("log.dropped", Killed),
    // The supervisor of a dyno.
    ("supervisor.begun", Killed),
    ("supervisor.locked", KilledOrFails),
    ("supervisor.moved", Killed),
    ("supervisor.forked", Killed),
    ("supervisor.group_made", Killed),
    ("supervisor.started", Killed),
    ("supervisor.handed_over", Killed),
    ("supervisor.recording", KilledOrFails),
    ("supervisor.recorded", Killed),
    ("supervisor.removed", Killed),
    ("supervisor.told", Killed),
    // PID 1.
    ("init.ready", Killed),
    ("init.forked", Killed),
    ("init.reaped", Killed),
    ("init.told", Killed),
    // Commands.
    ("client.created", Killed),
    ("client.uploaded", Killed),
    ("client.attached", Killed),
    ("client.status", Killed),
    ("push.built", Killed),
    ("push.moved", Killed),
];
