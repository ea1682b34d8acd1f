//! A certificate authority for development and for one machine.
//!
//! It marks itself as such in its subject, so that nobody takes it for more. Where there is a
//! real authority its files are used instead; nothing above depends on this one. Node
//! certificates live 30 days, a person's at most 24 hours (X3), and the limit is checked
//! again by whoever verifies.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use dwcp_types::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};

use super::files::{
    failed, private_dir, read_bounded, read_private, unusable, write_whole,
};
use super::{CA_CERTIFICATE, CA_KEY, Credentials, Identity, TlsError};

/// The subject of the development CA.
const CA_NAME: &str = "DWCP DEVELOPMENT CA - not for production";
/// The organisational unit of all that it signs.
const CA_UNIT: &str = "dwcp-development";
/// Life of the CA: a development federation is made again within a year.
const CA_LIFETIME: Duration = Duration::from_hours(365 * 24);
/// Life of a node's certificate.
pub const NODE_LIFETIME: Duration = Duration::from_hours(30 * 24);
/// Longest life of a person's certificate (X3).
pub const ADMIN_LIFETIME_MAX: Duration = Duration::from_hours(24);
/// Certificates hold from a little before they are made, for peers whose clock is late. It
/// counts towards the lifetime, so that the limits stay exact.
const BACKDATE: Duration = Duration::from_mins(5);

/// A name or address under which a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectName {
    /// A DNS name.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

/// A certificate with its key, not yet on disk.
#[derive(Debug)]
pub struct Issued {
    ca_pem: String,
    certificate_pem: String,
    key: KeyPair,
}

/// The development CA, with its key.
#[derive(Debug)]
pub struct DevelopmentCa {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl DevelopmentCa {
    /// Makes a new one in a directory of its own.
    ///
    /// # Errors
    ///
    /// [`TlsError::Exists`] when there is one.
    pub fn create(directory: &Path, now: Timestamp) -> Result<Self, TlsError> {
        let path = directory.join(CA_KEY);
        if path.exists() {
            return Err(TlsError::Exists { path });
        }
        let key = KeyPair::generate().map_err(|error| issue(&error))?;
        let mut params = params(CA_NAME, now, CA_LIFETIME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(|error| issue(&error))?;
        private_dir(directory)?;
        write_whole(&directory.join(CA_CERTIFICATE), &certificate.pem(), 0o644)?;
        write_whole(&path, &key.serialize_pem(), 0o600)?;
        Ok(Self { certificate_pem: certificate.pem(), issuer: Issuer::new(params, key) })
    }

    /// Loads the one of a directory.
    ///
    /// # Errors
    ///
    /// When its files are missing, unusable, or its key can be read by others.
    pub fn load(directory: &Path) -> Result<Self, TlsError> {
        let path = directory.join(CA_CERTIFICATE);
        let certificate_pem = text(&path, read_bounded(&path)?)?;
        let key_path = directory.join(CA_KEY);
        let key_pem = text(&key_path, read_private(&key_path)?)?;
        let key = KeyPair::from_pem(&key_pem)
            .map_err(|error| unusable(&key_path, error.to_string()))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)
            .map_err(|error| unusable(&path, error.to_string()))?;
        Ok(Self { certificate_pem, issuer })
    }

    /// Loads the one of a directory, or makes it.
    ///
    /// # Errors
    ///
    /// As [`DevelopmentCa::load`] and [`DevelopmentCa::create`].
    pub fn load_or_create(directory: &Path, now: Timestamp) -> Result<Self, TlsError> {
        if directory.join(CA_KEY).exists() {
            Self::load(directory)
        } else {
            Self::create(directory, now)
        }
    }

    /// Issues a certificate that is valid from now on.
    ///
    /// # Errors
    ///
    /// When a person's lifetime is above [`ADMIN_LIFETIME_MAX`], or a name is not a name.
    pub fn issue(
        &self,
        identity: &Identity,
        names: &[SubjectName],
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<Issued, TlsError> {
        if matches!(identity, Identity::Admin(_)) && lifetime > ADMIN_LIFETIME_MAX {
            let reason = format!(
                "an administrator's certificate lives at most {ADMIN_LIFETIME_MAX:?}, not {lifetime:?}; ask for less and renew it"
            );
            return Err(TlsError::Issue { reason });
        }
        self.sign(identity, names, lifetime, now)
    }

    /// Signs without looking at the lifetime.
    pub(super) fn sign(
        &self,
        identity: &Identity,
        names: &[SubjectName],
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<Issued, TlsError> {
        let person = matches!(identity, Identity::Admin(_));
        let mut params = params(&identity.to_string(), now, lifetime);
        params.subject_alt_names = alternative_names(identity, names)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth);
        if !person {
            params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(|error| issue(&error))?;
        let certificate =
            params.signed_by(&key, &self.issuer).map_err(|error| issue(&error))?;
        Ok(Issued {
            ca_pem: self.certificate_pem.clone(),
            certificate_pem: certificate.pem(),
            key,
        })
    }
}

impl Issued {
    /// Writes `ca.crt`, `NAME.crt` and `NAME.key` into a directory, which becomes private.
    /// Daemons that use these files take up the new ones by themselves.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub fn write(&self, directory: &Path, name: &str) -> Result<Credentials, TlsError> {
        private_dir(directory)?;
        let credentials = Credentials::in_dir(directory, name);
        write_whole(&credentials.ca, &self.ca_pem, 0o644)?;
        write_whole(&credentials.key, &self.key.serialize_pem(), 0o600)?;
        write_whole(&credentials.certificate, &self.certificate_pem, 0o644)?;
        Ok(credentials)
    }

    /// The certificate in PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }
}

fn params(name: &str, now: Timestamp, lifetime: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationalUnitName, CA_UNIT);
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    let start = Duration::from_millis(now.as_millis()).saturating_sub(BACKDATE);
    params.not_before = date_time_ymd(1970, 1, 1) + start;
    params.not_after = params.not_before + lifetime;
    params
}

fn alternative_names(
    identity: &Identity,
    names: &[SubjectName],
) -> Result<Vec<SanType>, TlsError> {
    let ascii = |name: String| name.try_into().map_err(|error| issue(&error));
    let mut all = vec![SanType::URI(ascii(identity.to_string())?)];
    for name in names {
        all.push(match name {
            SubjectName::Dns(name) => SanType::DnsName(ascii(name.clone())?),
            SubjectName::Ip(address) => SanType::IpAddress(*address),
        });
    }
    Ok(all)
}

fn issue(error: &rcgen::Error) -> TlsError {
    TlsError::Issue { reason: error.to_string() }
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String, TlsError> {
    String::from_utf8(bytes).map_err(|error| {
        failed(path, std::io::Error::new(std::io::ErrorKind::InvalidData, error))
    })
}
