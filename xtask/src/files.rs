//! The files of the project, in one order on every machine.

use std::fs;
use std::path::{Path, PathBuf};

/// What holds nothing that we wrote; in a further worktree of Git, `.git` is a file.
const SKIPPED: &[&str] = &["target", ".git", "node_modules", ".dwcp"];

/// Every file under a folder whose name ends in one of `endings`; an empty list means all.
pub(crate) fn under(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
            if path.is_symlink() || SKIPPED.contains(&name) {
                continue;
            } else if path.is_dir() {
                folders.push(path);
            } else if endings.is_empty() || endings.iter().any(|end| name.ends_with(end))
            {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// A path as it is written in a complaint: from the root of the project.
pub(crate) fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}
