//! The address of an app, for the person who deploys or starts it.

use anyhow::Result;

use super::context::{Context, app_path};
use crate::api::app::App;
use crate::api::formation::Formation;
use crate::error::tell;

/// The process type that serves visitors.
const WEB: &str = "web";

/// The address of `app`, and how to reach it if it is on another host. None if the app has no address.
pub fn of(context: &Context, app: &App) -> Option<String> {
    let url = app.web_url.as_deref()?;
    Some(match tunnel(context, url) {
        Some(how) => format!("{url} {how}"),
        None => url.to_owned(),
    })
}

/// How to reach an address on another host: names below `localhost` mean the local host, so an ssh tunnel to its router
/// is needed. None for this host.
pub fn tunnel(context: &Context, url: &str) -> Option<String> {
    context.far().map(|far| from_afar(url, far.authority()))
}

fn from_afar(url: &str, authority: &str) -> String {
    let authority = authority.trim_start_matches('[');
    let host = match authority.split_once(']') {
        Some((address, _)) => address,
        None => authority.split(':').next().unwrap_or(authority),
    };
    let rest = url.trim_end_matches('/').rsplit(':').next();
    let port = rest.and_then(|port| port.parse::<u16>().ok()).unwrap_or(80);
    format!("on {host}; `ssh -L {port}:localhost:{port} {host}` brings it here")
}

/// Prints the address of `app`, if it has web dynos.
///
/// # Errors
/// When the server does not answer.
pub fn tell(context: &mut Context, app: &str) -> Result<()> {
    let client = context.client()?;
    let formation: Vec<Formation> = client.get_list(&app_path(app, "/formation"))?;
    let is_visited = |entry: &Formation| entry.r#type == WEB && entry.quantity > 0;
    if formation.iter().any(is_visited) {
        let app: App = client.get(&app_path(app, ""))?;
        tell_of(context, &app);
    }
    Ok(())
}

/// Prints the address of `app`, which has web dynos.
pub fn tell_of(context: &Context, app: &App) {
    if let Some(address) = of(context, app) {
        tell!("{} is at {address}", app.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_afar_a_tunnel_leads_there() {
        for (url, authority, expected) in [
            (
                "http://shop.localhost:8080/",
                "box.example:5001",
                "on box.example; `ssh -L 8080:localhost:8080 box.example` brings it here",
            ),
            (
                "http://shop.localhost/",
                "[2001:db8::1]:5001",
                "on 2001:db8::1; `ssh -L 80:localhost:80 2001:db8::1` brings it here",
            ),
        ] {
            assert_eq!(from_afar(url, authority), expected);
        }
    }
}
