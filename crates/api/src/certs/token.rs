//! One-time tokens, with which a host asks for its first certificate.

use std::fmt;
use std::str::FromStr;

use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use types::HostId;

/// Bytes of a token's secret.
const SECRET: usize = 16;
/// Bytes of the CA's fingerprint.
const FINGERPRINT: usize = 32;
/// What tokens of this form begin with.
const FORM: &str = "gw1";

/// `gw1.HOST.SECRET.FINGERPRINT`: whom it is for, what proves that its bearer got
/// it from an administrator, and by which the bearer knows the right controller.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The host that it is for.
    pub host: HostId,
    /// The secret, in hexadecimal.
    secret: String,
    /// The fingerprint of the CA's certificate, in hexadecimal.
    pub fingerprint: String,
}

/// Why a text is not a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "that is not an enrolment token: it has to be copied whole, as `godwit host add` prints it"
)]
pub struct TokenError;

impl Token {
    /// A new token for a host of the CA with that fingerprint.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn new(host: HostId, fingerprint: String) -> Result<Self, super::CertError> {
        let mut secret = [0; SECRET];
        SystemRandom::new()
            .fill(&mut secret)
            .map_err(|_| super::CertError::Make(rcgen::Error::RingUnspecified))?;
        Ok(Self { host, secret: hex(&secret), fingerprint })
    }

    /// By what the controller knows it; the secret does not follow from it.
    pub fn digest(&self) -> String {
        let text = format!("{FORM} {}", self.secret);
        hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FORM}.{}.{}.{}", self.host, self.secret, self.fingerprint)
    }
}

/// Logs never hold the secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.host)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let parts: Vec<&str> = text.trim().splitn(5, '.').collect();
        let [FORM, host, secret, fingerprint] = parts.as_slice() else { return Err(TokenError) };
        let is_hex = |text: &str, bytes: usize| {
            let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            text.len() == 2 * bytes && text.bytes().all(digit)
        };
        if !is_hex(secret, SECRET) || !is_hex(fingerprint, FINGERPRINT) {
            return Err(TokenError);
        }
        let host = host.parse().map_err(|_| TokenError)?;
        Ok(Self { host, secret: (*secret).to_owned(), fingerprint: (*fingerprint).to_owned() })
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_whole_or_not_at_all() {
        let host: HostId = "host-a".parse().unwrap();
        let token = Token::new(host.clone(), "ab".repeat(FINGERPRINT)).unwrap();
        let text = token.to_string();
        assert_eq!(format!(" {text}\n").parse::<Token>().unwrap(), token);
        assert_ne!(token.digest(), Token::new(host, "ab".repeat(32)).unwrap().digest());
        assert!(!format!("{token:?}").contains(&token.secret));
        for wrong in [
            "",
            "gw1",
            &text[..text.len() - 1],
            &text[1..],
            &text.replace("gw1", "gw2"),
            &text.replace("host-a", "Host A"),
            &format!("{text}.more"),
        ] {
            assert_eq!(wrong.parse::<Token>(), Err(TokenError), "{wrong}");
        }
    }
}
