//! The command line as a whole, and what must never get out of its place.

use proptest::prelude::*;
use types::{DiskBus, VmId, VmSpec};

use super::*;
use crate::images::DiskFile;
use crate::taps::Tap;

const SMALL: &str = r#"
    name = "small"
    uuid = "6a0c5b2e-8a53-4f0d-9f5e-0d8e5a7c1b11"
    memory = "64MiB"
    machine = "pc-i440fx-7.2"
    serial = "none"
    [[disks]]
    pool = "shared"
    file = "old.img"
    format = "raw"
    bus = "ide"
"#;

const LARGE: &str = r#"
    name = "web-01.example"
    uuid = "0b7f6a52-1a55-4b1c-8f1e-57cbb7d0a111"
    vcpus = 4
    memory = "2GiB"
    cpu_model = "Skylake-Server-v4,-avx512f"
    machine = "pc-q35-7.2"
    [boot]
    kernel = { pool = "images", file = "linux" }
    initrd = { pool = "images", file = "initrd" }
    cmdline = "console=ttyS0 -S quiet,accel=kvm"
    [[disks]]
    pool = "shared"
    file = "web.qcow2"
    format = "qcow2"
    [[disks]]
    pool = "shared"
    file = "data.img"
    format = "raw"
    bus = "ide"
    [[nics]]
    mac = "52:54:00:00:00:01"
    bridge = "br0"
    [[nics]]
    mac = "52:54:00:00:00:02"
    bridge = "br0"
"#;

const WHOLE: &str = r##"
    name = "db-1"
    uuid = "0b7f6a52-1a55-4b1c-8f1e-57cbb7d0a112"
    vcpus = 4
    memory = "4GiB"
    memory_pages = "2MiB"
    machine = "pc-q35-7.2"
    on_panic = "pause"
    [topology]
    cores = 2
    threads = 2
    [firmware.uefi]
    vars = { pool = "shared", file = "db-1.vars" }
    [cloud_init]
    user_data = "#cloud-config"
    [[numa]]
    memory = "3GiB"
    vcpus = "0-1,3"
    [[numa]]
    memory = "1GiB"
    vcpus = "2"
    [[disks]]
    pool = "shared"
    file = "db-1.qcow2"
    format = "qcow2"
    bus = "scsi"
    on_io_error = "pause"
    [[disks]]
    pool = "luns"
    file = "wwn-1"
    format = "raw"
    on_io_error = "report"
    [[disks]]
    pool = "shared"
    file = "db-2.img"
    format = "raw"
    bus = "scsi"
"##;

fn record(spec: VmSpec) -> InstanceRecord {
    let vm = spec.uuid.unwrap_or(VmId(uuid::Uuid::nil()));
    let nics = spec.nics.iter().enumerate();
    InstanceRecord {
        vm,
        instance: "s1".into(),
        pid: None,
        start_time: None,
        boot_id: "boot".into(),
        run_dir: "/run/godwit/0b7f6a52-s1".into(),
        log_dir: "/var/lib/god,wit/vms/web".into(),
        memory: "/run/godwit/memory/web-s1".into(),
        serial_start: 0,
        taps: nics.map(|(i, nic)| Tap::new(vm, "s1", i, &nic.bridge)).collect(),
        groups: Vec::new(),
        spec,
    }
}

fn images(spec: &VmSpec) -> Images {
    let path = |name: &str| PathBuf::from(format!("/srv/pool/{name}"));
    Images {
        kernel: spec.boot.as_ref().map(|_| path("linux")),
        initrd: spec.boot.as_ref().and_then(|b| b.initrd.as_ref()).map(|_| path("initrd")),
        vars: matches!(spec.firmware, types::Firmware::Uefi(_)).then(|| path("vars")),
        disks: spec
            .disks
            .iter()
            .enumerate()
            .map(|(i, d)| DiskFile {
                path: path(d.file.as_str()),
                direct: i == 0,
                device: d.pool.as_str() == "luns",
            })
            .collect(),
    }
}

fn line(spec: &VmSpec, accel: Accel, incoming: Incoming) -> Result<Vec<String>, VmmError> {
    argv(&Launch {
        record: &record(spec.clone()),
        images: &images(spec),
        uefi: Some(Path::new("/usr/share/OVMF/code.fd")),
        data_dirs: &["/opt/qemu/share".into()],
        accel,
        vhost: accel == Accel::Kvm,
        incoming,
    })
}

/// One option and its value on each line.
fn shown(args: &[String]) -> String {
    let mut text = String::new();
    for arg in args {
        let flag = arg.starts_with('-') && !arg.contains(' ');
        text.push_str(if flag && !text.is_empty() { "\n" } else { " " });
        text.push_str(arg);
    }
    text.trim_start().to_owned()
}

#[test]
fn a_small_one() {
    let spec: VmSpec = toml::from_str(SMALL).unwrap();
    insta::assert_snapshot!(shown(&line(&spec, Accel::Tcg, Incoming::No).unwrap()));
}

#[test]
fn a_large_one_arriving() {
    let spec: VmSpec = toml::from_str(LARGE).unwrap();
    insta::assert_snapshot!(shown(&line(&spec, Accel::Kvm, Incoming::Yes).unwrap()));
}

#[test]
fn everything_at_once() {
    let spec: VmSpec = toml::from_str(WHOLE).unwrap();
    spec.check().unwrap();
    insta::assert_snapshot!(shown(&line(&spec, Accel::Tcg, Incoming::No).unwrap()));
}

