//! What was found of a user's toolchains, and what dynos will not have of them.

use std::path::PathBuf;

use crate::model::release::Toolchains;

/// What dynos get of a search path, and what not.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FoundToolchains {
    /// The toolchains to record with the release.
    pub toolchains: Toolchains,
    /// Folders of the search path that dynos will not have.
    pub left_out: Vec<LeftOut>,
    /// Links that dynos see, to files that they do not.
    pub broken_links: Vec<BrokenLink>,
}

/// A folder of the search path that dynos will not have.
#[derive(Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The folder.
    pub folder: PathBuf,
    /// Why, in words.
    pub why: &'static str,
    /// Whether many users have it in their path for other purposes.
    pub usual: bool,
}

/// A program or package that is a link to a file that dynos do not see.
#[derive(Debug, PartialEq, Eq)]
pub struct BrokenLink {
    /// What it is.
    pub kind: BrokenLinkKind,
    /// Its name.
    pub name: String,
    /// Where the link leads.
    pub target: PathBuf,
}

/// The kinds of [`BrokenLink`] links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenLinkKind {
    /// A program of the search path that is a link.
    Program,
    /// A package in a virtual environment of the app (`pip install -e`).
    Package,
    /// A package of the user's own (`pip install --user -e`).
    UserPackage,
}
