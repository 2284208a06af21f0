//! The greeting: both sides prove who they are and that they know the attempt's secret.

use std::io::{self, Read};

use api::peer::{Peer, Role};
use api::tls::Identity;
use types::CarrierConfig;
use wire::{Direction, HELLO, Hello, HelloError};

use super::Tls;
use crate::CarrierError;

pub(super) const LABEL: &[u8] = b"EXPORTER-godwit-carrier";

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

/// The proof: BLAKE3 keyed with the secret, over what this TLS connection alone exports.
pub(super) fn hello(
    config: &CarrierConfig,
    tls: &Tls,
    direction: Direction,
    from_source: bool,
    placing: bool,
) -> Result<Hello, CarrierError> {
    let secret = secret(config)?;
    let context = Hello::context(config.attempt, direction, from_source);
    let exported = tls.export(&context).map_err(|e| CarrierError::Peer(e.to_string()))?;
    let proof = *blake3::keyed_hash(secret.as_bytes(), &exported).as_bytes();
    Ok(Hello { attempt: config.attempt, direction, placing, proof })
}

pub(super) fn read_hello(tls: &mut Tls) -> io::Result<Hello> {
    let mut bytes = [0; HELLO];
    tls.read_exact(&mut bytes)?;
    Hello::read(&bytes).map_err(io::Error::other)
}

/// Whether what was said proves the peer that the configuration names.
pub(super) fn check_hello(
    config: &CarrierConfig,
    tls: &Tls,
    said: &Hello,
    direction: Direction,
    from_source: bool,
) -> Result<(), CarrierError> {
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
    let due = hello(config, tls, direction, from_source, said.placing)?;
    // In constant time: `blake3::Hash` compares so.
    let same = blake3::Hash::from_bytes(due.proof) == blake3::Hash::from_bytes(said.proof);
    if said.direction != direction || !same {
        return Err(CarrierError::invalid(HelloError::Proof));
    }
    Ok(())
}
