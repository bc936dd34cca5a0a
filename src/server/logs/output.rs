//! What the release phase of a release prints, as it prints it: `GET /apps/A/releases/R/output`.

use super::super::application::{Application, Ctx, Reply, Request};
use super::super::host::Host;
use super::form::Form;
use super::{Logs, find_and_begin};
use crate::api::ApiError;
use crate::api::logs::LogQuery;
use crate::model::log_line::Source;
use crate::model::release::ReleaseStatus;
use crate::wire::http::Response;

/// `GET /apps/A/releases/R/output`: ends with the release phase.
///
/// # Errors
/// When there is no such release, its phase has not begun, or too many read logs already.
pub fn read_output<A>(
    app: &mut A,
    request: &Request,
    name: &str,
    release: &str,
    ctx: &mut Ctx<A>,
) -> Result<Reply<A>, ApiError>
where
    A: Application + AsMut<Host> + AsMut<Logs>,
{
    let store = &AsMut::<Host>::as_mut(app).store;
    let app_id = store.app(name)?.id;
    let release = store.release(&app_id, release)?;
    // One that was lost with the host was begun again.
    let Some(dyno) = store.release_phase_dynos(&release.id)?.pop() else {
        if release.status == ReleaseStatus::Pending {
            return Err(ApiError::not_found(format!(
                "the release phase of {} has not begun",
                release.version
            )));
        }
        // It is so long ago that nothing is known of it any more.
        let text = Form::Texts.content_type();
        return Ok(Reply::Now(Response::new(200).with("Content-Type", text)));
    };
    let query = LogQuery {
        source: Some(Source::App),
        dyno: Some(dyno.name.to_string()),
        until_ended: true,
        ..LogQuery::default()
    };
    find_and_begin(app, request.ticket, app_id, query, Form::Texts, ctx)
}
