//! What the release phase of a release prints, as it prints it: `GET /apps/A/releases/R/output`.

use super::form::LogForm;
use super::{Logs, Reading, read};
use crate::api::ApiError;
use crate::api::logs::LogQuery;
use crate::model::log_line::LogSource;
use crate::model::release::ReleaseStatus;
use crate::server::api_loop::application::Recipient;
use crate::server::records::Records;
use crate::wire::http::Response;

/// `GET /apps/A/releases/R/output`: ends with the release phase.
///
/// # Errors
/// When there is no such release, its phase has not begun, or too many read logs already.
pub fn read_output(
    records: &Records,
    logs: &Logs,
    to: Recipient,
    app: &str,
    release: &str,
) -> Result<Reading, ApiError> {
    let app_id = records.store.app(app)?.id;
    let release = records.store.release(&app_id, release)?;
    // One that was lost with the host was begun again.
    let Some(dyno) = records.store.release_phase_dynos(&release.id)?.pop() else {
        if release.status == ReleaseStatus::Pending {
            return Err(ApiError::not_found(format!(
                "the release phase of {} has not begun",
                release.version
            )));
        }
        // It is so long ago that nothing is known of it any more.
        let text = LogForm::Texts.content_type();
        let nothing = Response::new(200).with("Content-Type", text);
        return Ok(Reading::Ended(nothing));
    };
    let query = LogQuery {
        source: Some(LogSource::App),
        dyno: Some(dyno.name.to_string()),
        until_ended: true,
        ..LogQuery::default()
    };
    read(records, logs, to, app_id, query, LogForm::Texts)
}
