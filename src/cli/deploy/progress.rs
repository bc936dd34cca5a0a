//! What a deploy says while it goes on.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::terminal;
use crate::error::{tell, tell_part};

/// `Deploying to shop... done, v2` on standard error; with a bar in between where that is a terminal.
pub(super) struct DeployProgress {
    /// As `Deploying to shop`.
    what: String,
    pub(super) quiet: bool,
    pub(super) bar: ProgressBar,
    told: bool,
}

impl DeployProgress {
    pub(super) fn begin(what: &str, quiet: bool) -> Self {
        let live = !quiet && terminal::is_terminal(rustix::stdio::stderr());
        let target = if live {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        let template = "{prefix} {bar:30} {decimal_bytes}/{decimal_total_bytes} {eta}";
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(format!("{what}..."));
        if live {
            bar.enable_steady_tick(Duration::from_millis(100));
        } else if !quiet {
            tell_part!("{what}... ");
        }
        Self {
            what: what.to_owned(),
            quiet,
            bar,
            told: false,
        }
    }

    pub(super) fn done(mut self, how: &str, warnings: &[String]) {
        self.tell(how);
        for warning in warnings.iter().filter(|_| !self.quiet) {
            tell!("warning: {warning}");
        }
    }

    fn tell(&mut self, how: &str) {
        self.told = true;
        self.bar.finish_and_clear();
        match (self.quiet, terminal::is_terminal(rustix::stdio::stderr())) {
            (true, _) => {}
            (false, true) => tell!("{}... {how}", self.what),
            (false, false) => tell!("{how}"),
        }
    }
}

impl Drop for DeployProgress {
    fn drop(&mut self) {
        if !self.told {
            self.tell("failed");
        }
    }
}
