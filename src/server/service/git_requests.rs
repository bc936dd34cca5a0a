//! Requests on the git repositories of apps.

use super::super::application::Ctx;
use super::super::host::Answer;
use super::Service;
use crate::api::ApiError;
use crate::api::repository::Repository;
use crate::error::tell;
use crate::executable;
use crate::http::Response;
use crate::repository::{Bounds, Repositories};

impl Service {
    /// `POST /apps/A/repository`: where the app's repository is; it is made if there is none.
    pub(super) fn repository(&self, app: &str) -> Answer {
        let app = self.host.store.app(app)?;
        let bounds = Bounds {
            pack_bytes: self.host.settings.slug_limit,
        };
        let path = executable::program()
            .and_then(|program| {
                self.repositories()
                    .ensure(app.name.as_str(), &app.id, bounds, &program)
            })
            .map_err(|error| {
                let message = format!("cannot make the repository of `{}`: {error}", app.name);
                ApiError::internal(message)
            })?;
        let path = path.into_os_string().into_string();
        let path = path.map_err(|path| {
            ApiError::internal(format!("`{}` is not UTF-8", path.to_string_lossy()))
        })?;
        Ok(Response::json(200, &Repository { path }))
    }

    fn repositories(&self) -> Repositories {
        Repositories::new(&self.home)
    }

    /// Has the hooks of all repositories run this program. That it cannot be done is no reason not to serve.
    pub(super) fn take_over_repositories(&self) {
        let taken =
            executable::program().and_then(|program| self.repositories().take_over(&program));
        if let Err(error) = taken {
            tell!("cannot take over the git repositories: {error}");
        }
    }

    /// An app is no more, and so is its repository.
    pub(super) fn remove_repository(&self, app_id: &str, ctx: &mut Ctx<Self>) {
        match self.repositories().set_aside(app_id) {
            Ok(aside) => {
                ctx.work(move || {
                    drop(aside);
                    |_: &mut Self, _: &mut Ctx<Self>| {}
                });
            }
            Err(error) => tell!("cannot remove a git repository: {error}"),
        }
    }
}
