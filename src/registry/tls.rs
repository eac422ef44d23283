//! Whom to believe to be who they say: TLS roots, and our own certificates.
//!
//! There is one way to make a TLS configuration. It verifies, unless the user's configuration calls the very server
//! `insecure`. The roots are the system's, or those compiled in where a machine has none; what lies in a registry's
//! `certs.d` folder is trusted in addition, for the servers of that registry only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, InconsistentKeys, RootCertStore,
    SignatureScheme,
};

use super::Environment;
use super::certificate;
use super::error::{Error, Issuer};

/// Which certificates one server is met with, beside the system's roots. It is a key: equal trusts share connections.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Trust {
    /// Folders of more roots (`*.crt`).
    roots: Vec<PathBuf>,
    /// Folders of our own certificates (`*.cert` with `*.key`).
    identities: Vec<PathBuf>,
    /// Whether whoever answers is believed, because the user says so.
    pub(super) unverified: bool,
}

impl Trust {
    /// The trust for `host`, a server that `registry` is or has named; both are `host` or `host:port`.
    ///
    /// What a registry names (its token service, its storage) may be signed by the registry's own authority, as docker
    /// has it. Our certificate goes to the host that it was stored for and to nobody else.
    pub(super) fn of(environment: &Environment, registry: &str, host: &str) -> Self {
        let folders = |host: &str| -> Vec<PathBuf> {
            let all = environment.certs_dirs.iter().map(|base| base.join(host));
            all.filter(|folder| is_plain(host) && folder.is_dir()).collect()
        };
        let identities = folders(host);
        let mut roots = identities.clone();
        roots.extend(folders(registry));
        roots.sort();
        roots.dedup();
        Self { roots, identities, unverified: false }
    }

    /// The TLS configuration with these certificates and the system's roots.
    pub(super) fn configure(&self, environment: &Environment) -> Result<ClientConfig, Error> {
        let mut roots = system_roots(environment)?;
        for folder in &self.roots {
            for file in files(folder, "crt")? {
                roots.extend(certificates(&file)?);
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::new(roots, Arc::clone(&provider), self.unverified)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| unusable(Path::new("TLS"), "no protocol version is supported"))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        match self.identity()? {
            None => Ok(builder.with_no_client_auth()),
            Some(identity) => {
                let certified = certified(identity, builder.crypto_provider())?;
                let resolver = Arc::new(SingleCertAndKey::from(certified));
                Ok(builder.with_client_cert_resolver(resolver))
            }
        }
    }

    /// Our certificate chain and its key.
    fn identity(&self) -> Result<Option<Identity>, Error> {
        let Some(folder) = self.identities.first() else { return Ok(None) };
        let (chains, keys) = (files(folder, "cert")?, files(folder, "key")?);
        let (chain, key) = match (chains.as_slice(), keys.as_slice()) {
            ([], []) => return Ok(None),
            ([chain], [key]) if chain.file_stem() == key.file_stem() => (chain, key),
            ([_, _, ..], _) => return Err(unusable(folder, "there is more than one `*.cert`")),
            ([chain], _) => {
                let key = chain.with_extension("key");
                return Err(unusable(
                    &key,
                    "it must be there for the `.cert` beside it, and alone",
                ));
            }
            ([], _) => return Err(unusable(folder, "there is a `*.key` without its `*.cert`")),
        };
        let read = PrivateKeyDer::from_pem_slice(&read(key)?);
        let read = read.map_err(|_| unusable(key, "it holds no private key in PEM"))?;
        Ok(Some((certificates(chain)?, read, chain.clone())))
    }
}

/// Our certificate with its key, ready to sign.
fn certified(
    (chain, key, path): Identity,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Error> {
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|_| unusable(&path, "the key beside it is of a kind that is unknown"))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(unusable(&path, "certificate and key do not belong together"))
        }
        // `openssl x509 -req` makes certificates of version 1 unless told otherwise, and the library does not look into
        // those. Whether ours is good is for the server to say.
        _ => Ok(certified),
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, PathBuf);

