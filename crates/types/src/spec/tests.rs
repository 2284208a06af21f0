//! Specs as users and stores write them.

use super::seed::SeedFile;
use super::*;

fn seed(spec: &mut VmSpec) -> &mut CloudInit {
    spec.cloud_init.as_mut().unwrap()
}

const WEB: &str = r#"
    name = "web01"
    vcpus = 2
    memory = "2GiB"
    [boot]
    kernel = { pool = "images", file = "linux.kernel" }
    cmdline = "console=ttyS0"
    [[disks]]
    pool = "shared"
    file = "web01.qcow2"
    format = "qcow2"
    [[nics]]
    mac = "52:54:00:00:00:01"
    bridge = "br0"
"#;

#[test]
fn a_spec_reads_from_toml_and_survives_json() {
    let spec: VmSpec = toml::from_str(WEB).unwrap();
    spec.check().unwrap();
    assert_eq!(spec.memory, Bytes(2 << 30));
    assert_eq!(spec.machine, "q35");
    let json = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<VmSpec>(&json).unwrap(), spec);
}

#[test]
fn what_is_wrong_is_named() {
    type Spoil = fn(&mut VmSpec);
    let cases: &[(Spoil, &str)] = &[
        (|s| s.vcpus = 0, "vcpus"),
        (|s| s.memory = Bytes(3), "memory"),
        (|s| s.cpu_model = "a b".into(), "cpu_model"),
        (|s| s.machine = "q35,accel=kvm".into(), "machine"),
        (|s| s.boot.as_mut().unwrap().cmdline = "a\nb".into(), "boot.cmdline"),
        (|s| s.disks.push(s.disks[0].clone()), "disks[2].file"),
        (|s| s.nics.push(s.nics[0].clone()), "nics[1].mac"),
        (|s| s.topology.as_mut().unwrap().cores = 3, "topology"),
        (|s| s.topology.as_mut().unwrap().cores = u32::MAX, "topology"),
        (|s| s.numa[1].memory = Bytes(1 << 30), "numa"),
        (|s| s.numa[1].memory = Bytes(1), "numa[1].memory"),
        (|s| s.numa[1].vcpus = "0".parse().unwrap(), "numa[1].vcpus"),
        (|s| s.numa[1].vcpus = "7".parse().unwrap(), "numa[1].vcpus"),
        (|s| s.numa[1].vcpus = "".parse().unwrap(), "numa"),
        (|s| s.labels = [("a b".into(), String::new())].into(), "labels"),
        (|s| s.labels = [("a".into(), "\n".into())].into(), "labels.a"),
        (|s| seed(s).user_data = Some(SeedText::Text("\0".into())), "cloud_init.user_data"),
        (|s| seed(s).meta_data = Some(SeedText::Text("x".repeat(40_000))), "cloud_init.meta_data"),
        (
            |s| seed(s).network_config = Some(SeedText::File(SeedFile { file: "x".into() })),
            "cloud_init.network_config",
        ),
        (
            |s| {
                let (pool, file) = (s.disks[0].pool.clone(), s.disks[0].file.clone());
                s.firmware = Firmware::Uefi(UefiSpec { vars: ImageRef { pool, file } });
            },
            "firmware.uefi.vars",
        ),
    ];
    for (spoil, field) in cases {
        let mut spec: VmSpec = toml::from_str(FULL).unwrap();
        seed(&mut spec).network_config = None;
        spoil(&mut spec);
        assert_eq!(spec.check().unwrap_err().field, *field);
    }
    let unknown =
        toml::from_str::<VmSpec>("name = \"a\"\nmemory = \"2MiB\"\nmemroy = 1").unwrap_err();
    assert!(unknown.to_string().contains("memroy"));
}

const FULL: &str = r##"
    name = "db-1"
    owner = "storage-team"
    tier = "critical"
    vcpus = 4
    memory = "4GiB"
    memory_pages = "2MiB"
    cpu_model = "Skylake-Server-v4"
    machine = "pc-q35-7.2"
    on_panic = "pause"

    [topology]
    cores = 2
    threads = 2

    [firmware.uefi]
    vars = { pool = "shared", file = "db-1.vars" }

    [boot]
    kernel = { pool = "images", file = "linux.kernel" }

    [cloud_init]
    user_data = "#cloud-config"
    network_config = { file = "network.yaml" }

    [labels]
    "example.org/rack" = "7"

    [[numa]]
    memory = "2GiB"
    vcpus = "0-1"

    [[numa]]
    memory = "2GiB"
    vcpus = "2,3"

    [[disks]]
    pool = "shared"
    file = "db-1.qcow2"
    format = "qcow2"
    bus = "scsi"
    on_io_error = "pause"

    [[disks]]
    pool = "luns"
    file = "wwn-0x5000c500a1b2c3d4"
    format = "raw"

    [[nics]]
    mac = "52:54:00:00:00:02"
    bridge = "br0"
