use super::*;

/// A host with exactly the features of a model.
fn host(model: &Model) -> HostCpu {
    let properties = model.features.iter().map(|f| (f, true));
    HostCpu::read("host".parse().unwrap(), &model.vendor, properties)
}

fn named(name: &str) -> &'static Model {
    models().iter().find(|m| m.name == name || m.versioned == name).unwrap()
}

fn baseline(names: &[&str]) -> Baseline {
    let hosts: Vec<HostCpu> = names.iter().map(|n| host(named(n))).collect();
    Baseline::of(&hosts).unwrap()
}

#[test]
fn the_table_holds_what_qemu_names() {
    assert!(models().len() > 70, "{}", models().len());
    assert!((250..features::MOST).contains(&model::known().len()), "{}", model::known().len());
    for model in models() {
        assert!(model.features.has("fpu"), "{}", model.name);
        assert!(model.features.len() < model::known().len(), "{}", model.name);
        assert!(model.versioned.contains("-v"), "{}", model.name);
    }
    assert_eq!(named("Haswell-v2").name, "Haswell-noTSX");
    assert_eq!(named("EPYC-Rome").vendor, "AuthenticAMD");
    assert!(!named("Haswell-noTSX").features.has("rtm"));
    assert!(named("Haswell").features.has("rtm"));
}

#[test]
fn one_host_is_its_own_baseline_and_finds_its_own_model() {
    for model in models() {
        let own = host(model);
        let one = Baseline::of(std::slice::from_ref(&own)).unwrap();
        assert_eq!(one.features, own.features, "{}", model.name);
        assert!(one.dropped.is_empty());
        assert!(one.require.is_empty(), "{}: {}", model.name, one.require);
        let found = one.model.unwrap();
        assert_eq!(found.features, model.features, "{}: {}", model.name, found.name);
    }
    assert_eq!(Baseline::of(&[]), None);
}

/// Subset, commutative, idempotent, exact, and what is lost is named.
#[test]
fn properties_hold_for_every_pair_of_models() {
    let hosts: Vec<HostCpu> = models().iter().map(host).collect();
    for (i, a) in hosts.iter().enumerate() {
        for b in &hosts[i..] {
            let both = Baseline::of(&[a.clone(), b.clone()]).unwrap();
            let turned = Baseline::of(&[b.clone(), a.clone()]).unwrap();
            assert_eq!(
                (&both.features, &both.model, &both.require, &both.disable, &both.vendor),
                (&turned.features, &turned.model, &turned.require, &turned.disable, &turned.vendor)
            );
            assert!(both.features.within(&a.features) && both.features.within(&b.features));
            let twice = Baseline::of(&[a.clone(), b.clone(), a.clone()]).unwrap();
            assert_eq!(twice.features, both.features);
            let own = &both.model.unwrap().features;
            assert_eq!(own.or(&both.require).without(&both.disable), both.features);
            assert_eq!(both.vendor.is_some(), a.vendor == b.vendor);
            let seen = VmCpu::parse(&both.to_string(), true).unwrap();
            let VmCpu::Named { features, .. } = &seen else { panic!("{both} is a named model") };
            assert_eq!(*features, both.features, "{both}");
            assert_eq!((seen.runs_on(a), seen.runs_on(b)), (Ok(()), Ok(())));
        }
    }
}

/// A further host never adds a feature.
#[test]
fn more_hosts_never_offer_more() {
    let hosts: Vec<HostCpu> = models().iter().step_by(5).map(host).collect();
    for (i, a) in hosts.iter().enumerate() {
        for b in &hosts[i..] {
            let two = Baseline::of(&[a.clone(), b.clone()]).unwrap();
            for c in &hosts {
                let three = Baseline::of(&[a.clone(), b.clone(), c.clone()]).unwrap();
                assert!(three.features.within(&two.features));
                assert!(three.level <= two.level);
            }
        }
    }
}

#[test]
fn nothing_is_dropped_in_silence() {
    let mut old = host(named("Haswell-noTSX"));
    old.host = "old".parse().unwrap();
    let mut new = host(named("Skylake-Server"));
    new.host = "new".parse().unwrap();
    new.unknown.insert("avx99".to_owned());
    let both = Baseline::of(&[old.clone(), new.clone()]).unwrap();
    assert_eq!(both.model.unwrap().name, "Haswell-noTSX");
    assert_eq!(both.dropped.keys().map(|h| h.as_str()).collect::<Vec<_>>(), ["new"]);
    let lost = &both.dropped[&new.host];
    assert_eq!(*lost, new.features.without(&old.features));
    assert!(lost.has("avx512f") && lost.has("rtm"));
    assert_eq!(both.unknown[&new.host], ["avx99"]);
}

#[test]
fn a_model_is_chosen_that_every_host_knows() {
    let mut a = host(named("Haswell-noTSX"));
    let b = host(named("Skylake-Server"));
    a.models = ["Haswell", "qemu64"].map(str::to_owned).into();
    let both = Baseline::of(&[a.clone(), b.clone()]).unwrap();
    assert_eq!(both.model.unwrap().name, "Haswell");
    assert!(both.disable.has("rtm") && both.disable.has("hle"), "{}", both.disable);
    a.models = ["none-of-ours".to_owned()].into();
    let none = Baseline::of(&[a, b]).unwrap();
    assert_eq!((none.model, &none.disable), (None, &Features::default()));
    assert!(none.to_string().starts_with("base,+"), "{none}");
}

