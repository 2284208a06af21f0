//! Two versions of QEMU in one fleet: upwards a VM moves, downwards it is refused.

use anyhow::{Result, bail, ensure};
use api::ClientError;
use api::body::MigrateRequest;
use lab::images::TinyOptions;
use types::Code;

use super::stage::Stage;
use super::{Scenario, Scene, tiny};

/// Versions.
pub(super) const ALL: &[Scenario] = &[Scenario {
    name: "upwards",
    about: "a VM of an older QEMU's machine moves to a newer QEMU and back, a newer one is refused",
    scene: Scene::Mixed,
    long: false,
    play: upwards,
}];

fn upwards(stage: &mut Stage) -> Result<()> {
    let hosts = stage.fleet.ask(async |c| c.hosts().await)?;
    let versions: Vec<String> = hosts.into_iter().map(|host| host.facts.qemu).collect();
    ensure!(versions[0] != versions[1], "both hosts have QEMU {}", versions[0]);
    stage.measure("qemu", &versions);
    let vm = tiny::start(stage, "old", &TinyOptions::default())?;
    for _ in 0..stage.rounds() {
        // The machine is the older QEMU's, so that the way back is open, too.
        for to in ["host-b", "host-a"] {
            let beats = tiny::head(stage, &vm)?.beats;
            stage.hop(&vm, to)?;
            tiny::beats_after(stage, &vm, beats)?;
        }
    }
    tiny::whole(stage, &vm)?;
    stage.clear()?;
    let vm = tiny::start_on(stage, "new", "host-b")?;
    let to = MigrateRequest { to: Some("host-a".parse()?), ..MigrateRequest::default() };
    match stage.fleet.try_ask(async |c| c.migrate(&vm, &to).await) {
        Err(ClientError::Problem(p)) if p.code.exit() == Code::MachineMissing.exit() => {
            let machine = stage.view(&vm)?.spec.machine;
            ensure!(p.detail.contains(&machine), "{p} does not name the machine {machine}");
            ensure!(p.remedy.is_some(), "{p} has no remedy");
            stage.measure("refused", p.detail);
        }
        other => bail!("a newer machine on an older QEMU: {other:?}"),
    }
    let beats = tiny::head(stage, &vm)?.beats;
    tiny::beats_after(stage, &vm, beats)
}