"##;

#[test]
fn everything_that_can_be_said_survives_both_forms() {
    let mut spec: VmSpec = toml::from_str(FULL).unwrap();
    let unread = spec.check().unwrap_err();
    assert_eq!(unread.field, "cloud_init.network_config");
    let read = |file: &str| if file == "network.yaml" { Ok("version: 2") } else { Err("none") };
    seed(&mut spec).resolve(|file| read(file).map(str::to_owned)).unwrap();
    spec.check().unwrap();
    assert_eq!(spec.topology.unwrap().sockets, 1);
    assert_eq!(spec.numa[1].vcpus.ranges(), [(2, 2), (3, 3)]);
    assert_eq!(spec.cloud_init.as_ref().unwrap().documents().count(), 2);
    let text = toml::to_string(&spec).unwrap();
    assert_eq!(toml::from_str::<VmSpec>(&text).unwrap(), spec, "{text}");
    let json = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<VmSpec>(&json).unwrap(), spec);
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_its_field() {
    let mut spec: VmSpec = toml::from_str(FULL).unwrap();
    let error = seed(&mut spec).resolve(|file| Err(format!("no {file}"))).unwrap_err();
    assert_eq!(error, ("cloud_init.network_config".to_owned(), "no network.yaml".to_owned()));
}

/// As the first version wrote it.
const OLD: &str = r#"{"name":"web01","uuid":"0190a000-0000-7000-8000-000000000001","vcpus":2,
    "memory":2147483648,"cpu_model":"qemu64","machine":"pc-q35-7.2","boot":{"kernel":
    {"pool":"images","file":"linux.kernel"},"cmdline":"console=ttyS0"},"disks":[{"pool":"shared",
    "file":"web01.qcow2","format":"qcow2","bus":"virtio"}],"nics":[{"mac":"52:54:00:00:00:01",
    "bridge":"br0"}],"serial":"log"}"#;

#[test]
fn records_of_the_first_version_load_and_are_written_as_it_reads_them() {
    let spec: VmSpec = serde_json::from_str(OLD).unwrap();
    spec.check().unwrap();
    assert_eq!(spec.tier.as_str(), "secondary");
    assert_eq!(spec.firmware, Firmware::Bios);
    let written = serde_json::to_value(&spec).unwrap();
    assert_eq!(written, serde_json::from_str::<serde_json::Value>(OLD).unwrap());
}

#[test]
fn a_new_spec_is_a_spec() {
    let spec = VmSpec::new("a".parse().unwrap(), Bytes::mib(2));
    spec.check().unwrap();
    assert_eq!(spec, toml::from_str("name = 'a'\nmemory = '2MiB'").unwrap());
}

proptest::proptest! {
    /// Whatever a file holds, it is a spec or it is refused.
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*", line in 0usize..12) {
        let _ = toml::from_str::<VmSpec>(&text);
        // A good one with one line that is not.
        let mut lines: Vec<&str> = WEB.lines().collect();
        lines.insert(line, &text);
        if let Ok(spec) = toml::from_str::<VmSpec>(&lines.join("\n")) {
            let _ = spec.check();
        }
    }

    /// What passes is the same after a journey through a file, a request or a store.
    #[test]
    fn a_checked_spec_survives_every_form(
        vcpus in 0u32..12,
        steps in 0u64..50,
        odd in 0u64..8,
        cpu in "[a-z0-9,+=-]{0,20}|\\PC{0,8}",
        machine in "[a-z0-9.-]{0,12}|\\PC{0,8}",
        cmdline in "\\PC{0,40}",
        label in "[a-z./]{0,8}|\\PC{0,4}",
        value in "\\PC{0,20}",
        nodes in 0u64..4,
    ) {
        let mut spec: VmSpec = toml::from_str(WEB).unwrap();
        spec.vcpus = vcpus;
        // Mostly steps of 2 MiB that three nodes can share.
        spec.memory = Bytes(((steps * 3) << 21) + odd / 7);
        spec.cpu_model = cpu;
        spec.machine = machine;
        spec.boot.as_mut().unwrap().cmdline = cmdline;
        spec.labels.insert(label, value);
        let node = |n| NumaNode { memory: Bytes(spec.memory.0 / nodes.max(1)), vcpus: n };
        let cpus = |n: u64| match n {
            0 => format!("0,{}-{}", nodes, vcpus.max(1) - 1),
            n => n.to_string(),
        };
        spec.numa = (0..nodes).filter_map(|n| Some(node(cpus(n).parse().ok()?))).collect();
        if spec.check().is_ok() {
            let json = serde_json::to_string(&spec).unwrap();
            proptest::prop_assert_eq!(&serde_json::from_str::<VmSpec>(&json).unwrap(), &spec);
            let file = toml::to_string(&spec).unwrap();
            proptest::prop_assert_eq!(&toml::from_str::<VmSpec>(&file).unwrap(), &spec);
        }
    }
}
