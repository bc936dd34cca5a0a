//! The buildpacks that are in this binary: scripts in `buildpacks/NAME/bin`, which a build's dyno runs.

use std::path::Path;

use crate::error::UserError;
use crate::model::buildpack;

/// What runs buildpacks in a build's dyno, in their order.
pub const RUN: &str = include_str!("../../../buildpacks/run");

/// A buildpack: see the [module](self).
#[derive(Debug)]
pub struct Pack {
    /// Its name.
    pub name: &'static str,
    /// Its files, by their paths in it.
    pub files: &'static [(&'static str, &'static str)],
}

macro_rules! pack {
    ($name:literal) => {
        Pack {
            name: $name,
            files: &[
                (
                    "bin/detect",
                    include_str!(concat!("../../../buildpacks/", $name, "/bin/detect")),
                ),
                (
                    "bin/compile",
                    include_str!(concat!("../../../buildpacks/", $name, "/bin/compile")),
                ),
                (
                    "bin/release",
                    include_str!(concat!("../../../buildpacks/", $name, "/bin/release")),
                ),
            ],
        }
    };
}

/// One for each of [`buildpack::KINDS`].
const PACKS: &[Pack] = &[
    pack!("ruby"),
    pack!("nodejs"),
    pack!("python"),
    pack!("php"),
    pack!("go"),
    pack!("rust"),
    pack!("static"),
];

/// The buildpacks that may be for the source at `root`, the likeliest first.
///
/// # Errors
/// When there is a manifest that none is for.
pub fn candidates(root: &Path) -> Result<Vec<&'static Pack>, UserError> {
    let kinds = buildpack::candidates(|name| root.join(name).symlink_metadata().is_ok())?;
    Ok(kinds.into_iter().flat_map(own).collect())
}

/// The scripts of a kind.
pub fn own(kind: &buildpack::Kind) -> Option<&'static Pack> {
    PACKS.iter().find(|pack| pack.name == kind.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_scripts() {
        let kinds = buildpack::KINDS.iter().map(|kind| kind.name);
        assert!(kinds.eq(PACKS.iter().map(|pack| pack.name)));
    }
}