#[test]
fn each_node_is_a_row_of_the_placement_table() {
    let rows = record(toml::from_str(WHOLE).unwrap()).blocks();
    let shown: Vec<_> =
        rows.iter().map(|r| (r.block.as_str(), r.file.to_str().unwrap(), r.length)).collect();
    assert_eq!(
        shown,
        [
            ("ram-node0", "/run/godwit/memory/web-s1-node0", 3 << 30),
            ("ram-node1", "/run/godwit/memory/web-s1-node1", 1 << 30),
        ]
    );
    let rows = record(toml::from_str(LARGE).unwrap()).blocks();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].block.as_str(), rows[0].length), ("pc.ram", 2 << 30));
}

#[test]
fn the_kernel_command_line_is_one_argument() {
    let spec: VmSpec = toml::from_str(LARGE).unwrap();
    let args = line(&spec, Accel::Tcg, Incoming::No).unwrap();
    let at = args.iter().position(|a| a == "-append").unwrap();
    assert_eq!(args[at + 1], "console=ttyS0 -S quiet,accel=kvm");
}

#[test]
fn what_has_no_place_is_refused() {
    let mut spec: VmSpec = toml::from_str(SMALL).unwrap();
    for i in 0..4 {
        let mut disk = spec.disks[0].clone();
        disk.file = format!("more{i}.img").parse().unwrap();
        spec.disks.push(disk);
    }
    let error = line(&spec, Accel::Tcg, Incoming::No).unwrap_err().to_string();
    assert!(error.contains("disks[4].bus"), "{error}");
    spec.machine = "microvm".into();
    assert!(line(&spec, Accel::Tcg, Incoming::No).is_err());
    let mut spec: VmSpec = toml::from_str(LARGE).unwrap();
    spec.nics[1].mac = None;
    let error = line(&spec, Accel::Tcg, Incoming::No).unwrap_err().to_string();
    assert!(error.contains("nics[1].mac"), "{error}");
}

/// Addresses of all PCI devices.
fn addresses(args: &[String]) -> Vec<String> {
    args.iter()
        .filter_map(|arg| serde_json::from_str::<Value>(arg).ok())
        .filter_map(|device| device.get("addr")?.as_str().map(str::to_owned))
        .collect()
}

proptest! {
    /// Whatever a checked spec contains, the options are ours, every device has its
    /// own address, and the addresses of those before it do not change.
    #[test]
    fn options_are_ours(
        cpu in "[-A-Za-z0-9_.,+=]{1,40}",
        cmdline in "[ -~]{0,60}",
        disks in 0usize..=16,
        nics in 0usize..=16,
    ) {
        let mut spec: VmSpec = toml::from_str(LARGE).unwrap();
        spec.cpu_model = cpu;
        spec.boot.as_mut().unwrap().cmdline = cmdline;
        let (disk, nic) = (spec.disks[0].clone(), spec.nics[0].clone());
        spec.disks = (0..disks).map(|i| {
            let mut disk = disk.clone();
            disk.file = format!("d{i}").parse().unwrap();
            disk.bus = DiskBus::Virtio;
            disk
        }).collect();
        spec.nics = (0..nics).map(|i| {
            let mut nic = nic.clone();
            nic.mac = Some(format!("52:54:00:00:00:{i:02x}").parse().unwrap());
            nic
        }).collect();
        spec.check().unwrap();
        let args = line(&spec, Accel::Tcg, Incoming::No).unwrap();
        let mut flags = Vec::new();
        let mut rest = args.iter();
        while let Some(flag) = rest.next() {
            flags.push(flag.as_str());
            if !["-nodefaults", "-no-user-config", "-S"].contains(&flag.as_str()) {
                prop_assert!(rest.next().is_some());
            }
        }
        let known = [
            "-L", "-nodefaults", "-no-user-config", "-name", "-uuid", "-smbios", "-machine",
            "-object", "-m", "-smp", "-cpu", "-vga", "-display", "-sandbox", "-S", "-pidfile",
            "-chardev", "-mon", "-serial", "-kernel", "-initrd", "-append", "-blockdev",
            "-device", "-netdev", "-action",
        ];
        for flag in flags {
            prop_assert!(known.contains(&flag), "{}", flag);
        }
        let found = addresses(&args);
        prop_assert_eq!(found.len(), disks + nics);
        let unique: std::collections::BTreeSet<_> = found.iter().collect();
        prop_assert_eq!(unique.len(), found.len());
        spec.disks.truncate(1);
        let fewer = addresses(&line(&spec, Accel::Tcg, Incoming::No).unwrap());
        prop_assert!(fewer.iter().all(|address| found.contains(address)));
    }
}

#[test]
fn a_network_of_qemus_own_needs_no_tap() {
    let mut taps = Tap::new(
        "0190a000-0000-7000-8000-000000000001".parse().unwrap(),
        "s1",
        0,
        &"user".parse().unwrap(),
    );
    assert!(!serde_json::to_string(&taps).unwrap().contains("user\":true"));
    taps = taps.by_qemu(true);
    let text = serde_json::to_string(&taps).unwrap();
    assert_eq!(serde_json::from_str::<Tap>(&text).unwrap(), taps);
    let mut args = Args(Vec::new());
    let nic = serde_json::from_str(r#"{"bridge": "user", "mac": "52:54:00:00:00:01"}"#).unwrap();
    devices::add_nic(&mut args, Bus::Q35, 0, &nic, &taps, true).unwrap();
    assert!(args.0[1].contains(r#""type":"user""#) && !args.0[1].contains("tap"), "{:?}", args.0);
}