/// Whether `host` is a name like those in references, so that joined to a folder it stays inside.
fn is_plain(host: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b);
    host.bytes().all(fits) && !host.starts_with('.') && !host.is_empty()
}

/// The roots that the user or the system names; Mozilla's, compiled in, where there are none.
fn system_roots(environment: &Environment) -> Result<Vec<CertificateDer<'static>>, Error> {
    let (file, folder) =
        (environment.ssl_cert_file.as_deref(), environment.ssl_cert_dir.as_deref());
    let found = match (file, folder) {
        (None, None) => rustls_native_certs::load_native_certs(),
        (file, folder) => rustls_native_certs::load_certs_from_paths(file, folder),
    };
    for error in &found.errors {
        log::debug!("read the system's certificates: {error}");
    }
    if !found.certs.is_empty() {
        return Ok(found.certs);
    }
    match file.or(folder) {
        // Somebody has said which roots to use; others would be a surprise.
        Some(path) => Err(unusable(path, "it holds no certificate in PEM")),
        None => Ok(webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec()),
    }
}

fn unusable(path: &Path, why: &str) -> Error {
    Error::File { path: path.to_owned(), why: why.to_owned() }
}

/// The files in `folder` that end in `.extension`, sorted.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, Error> {
    let failed = |error: io::Error| unusable(folder, &error.to_string());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| unusable(path, &error.to_string()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = read(path)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match parsed {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(unusable(path, "it holds no certificate in PEM")),
    }
}

/// The standard verifier, with two additions: it says who signed what it refuses, and it accepts a server whose very
/// certificate is among the roots.
///
/// The second is what everybody does who makes a self-signed certificate for a registry of their own and puts it into
/// `certs.d`. Such a certificate is its own authority and a server's at once, which webpki alone refuses.
#[derive(Debug)]
struct Verifier {
    standard: Arc<WebPkiServerVerifier>,
    roots: Vec<CertificateDer<'static>>,
    unverified: bool,
}

/// Carries the issuer through the TLS library's error.
#[derive(Debug, thiserror::Error)]
#[error("unknown issuer")]
pub(super) struct Untrusted(pub(super) Issuer);

impl Verifier {
    fn new(
        roots: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
        unverified: bool,
    ) -> Result<Self, Error> {
        let mut store = RootCertStore::empty();
        let (_, ignored) = store.add_parsable_certificates(roots.iter().cloned());
        if ignored > 0 {
            log::debug!("{ignored} of {} root certificates cannot be parsed", roots.len());
        }
        let standard = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
            .build()
            .map_err(|_| unusable(Path::new("certs.d"), "no root certificate is usable"))?;
        Ok(Self { standard, roots, unverified })
    }

    /// Whether the user trusts this very certificate, and it is for this name and this day.
    fn knows(&self, server: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> bool {
        self.roots.iter().any(|root| root.as_ref() == server.as_ref())
            && certificate::is_valid_at(server, now.as_secs())
            && ParsedCertificate::try_from(server)
                .is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let refused = match self.standard.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        ) {
            Ok(verified) => return Ok(verified),
            Err(_) if self.unverified => return Ok(ServerCertVerified::assertion()),
            Err(_) if self.knows(end_entity, server_name, now) => {
                return Ok(ServerCertVerified::assertion());
            }
            Err(error) => error,
        };
        let issuer = match refused {
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                certificate::issuer(end_entity)
            }
            // A self-signed certificate that may sign others is refused as an authority before its issuer is looked at.
            rustls::Error::InvalidCertificate(CertificateError::Other(_)) => {
                match certificate::issuer(end_entity) {
                    Issuer::Itself => Issuer::Itself,
                    _ => return Err(refused),
                }
            }
            other => return Err(other),
        };
        let other = rustls::OtherError(Arc::new(Untrusted(issuer)));
        Err(CertificateError::Other(other).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.standard.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.standard.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.standard.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_stays_inside_its_folder() {
        for good in ["a.example", "a.example:5000", "[::1]:5000"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in ["", ".", "..", "../x", "a/b", "a\0"] {
            assert!(!is_plain(bad), "{bad:?}");
        }
    }
}
