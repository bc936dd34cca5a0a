//! Why a request fails: Heroku's H codes, with the text of each for the log and the page.

use std::borrow::Cow;

/// Why a request gets no complete response from a dyno.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// There is no such app. Not a code of Heroku's, and in no app's log.
    NoApp,
    /// Every web dyno has crashed.
    H10,
    /// Too many requests wait.
    H11,
    /// The dyno sent no byte of a response in time.
    H12,
    /// The dyno closed the connection without a response.
    H13,
    /// There is no web dyno.
    H14,
    /// The dyno stopped sending in the middle of a response.
    H15,
    /// The response is not valid HTTP.
    H17,
    /// The dyno closed the connection in the middle of a response.
    H18,
    /// No dyno accepted a connection in time.
    H19,
    /// No dyno is up, and none came up in time.
    H20,
    /// The dynos refuse connections.
    H21,
    /// The response passes a limit of the router, which the text names.
    H25(&'static str),
    /// The request is not valid, or passes a limit of the router.
    H26 {
        /// The status it is answered with.
        status: u16,
        /// What is wrong with it.
        cause: Cow<'static, str>,
    },
    /// The client closed the connection.
    H27,
    /// The client stopped sending, or does not read.
    H28,
    /// The app is in maintenance mode.
    H80,
    /// The app has no slug.
    H81,
    /// The router itself failed: it is out of descriptors or ports, for example.
    H99,
}

impl Failure {
    /// The code as Heroku writes it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoApp => "",
            Self::H10 => "H10",
            Self::H11 => "H11",
            Self::H12 => "H12",
            Self::H13 => "H13",
            Self::H14 => "H14",
            Self::H15 => "H15",
            Self::H17 => "H17",
            Self::H18 => "H18",
            Self::H19 => "H19",
            Self::H20 => "H20",
            Self::H21 => "H21",
            Self::H25(_) => "H25",
            Self::H26 { .. } => "H26",
            Self::H27 => "H27",
            Self::H28 => "H28",
            Self::H80 => "H80",
            Self::H81 => "H81",
            Self::H99 => "H99",
        }
    }

    /// The text in the log line's `desc`.
    pub fn description(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::NoApp => "No such app",
            Self::H10 => "App crashed",
            Self::H11 => "Backlog too deep",
            Self::H12 => "Request timeout",
            Self::H13 => "Connection closed without response",
            Self::H14 => "No web processes running",
            Self::H15 => "Idle connection",
            Self::H17 => "Poorly formatted HTTP response",
            Self::H18 => "Server Request Interrupted",
            Self::H19 => "Backend connection timeout",
            Self::H20 => "App boot timeout",
            Self::H21 => "Backend connection refused",
            Self::H25(what) => return Cow::Owned(format!("HTTP restriction: {what}")),
            Self::H26 { .. } => "Request Error",
            Self::H27 => "Client Request Interrupted",
            Self::H28 => "Client Connection Idle",
            Self::H80 => "Maintenance mode",
            Self::H81 => "Blank app",
            Self::H99 => "Platform error",
        })
    }

    /// The status that the client gets, or would if it were still there to get one.
    pub fn status(&self) -> u16 {
        match self {
            Self::NoApp => 404,
            Self::H25(_) | Self::H81 => 502,
            Self::H26 { status, .. } => *status,
            Self::H27 | Self::H28 => 499,
            _ => 503,
        }
    }

    /// The log line's `at`.
    pub fn level(&self) -> &'static str {
        match self {
            Self::H18 => "sock=backend at=error",
            Self::H27 => "sock=client at=warning",
            Self::H80 | Self::H81 => "at=info",
            _ => "at=error",
        }
    }

    /// Title and text of the page for people.
    pub fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::NoApp => (
                "No such app",
                "There is no app of this name here. `dyno apps` lists the apps there are.",
            ),
            Self::H10 => (
                "Application error",
                "Every web dyno of this app has crashed. `dyno logs` tells why.",
            ),
            Self::H11 => (
                "Application busy",
                "Too many requests are waiting for this app.",
            ),
            Self::H12 => (
                "Application error",
                "The app did not begin to answer in time.",
            ),
            Self::H13 => (
                "Application error",
                "The app closed the connection without an answer.",
            ),
            Self::H14 => (
                "No web dyno",
                "No web dyno of this app is running. `dyno ps:scale web=1` starts one, if the app's Procfile has a line for `web`.",
            ),
            Self::H15 | Self::H18 => ("Application error", "The app's answer broke off."),
            Self::H17 | Self::H25(_) => (
                "Application error",
                "The app's answer is not HTTP that can be passed on.",
            ),
            Self::H19 | Self::H21 => (
                "Application error",
                "No web dyno of this app can be reached.",
            ),
            Self::H99 => ("Router error", "The router cannot connect to the app."),
            Self::H20 => ("Application error", "The app did not start in time."),
            Self::H26 { .. } => ("Bad request", "This request is not one that is passed on."),
            Self::H27 | Self::H28 => ("Request interrupted", "The request was not finished."),
            Self::H80 => (
                "Offline for maintenance",
                "This app is being worked on. Please come back later.",
            ),
            Self::H81 => (
                "Nothing here yet",
                "Nothing was deployed to this app yet. `dyno deploy` does it.",
            ),
        }
    }
}
