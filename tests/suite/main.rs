//! The real binary, driven as a person drives it: on apps named for what they do (`tests/apps`), between pipes and
//! on a terminal, against a server of each test's own. Nothing here calls into the program.
//!
//! `DYNO_TEST_BIN` names another binary to test, `DYNO_TEST_ROOT` another place to find `tests/apps` and `src` in:
//! so the same test program can be run by a user who cannot reach the checkout.

#[path = "../harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the soak needs more of it")]
mod harness;
mod heroku_client;
mod heroku_page;
mod small_disk;
mod terminal;

mod api_tcp;
mod apps;
mod auth;
mod birth;
mod bounds;
mod build_dynos;
mod build_layers;
mod buildpacks;
mod builds;
mod checkout_links;
mod claims;
mod config;
mod deploy;
mod deploy_words;
mod descriptors;
mod disconnect;
mod dyno_limits;
mod environment;
mod errors;
mod escape;
mod escape_attempts;
mod fail_points;
mod file_times;
mod filtered;
mod formation;
mod formation_changes;
mod formation_crashes;
mod formation_generations;
mod formation_survival;
mod git_http;
mod git_push;
mod heroku_cli;
mod host_files;
mod idle;
mod layers;
mod leftovers;
mod log_file;
mod log_sessions;
mod logs;
mod memory;
mod metrics;
mod names;
mod network;
mod newcomer;
mod panics;
mod peers;
mod platform_api;
mod ports_kept;
mod prepared;
mod programs;
mod proxies;
mod ps;
mod releases;
mod remote;
mod rendezvous;
mod rendezvous_load;
mod routing;
mod run_detached;
mod run_inside;
mod run_order;
mod run_pipes;
mod run_terminal;
mod sandbox;
mod scale;
mod server;
mod server_commands;
mod settings;
mod signals;
mod sizes;
mod start;
mod starters;
mod static_sites;
mod survival;
mod tempdir;
mod terminal_state;
mod tokens;
mod toolchains;
mod unexecutable;
mod upgrade;
mod web_apps;
mod websocket;
