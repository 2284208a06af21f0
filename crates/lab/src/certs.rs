//! The lab's certificates: an authority of its own, and one for each party.

use std::fs;
use std::path::Path;

use api::certs::{Party, create_ca, issue};

use crate::state::Places;
use crate::{LabError, Plan};

/// Makes all certificates and puts each host's where only that host sees them.
pub(crate) fn make(places: &Places, plan: Plan) -> Result<(), LabError> {
    let failed = |e: api::certs::CertError| LabError::Certificates(e.to_string());
    let tls = places.tls();
    create_ca(&tls).map_err(failed)?;
    issue(&tls, &Party::Controller).map_err(failed)?;
    issue(&tls, &Party::Admin("admin".into())).map_err(failed)?;
    for (_, host) in plan.hosts() {
        let own = places.host(host.as_str()).join("tls");
        let files = issue(&tls, &Party::Host(host)).map_err(failed)?;
        let authority = tls.join("ca.pem");
        fs::copy(&authority, own.join("ca.pem")).map_err(LabError::file("copy", &authority))?;
        for file in [&files.cert, &files.key] {
            rename_into(file, &own)?;
        }
    }
    Ok(())
}

fn rename_into(file: &Path, dir: &Path) -> Result<(), LabError> {
    let name = file.file_name().unwrap_or_default();
    fs::rename(file, dir.join(name)).map_err(LabError::file("move", file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_party_finds_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::new(dir.path());
        fs::create_dir_all(places.host("host-a").join("tls")).unwrap();
        make(&places, Plan::new(77, 1).unwrap()).unwrap();
        for file in [
            "tls/ca.key",
            "tls/controller.key",
            "tls/admin.pem",
            "hosts/host-a/tls/ca.pem",
            "hosts/host-a/tls/host-a.pem",
            "hosts/host-a/tls/host-a.key",
        ] {
            assert!(dir.path().join(file).is_file(), "{file}");
        }
        assert!(!dir.path().join("tls/host-a.key").exists());
    }
}
