//! (being built)

/// x
pub fn remove_tree(p: &std::path::Path) -> std::io::Result<()> {
    std::fs::remove_dir_all(p)
}
