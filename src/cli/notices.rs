//! Notes about this host or an app that several commands print.

use std::fs;

use super::context::Context;
use crate::error::tell;

/// Prints, once, that dynos do not run in namespaces, if the server noted so when it started.
pub fn tell_isolation(context: &Context) {
    if context.is_far() {
        return;
    }
    let home = &context.home;
    let Ok(note) = fs::read(home.isolation_note()) else {
        return;
    };
    let told = fs::read(home.isolation_told());
    if told.map_or(true, |told| told != note) {
        tell!(
            "dyno: isolation is tempdir, a folder without walls; `dyno doctor` says why, and what that means"
        );
        let _ = fs::write(home.isolation_told(), note);
    }
}

/// The note about an app whose formation was stopped with the server.
pub fn stopped_with_server(app: &str) -> String {
    format!(
        "`server:stop --all` has ended the formation of {app}; `dyno ps:restart -a {app}` brings it back"
    )
}
