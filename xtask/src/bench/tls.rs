//! Credentials for QEMU's own TLS: the lab's certificates under the names that
//! QEMU wants.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::fleet::Fleet;

/// GnuTLS's defaults without ChaCha20, which it would choose where processors
/// are slow at AES in its eyes: that made QEMU's TLS several times slower.
const PRIORITY: &str = "NORMAL:-CHACHA20-POLY1305";

/// The group ffdhe2048 (RFC 7919, appendix A.1) as PKCS #3. Without it QEMU
/// looks for a prime of its own for seconds.
const GROUP: &str = "-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
";

/// The name in a host's certificate.
pub(super) fn name(host: &str) -> String {
    format!("{host}.host.godwit")
}

/// Makes a host's credentials, once, and says how QEMU is told of them.
///
/// # Errors
/// The lab's certificates are not where they should be.
pub(super) fn credentials(fleet: &Fleet, host: &str, id: &str, client: bool) -> Result<Value> {
    let own = fleet.host_dir(host);
    let dir = own.join("run").join("bench-tls");
    if !dir.join("dh-params.pem").exists() {
        fs::create_dir_all(&dir)?;
        let (tls, cert, key) = (own.join("tls"), format!("{host}.pem"), format!("{host}.key"));
        copy(&tls.join("ca.pem"), &dir.join("ca-cert.pem"))?;
        for side in ["server", "client"] {
            copy(&tls.join(&cert), &dir.join(format!("{side}-cert.pem")))?;
            copy(&tls.join(&key), &dir.join(format!("{side}-key.pem")))?;
        }
        fs::write(dir.join("dh-params.pem"), GROUP)?;
    }
    Ok(json!({
        "qom-type": "tls-creds-x509",
        "id": id,
        "dir": dir,
        "endpoint": if client { "client" } else { "server" },
        "verify-peer": true,
        "priority": PRIORITY,
    }))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}
