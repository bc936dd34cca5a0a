//! What settings take, where they come from, and that the documentation lists them all.

use super::*;

fn from(vars: &[(&str, &str)]) -> Result<Settings, UserError> {
    let env = |name: &str| {
        let found = vars.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Sourced::read(None, env).map(|read| read.settings)
}

#[test]
fn nothing_said_means_the_defaults() {
    let settings = from(&[]).unwrap();
    assert_eq!(settings, Settings::default());
    assert!(settings.uid_base > 2_000_200_000 && settings.uid_base + UID_COUNT < 2_147_352_576);
}

#[test]
fn every_default_is_within_its_bounds_and_shown_as_it_is_read() {
    for setting in TABLE {
        let mut settings = Settings::default();
        let usual = setting.usual();
        assert!(
            (setting.set)(&mut settings, &usual),
            "{}={usual}",
            setting.name
        );
        assert_eq!(settings, Settings::default(), "{}={usual}", setting.name);
        assert!(setting.about().ends_with('.'), "{}", setting.about());
        assert!(
            setting.about().chars().count() <= 120,
            "{}",
            setting.about()
        );
    }
}

#[test]
fn the_environment_changes_them() {
    let settings = from(&[
        ("DYNO_ATTACH_TIMEOUT", "2"),
        ("DYNO_HANGUP_COUNT", "1"),
        ("DYNO_SLUG_LIMIT", "1"),
        ("DYNO_PORTS", "5000-5999"),
        ("DYNO_IDLE_LINGER", "0"),
        ("DYNO_LIFETIME", "10m"),
        ("DYNO_ISOLATION", "tempdir"),
    ])
    .unwrap();
    assert_eq!(settings.attach_timeout, seconds(2));
    assert_eq!(settings.hangup_count, 1);
    assert_eq!(settings.slug_limit, 1 << 20);
    assert_eq!(settings.ports, 5000..=5999);
    assert_eq!(settings.idle_linger, Duration::ZERO);
    assert_eq!(settings.lifetime, seconds(600));
    assert_eq!(settings.isolation, IsolationSetting::Tempdir);
}

#[test]
fn a_variable_that_is_no_settings_is_told() {
    let variables = [
        "DYNO_IDLE_TIMEOT",
        "DYNO_IDLE_TIMEOUT",
        "DYNO_HOME",
        "DYNO_APP",
        "DYNO_ID",
        "DYNO_TEST_BIN",
        "DYNO_SOMETHING_ELSE_ALTOGETHER",
        "DYNO_APPS",
        "PATH",
    ];
    assert_eq!(
        misspelt(variables.into_iter()),
        [
            "there is no setting `DYNO_IDLE_TIMEOT`; did you mean `DYNO_IDLE_TIMEOUT`?",
            "there is no setting `DYNO_SOMETHING_ELSE_ALTOGETHER`; `dyno settings` lists them",
            "there is no setting `DYNO_APPS`; did you mean `DYNO_APP`?",
        ]
    );
}

#[test]
fn the_environment_goes_before_the_file() {
    let file = ConfigFile {
        path: "config.toml".into(),
        text: "stop_grace = 1\nlifetime = 1".into(),
    };
    let env = |name: &str| (name == "DYNO_LIFETIME").then(|| "2h".to_owned());
    let read = Sourced::read(Some(&file), env).unwrap();
    let told: Vec<_> = read
        .rows()
        .filter(|row| row.source != SettingSource::Default)
        .map(|row| (row.setting.name, row.value, row.source.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("stop_grace", "1s".to_owned(), "config.toml"),
            ("lifetime", "2h".to_owned(), "environment"),
        ]
    );
}

#[test]
fn nonsense_is_named_with_its_bounds() {
    let error = from(&[("DYNO_SLUG_LEVEL", "10")]).unwrap_err();
    assert_eq!(
        error.message,
        "the setting `DYNO_SLUG_LEVEL=10` is not valid"
    );
    assert_eq!(error.hint.unwrap(), "it takes a number from 1 to 9");
    for (name, value) in [
        ("DYNO_ATTACH_TIMEOUT", "0"),
        ("DYNO_ATTACH_TIMEOUT", ""),
        ("DYNO_HANGUP_INTERVAL", "5y"),
        ("DYNO_PORTS", "5000"),
        ("DYNO_PORTS", "5000-5000"),
        ("DYNO_PORTS", "80-100"),
        ("DYNO_PORTS", "5000-70000"),
        ("DYNO_UID_BASE", "0"),
        ("DYNO_UID_BASE", "2147483648"),
        ("DYNO_ID_MAPPING", "on"),
    ] {
        assert!(from(&[(name, value)]).is_err(), "{name}={value}");
    }
}

/// `UPDATE_DOCS=1 cargo test settings` writes it anew.
#[test]
fn the_docs_list_every_setting() {
    let (begin, end) = (
        "<!-- the table, made from the code -->\n",
        "<!-- end of the table -->\n",
    );
    let page = include_str!("../../../docs/settings.md");
    let (before, rest) = page.split_once(begin).expect("where the table begins");
    let (_, after) = rest.split_once(end).expect("where the table ends");
    let mut table = "\n| name | default | from, to | what it is |\n|---|---|---|---|\n".to_owned();
    for setting in TABLE {
        let (name, usual) = (setting.name, setting.usual());
        let (bounds, about) = (setting.bounds(), setting.about());
        table += &format!("| `{name}` | `{usual}` | {bounds} | {about} |\n");
    }
    let wanted = format!("{before}{begin}{table}\n{end}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md");
        return std::fs::write(path, &wanted).unwrap();
    }
    assert!(
        page == wanted,
        "docs/settings.md is out of date: run the tests with UPDATE_DOCS=1"
    );
}
