//! A lab CA: keys and certificates for a DOTS server and a client, for trials on one machine or in a lab.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
    SubjectKeyIdentifier,
};
use openssl::x509::{
    X509, X509Builder, X509CrlBuilder, X509Extension, X509Name, X509Ref, X509RevokedBuilder,
};

use crate::DtlsError;

/// Seconds.
const DAY: i64 = 86_400;

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
        let mut certificate = certificate(&key, common, alternatives, &ca)?;
        certificate.sign(&ca_key, MessageDigest::sha256())?;
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
            &certificate.build().to_pem()?,
        )?;
    }
    Ok(())
}

/// What the lab CA certifies, besides what [`write_keys`] does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Issue {
    /// Files: `file.pem` and `file.key`.
    pub file: String,
    /// Names and addresses; the first is the common name too.
    pub names: Vec<String>,
    /// From yesterday until in so many days; 0 is over already.
    pub days: u32,
}

/// Writes one more certificate of the lab CA in `folder`, with a key of its own.
pub fn issue(folder: &Path, issue: &Issue) -> Result<(), DtlsError> {
    let (ca, ca_key) = read_authority(folder)?;
    let key = new_key()?;
    let common = issue.names.first().map_or("", String::as_str);
    let mut builder = certificate(&key, common, &issue.names, &ca)?;
    builder.set_not_after(&*from_now(i64::from(issue.days) * 86_400 - 1)?)?;
    builder.sign(&ca_key, MessageDigest::sha256())?;
    let (pem, private) = (builder.build().to_pem()?, key.private_key_to_pem_pkcs8()?);
    write(folder, &format!("{}.key", issue.file), 0o600, &private)?;
    write(folder, &format!("{}.pem", issue.file), 0o644, &pem)
}

/// Writes `crl.pem`, the lab CA's list of revoked certificates, in force for `days`: those of `files`, such as `client`. A list
/// that is there is replaced.
pub fn revoke(folder: &Path, files: &[&str], days: u32) -> Result<(), DtlsError> {
    let (ca, ca_key) = read_authority(folder)?;
    let mut list = X509CrlBuilder::new()?;
    list.set_issuer_name(ca.subject_name())?;
    list.set_last_update(&*from_now(-DAY)?)?;
    list.set_next_update(&*from_now(i64::from(days) * DAY - 1)?)?;
    for file in files {
        let certificate = X509::from_pem(&read(folder, &format!("{file}.pem"))?)?;
        let mut revoked = X509RevokedBuilder::new()?;
        revoked.set_serial_number(certificate.serial_number())?;
        revoked.set_revocation_date(&*from_now(-1)?)?;
        list.add_revoked(revoked.build())?;
    }
    let identifier = AuthorityKeyIdentifier::new()
        .keyid(true)
        .build(&X509::builder()?.x509v3_context(Some(&ca), None))?;
    list.append_extension(identifier)?;
    list.append_extension(list_number()?)?;
    list.sort()?;
    list.sign(&ca_key, MessageDigest::sha256())?;
    let path = folder.join("crl.pem");
    let pem = list.build()?.to_pem()?;
    // A reader finds the old list or the new one, never half of one.
    let new = folder.join("crl.pem.new");
    fs::write(&new, pem)
        .and_then(|()| fs::rename(&new, &path))
        .map_err(|source| DtlsError::File { path, source })
}

/// The number of a revocation list (RFC 5280 §5.2.3), which grows from list to list: the time in seconds.
fn list_number() -> Result<X509Extension, DtlsError> {
    let number = unix_seconds().to_be_bytes();
    // An INTEGER of DER: as few octets as keep the sign.
    let zeros = number
        .windows(2)
        .take_while(|pair| matches!(pair, [0, 0..0x80]));
    let digits = number.iter().copied().skip(zeros.count());
    let digits: Vec<u8> = digits.collect();
    let mut der = vec![2, digits.len() as u8];
    der.extend(digits);
    let object = Asn1Object::from_str("2.5.29.20")?;
    let value = Asn1OctetString::new_from_bytes(&der)?;
    Ok(X509Extension::new_from_der(&object, false, &value)?)
}

fn read(folder: &Path, name: &str) -> Result<Vec<u8>, DtlsError> {
    let path = folder.join(name);
    fs::read(&path).map_err(|source| DtlsError::File { path, source })
}

fn read_authority(folder: &Path) -> Result<(X509, PKey<Private>), DtlsError> {
    Ok((
        X509::from_pem(&read(folder, "ca.pem")?)?,
        PKey::private_key_from_pem(&read(folder, "ca.key")?)?,
    ))
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
    builder.set_not_before(&*from_now(-DAY)?)?;
    builder.set_not_after(&*from_now(3650 * DAY)?)?;
    Ok(builder)
}

/// A time so many seconds from now.
fn from_now(seconds: i64) -> Result<Asn1Time, DtlsError> {
    Ok(Asn1Time::from_unix(unix_seconds() + seconds)?)
}

fn unix_seconds() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
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

fn certificate(
    key: &PKey<Private>,
    common: &str,
    alternatives: &[String],
    ca: &X509Ref,
) -> Result<X509Builder, DtlsError> {
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
    Ok(builder)
}
