//! A CA for trials, with certificates that are as they should not be.

use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name};
use weir_data_channel::TlsFiles;

/// A CA with its folder.
pub(crate) struct Ca {
    folder: PathBuf,
    certificate: X509,
    key: PKey<Private>,
}

impl Ca {
    /// A CA whose files begin with `name`.
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let key = new_key();
        let mut builder = begun(name, &key, (-1, 10));
        builder.set_issuer_name(&named(name)).unwrap();
        let is_ca = BasicConstraints::new().critical().ca().build().unwrap();
        builder.append_extension(is_ca).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        let certificate = builder.build();
        let folder = folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("ca.pem"), certificate.to_pem().unwrap()).unwrap();
        Self {
            folder,
            certificate,
            key,
        }
    }

    /// Files of one that is certified for `names`, from and until so many days from now.
    pub(crate) fn certify(&self, name: &str, names: &[&str], days: (i64, i64)) -> TlsFiles {
        let key = new_key();
        let mut builder = begun(name, &key, days);
        builder
            .set_issuer_name(self.certificate.subject_name())
            .unwrap();
        let mut alternatives = SubjectAlternativeName::new();
        for name in names {
            match name.parse::<std::net::IpAddr>() {
                Ok(_) => alternatives.ip(name),
                Err(_) => alternatives.dns(name),
            };
        }
        let context = builder.x509v3_context(Some(&self.certificate), None);
        let alternatives = alternatives.build(&context).unwrap();
        builder.append_extension(alternatives).unwrap();
        builder.sign(&self.key, MessageDigest::sha256()).unwrap();
        let file = |end: &str| self.folder.join(format!("{name}.{end}"));
        std::fs::write(file("pem"), builder.build().to_pem().unwrap()).unwrap();
        std::fs::write(file("key"), key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        TlsFiles {
            ca: self.folder.join("ca.pem"),
            certificate: file("pem"),
            key: file("key"),
            crl: None,
        }
    }

    pub(crate) fn client(&self, name: &str) -> TlsFiles {
        self.certify(name, &[name], (-1, 10))
    }

    pub(crate) fn server(&self) -> TlsFiles {
        self.certify("server", &["localhost", "127.0.0.1"], (-1, 10))
    }
}

fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn named(name: &str) -> X509Name {
    let mut builder = X509Name::builder().unwrap();
    builder.append_entry_by_text("CN", name).unwrap();
    builder.build()
}

fn begun(name: &str, key: &PKey<Private>, days: (i64, i64)) -> X509Builder {
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial.rand(100, MsbOption::MAYBE_ZERO, false).unwrap();
    builder
        .set_serial_number(&serial.to_asn1_integer().unwrap())
        .unwrap();
    builder.set_subject_name(&named(name)).unwrap();
    builder.set_pubkey(key).unwrap();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let at = |days: i64| Asn1Time::from_unix(now.as_secs() as i64 + days * 86_400).unwrap();
    builder.set_not_before(&at(days.0)).unwrap();
    builder.set_not_after(&at(days.1)).unwrap();
    builder
}

impl Ca {
    /// The CA's own key in PEM, for programs that revoke.
    pub(crate) fn key_pem(&self) -> Vec<u8> {
        self.key.private_key_to_pem_pkcs8().unwrap()
    }
}
