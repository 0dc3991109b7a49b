//! A lab CA: keys and certificates for a DOTS server and a client, for trials on one machine or in a lab.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
    SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Builder, X509Name, X509Ref};

use crate::DtlsError;

/// Whom the certificates are for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LabNames {
    /// Names and addresses of the server, besides `localhost`, 127.0.0.1 and ::1.
    pub server: Vec<String>,
    /// Name of the client.
    pub client: String,
}

impl Default for LabNames {
    fn default() -> Self {
        Self {
            server: Vec::new(),
            client: "weir-lab".to_owned(),
        }
    }
}

/// Writes `ca.pem`, `ca.key`, `server.pem`, `server.key`, `client.pem` and `client.key` into `folder`, valid for ten years.
/// Keys are EC P-256 and readable by their owner alone. Files that are there are left alone: that is an error.
pub fn write_keys(folder: &Path, names: &LabNames) -> Result<(), DtlsError> {
    fs::create_dir_all(folder).map_err(|source| DtlsError::File {
        path: folder.to_owned(),
        source,
    })?;
    let ca_key = new_key()?;
    let ca = authority(&ca_key)?;
    write(folder, "ca.key", 0o600, &ca_key.private_key_to_pem_pkcs8()?)?;
    write(folder, "ca.pem", 0o644, &ca.to_pem()?)?;
    let mut server = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    server.extend(names.server.iter().cloned());
    let common = names.server.first().map_or("localhost", String::as_str);
    for (file, common, alternatives) in [
        ("server", common, &server),
        ("client", names.client.as_str(), &vec![names.client.clone()]),
    ] {
        let key = new_key()?;
        let certificate = certified(&key, common, alternatives, &ca, &ca_key)?;
        write(
            folder,
            &format!("{file}.key"),
            0o600,
            &key.private_key_to_pem_pkcs8()?,
        )?;
        write(
            folder,
            &format!("{file}.pem"),
            0o644,
            &certificate.to_pem()?,
        )?;
    }
    Ok(())
}

fn write(folder: &Path, name: &str, mode: u32, octets: &[u8]) -> Result<(), DtlsError> {
    let path = folder.join(name);
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&path);
    file.and_then(|mut file| file.write_all(octets))
        .map_err(|source| DtlsError::File { path, source })
}

fn new_key() -> Result<PKey<Private>, DtlsError> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    Ok(PKey::from_ec_key(EcKey::generate(&group)?)?)
}

fn builder(key: &PKey<Private>, common: &str) -> Result<X509Builder, DtlsError> {
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    let mut serial = BigNum::new()?;
    serial.rand(126, MsbOption::MAYBE_ZERO, false)?;
    builder.set_serial_number(&*serial.to_asn1_integer()?)?;
    let mut name = X509Name::builder()?;
    name.append_entry_by_text("CN", common)?;
    builder.set_subject_name(&name.build())?;
    builder.set_pubkey(key)?;
    // A day back, for clocks that differ.
    let yesterday = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(0) - 86_400
        });
    builder.set_not_before(&*Asn1Time::from_unix(yesterday)?)?;
    builder.set_not_after(&*Asn1Time::days_from_now(3650)?)?;
    Ok(builder)
}

fn authority(key: &PKey<Private>) -> Result<X509, DtlsError> {
    let mut builder = builder(key, "Weir lab CA")?;
    let mut name = X509Name::builder()?;
    name.append_entry_by_text("CN", "Weir lab CA")?;
    builder.set_issuer_name(&name.build())?;
    builder.append_extension(BasicConstraints::new().critical().ca().pathlen(0).build()?)?;
    builder.append_extension(
        KeyUsage::new()
            .critical()
            .key_cert_sign()
            .crl_sign()
            .build()?,
    )?;
    let identifier = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None))?;
    builder.append_extension(identifier)?;
    builder.sign(key, MessageDigest::sha256())?;
    Ok(builder.build())
}

fn certified(
    key: &PKey<Private>,
    common: &str,
    alternatives: &[String],
    ca: &X509Ref,
    ca_key: &PKey<Private>,
) -> Result<X509, DtlsError> {
    let mut builder = builder(key, common)?;
    builder.set_issuer_name(ca.subject_name())?;
    builder.append_extension(BasicConstraints::new().critical().build()?)?;
    builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
    builder.append_extension(
        ExtendedKeyUsage::new()
            .server_auth()
            .client_auth()
            .build()?,
    )?;
    let mut names = SubjectAlternativeName::new();
    for alternative in alternatives {
        match alternative.parse::<IpAddr>() {
            Ok(_) => names.ip(alternative),
            Err(_) => names.dns(alternative),
        };
    }
    let context = builder.x509v3_context(Some(ca), None);
    let extensions = [
        SubjectKeyIdentifier::new().build(&context)?,
        AuthorityKeyIdentifier::new().keyid(true).build(&context)?,
        names.build(&context)?,
    ];
    for extension in extensions {
        builder.append_extension(extension)?;
    }
    builder.sign(ca_key, MessageDigest::sha256())?;
    Ok(builder.build())
}