#[test]
fn vendors_meet_in_a_model_of_neither() {
    let both = baseline(&["EPYC", "Haswell-noTSX"]);
    assert_eq!(both.vendor, None);
    assert!(both.model.unwrap().is_generic());
    assert_eq!(both.level, Some(Level::V3));
    assert!(both.features.has("avx2") && !both.features.has("sse4a"));
}

#[test]
fn levels_are_those_of_the_psabi() {
    for (name, level) in [
        ("486", None),
        ("kvm64", Some(Level::V1)),
        ("Nehalem", Some(Level::V2)),
        ("SandyBridge", Some(Level::V2)),
        ("Haswell", Some(Level::V3)),
        ("EPYC", Some(Level::V3)),
        ("Skylake-Server", Some(Level::V4)),
        ("EPYC-Genoa", Some(Level::V4)),
    ] {
        assert_eq!(Level::of(&named(name).features), level, "{name}");
    }
    for pair in Level::ALL.windows(2) {
        assert!(pair[0].features().within(&pair[1].features()));
    }
    assert_eq!(Level::V3.to_string(), "x86-64-v3");
}

#[test]
fn properties_are_read_under_any_spelling_and_settings_are_none() {
    let cpu = HostCpu::read(
        "h".parse().unwrap(),
        "GenuineIntel",
        [
            ("sse4_1", true),
            ("sse4.1", true),
            ("lahf_lm", true),
            ("pclmuldq", true),
            ("avx", false),
            ("check", true),
            ("kvm_steal_time", true),
            ("hv-relaxed", true),
            ("vmx-ept", true),
            ("vmx", true),
            ("brand-new", true),
        ],
    );
    assert_eq!(cpu.features.iter().collect::<Vec<_>>(), ["lahf-lm", "pclmulqdq", "sse4.1", "vmx"]);
    assert_eq!(cpu.unknown.iter().collect::<Vec<_>>(), ["brand-new"]);
}

#[test]
fn a_vm_runs_where_all_it_sees_is_there() {
    let (haswell, epyc) = (host(named("Haswell")), host(named("EPYC")));
    let vm = VmCpu::parse("Haswell,-rtm,hle=off,vendor=GenuineIntel,+x2apic", true).unwrap();
    assert_eq!(vm.runs_on(&haswell), Ok(()));
    let Err(Lacking::Features(missing)) = vm.runs_on(&epyc) else { panic!("EPYC has no INVPCID") };
    assert!(missing.has("invpcid") && !missing.has("rtm") && !missing.has("hle"), "{missing}");
    // A sign wins over what is written out, as in QEMU.
    let VmCpu::Named { features, .. } = VmCpu::parse("Haswell,-rtm,rtm=on", true).unwrap() else {
        panic!("a named model")
    };
    assert!(!features.has("rtm"));
    // KVM leaves nested virtualisation out unless it is asked for.
    let amd = VmCpu::parse("EPYC", true).unwrap();
    let mut plain = epyc.clone();
    plain.features.remove("svm");
    plain.features.insert("x2apic");
    assert_eq!(amd.runs_on(&plain), Ok(()));
    let nested = VmCpu::parse("EPYC,+svm", true).unwrap();
    assert_eq!(nested.runs_on(&plain), Err(Lacking::Features(["svm"].into_iter().collect())));
    let mut older = epyc;
    older.models = ["qemu64".to_owned()].into();
    assert_eq!(amd.runs_on(&older), Err(Lacking::Model("EPYC".to_owned())));
}

#[test]
fn a_vm_that_sees_all_of_its_host_moves_only_to_the_same() {
    let vm = VmCpu::parse("host", true).unwrap();
    let (old, new) = (host(named("Haswell-noTSX")), host(named("Haswell")));
    assert_eq!(vm.runs_on(&new), Ok(()));
    assert_eq!(vm.moves(&old, &old), Ok(()));
    assert!(matches!(vm.moves(&old, &new), Err(Lacking::Differs(more)) if more.has("rtm")));
    assert!(matches!(vm.moves(&new, &old), Err(Lacking::Features(less)) if less.has("rtm")));
}

#[test]
fn what_cannot_be_read_is_named() {
    for (text, expected) in [
        ("Pentium9", Unreadable::Model("Pentium9".into())),
        ("", Unreadable::Model(String::new())),
        ("qemu64,avx", Unreadable::Setting("avx".into())),
        ("qemu64,+avx99", Unreadable::Feature("avx99".into())),
        ("qemu64,+", Unreadable::Setting("+".into())),
        ("qemu64,,", Unreadable::Setting(String::new())),
        ("qemu64,=on", Unreadable::Setting("=on".into())),
        ("qemu64,é", Unreadable::Setting("é".into())),
    ] {
        assert_eq!(VmCpu::parse(text, true), Err(expected), "{text}");
    }
}
