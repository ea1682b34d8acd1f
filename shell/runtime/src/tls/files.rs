//! Certificates and keys as files: 0600 in directories of 0700, written whole or not at all.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use dwcp_types::Timestamp;
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::identity::{IdentityError, subject_of};
use super::{Peer, TlsError};
use crate::stamp::Stamp;

/// Name of a CA's certificate in its directory, and beside the certificates it issued.
pub const CA_CERTIFICATE: &str = "ca.crt";
/// Name of a CA's key in its directory.
pub const CA_KEY: &str = "ca.key";
/// No certificate, chain or key comes near this; what is larger is something else.
const PEM_LEN_MAX: u64 = 256 << 10;

/// Where someone's certificate, its key, and the CA it trusts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The trusted CA's certificate.
    pub ca: PathBuf,
    /// The own certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What the files hold.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) roots: RootCertStore,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// The stamps of files; nothing of one that is not there.
pub(super) fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    files.iter().map(|path| Stamp::of(path)).collect()
}

impl Credentials {
    /// `ca.crt`, `NAME.crt` and `NAME.key` of one directory.
    #[must_use]
    pub fn in_dir(directory: &Path, name: &str) -> Self {
        Self {
            ca: directory.join(CA_CERTIFICATE),
            certificate: directory.join(format!("{name}.crt")),
            key: directory.join(format!("{name}.key")),
        }
    }

    /// Who the own certificate says one is, and until when.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn peer(&self) -> Result<Peer, TlsError> {
        self.own(Peer::from_der)
    }

    /// The subject of the own certificate as QEMU writes it, in the certificate's order:
    /// `OU=unit,CN=name`. What QEMU lets in is told by it (HYPERVISOR.md section 2).
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn subject(&self) -> Result<String, TlsError> {
        self.own(subject_of)
    }

    /// Something that the own certificate says.
    fn own<T>(
        &self,
        read: impl FnOnce(&[u8]) -> Result<T, IdentityError>,
    ) -> Result<T, TlsError> {
        let chain = read_chain(&self.certificate)?;
        let unusable = |reason| unusable(&self.certificate, reason);
        let first = chain.first().ok_or_else(|| unusable("it is empty".to_owned()))?;
        read(first).map_err(|error| unusable(error.to_string()))
    }

    /// Says so, with what to do, when the own certificate is not valid now.
    ///
    /// # Errors
    ///
    /// [`TlsError::NotValidNow`], or that it cannot be read.
    pub fn check_validity(&self, now: Timestamp) -> Result<Peer, TlsError> {
        let peer = self.peer()?;
        if peer.is_valid_at(now) {
            return Ok(peer);
        }
        let Peer { not_before, not_after, .. } = peer;
        let path = self.certificate.clone();
        Err(TlsError::NotValidNow { path, not_before, not_after, now })
    }

    pub(super) fn load(&self) -> Result<Loaded, TlsError> {
        Ok(Loaded {
            roots: read_roots(&self.ca)?,
            chain: read_chain(&self.certificate)?,
            key: read_key(&self.key)?,
        })
    }
}

pub(crate) fn read_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(path)? {
        roots.add(certificate).map_err(|error| unusable(path, error.to_string()))?;
    }
    Ok(roots)
}

pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read_bounded(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(unusable(path, "it holds no certificate".to_owned())),
        Err(error) => Err(unusable(path, error.to_string())),
    }
}

pub(super) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = read_private(path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| unusable(path, error.to_string()))
}

/// Reads a file that only its owner may read.
pub(super) fn read_private(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mode = fs::metadata(path).map_err(|source| failed(path, source))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(TlsError::KeyExposed { path: path.to_owned(), mode });
    }
    read_bounded(path)
}

pub(super) fn read_bounded(path: &Path) -> Result<Vec<u8>, TlsError> {
    let size = fs::metadata(path).map_err(|source| failed(path, source))?.len();
    if size > PEM_LEN_MAX {
        return Err(unusable(
            path,
            format!("it has {size} bytes, more than {PEM_LEN_MAX}"),
        ));
    }
    fs::read(path).map_err(|source| failed(path, source))
}

/// Makes a directory that only its owner may enter, also when it was there.
pub(super) fn private_dir(directory: &Path) -> Result<(), TlsError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.and_then(|()| fs::set_permissions(directory, fs::Permissions::from_mode(0o700)))
        .map_err(|source| failed(directory, source))
}

/// Writes a file beside its name and moves it there: whoever reads sees the old or the new.
pub(super) fn write_whole(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().map_err(|source| {
        // Best effort: what failed is reported, a left-over draft is harmless.
        fs::remove_file(&draft).ok();
        failed(path, source)
    })
}

pub(super) fn failed(path: &Path, source: io::Error) -> TlsError {
    TlsError::File { path: path.to_owned(), source }
}

pub(super) fn unusable(path: &Path, reason: String) -> TlsError {
    TlsError::Unusable { path: path.to_owned(), reason }
}
