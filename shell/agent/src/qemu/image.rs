//! Finds a guest image by its name.

use std::path::{Path, PathBuf};

use crate::hypervisor::HypervisorError;

/// A kernel and its initial RAM file system, as `guest/build.sh` makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: PathBuf,
}

/// The image of this name in the folder; the folder's own without a name.
///
/// # Errors
///
/// When a file is missing, or the name could lead out of the folder.
pub(crate) fn find(folder: &Path, name: Option<&str>) -> Result<Image, HypervisorError> {
    let folder = match name {
        None => folder.to_owned(),
        Some(name) => {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
            if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
                return Err(HypervisorError::ImageName {
                    name: name.chars().take(80).collect(),
                });
            }
            folder.join(name)
        }
    };
    let image = Image { kernel: folder.join("kernel"), initrd: folder.join("initrd") };
    for path in [&image.kernel, &image.initrd] {
        if !path.is_file() {
            return Err(HypervisorError::ImageMissing { path: path.clone(), folder });
        }
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_out_of_the_folder() {
        for name in ["..", "../x", "a/b", "", ".hidden", "/etc"] {
            let error = find(Path::new("/images"), Some(name)).unwrap_err();
            assert!(matches!(error, HypervisorError::ImageName { .. }), "{name}");
        }
    }

    #[test]
    fn a_missing_image_says_how_to_build_it() {
        let error = find(Path::new("/nowhere"), Some("web")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/web/kernel"), "{error}");
        assert!(error.contains("guest/build.sh /nowhere/web"), "{error}");
    }
}
