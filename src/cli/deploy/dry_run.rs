//! `dyno deploy --dry-run`: what would be done, and why.

use std::path::Path;

use anyhow::Result;

use super::build::{BuiltBy, built_by, wanted};
use super::procfile::process_types;
use super::release::Purpose;
use crate::api::app::App;
use crate::cli::context::{Context, app_path};
use crate::cli::output::say;
use crate::model::builder::Builder;
use crate::model::buildpack::{Kind, candidates};
use crate::model::release::RELEASE_PHASE;

/// Says what a deploy of the folder `root` would do, to `app` or a new one.
///
/// # Errors
/// There is no such app; the folder could not be deployed.
pub fn tell(context: &mut Context, app: Option<&str>, root: &Path) -> Result<()> {
    let types = process_types(root)?;
    let has = |name: &str| root.join(name).symlink_metadata().is_ok();
    let (by, builder) = match app {
        Some(app) => {
            let known: App = context.client()?.get(&app_path(app, ""))?;
            let purpose = Purpose::Deploy { without_web: false };
            let wanted = wanted(context, app, root, purpose)?;
            (wanted.map(|it| it.by), known.builder)
        }
        None => (built_by(root, Builder::Auto, &[], None), Builder::Auto),
    };
    let names: Vec<_> = types.iter().map(|(name, _)| name).collect();
    let lines = [
        (
            "App",
            app.map_or("a new one, named after the folder", |app| app)
                .to_owned(),
        ),
        ("Builder", builder.as_str().to_owned()),
        ("Build", told_build(by.as_ref(), builder, &has)),
        ("Not sent", told_made(by.as_ref())),
        ("Procfile", told_types(&names, by.is_some()).to_owned()),
        (
            "Release phase",
            types.get(RELEASE_PHASE).unwrap_or_default().to_owned(),
        ),
    ];
    for (name, text) in lines.iter().filter(|(_, text)| !text.is_empty()) {
        say!("{:15}{text}", format!("{name}:"))?;
    }
    Ok(())
}

fn told_build(by: Option<&BuiltBy>, builder: Builder, has: &dyn Fn(&str) -> bool) -> String {
    let unbuilt = |why: &str| format!("none: {why}; the files are the slug");
    match by {
        None if builder == Builder::None => unbuilt("the builder is `none`"),
        None => match candidates(has) {
            Err(error) => unbuilt(&error.to_string()),
            Ok(kinds) if kinds.is_empty() => unbuilt("there is no manifest"),
            Ok(_) => unbuilt("there are no builds on this host"),
        },
        Some(BuiltBy::Kinds(kinds)) => {
            let reasons: Vec<_> = kinds.iter().map(|kind| reason(kind, has)).collect();
            let first = kinds.first().map_or("", |kind| kind.name);
            let reasons = reasons.join(", else ");
            format!(
                "{reasons}, if its bin/detect agrees; `dyno buildpacks:eject {first}` writes out what is run"
            )
        }
        Some(BuiltBy::Variable(name)) => format!("by what the config var {name} names"),
        Some(BuiltBy::App(names)) => format!("by the app's buildpacks: {}", names.join(", ")),
        Some(BuiltBy::File(file)) => format!("by what {file} names"),
        Some(BuiltBy::Nobody) => "fails: the builder is `buildpacks`, and none is named".to_owned(),
    }
}

/// A kind, and the files that speak for it.
fn reason(kind: &Kind, has: &dyn Fn(&str) -> bool) -> String {
    let signs: Vec<_> = kind
        .signs
        .iter()
        .copied()
        .filter(|sign| has(sign))
        .collect();
    format!("{}, for {}", kind.name, signs.join(" and "))
}

fn told_made(by: Option<&BuiltBy>) -> String {
    let made = match by {
        Some(BuiltBy::Kinds(kinds)) => kinds.first().map_or(&[][..], |kind| kind.makes),
        _ => &[],
    };
    match made {
        [] => String::new(),
        made => format!(
            "{}, which is made anew; what .slugignore names",
            made.join(", ")
        ),
    }
}

fn told_types(names: &[&str], is_built: bool) -> String {
    match (names, is_built) {
        ([], true) => "none: the process types are those of the buildpack".to_owned(),
        ([], false) => "none, so that nothing would be released".to_owned(),
        (names, _) => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::buildpack::KINDS;

    #[test]
    fn a_build_is_told_with_its_reason() {
        let kind = |name: &str| KINDS.iter().find(|kind| kind.name == name).unwrap();
        let both = BuiltBy::Kinds(vec![kind("nodejs"), kind("python")]);
        let has = |name: &str| ["package.json", "uv.lock", "pyproject.toml"].contains(&name);
        let told = told_build(Some(&both), Builder::Auto, &has);
        assert!(
            told.starts_with(
                "nodejs, for package.json, else python, for uv.lock and pyproject.toml, if"
            ),
            "{told}"
        );
        assert_eq!(
            told_made(Some(&both)),
            "node_modules, which is made anew; what .slugignore names"
        );
        let none =
            |builder, files: &[&str]| told_build(None, builder, &|name| files.contains(&name));
        assert!(none(Builder::None, &["go.mod"]).contains("the builder is `none`"));
        assert!(none(Builder::Auto, &["pom.xml"]).contains("Java"));
        assert!(none(Builder::Auto, &[]).contains("no manifest"));
        assert!(none(Builder::Auto, &["go.mod"]).contains("on this host"));
    }
}
