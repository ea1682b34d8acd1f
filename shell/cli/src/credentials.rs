//! The folder with what makes this tool somebody to a federation.
//!
//! Everything that can be wrong with it is told before a connection is tried, because a TLS
//! alert says too little: what is missing, what is exposed, what has expired, and the command
//! that mends it. Nothing of a key is ever printed.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dwcp_runtime::tls::{ClientTls, Credentials, ExpectedServer, Peer, TlsError};
use dwcp_types::Timestamp;

use crate::arguments::GlobalArgs;
use crate::failure::{Failure, Kind};
use crate::surroundings::Surroundings;
use crate::text;

/// The name of the certificate and key in the folder.
const HOLDER: &str = "admin";
/// The file with addresses.
const ENDPOINTS: &str = "endpoints";
/// Longest `endpoints` file: hundreds of addresses; what is larger is something else.
const ENDPOINTS_LEN_MAX: u64 = 64 << 10;
/// Addresses that are tried: one for each region of a large federation.
const ENDPOINTS_MAX: usize = 64;
/// Less time than this left and the user is told: time to finish what is begun.
pub(crate) const SOON: Duration = Duration::from_hours(1);

/// A folder of credentials.
#[derive(Debug)]
pub(crate) struct Folder {
    /// Where.
    pub(crate) path: PathBuf,
    files: Credentials,
}

impl Folder {
    /// The folder that was named, or the usual one.
    ///
    /// # Errors
    ///
    /// When none is named and there is no home folder.
    pub(crate) fn find(
        global: &GlobalArgs,
        surroundings: &Surroundings,
    ) -> Result<Self, Failure> {
        let named =
            global.credentials.clone().or_else(|| surroundings.credentials.clone());
        let usual = || Some(surroundings.home.as_ref()?.join(".config").join("dwcp"));
        let path = named.or_else(usual).ok_or_else(|| {
            Failure::new(
                Kind::Unreachable,
                "no folder of credentials is named and HOME is not set",
            )
            .with_remedy("name one with --credentials or DWCP_CREDENTIALS")
        })?;
        Ok(Self { files: Credentials::in_dir(&path, HOLDER), path })
    }

    /// Who the certificate says one is.
    ///
    /// # Errors
    ///
    /// When files are missing or unusable, or the certificate is not valid now.
    pub(crate) fn holder(&self, now: Timestamp) -> Result<Peer, Failure> {
        let wanted = [&self.files.ca, &self.files.certificate, &self.files.key];
        let missing: Vec<_> = wanted
            .into_iter()
            .filter(|path| !path.exists())
            .filter_map(|path| path.file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        if !missing.is_empty() {
            let message = format!(
                "there are no usable credentials in {}: {} missing",
                self.path.display(),
                missing.join(", ")
            );
            return Err(Failure::new(Kind::Unreachable, message).with_remedy(
                "start a federation with `./dwcp up`, or name the folder with --credentials or DWCP_CREDENTIALS",
            ));
        }
        self.files.check_validity(now).map_err(|error| of_tls(&error))
    }

    /// A client's side of TLS with these credentials.
    ///
    /// # Errors
    ///
    /// As [`Folder::holder`].
    pub(crate) fn tls(&self, now: Timestamp) -> Result<ClientTls, Failure> {
        self.holder(now)?;
        ClientTls::load(self.files.clone(), ExpectedServer::Named)
            .map_err(|error| of_tls(&error))
    }

    /// The addresses in its `endpoints` file.
    ///
    /// # Errors
    ///
    /// When it is missing, too long, or has no address.
    pub(crate) fn endpoints(&self) -> Result<Vec<String>, Failure> {
        let path = self.path.join(ENDPOINTS);
        let text = read(&path).map_err(|error| {
            let message = format!("{} cannot be read: {error}", path.display());
            Failure::new(Kind::Unreachable, message).with_remedy(
                "write one https://HOST:PORT a line into it, or name an address with --endpoint",
            )
        })?;
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let endpoints: Vec<_> = lines.take(ENDPOINTS_MAX).map(str::to_owned).collect();
        if endpoints.is_empty() {
            let message = format!("{} has no address", path.display());
            return Err(Failure::new(Kind::Unreachable, message)
                .with_remedy("write one https://HOST:PORT a line into it"));
        }
        Ok(endpoints)
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(ENDPOINTS_LEN_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn of_tls(error: &TlsError) -> Failure {
    let refuse = |message: String| Failure::new(Kind::Unreachable, message);
    match error {
        TlsError::File { path, source } => {
            refuse(format!("{} cannot be read: {source}", path.display()))
                .with_remedy("check the path and its permissions")
        }
        TlsError::KeyExposed { path, mode } => refuse(format!(
            "the key {} can be read by others (mode {mode:04o})",
            path.display()
        ))
        .with_remedy(format!(
            "run `chmod 600 {}`; if someone else may have read it, renew it (`./dwcp renew`)",
            path.display()
        )),
        TlsError::Unusable { path, reason } => {
            refuse(format!("{} is not usable: {reason}", path.display()))
                .with_remedy("issue it again: `./dwcp renew`")
        }
        TlsError::NotValidNow { path, not_before, not_after, now } => {
            let path = path.display();
            if now < not_before {
                return refuse(format!(
                    "the certificate {path} is valid only from {}",
                    text::moment(*not_before)
                ))
                .with_remedy("set this machine's clock, or renew it: `./dwcp renew`");
            }
            refuse(format!(
                "the certificate {path} expired at {} ({} ago)",
                text::moment(*not_after),
                text::age(now.since(*not_after))
            ))
            .with_remedy("renew it: `./dwcp renew`")
        }
        TlsError::Issue { .. } | TlsError::Exists { .. } => refuse(error.to_string()),
    }
}
