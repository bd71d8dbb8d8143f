//! The certificates of the pairs that bring none of their own: one authority, one P-256 leaf for both ends.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};

/// Writes `ca.pem`, `leaf.pem` and `leaf.key` into `folder`; the leaf is `bench.test`, for servers and clients.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(folder: &Path) -> anyhow::Result<()> {
    let authority_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // A name of its own: with the leaf's, OpenSSL takes the leaf for self-signed.
    authority.distinguished_name.push(DnType::CommonName, "bench authority");
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = authority.self_signed(&authority_key)?;

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut leaf = CertificateParams::new(vec!["bench.test".to_owned()])?;
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    leaf.use_authority_key_identifier_extension = true;
    let leaf = leaf.signed_by(&key, &Issuer::new(authority, authority_key))?;

    std::fs::write(folder.join("ca.pem"), root.pem())?;
    std::fs::write(folder.join("leaf.pem"), leaf.pem())?;
    std::fs::write(folder.join("leaf.key"), key.serialize_pem())?;
    Ok(())
}
