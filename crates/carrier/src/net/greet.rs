//! The greeting: both sides prove who they are and that they know the secret.

use std::io::{self, Read, Write};

use api::peer::{Peer, Role};
use api::tls::Identity;
use types::CarrierConfig;
use wire::{Entrance, HELLO_PREFIX, Hello, HelloError, PROOF, Secret};

use super::Tls;
use crate::CarrierError;

pub(super) const LABEL: &[u8] = b"EXPORTER-godwit-carrier";

/// A secret of 256 bits.
pub(super) type Key = [u8; 32];

pub(super) fn identity(config: &CarrierConfig) -> Identity {
    Identity { ca: config.ca.clone(), cert: config.cert.clone(), key: config.key.clone() }
}

/// Refuses a configuration whose secret is none.
pub(crate) fn check_secret(config: &CarrierConfig) -> Result<(), CarrierError> {
    secret(config).map(|_| ())
}

fn secret(config: &CarrierConfig) -> Result<blake3::Hash, CarrierError> {
    blake3::Hash::from_hex(&config.secret)
        .map_err(|_| CarrierError::Config("secret: must be 64 hexadecimal digits".into()))
}

/// The key of the hashes by which the two sides compare pages: of no use in another attempt.
pub(crate) fn image_key(config: &CarrierConfig) -> Result<[u8; 32], CarrierError> {
    Ok(*blake3::keyed_hash(secret(config)?.as_bytes(), b"godwit retained image").as_bytes())
}

/// The key of the fingerprints of pages' parts.
pub(crate) fn parts_key(config: &CarrierConfig) -> Result<[u8; 32], CarrierError> {
    Ok(*blake3::keyed_hash(secret(config)?.as_bytes(), b"godwit parts of pages").as_bytes())
}

/// The session's secret: of the attempt's, and of what its first forward connection exports.
/// Nobody who learns the attempt's secret later can make it.
pub(super) fn session_key(config: &CarrierConfig, first: &Tls) -> Result<Key, CarrierError> {
    let context = Hello::session_context(config.attempt);
    let exported = first.export(&context).map_err(|e| CarrierError::Peer(e.to_string()))?;
    Ok(*blake3::keyed_hash(secret(config)?.as_bytes(), &exported).as_bytes())
}

/// BLAKE3, keyed with the secret that is due, over what this TLS connection alone exports
/// and over what is said.
fn proof(
    config: &CarrierConfig,
    session: Option<&Key>,
    tls: &Tls,
    said: &Hello,
    from_source: bool,
) -> Result<[u8; PROOF], CarrierError> {
    let key = match (Entrance::secret(said.link), session) {
        (Secret::Attempt, _) => *secret(config)?.as_bytes(),
        (Secret::Session, Some(key)) => *key,
        (Secret::Session, None) => return Err(CarrierError::invalid(HelloError::Link(said.link))),
    };
    let context = Hello::context(config.attempt, said.direction, from_source);
    let exported = tls.export(&context).map_err(|e| CarrierError::Peer(e.to_string()))?;
    let mut hasher = blake3::Hasher::new_keyed(&key);
    hasher.update(&exported).update(&said.proved());
    Ok(*hasher.finalize().as_bytes())
}

/// Says hello, with its proof.
pub(super) fn say(
    config: &CarrierConfig,
    session: Option<&Key>,
    tls: &mut Tls,
    hello: &Hello,
    from_source: bool,
) -> Result<(), CarrierError> {
    let mut bytes = hello.to_bytes();
    bytes.extend_from_slice(&proof(config, session, tls, hello, from_source)?);
    tls.write_all(&bytes)
        .and_then(|()| tls.flush())
        .map_err(|e| CarrierError::connection(config.peer.as_str(), &e))
}

/// Hears a hello that proves the peer that the configuration names.
pub(super) fn hear(
    config: &CarrierConfig,
    session: Option<&Key>,
    tls: &mut Tls,
    from_source: bool,
) -> Result<Hello, CarrierError> {
    let (said, proved) = read(tls).map_err(|e| CarrierError::Peer(e.to_string()))?;
    let certificate = tls.certificate().ok_or_else(|| CarrierError::invalid("no certificate"))?;
    let peer = Peer::of(&certificate).map_err(CarrierError::invalid)?;
    if peer.role != Role::Host || peer.name != config.peer.as_str() {
        return Err(CarrierError::Peer(format!(
            "the certificate names {}, not host {}",
            peer.name, config.peer
        )));
    }
    if said.attempt != config.attempt {
        return Err(CarrierError::invalid(HelloError::Attempt(said.attempt)));
    }
    let due = proof(config, session, tls, &said, from_source)?;
    // In constant time: `blake3::Hash` compares so.
    if blake3::Hash::from_bytes(due) != blake3::Hash::from_bytes(proved) {
        return Err(CarrierError::invalid(HelloError::Proof));
    }
    Ok(said)
}

fn read(tls: &mut Tls) -> io::Result<(Hello, [u8; PROOF])> {
    let mut prefix = [0; HELLO_PREFIX];
    tls.read_exact(&mut prefix)?;
    let mut rest = vec![0; Hello::rest(&prefix).map_err(io::Error::other)?];
    tls.read_exact(&mut rest)?;
    Hello::read(Hello::common(&prefix), &rest).map_err(io::Error::other)
}
