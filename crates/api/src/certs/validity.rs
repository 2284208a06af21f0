//! From when to when a certificate is valid, and when it is time for the next one.

use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{CertError, DAY, files};

/// A certificate's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// When it was made, in seconds since 1970. What is back-dated in it for clocks
    /// that differ is left out.
    pub made: i64,
    /// Its last second.
    pub until: i64,
}

impl Validity {
    /// Reads it from the first certificate of a PEM file.
    ///
    /// # Errors
    /// The file cannot be read, or there is no certificate in it.
    pub fn of(file: &Path) -> Result<Self, CertError> {
        let bad = || CertError::Unreadable(file.display().to_string());
        let pem = files::read(file)?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| bad())?;
        Self::of_der(&der).ok_or_else(bad)
    }

    /// The same of a certificate that is not in PEM.
    pub(crate) fn of_der(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let validity = parsed.validity();
        let made = validity.not_before.timestamp() + DAY.as_secs() as i64;
        Some(Self { made, until: validity.not_after.timestamp() })
    }

    /// Two thirds of its time are over at `now`, so the next one may be asked for.
    pub fn due(&self, now: i64) -> bool {
        self.until - now <= (self.until - self.made).max(0) / 3
    }

    /// It is over at `now`.
    pub fn over(&self, now: i64) -> bool {
        now > self.until
    }

    /// How long to wait before looking again whether it is due: a tenth of its time,
    /// and at most an hour.
    pub fn look_again(&self) -> Duration {
        let tenth = u64::try_from((self.until - self.made) / 10).unwrap_or(0);
        Duration::from_secs(tenth.clamp(1, 3600))
    }

    /// Its end, RFC 3339.
    pub fn end(&self) -> String {
        jiff::Timestamp::from_second(self.until)
            .map_or_else(|_| self.until.to_string(), |end| end.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_third_is_for_renewing() {
        let month = Validity { made: 1000, until: 1000 + 3000 };
        for (now, due, over) in
            [(1000, false, false), (2999, false, false), (3000, true, false), (4001, true, true)]
        {
            assert_eq!((month.due(now), month.over(now)), (due, over), "{now}");
        }
        assert_eq!(month.look_again(), Duration::from_secs(300));
        assert_eq!(Validity { made: 5, until: 5 }.look_again(), Duration::from_secs(1));
        assert_eq!(month.end(), "1970-01-01T01:06:40Z");
    }
}
